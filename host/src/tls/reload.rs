//! The TLS settings in effect, followed as their files change.
//!
//! Owns when files are read again, and the rule that only a set that is whole and fits together takes the
//! place of the one before. Contents are compared, not times and not names: a swapped link, a renamed file and
//! a file system without events are all the same. A connection keeps the settings that it began with.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::files::{Material, open_to_others};
use super::server::{Built, ServerOptions, TlsError, build};

/// Who counts what becomes of the files.
pub trait TlsEvents: Send + Sync {
    /// A set is in effect; its certificate holds until then, in seconds of Unix time.
    fn in_effect(&self, not_after: i64);
    /// The files changed; whether they are in effect now.
    fn reloaded(&self, taken: bool);
}

/// A listener's TLS settings. Cheap to clone; all clones see the same.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    options: ServerOptions,
    config: ArcSwap<ServerConfig>,
    events: Arc<dyn TlsEvents>,
    seen: Mutex<Seen>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.0.options).finish()
    }
}

/// What was read last, and what was told last of reading.
struct Seen {
    material: Material,
    told: Option<TlsError>,
}

impl Certificates {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// The file at fault.
    pub fn open(options: ServerOptions, events: Arc<dyn TlsEvents>) -> Result<Self, TlsError> {
        let material = Material::read(&options)?.settle(&options)?;
        let built = build(&options, &material)?;
        if let Some(warning) = open_to_others(&options.key) {
            tracing::warn!("tls.key: {warning}");
        }
        tell(&built, events.as_ref());
        let (config, seen) = (ArcSwap::new(built.config), Mutex::new(Seen { material, told: None }));
        Ok(Self(Arc::new(Inner { options, config, events, seen })))
    }

    /// What the next handshake is made with.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.config.load_full())
    }

    /// Reads the files every `pause`, for as long as it is polled.
    pub async fn follow(self, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            let this = self.clone();
            // A look that panicked would be a bug; the next one is made all the same.
            let _looked = tokio::task::spawn_blocking(move || this.look()).await;
        }
    }

    /// Looks at the files once, and takes them if they are others and fit together.
    pub(super) fn look(&self) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = Material::read(&self.0.options).and_then(|material| {
            if material == seen.material {
                return Ok(None);
            }
            let material = material.settle(&self.0.options)?;
            let built = build(&self.0.options, &material);
            seen.material = material;
            built.map(Some)
        });
        match outcome {
            Ok(None) => {}
            Ok(Some(built)) => {
                seen.told = None;
                let not_after = built.not_after;
                tell(&built, self.0.events.as_ref());
                self.0.config.store(built.config);
                self.0.events.reloaded(true);
                tracing::info!(not_after, "the TLS files changed and are in effect for new connections");
            }
            Err(error) if seen.told.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::error!(%error, "the TLS files changed and cannot be used; those before stay in effect");
                self.0.events.reloaded(false);
                seen.told = Some(error);
            }
        }
    }
}

fn tell(built: &Built, events: &dyn TlsEvents) {
    events.in_effect(built.not_after);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if built.not_after <= i64::try_from(now).unwrap_or(i64::MAX) {
        let not_after = built.not_after;
        tracing::warn!(not_after, "the certificate of tls.cert has expired; clients will refuse it");
    }
}
