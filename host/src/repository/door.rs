//! Where requests wait for a version that is not in memory.
//!
//! Owns the wait: how many may wait, for how long, and what each is told. However many come, the keeper hears one
//! bell. It loads nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::{Notify, watch};

use crate::error::{Error, ErrorCode};
use crate::pipeline::{Footprint, Generation};

/// What is behind a door.
#[derive(Clone, Debug)]
enum State {
    /// Nothing yet; what the load waits for, if it does.
    Shut(Option<Arc<str>>),
    /// It is loaded.
    Open(Arc<Generation>),
    /// It cannot be loaded, for this reason. Nothing comes of this door any more.
    Failed(Arc<str>),
    /// Those who wait now wait in vain; whoever comes next may try.
    Refused(Arc<str>),
    /// Another door, or none, has taken its place.
    Moved,
}

/// A version of a model that is loaded when somebody asks for it.
#[derive(Debug)]
pub struct Door {
    model: String,
    version: String,
    digest: String,
    footprint: Footprint,
    bell: Arc<Notify>,
    has_rung: AtomicBool,
    waiting: AtomicUsize,
    most: AtomicUsize,
    state: watch::Sender<State>,
}

impl Door {
    /// Of a version with this content; `most` requests may wait, and the first rings `bell`.
    pub(super) fn new(
        (model, version): (&str, &str),
        digest: String,
        footprint: Footprint,
        most: usize,
        bell: Arc<Notify>,
    ) -> Self {
        Self {
            model: model.to_owned(),
            version: version.to_owned(),
            digest,
            footprint,
            bell,
            has_rung: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            state: watch::Sender::new(State::Shut(None)),
        }
    }

    /// The same, nobody having waited yet.
    pub(super) fn renewed(&self) -> Self {
        let name = (self.model.as_str(), self.version.as_str());
        let (most, bell) = (self.most.load(Relaxed), Arc::clone(&self.bell));
        Self::new(name, self.digest.clone(), self.footprint, most, bell)
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The version's name.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tells its content from every other, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What its memory would depend on.
    pub fn footprint(&self) -> Footprint {
        self.footprint
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Asks for the version to be loaded, and waits for nothing.
    pub fn ring(&self) {
        if !self.has_rung.swap(true, AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Waits until the version is loaded; `None` if another door has taken this one's place.
    ///
    /// # Errors
    /// `ResourceExhausted` at once if too many wait, the reason if the load fails or there is no room for it,
    /// `DeadlineExceeded`.
    pub(super) async fn wait(&self, deadline: Instant) -> Result<Option<Arc<Generation>>, Error> {
        let _place = self.take_place()?;
        let mut state = self.state.subscribe();
        // What was refused before this request came is none of its business.
        let found = state.borrow_and_update().clone();
        if !matches!(found, State::Shut(_) | State::Refused(_)) {
            return self.outcome(found);
        }
        self.ring();
        loop {
            if tokio::time::timeout_at(deadline.into(), state.changed()).await.is_err() {
                let waited_for = state.borrow().clone();
                return Err(self.too_late(&waited_for));
            }
            match state.borrow_and_update().clone() {
                State::Shut(_) => {}
                ended => return self.outcome(ended),
            }
        }
    }

    fn outcome(&self, state: State) -> Result<Option<Arc<Generation>>, Error> {
        let (model, version) = (&self.model, &self.version);
        let unavailable = |text: String| Err(Error::new(ErrorCode::Unavailable, text));
        match state {
            State::Open(generation) => Ok(Some(generation)),
            State::Moved | State::Shut(_) => Ok(None),
            State::Failed(reason) => {
                unavailable(format!("model '{model}' version {version} is not ready: {reason}"))
            }
            State::Refused(reason) => {
                unavailable(format!("model '{model}' version {version} cannot be loaded now: {reason}"))
            }
        }
    }

    fn too_late(&self, state: &State) -> Error {
        if let State::Shut(Some(reason)) = state {
            let (model, version) = (&self.model, &self.version);
            let text = format!("model '{model}' version {version} could not be loaded in time: {reason}");
            return Error::new(ErrorCode::Unavailable, text);
        }
        let text = format!(
            "the request's time ran out while model '{}' version {} was being loaded for it",
            self.model, self.version
        );
        Error::new(ErrorCode::DeadlineExceeded, text)
    }

    fn take_place(&self) -> Result<Place<'_>, Error> {
        let (place, most) = (Place(&self.waiting), self.most.load(Relaxed));
        if self.waiting.fetch_add(1, Relaxed) < most {
            return Ok(place);
        }
        Err(Error::new(
            ErrorCode::ResourceExhausted,
            format!(
                "Exceeds maximum queue size: {most} requests wait for model '{}' to be loaded already \
                 (queue.size); try again later",
                self.model
            ),
        ))
    }

    /// Lets so many wait from now on.
    pub(super) fn let_wait(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// Whether it was rung since this was asked last.
    pub(super) fn was_rung(&self) -> bool {
        self.has_rung.swap(false, AcqRel)
    }

    /// Whether nothing comes of it any more.
    pub(super) fn is_over(&self) -> bool {
        !matches!(*self.state.borrow(), State::Shut(_) | State::Refused(_))
    }

    /// Says what the load waits for.
    pub(super) fn explain(&self, reason: &str) {
        self.state.send_if_modified(|state| {
            let is_news = matches!(state, State::Shut(before) if before.as_deref() != Some(reason));
            if is_news {
                *state = State::Shut(Some(reason.into()));
            }
            is_news
        });
    }

    /// The load has begun.
    pub(super) fn begin(&self) {
        self.state.send_replace(State::Shut(None));
    }

    pub(super) fn open(&self, generation: &Arc<Generation>) {
        self.state.send_replace(State::Open(Arc::clone(generation)));
    }

    pub(super) fn fail(&self, reason: &str) {
        self.state.send_replace(State::Failed(reason.into()));
    }

    pub(super) fn refuse(&self, reason: &str) {
        self.state.send_replace(State::Refused(reason.into()));
    }

    pub(super) fn close(&self) {
        self.state.send_replace(State::Moved);
    }
}

/// One who waits.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn door(most: usize) -> (Arc<Door>, Arc<Notify>) {
        let bell = Arc::new(Notify::new());
        let door = Door::new(("m", "1"), String::new(), Footprint::default(), most, Arc::clone(&bell));
        (Arc::new(door), bell)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn many_ring_once_and_all_are_told() {
        let (door, bell) = door(1000);
        let waits: Vec<_> = (0..1000)
            .map(|_| {
                let door = Arc::clone(&door);
                tokio::spawn(async move { door.wait(soon()).await.map(|found| found.is_some()) })
            })
            .collect();
        bell.notified().await;
        while door.waiting() < 1000 {
            tokio::task::yield_now().await;
        }
        assert!(door.was_rung() && !door.was_rung());
        let refused = door.wait(soon()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ResourceExhausted);
        door.explain("memory");
        door.fail("bad weights");
        for wait in waits {
            let error = wait.await.unwrap().unwrap_err();
            assert!(
                error.code == ErrorCode::Unavailable && error.message.ends_with("bad weights"),
                "{error}"
            );
        }
        // Late ones are told at once, and ring no more.
        assert!(door.wait(soon()).await.unwrap_err().message.contains("bad weights"));
        assert!((door.waiting(), door.was_rung(), door.is_over()) == (0, false, true));
        assert!(!door.renewed().is_over());
    }

    #[tokio::test]
    async fn who_comes_after_a_refusal_tries_anew_and_nobody_waits_for_ever() {
        let (door, bell) = door(2);
        let first = tokio::spawn({
            let door = Arc::clone(&door);
            async move { door.wait(soon()).await.map(|_| ()) }
        });
        bell.notified().await;
        assert!(door.was_rung());
        door.refuse("no room");
        assert!(first.await.unwrap().unwrap_err().message.contains("no room"));
        let at_once = Instant::now();
        let error = door.wait(at_once).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::DeadlineExceeded);
        assert!(door.was_rung(), "the second one rang again");
        door.begin();
        door.explain("others are busy");
        let error = door.wait(at_once).await.unwrap_err();
        assert!(error.code == ErrorCode::Unavailable && error.message.contains("others are busy"), "{error}");
        door.close();
        assert!(door.wait(soon()).await.unwrap().is_none());
    }
}
