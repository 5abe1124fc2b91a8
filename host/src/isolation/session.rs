//! A model in a process of its own, driven by a worker's thread like one in the host.
//!
//! Owns the host's side of the protocol. It trusts nothing that the process says: what comes is copied, then
//! checked, and a process that says anything else than expected, or nothing for too long, is ended. A session
//! whose process has ended is lost: it runs nothing any more.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use super::IsolationOptions;
use super::channel::{self, Channel, ChannelError};
use super::loss::{Cause, Loss, OpenError};
use super::memory::Memory;
use super::message::Message;
use super::package::Package;
use super::places::{self, MOST_HEAD, Places};
use super::process::Process;
use super::{signature, worker};
use crate::child;
use crate::config::ByteSize;
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;
use crate::model::{DeviceWish, RunStop, Signature};

/// The first arena: most requests of small models fit.
const FIRST_ARENA: usize = 64 << 10;
/// The largest arena that a process may ask for.
const MOST_ARENA: usize = 64 << 30;
/// What is written in one piece, copied together first: a system call costs as much as copying some pages.
const SMALL: usize = 32 << 10;
/// How long a process may take to say its first word: it is not even running then.
const FIRST_WORD: Duration = Duration::from_secs(60);
/// Silences that make up `workers.health`: so often, what is alive has had its chance to say so.
const SILENCES: u32 = 5;

/// See the module.
#[derive(Debug)]
pub struct ChildSession {
    process: Process,
    data: Channel,
    control: Arc<Channel>,
    arena: Memory,
    signature: Arc<Signature>,
    threads: usize,
    is_on_gpu: bool,
    health: Duration,
    memory: Option<u64>,
    run: u64,
    ping: u64,
    spent: Duration,
    lost: Option<Loss>,
}

impl ChildSession {
    /// Starts a process and has it open the package's model. Takes up to seconds.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub(super) fn open(package: &Package, options: &IsolationOptions) -> Result<Self, OpenError> {
        let (data, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        let process = Process::start(options, theirs)?;
        let (control, their_control) = Channel::pair().map_err(|error| error.to_string())?;
        let arena = new_arena(FIRST_ARENA).map_err(|error| error.to_string())?;
        let mut session = Self::new(process, (data, control), arena, options);
        let opened = session.greet(package, &their_control).and_then(|()| session.await_model());
        match opened {
            Ok(Ok(signature)) => session.signature = Arc::new(signature),
            Ok(Err(reason)) => return Err(reason.into()),
            Err(cause) => {
                let loss = session.lose(cause);
                let reason = format!("the worker's {loss} while it opened the model");
                return Err(OpenError { reason, kind: Some(loss.kind) });
            }
        }
        let (pid, memory) = (session.pid(), options.memory);
        let limited_by = memory.map(|_| session.process.limited_by());
        tracing::debug!(pid, memory, limited_by, "a process for a worker has opened its model");
        Ok(session)
    }

    fn new(
        process: Process,
        (data, control): (Channel, Channel),
        arena: Memory,
        options: &IsolationOptions,
    ) -> Self {
        Self {
            process,
            data,
            control: Arc::new(control),
            arena,
            signature: Arc::new(Signature { inputs: Vec::new(), outputs: Vec::new() }),
            threads: options.intra_threads.max(1),
            is_on_gpu: matches!(options.session.device, DeviceWish::Cuda(_)),
            health: options.health,
            memory: options.memory,
            run: 0,
            ping: 0,
            spent: Duration::ZERO,
            lost: None,
        }
    }

    /// Shakes hands, and hands over what is to be opened.
    fn greet(&mut self, package: &Package, control: &std::os::fd::OwnedFd) -> Result<(), Cause> {
        // Both ends are the same socket: nothing else may be said yet.
        let (there, _) = channel::wait(&self.data, &self.data, FIRST_WORD).map_err(Cause::system)?;
        if !there {
            return Err(Cause::Silent(FIRST_WORD));
        }
        let build = super::build();
        match self.data.receive().map_err(Cause::from)? {
            Message::Hello { build: theirs } if theirs == build => {}
            Message::Hello { .. } => {
                return Err(Cause::Broken(
                    "it is of another build than the host: was the program replaced while it runs? restart it"
                        .to_owned(),
                ));
            }
            other => return Err(Cause::unexpected(other)),
        }
        let memory = package.memory();
        let (package, arena) = (memory.size() as u64, self.arena.size() as u64);
        let handles = [memory.as_fd(), self.arena.as_fd(), control.as_fd()];
        self.data.send_with(Message::Start { build, package, arena }, &handles).map_err(Cause::from)
    }

    /// The model's signature, or why the process does not open it.
    fn await_model(&mut self) -> Result<Result<Signature, String>, Cause> {
        match self.answer(None)? {
            Message::Ready { length } => {
                let text = self.text(length, signature::MOST)?;
                signature::decode(&text).map(Ok).map_err(Cause::Broken)
            }
            Message::Refused { length } => {
                let text = self.text(length, signature::MOST)?;
                Ok(Err(self.with_memory(String::from_utf8_lossy(&text).into_owned())))
            }
            other => Err(Cause::unexpected(other)),
        }
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Whether the model was opened on a GPU.
    pub fn is_on_gpu(&self) -> bool {
        self.is_on_gpu
    }

    /// What the last run took of processor time, if all of it was computed by one thread. It is the process's word.
    pub fn spent(&self) -> Option<Duration> {
        (self.threads == 1).then_some(self.spent)
    }

    /// The process's number in the system.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Why it runs nothing any more, if so.
    pub fn lost(&self) -> Option<&Loss> {
        self.lost.as_ref()
    }

    /// Asks whether the process is there; it is lost if not.
    pub fn check(&mut self) {
        if self.lost.is_some() {
            return;
        }
        let asked = self.ping();
        let heard = asked.and_then(|()| {
            loop {
                // Between runs it has nothing else to say.
                match self.listen(None)? {
                    Heard::Pong(number) if number == self.ping => return Ok(()),
                    Heard::Pong(_) => {}
                    Heard::Message(other) => return Err(Cause::unexpected(other)),
                }
            }
        });
        if let Err(cause) = heard {
            self.lose(cause);
        }
    }

    /// As [`ModelSession::run_batch`](crate::model::ModelSession::run_batch).
    ///
    /// # Errors
    /// As there; `Unavailable` if the process is lost.
    pub fn run_batch(
        &mut self,
        requests: &[&[Tensor]],
        wanted: &[usize],
        stop: Option<&RunStop>,
    ) -> Result<Vec<Tensor>, Error> {
        if let Some(loss) = &self.lost {
            return Err(loss.error());
        }
        let places = places::gathered(requests, wanted).map_err(Error::internal)?;
        match self.run(places, requests, stop) {
            Ok(outcome) => outcome,
            Err(cause) => Err(self.lose(cause).error()),
        }
    }

    fn run(
        &mut self,
        mut places: Places,
        requests: &[&[Tensor]],
        stop: Option<&RunStop>,
    ) -> Result<Result<Vec<Tensor>, Error>, Cause> {
        let Some(used) = places.arrange().filter(|&used| used <= MOST_ARENA) else {
            return Ok(Err(Error::internal("the inputs do not fit into shared memory")));
        };
        if used > self.arena.size()
            && let Err(error) = self.grow(used)?
        {
            return Ok(Err(error));
        }
        let head = places.encode();
        if let Err(error) = self.write(&head, &places, requests, used) {
            return Ok(Err(lacking(used, &error)));
        }
        self.run += 1;
        let number = self.run;
        self.data.send(Message::Run { number, head: head.len() as u64 }).map_err(Cause::from)?;
        let stopped = stop.map(|stop| self.hear(stop, number));
        let answer = self.answer(stopped.as_deref());
        stop.inspect(|stop| stop.forget());
        match answer? {
            Message::Done { number: of, head, spent } if of == number => {
                self.spent = Duration::from_nanos(spent);
                self.outputs(head, &places.wanted).map(Ok)
            }
            Message::Failed { number: of, invalid, length } if of == number => {
                let text = self.text(length, worker::MOST_TEXT)?;
                let code = if invalid { ErrorCode::InvalidArgument } else { ErrorCode::Internal };
                Ok(Err(Error::new(code, self.with_memory(String::from_utf8_lossy(&text).into_owned()))))
            }
            other => Err(Cause::unexpected(other)),
        }
    }

    /// Whoever lacks memory is told how to grant it.
    fn with_memory(&self, reason: String) -> String {
        match self.memory {
            Some(memory) if child::lacks_memory(&reason) => {
                let memory = ByteSize::bytes(memory);
                format!("{reason}; a worker may use {memory}: if that is not enough, raise workers.memory")
            }
            _ => reason,
        }
    }

    /// Copies the inputs to where the process reads them.
    fn write(
        &self,
        head: &[u8],
        places: &Places,
        requests: &[&[Tensor]],
        used: usize,
    ) -> std::io::Result<()> {
        let pieces = |position: usize| requests.iter().filter_map(move |request| request.get(position));
        if used <= SMALL {
            let mut all = Vec::with_capacity(used);
            all.extend_from_slice(head);
            for (position, place) in places.tensors.iter().enumerate() {
                all.resize(place.offset, 0);
                pieces(position).for_each(|tensor| all.extend_from_slice(&tensor.data));
            }
            return self.arena.write(&all, 0);
        }
        self.arena.write(head, 0)?;
        for (position, place) in places.tensors.iter().enumerate() {
            let mut at = place.offset;
            for tensor in pieces(position) {
                self.arena.write(&tensor.data, at)?;
                at += tensor.data.len();
            }
        }
        Ok(())
    }

    /// The outputs of a run, copied out before anything of them is believed.
    fn outputs(&self, head: u64, wanted: &[usize]) -> Result<Vec<Tensor>, Cause> {
        let head = self.text(head, MOST_HEAD)?;
        let places =
            Places::decode(&head, self.arena.size()).map_err(|error| Cause::Broken(error.to_string()))?;
        if places.tensors.len() != wanted.len() {
            return Err(Cause::Broken(format!(
                "it gave {} outputs of {}",
                places.tensors.len(),
                wanted.len()
            )));
        }
        let output = |(place, &position): (places::Place, &usize)| {
            let spec = self.signature.outputs.get(position);
            let name = spec.map(|spec| spec.name.clone()).unwrap_or_default();
            let data = self.arena.read(place.offset, place.length).map_err(Cause::system)?;
            Tensor::new(name, place.datatype, place.shape, Bytes::from(data))
                .map_err(|error| Cause::Broken(error.to_string()))
        };
        places.tensors.into_iter().zip(wanted).map(output).collect()
    }

    /// The arena's first bytes.
    fn text(&self, length: u64, most: usize) -> Result<Vec<u8>, Cause> {
        let length = usize::try_from(length).ok().filter(|&length| length <= most.min(self.arena.size()));
        let length = length.ok_or_else(|| Cause::Broken("it names more bytes than there are".to_owned()))?;
        self.arena.read(0, length).map_err(Cause::system)
    }

    /// Tells the process when nobody waits for the run any more. What is returned says whether that was so.
    fn hear(&self, stop: &RunStop, number: u64) -> Arc<AtomicBool> {
        let (control, stopped) = (Arc::clone(&self.control), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&stopped);
        stop.on_stop(move || {
            told.store(true, Relaxed);
            // A process that cannot be told is found out by whoever waits for it.
            let _sent = control.send_now(Message::Stop { number });
        });
        stopped
    }

    /// Waits for what the process has to say about what it was told to do. It may ask for space meanwhile.
    fn answer(&mut self, stopped: Option<&AtomicBool>) -> Result<Message, Cause> {
        loop {
            match self.listen(stopped)? {
                Heard::Pong(_) => {}
                Heard::Message(Message::Space { bytes }) => {
                    let bytes = usize::try_from(bytes).ok().filter(|&bytes| bytes <= MOST_ARENA);
                    let bytes = bytes.ok_or_else(|| {
                        Cause::Broken(format!("its answer does not fit into {MOST_ARENA} bytes"))
                    })?;
                    self.grow(bytes)?.map_err(|error| Cause::Broken(error.message.into_owned()))?;
                }
                Heard::Message(message) => return Ok(message),
            }
        }
    }

    /// Waits for a word, and asks whether the process is there if none comes. Time counts in pieces, so that a
    /// host that was stopped itself does not blame the process.
    fn listen(&mut self, stopped: Option<&AtomicBool>) -> Result<Heard, Cause> {
        let (mut silences, mut since_stop) = (0, 0);
        loop {
            let slice = self.health / SILENCES;
            let (data, control) = channel::wait(&self.data, &self.control, slice).map_err(Cause::system)?;
            if data {
                return self.data.receive().map(Heard::Message).map_err(Cause::from);
            }
            if control {
                match self.control.receive().map_err(Cause::from)? {
                    Message::Pong { number } if stopped.is_none() => return Ok(Heard::Pong(number)),
                    Message::Pong { .. } => silences = 0,
                    other => return Err(Cause::unexpected(other)),
                }
                continue;
            }
            silences += 1;
            since_stop += u32::from(stopped.is_some_and(|stopped| stopped.load(Relaxed)));
            if silences > SILENCES {
                return Err(Cause::Silent(self.health));
            }
            if since_stop > SILENCES {
                return Err(Cause::Stuck(self.health));
            }
            self.ping()?;
        }
    }

    fn ping(&mut self) -> Result<(), Cause> {
        self.ping += 1;
        match self.control.send_now(Message::Ping { number: self.ping }) {
            // Full of questions that it does not answer: that is silence.
            Err(ChannelError::System(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A larger arena, for both sides; the inner error costs the run alone.
    fn grow(&mut self, bytes: usize) -> Result<Result<(), Error>, Cause> {
        let size = bytes.checked_next_power_of_two().unwrap_or(bytes);
        let arena = match new_arena(size) {
            Ok(arena) => arena,
            Err(error) => return Ok(Err(lacking(size, &error))),
        };
        let message = Message::Arena { size: size as u64 };
        self.data.send_with(message, &[arena.as_fd()]).map_err(Cause::from)?;
        self.arena = arena;
        Ok(Ok(()))
    }

    /// Ends the process, and finds out how it ended.
    fn lose(&mut self, cause: Cause) -> Loss {
        let end = self.process.end(matches!(cause, Cause::Ended));
        let loss = Loss::new(cause, end);
        self.lost = Some(loss.clone());
        loss
    }
}

enum Heard {
    Message(Message),
    Pong(u64),
}

fn new_arena(size: usize) -> std::io::Result<Memory> {
    let arena = Memory::create("nuke-tensors", size)?;
    arena.fix()?;
    Ok(arena)
}

fn lacking(size: usize, error: &std::io::Error) -> Error {
    Error::new(ErrorCode::ResourceExhausted, format!("{size} bytes of shared memory cannot be had: {error}"))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
