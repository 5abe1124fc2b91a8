//! `nuke worker`: the process in which a worker's model runs.
//!
//! Owns the process's life: fewer rights, the model, then one run after the other. A second thread answers
//! whether the process lives and ends runs that nobody waits for; when the host has gone, so does it.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use super::channel::{Channel, ChannelError};
use super::memory::Memory;
use super::message::Message;
use super::package::{self, Settings};
use super::places::{Place, Places};
use super::signature;
use crate::child::{self, Limits};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;
use crate::model::{DeviceWish, ModelSession, ModelSource, RunStop, Runtime, RuntimeOptions};

/// The subcommand that a worker is started with.
pub(super) const COMMAND: &str = "worker";
/// Bytes of a text that a host is told.
pub(super) const MOST_TEXT: usize = 8192;

/// How a worker is started: by the host, with its socket as standard input.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct WorkerArgs {
    /// Bytes of private memory, if they are limited.
    #[arg(long)]
    pub memory: Option<u64>,
    /// The host's process id.
    #[arg(long)]
    pub parent: u32,
    /// ONNX Runtime's library, as the host has found it.
    #[arg(long)]
    pub ort_lib: PathBuf,
}

impl WorkerArgs {
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--parent".into(),
            self.parent.to_string().into(),
            "--ort-lib".into(),
            self.ort_lib.clone().into(),
        ];
        if let Some(memory) = self.memory {
            arguments.extend(["--memory".into(), memory.to_string().into()]);
        }
        arguments
    }
}

/// Serves the host on standard input, until it closes its end.
///
/// # Errors
/// Why it cannot, for standard error.
pub fn run_worker(args: WorkerArgs) -> Result<(), String> {
    let limits = Limits { memory: args.memory, parent: args.parent, ..Limits::default() };
    for right in child::confine(limits)? {
        // The host tells the last lines of a worker that dies.
        eprintln!("a worker keeps more rights than it needs: {right}");
    }
    let handle = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let data = Channel::from_handle(handle);
    let build = super::build();
    let told = |error: ChannelError| format!("`nuke serve` starts this command itself: {error}");
    data.send(Message::Hello { build }).map_err(told)?;
    let (package, arena, control) = start(&data, build).map_err(|error| match error {
        Start::Channel(error) => told(error),
        Start::Wrong(reason) => reason,
    })?;
    let control = Arc::new(control);
    let current = Arc::new(Current::default());
    attend(Arc::clone(&control), Arc::clone(&current)).map_err(|error| error.to_string())?;
    let mut desk = Desk { data, arena, mapped: Bytes::new() };
    desk.mapped = desk.arena.map().map_err(|error| error.to_string())?;
    let session = match open(&package, args.ort_lib) {
        Ok(session) => session,
        Err(reason) => {
            return desk.tell(reason.as_bytes(), |length| Message::Refused { length }).map_err(told);
        }
    };
    drop(package);
    let text = signature::encode(session.signature());
    desk.tell(&text, |length| Message::Ready { length }).map_err(told)?;
    match serve(session, &mut desk, &current) {
        ChannelError::Closed => Ok(()),
        error => Err(error.to_string()),
    }
}

enum Start {
    Channel(ChannelError),
    Wrong(String),
}

/// What the host hands over at the beginning.
fn start(data: &Channel, build: u64) -> Result<(Memory, Memory, Channel), Start> {
    let (message, handles) = data.receive_with().map_err(Start::Channel)?;
    let wrong = |text: &str| Start::Wrong(text.to_owned());
    let Message::Start { build: theirs, package, arena } = message else {
        return Err(wrong("the host says something else than what is to be opened"));
    };
    if theirs != build {
        return Err(wrong("the host is of another build than this worker"));
    }
    let mut handles = handles.into_iter();
    let (Some(one), Some(two), Some(three), None) =
        (handles.next(), handles.next(), handles.next(), handles.next())
    else {
        return Err(wrong("the host has not handed over what belongs to a start"));
    };
    let package = Memory::received(one, package).map_err(Start::Wrong)?;
    let arena = Memory::received(two, arena).map_err(Start::Wrong)?;
    Ok((package, arena, Channel::from_handle(three)))
}

fn open(package: &Memory, library: PathBuf) -> Result<ModelSession, String> {
    // Sessions get their settings with the model; the library has to be loaded before files are closed.
    let options = RuntimeOptions { library: Some(library), intra_threads: 1 };
    let mut runtime = Runtime::start(options).map_err(|error| error.to_string())?;
    let (settings, source): (Settings, ModelSource) = package::open(package)?;
    // A GPU's driver opens files whenever it likes.
    if !matches!(settings.session.device, DeviceWish::Cuda(_))
        && let Err(error) = child::close_files()
    {
        eprintln!("a worker keeps more rights than it needs: files can be opened: {error}");
    }
    runtime.set_threads(settings.intra_threads);
    let session =
        ModelSession::open(&runtime, &source, &settings.session).map_err(|error| error.to_string())?;
    crate::memory::trim();
    Ok(session)
}

/// The run that is going on, as the second thread sees it.
#[derive(Debug, Default)]
struct Current(Mutex<CurrentRun>);

#[derive(Debug, Default)]
struct CurrentRun {
    running: Option<(u64, RunStop)>,
    /// The latest run that is to be ended: it may be heard of before the run itself.
    stopped: u64,
}

impl Current {
    fn lock(&self) -> MutexGuard<'_, CurrentRun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, number: u64, stop: &RunStop) {
        let mut run = self.lock();
        if run.stopped == number {
            stop.stop();
        }
        run.running = Some((number, stop.clone()));
    }

    fn end(&self) {
        self.lock().running = None;
    }

    fn stop(&self, number: u64) {
        let mut run = self.lock();
        run.stopped = number;
        if let Some((running, stop)) = &run.running
            && *running == number
        {
            stop.stop();
        }
    }
}

/// Answers beside the runs. The process ends with the host, whatever it runs.
fn attend(control: Arc<Channel>, current: Arc<Current>) -> std::io::Result<()> {
    let answer = move || -> Result<(), ChannelError> {
        loop {
            match control.receive()? {
                Message::Ping { number } => control.send(Message::Pong { number })?,
                Message::Stop { number } => current.stop(number),
                _ => {}
            }
        }
    };
    let thread = std::thread::Builder::new().name("attend".to_owned());
    thread.spawn(move || {
        // Without a host there is nobody to work for, and exit handlers would wait for ONNX Runtime's threads.
        let _closed = answer();
        signal_hook::low_level::exit(0);
    })?;
    Ok(())
}

/// Where inputs come from and outputs go to.
struct Desk {
    data: Channel,
    arena: Memory,
    mapped: Bytes,
}

impl Desk {
    /// Takes another arena.
    fn replace(&mut self, message: Message, handles: Vec<std::os::fd::OwnedFd>) -> Result<(), ChannelError> {
        let wrong = |text: String| ChannelError::System(std::io::Error::other(text));
        let (Message::Arena { size }, Some(handle)) = (message, handles.into_iter().next()) else {
            return Err(wrong(format!("the host says {message:?}, expected another arena")));
        };
        self.arena = Memory::received(handle, size).map_err(wrong)?;
        self.mapped = self.arena.map()?;
        Ok(())
    }

    /// Makes sure that there is room for so many bytes.
    fn make_room(&mut self, bytes: usize) -> Result<(), ChannelError> {
        if bytes > self.arena.size() {
            self.data.send(Message::Space { bytes: bytes as u64 })?;
            let (message, handles) = self.data.receive_with()?;
            self.replace(message, handles)?;
        }
        Ok(())
    }

    /// Puts bytes where the host reads them, and says so.
    fn tell(&mut self, bytes: &[u8], message: impl FnOnce(u64) -> Message) -> Result<(), ChannelError> {
        self.make_room(bytes.len())?;
        self.arena.write(bytes, 0)?;
        self.data.send(message(bytes.len() as u64))
    }

    /// Hands over the outputs of a run.
    fn answer(&mut self, (number, spent): (u64, u64), outputs: &[Tensor]) -> Result<(), ChannelError> {
        let place = |tensor: &Tensor| Place {
            datatype: tensor.datatype,
            shape: tensor.shape.clone(),
            offset: 0,
            length: tensor.data.len(),
        };
        let mut places = Places { tensors: outputs.iter().map(place).collect(), wanted: Vec::new() };
        let used = places.arrange().unwrap_or(usize::MAX);
        self.make_room(used)?;
        let head = places.encode();
        self.arena.write(&head, 0)?;
        for (place, tensor) in places.tensors.iter().zip(outputs) {
            self.arena.write(&tensor.data, place.offset)?;
        }
        self.data.send(Message::Done { number, head: head.len() as u64, spent })
    }
}

/// One run after the other, until there are no more.
fn serve(mut session: ModelSession, desk: &mut Desk, current: &Current) -> ChannelError {
    let mut serve = || -> Result<(), ChannelError> {
        loop {
            let (message, handles) = desk.data.receive_with()?;
            let Message::Run { number, head } = message else {
                desk.replace(message, handles)?;
                continue;
            };
            let began = processor_time();
            let ran = catch_unwind(AssertUnwindSafe(|| run(&mut session, desk, current, number, head)));
            current.end();
            let spent = processor_time().saturating_sub(began);
            let outputs =
                ran.unwrap_or_else(|_| Err(Error::internal("the worker panicked while it ran the model")));
            match outputs {
                Ok(outputs) => desk.answer((number, spent), &outputs)?,
                Err(error) => {
                    let invalid = error.code == ErrorCode::InvalidArgument;
                    let text = error.message.as_bytes();
                    let text = text.get(..MOST_TEXT).unwrap_or(text);
                    desk.tell(text, |length| Message::Failed { number, invalid, length })?;
                }
            }
        }
    };
    match serve() {
        Ok(()) => ChannelError::Closed,
        Err(error) => error,
    }
}

/// Nanoseconds that this thread has computed so far.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Runs what the arena describes, with the inputs where they lie.
fn run(
    session: &mut ModelSession,
    desk: &Desk,
    current: &Current,
    number: u64,
    head: u64,
) -> Result<Vec<Tensor>, Error> {
    let wrong =
        |error: &dyn std::fmt::Display| Error::internal(format!("the host's run is refused: {error}"));
    let head = usize::try_from(head).ok().and_then(|head| desk.mapped.get(..head));
    let head = head.ok_or_else(|| wrong(&"it is longer than the shared memory"))?;
    let places = Places::decode(head, desk.mapped.len()).map_err(|error| wrong(&error))?;
    let signature = Arc::clone(session.signature());
    if places.tensors.len() != signature.inputs.len() {
        return Err(wrong(&"it has another number of inputs than the model"));
    }
    let inputs = places.tensors.into_iter().zip(&signature.inputs).map(|(place, spec)| Tensor {
        name: spec.name.clone(),
        datatype: place.datatype,
        shape: place.shape,
        // Within the memory: that has been checked.
        data: desk.mapped.slice(place.offset..place.offset + place.length),
    });
    let inputs: Vec<Tensor> = inputs.collect();
    let stop = RunStop::new()?;
    current.begin(number, &stop);
    session.run_batch(&[&inputs], &places.wanted, Some(&stop))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: WorkerArgs,
    }

    #[test]
    fn a_worker_reads_the_arguments_that_a_host_writes() {
        for memory in [None, Some(u64::MAX)] {
            let args = WorkerArgs { memory, parent: 7, ort_lib: "/a b/--lib.so".into() };
            let given = std::iter::once(OsString::from("nuke")).chain(args.to_arguments());
            assert_eq!(Command::try_parse_from(given).unwrap().args, args);
        }
    }
}
