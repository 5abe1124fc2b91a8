//! How fast a client has to send.
//!
//! Owns the clock of what is arriving: each portion has its time, of which only waiting for the client is taken. It
//! never looks at a clock of its own.

use std::time::Duration;

use crate::error::{Error, ErrorCode};

/// What has to arrive within each [`super::BodyBounds::pace`].
const PORTION: usize = 16 << 10;

/// The clock of a body or a message.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    each: Duration,
    left: Duration,
    arrived: usize,
}

impl Pace {
    pub(crate) fn new(each: Duration) -> Self {
        Self { each, left: each, arrived: 0 }
    }

    /// How long the next bytes may be waited for.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    /// So long they were.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// So many came.
    pub(crate) fn arrived(&mut self, bytes: usize) {
        self.arrived += bytes;
        if self.arrived >= PORTION {
            *self = Self::new(self.each);
        }
    }

    /// Why a client is waited for no longer.
    pub(crate) fn too_slow() -> Error {
        let message = "the body arrives too slowly (server.body_timeout for each 16 KiB)";
        Error::new(ErrorCode::RequestTimeout, message)
    }
}

/// Why a body is waited for no longer, at whatever pace it comes.
pub(crate) fn not_in_time() -> Error {
    Error::new(ErrorCode::RequestTimeout, "the body did not arrive in time (server.request_timeout)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_portion_has_its_time_and_drips_have_none() {
        let mut pace = Pace::new(Duration::from_secs(10));
        pace.waited(Duration::from_secs(4));
        pace.arrived(PORTION - 1);
        assert_eq!(pace.left(), Duration::from_secs(6));
        pace.arrived(1);
        assert_eq!(pace.left(), Duration::from_secs(10));
        for _ in 0..20 {
            pace.waited(Duration::from_secs(1));
            pace.arrived(1);
        }
        assert_eq!(pace.left(), Duration::ZERO);
    }
}
