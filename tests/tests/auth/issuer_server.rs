//! A server of keys that can be told to misbehave.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Answers with this set of keys.
    Keys(Vec<Value>),
    /// Answers with this text and status.
    Text(u16, String),
    /// Answers after a while.
    Slow(Duration, Vec<Value>),
    /// Takes the request and never answers.
    Silent,
    /// Answers without end.
    Endless,
}

/// A server of keys.
pub(crate) struct KeyServer {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (behaviour, asked) = (Arc::new(Mutex::new(behaviour)), Arc::new(AtomicUsize::new(0)));
        let server = Self { address, behaviour: Arc::clone(&behaviour), asked: Arc::clone(&asked) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                asked.fetch_add(1, Ordering::SeqCst);
                let behaviour = behaviour.lock().unwrap().clone();
                std::thread::spawn(move || answer(stream, &behaviour));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys.json", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The client may have gone: that is its affair.
fn answer(mut stream: TcpStream, behaviour: &Behaviour) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let (status, text) = match behaviour {
        Behaviour::Keys(keys) => (200, json!({"keys": keys}).to_string()),
        Behaviour::Text(status, text) => (*status, text.clone()),
        Behaviour::Slow(wait, keys) => {
            std::thread::sleep(*wait);
            (200, json!({"keys": keys}).to_string())
        }
        Behaviour::Silent => {
            std::thread::sleep(Duration::from_secs(60));
            return;
        }
        Behaviour::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"keys\": [");
            while stream.write_all(&[b' '; 4096]).is_ok() {}
            return;
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
}
