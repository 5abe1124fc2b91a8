//! Values of any size, so that large ones hold nobody up.
//!
//! Owns how a value is read and written: its first part over the connection that all share, and the rest of a
//! large one over one of a few others. A value that is larger than its reader wants is never transferred.

use std::time::Duration;

use bytes::Bytes;

use super::error::StoreError;
use super::store::Store;

/// What goes over the shared connection: a millisecond of a slow network. Of a larger value, this much goes with its
/// length.
pub const FIRST_PART: usize = 64 << 10;

impl Store {
    /// A value of at most `max` bytes; `None` if there is none, or a larger one.
    ///
    /// # Errors
    /// As [`Store::ask`].
    pub async fn get_bytes(&self, key: &str, max: usize) -> Result<Option<Bytes>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("STRLEN").arg(key).cmd("GETRANGE").arg(key).arg(0).arg(FIRST_PART - 1);
        let (length, first): (usize, Vec<u8>) = self.ask_all(pipeline).await?;
        if length == 0 || length > max {
            return Ok(None);
        }
        self.whole(key, first, length).await.map(Some)
    }

    /// The whole of a value of this length, of which this is the first part.
    ///
    /// # Errors
    /// As [`Store::ask`].
    pub async fn whole(&self, key: &str, first: Vec<u8>, length: usize) -> Result<Bytes, StoreError> {
        if first.len() >= length {
            return Ok(first.into());
        }
        let mut command = redis::cmd("GETRANGE");
        command.arg(key).arg(first.len()).arg(length - 1);
        let rest: Vec<u8> = self.ask_aside(command, length).await?;
        Ok([first, rest].concat().into())
    }

    /// Sets a value, which is there for so long.
    ///
    /// # Errors
    /// As [`Store::ask`].
    pub async fn set_bytes(&self, key: &str, value: Bytes, time: Duration) -> Result<(), StoreError> {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value.as_ref()).arg("PX").arg(time);
        match value.len() {
            0..=FIRST_PART => self.ask(command).await,
            length => self.ask_aside(command, length).await,
        }
    }
}
