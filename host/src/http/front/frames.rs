//! HTTP/2 frames that cost the server and ask for nothing.
//!
//! Owns the account of one connection. Pings, settings, priorities, resets, window updates and empty data are
//! paid from a credit that time, content, answers and sent bytes fill up again. A client that uses HTTP/2 as it
//! is meant never comes near its end, gRPC's included, which measure round trips with each small message; a flood of any of these comes to it within milliseconds. What asks for
//! something (HEADERS, DATA with content) has bounds elsewhere.

use std::time::Duration;

use tokio::time::Instant;

/// The preface, behind which frames begin.
const PREFACE: u64 = 24;
/// The head of a frame: length in 3 bytes, type, flags, stream in 4.
const HEAD: usize = 9;
/// The credit of a new connection, and the most there can be.
const MOST: i64 = 2_000;
/// Credit for each second.
const PER_SECOND: f64 = 200.0;
/// Credit for each answer that was handed over.
const PER_ANSWER: i64 = 8;
/// Credit for each frame with content: what it asks for has bounds elsewhere, and it costs as much as these do.
const PER_CONTENT: i64 = 2;
/// Bytes sent that give a credit of one: clients tell of what they have read, and measure round trips, as
/// they read. More than the answer to a ping has, or pings would pay for themselves.
const BYTES: u64 = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// The account of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes until the next head: of the preface or of a payload.
    skip: u64,
    head: [u8; HEAD],
    have: usize,
    credit: i64,
    filled: Instant,
    sent: u64,
    answered: u64,
}

impl Frames {
    /// The account of a connection of which nothing was read.
    pub(super) fn new() -> Self {
        let (head, filled) = ([0; HEAD], Instant::now());
        Self { skip: PREFACE, head, have: 0, credit: MOST, filled, sent: 0, answered: 0 }
    }

    /// Bytes were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Bytes were read. `answered`: answers handed over since the connection began. Returns whether the
    /// client may go on.
    pub(super) fn read(&mut self, mut bytes: &[u8], answered: u64) -> bool {
        let mut is_filled = false;
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                let cost = self.begin_frame();
                if cost > 0 && !std::mem::replace(&mut is_filled, true) {
                    self.fill(answered);
                }
                self.credit = (self.credit - cost).min(MOST);
            }
        }
        self.credit >= 0
    }

    /// The cost of the frame whose head is there; below zero for what it earns.
    fn begin_frame(&mut self) -> i64 {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.have = 0;
        self.skip = u64::from(u32::from_be_bytes([0, high, middle, low]));
        match kind {
            DATA if self.skip > 0 => -PER_CONTENT,
            DATA if flags & END_STREAM != 0 => 0,
            HEADERS => 0,
            RST_STREAM => 4,
            _ => 1,
        }
    }

    fn fill(&mut self, answered: u64) {
        let now = Instant::now();
        let passed: Duration = now - self.filled;
        let by_time = (passed.as_secs_f64() * PER_SECOND) as i64;
        if by_time > 0 {
            self.filled = now;
        }
        let by_bytes = self.sent / BYTES;
        self.sent %= BYTES;
        let by_answers = i64::try_from(answered - self.answered).unwrap_or(MOST).saturating_mul(PER_ANSWER);
        self.answered = answered;
        let earned =
            by_time.saturating_add(by_answers).saturating_add(i64::try_from(by_bytes).unwrap_or(MOST));
        self.credit = self.credit.saturating_add(earned).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD + payload, 0xff);
        bytes
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        assert!(frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0));
        frames
    }

    /// How many of these a client may send before it has to go.
    fn bearable(bytes: &[u8], most: usize) -> usize {
        let mut frames = begun();
        (0..most).take_while(|_| frames.read(bytes, 0)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn floods_come_to_an_end_and_requests_do_not() {
        for (what, bytes) in [
            ("ping", frame(6, 0, 8)),
            ("settings", frame(4, 0, 0)),
            ("priority", frame(2, 0, 5)),
            ("window update", frame(8, 0, 4)),
            ("empty data", frame(DATA, 0, 0)),
            ("continuation", frame(9, 0, 0)),
            ("unknown", frame(0xfe, 0xff, 100)),
        ] {
            assert_eq!(bearable(&bytes, 100_000), 2_000, "{what}");
        }
        let reset = [frame(HEADERS, 5, 20), frame(RST_STREAM, 0, 4)].concat();
        assert_eq!(bearable(&reset, 100_000), 500);
        for asks in [frame(HEADERS, 5, 20), frame(DATA, 0, 1), frame(DATA, END_STREAM, 0)] {
            assert_eq!(bearable(&asks, 100_000), 100_000);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_answers_and_bytes_fill_it_up_again() {
        let ping = frame(6, 0, 8);
        let mut frames = begun();
        for _ in 0..2_000 {
            assert!(frames.read(&ping, 0));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..200 {
            assert!(frames.read(&ping, 0));
        }
        frames.sent(100 * BYTES as usize);
        for _ in 0..100 {
            assert!(frames.read(&ping, 0));
        }
        for _ in 0..10 * PER_ANSWER {
            assert!(frames.read(&ping, 10));
        }
        assert!(!frames.read(&ping, 10));
        // A stream of small messages, each told as read and measured.
        let mut frames = begun();
        let message = [frame(DATA, 0, 20), ping.clone(), frame(8, 0, 4)].concat();
        for _ in 0..100_000 {
            assert!(frames.read(&message, 0));
        }
        // A client that resets half of what it asks for, and waits for the rest.
        let mut frames = begun();
        for answers in 1..10_000 {
            assert!(frames.read(&[frame(HEADERS, 5, 20), frame(RST_STREAM, 0, 4)].concat(), answers));
        }
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_makes_no_difference(
            kinds in proptest::collection::vec((0_u8..12, 0_u8..2, 0_usize..40), 1..60),
            cuts in proptest::collection::vec(1_usize..30, 1..50),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let all: Vec<u8> = kinds.iter().flat_map(|&(kind, flags, length)| frame(kind, flags, length)).collect();
                let mut whole = begun();
                whole.read(&all, 0);
                let mut cut = begun();
                let (mut at, mut sizes) = (0, cuts.iter().cycle());
                while at < all.len() {
                    let end = (at + sizes.next().unwrap()).min(all.len());
                    cut.read(&all[at..end], 0);
                    at = end;
                }
                assert_eq!((whole.credit, whole.skip, whole.have), (cut.credit, cut.skip, cut.have));
            });
        }
    }
}
