//! What an operator tells a host that serves: load, unload, look again.
//!
//! Owns the way from whoever is told to the keeper. The keeper carries a command out even if nobody waits for
//! its answer any more.

use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the keeper; whoever gives one more waits.
const WAITING: usize = 64;

/// How a load ended: the versions that are ready, or all reasons why none is.
pub(super) type LoadAnswer = Result<Vec<String>, String>;

/// What the keeper is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Load a model, whether or not it was unloaded.
    Load(String, oneshot::Sender<LoadAnswer>),
    /// Look at a model now; it stays unloaded if it is.
    Refresh(String, oneshot::Sender<LoadAnswer>),
    /// Take a model out until it is to be loaded.
    Unload(String, oneshot::Sender<Result<(), String>>),
}

/// Tells a keeper what to do. Clones tell the same one.
#[derive(Clone, Debug)]
pub struct KeeperHandle(mpsc::Sender<Command>);

impl KeeperHandle {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Loads a model, takes back an `unload`, and waits until each of its versions serves or has failed. What
    /// failed before is tried again at once. With nothing new in its folder it returns without a load. It
    /// waits for files that are still being written.
    ///
    /// # Errors
    /// The reasons, if no version serves what is in its folder; no such model; an `unload` meanwhile.
    pub async fn load(&self, model: &str) -> Result<Vec<String>, String> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Load(model.to_owned(), answer), answered).await
    }

    /// As `load`, but a model that was unloaded stays so.
    ///
    /// # Errors
    /// As `load`, and for a model that was unloaded.
    pub async fn refresh(&self, model: &str) -> Result<Vec<String>, String> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Refresh(model.to_owned(), answer), answered).await
    }

    /// Takes all versions of a model out, until `load` or the next start of the host, whatever happens in its
    /// folder meanwhile. When it returns, no new request reaches the model; those that it has are answered.
    ///
    /// # Errors
    /// No such model.
    pub async fn unload(&self, model: &str) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Unload(model.to_owned(), answer), answered).await
    }

    async fn tell<T>(
        &self,
        command: Command,
        answered: oneshot::Receiver<Result<T, String>>,
    ) -> Result<T, String> {
        const STOPPING: &str = "the host is stopping";
        self.0.send(command).await.map_err(|_| STOPPING.to_owned())?;
        answered.await.unwrap_or_else(|_| Err(STOPPING.to_owned()))
    }
}
