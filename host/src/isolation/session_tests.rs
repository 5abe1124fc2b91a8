//! A host against processes that are none of ours: silent, of another build, or hostile.

use std::process::{Command, Stdio};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::isolation::LossKind;
use crate::isolation::package::Settings;
use crate::model::tensor::DataType;
use crate::model::{ModelSource, SessionOptions, TensorSpec};

/// The worker's ends of both sockets.
struct Fake {
    data: Channel,
    control: Channel,
}

fn options(health: u64) -> IsolationOptions {
    IsolationOptions {
        library: "/nowhere".into(),
        intra_threads: 1,
        session: SessionOptions::default(),
        memory: None,
        health: Duration::from_millis(health),
    }
}

/// A session whose process sleeps, while `fake` speaks for it.
fn session(health: u64, fake: impl FnOnce(Fake) + Send + 'static) -> ChildSession {
    let sleeping = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let ((data, theirs), (control, their_control)) = (Channel::pair().unwrap(), Channel::pair().unwrap());
    thread::spawn(move || {
        fake(Fake { data: Channel::from_handle(theirs), control: Channel::from_handle(their_control) });
    });
    let arena = new_arena(FIRST_ARENA).unwrap();
    let mut session = ChildSession::new(Process::of(sleeping), (data, control), arena, &options(health));
    let spec = |name: &str| TensorSpec { name: name.to_owned(), datatype: DataType::Fp32, shape: vec![-1] };
    session.signature = Arc::new(Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] });
    session
}

fn run(session: &mut ChildSession) -> Result<Vec<Tensor>, Error> {
    let input = [Tensor::new("x", DataType::Fp32, vec![2], vec![0; 8]).unwrap()];
    session.run_batch(&[&input], &[0], None)
}

/// Runs once, expects the process to be lost, and gone.
fn loss_of(mut session: ChildSession) -> Loss {
    let process = session.pid();
    let error = run(&mut session).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable, "{error}");
    let loss = session.lost().expect("the session is lost").clone();
    assert!(run(&mut session).unwrap_err().message.contains(&loss.reason));
    assert!(!std::fs::exists(format!("/proc/{process}")).unwrap());
    loss
}

#[test]
fn a_process_that_says_nothing_is_ended() {
    // It reads, and holds its ends open.
    let silent = session(100, |fake| while fake.data.receive().is_ok() {});
    assert_eq!(loss_of(silent).kind, LossKind::Silent);
    let mut idle = session(100, |fake| while fake.data.receive().is_ok() {});
    idle.check();
    assert_eq!(idle.lost().unwrap().kind, LossKind::Silent);
}

#[test]
fn a_long_run_is_not_silence_as_long_as_somebody_answers() {
    let mut session = session(1000, |fake| {
        assert!(matches!(fake.data.receive(), Ok(Message::Run { number: 1, .. })));
        for _ in 0..10 {
            let Ok(Message::Ping { number }) = fake.control.receive() else { panic!("a ping is due") };
            fake.control.send(Message::Pong { number }).unwrap();
        }
        // Of ten questions each came after a fifth of the time that is allowed: longer than that in all.
        fake.data.send(Message::Failed { number: 1, invalid: true, length: 5 }).unwrap();
        let _host = fake.data.receive();
    });
    let error = run(&mut session).unwrap_err();
    assert_eq!((error.code, session.lost()), (ErrorCode::InvalidArgument, None));
}

#[test]
fn a_run_that_goes_on_after_nobody_waits_is_ended() {
    drop(crate::scheduler::testing::runtime());
    // Longer than a busy machine keeps the other thread from answering: that would be silence.
    let mut session = session(2000, |fake| {
        let _run = fake.data.receive();
        let mut was_told = false;
        while let Ok(message) = fake.control.receive() {
            match message {
                Message::Ping { number } => fake.control.send(Message::Pong { number }).unwrap(),
                other => was_told |= other == Message::Stop { number: 1 },
            }
        }
        assert!(was_told);
    });
    let stop = RunStop::new().unwrap();
    stop.stop();
    let input = [Tensor::new("x", DataType::Fp32, vec![2], vec![0; 8]).unwrap()];
    session.run_batch(&[&input], &[0], Some(&stop)).unwrap_err();
    assert_eq!(session.lost().unwrap().kind, LossKind::Stuck);
}

#[test]
fn more_space_is_given_but_not_without_end() {
    let mut asks = session(60_000, |fake| {
        let _run = fake.data.receive();
        fake.data.send(Message::Space { bytes: 1 << 20 }).unwrap();
        let (message, mut handles) = fake.data.receive_with().unwrap();
        assert_eq!(message, Message::Arena { size: 1 << 20 });
        let arena = Memory::received(handles.remove(0), 1 << 20).unwrap();
        arena.write(b"no", (1 << 20) - 2).unwrap();
        fake.data.send(Message::Failed { number: 1, invalid: false, length: 3 }).unwrap();
        let _host = fake.data.receive();
    });
    assert_eq!(run(&mut asks).unwrap_err().message, "\0\0\0");
    let greedy = session(60_000, |fake| {
        let _run = fake.data.receive();
        fake.data.send(Message::Space { bytes: u64::MAX }).unwrap();
        let _host = fake.data.receive();
    });
    assert_eq!(loss_of(greedy).kind, LossKind::Protocol);
}

#[test]
fn a_process_of_another_build_is_refused_by_name() {
    let source = ModelSource::new(Bytes::new(), |_| Err(String::new())).unwrap();
    let package =
        Package::new(&source, Settings { intra_threads: 1, session: SessionOptions::default() }).unwrap();
    let greeted = |hello: Message| {
        let mut session = session(60_000, move |fake| {
            fake.data.send(hello).unwrap();
            let _start = fake.data.receive();
        });
        let (_, control) = Channel::pair().unwrap();
        session.greet(&package, &control).map_err(|cause| session.lose(cause).reason)
    };
    let build = crate::isolation::build();
    assert_eq!(greeted(Message::Hello { build }), Ok(()));
    let reason = greeted(Message::Hello { build: build ^ 1 }).unwrap_err();
    assert!(reason.contains("another build than the host") && reason.contains("restart"), "{reason}");
    assert!(greeted(Message::Pong { number: 1 }).unwrap_err().contains("has no meaning"));
}

/// What a hostile process says to a run.
#[derive(Clone, Debug)]
enum Forged {
    Bytes(Vec<u8>),
    Done(u64),
    Failed(u64),
    Space(u64),
    Ready(u64),
}

fn forged() -> impl Strategy<Value = Forged> {
    let size = prop_oneof![0..200_u64, any::<u64>(), Just(FIRST_ARENA as u64), Just(FIRST_ARENA as u64 + 1)];
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..80).prop_map(Forged::Bytes),
        size.clone().prop_map(Forged::Done),
        size.clone().prop_map(Forged::Failed),
        (0..1_u64 << 21).prop_map(Forged::Space),
        size.prop_map(Forged::Ready),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_process_says_harms_the_host(said in proptest::collection::vec(forged(), 1..4)) {
        let mut session = session(60_000, move |fake| {
            let Ok((Message::Run { number, .. }, _)) = fake.data.receive_with() else { return };
            for one in said {
                // The host may have hung up.
                let _sent = match one {
                    Forged::Bytes(bytes) => rustix::io::write(&fake.data, &bytes).map_err(Into::into).map(drop),
                    Forged::Done(head) => fake.data.send(Message::Done { number, head, spent: head }),
                    Forged::Failed(length) => fake.data.send(Message::Failed { number, invalid: false, length }),
                    Forged::Space(bytes) => fake.data.send(Message::Space { bytes }),
                    Forged::Ready(length) => fake.data.send(Message::Ready { length }),
                };
            }
        });
        match run(&mut session) {
            Ok(outputs) => prop_assert_eq!(outputs.len(), 1),
            Err(error) => prop_assert!(session.lost().is_some() || error.code == ErrorCode::Internal, "{}", error),
        }
    }

    /// The description and the bytes of the outputs are whatever a process has written.
    #[test]
    fn no_description_of_outputs_harms_the_host(head in 0..200_u64, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let session = session(60_000, |fake| drop(fake.data.receive()));
        session.arena.write(&bytes, 0).unwrap();
        if let Ok(outputs) = session.outputs(head, &[0]) {
            prop_assert!(outputs[0].data.len() <= FIRST_ARENA);
        }
    }
}
