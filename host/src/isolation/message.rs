//! The messages between a host and a worker's process: all of one size, each with the protocol's version.
//!
//! Owns the encoding. What is not exactly one of them is refused, by both sides. Tensors and texts are not in
//! here: they lie in shared memory, and a message says how much of it counts.

/// The version of all that the two sides say to each other, shared memory included.
pub(super) const PROTOCOL: u16 = 1;
/// Bytes of a message.
pub(super) const SIZE: usize = 32;

const MAGIC: [u8; 4] = *b"nukw";

/// One message. Numbers of runs count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The worker is there, and this is its build.
    Hello { build: u64 },
    /// What it is to open. With it come the package, the arena and the socket that both sides use beside
    /// runs; their sizes are in here.
    Start { build: u64, package: u64, arena: u64 },
    /// The model is open; its signature is the arena's first `length` bytes.
    Ready { length: u64 },
    /// It cannot be opened; why is the arena's first `length` bytes.
    Refused { length: u64 },
    /// Another arena, larger than the one before.
    Arena { size: u64 },
    /// The worker has something to say that takes so many bytes.
    Space { bytes: u64 },
    /// Run what the arena's first `head` bytes describe.
    Run { number: u64, head: u64 },
    /// The run's outputs are described by the arena's first `head` bytes; it took the thread that ran it so many
    /// nanoseconds of processor time.
    Done { number: u64, head: u64, spent: u64 },
    /// The run failed; why is the arena's first `length` bytes. `invalid` if the inputs were at fault.
    Failed { number: u64, invalid: bool, length: u64 },
    /// Nobody waits for this run any more.
    Stop { number: u64 },
    /// Are you there?
    Ping { number: u64 },
    /// I am.
    Pong { number: u64 },
}

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// Not as long as a message.
    #[error("a message has {SIZE} bytes, got {0}")]
    Length(usize),
    /// Of something else.
    #[error("it does not begin as a message does")]
    Magic,
    /// Of another version of the protocol.
    #[error("it is of version {0} of the protocol, expected {PROTOCOL}: both sides have to be of one build")]
    Version(u16),
    /// No kind of message, or numbers that it cannot have.
    #[error("message of kind {kind} with {numbers:?} is none of this version")]
    Content { kind: u16, numbers: [u64; 3] },
}

impl Message {
    /// Its bytes.
    pub(super) fn encode(self) -> [u8; SIZE] {
        let (kind, numbers): (u16, [u64; 3]) = match self {
            Self::Hello { build } => (1, [build, 0, 0]),
            Self::Start { build, package, arena } => (2, [build, package, arena]),
            Self::Ready { length } => (3, [length, 0, 0]),
            Self::Refused { length } => (4, [length, 0, 0]),
            Self::Arena { size } => (5, [size, 0, 0]),
            Self::Space { bytes } => (6, [bytes, 0, 0]),
            Self::Run { number, head } => (7, [number, head, 0]),
            Self::Done { number, head, spent } => (8, [number, head, spent]),
            Self::Failed { number, invalid, length } => (9, [number, u64::from(invalid), length]),
            Self::Stop { number } => (10, [number, 0, 0]),
            Self::Ping { number } => (11, [number, 0, 0]),
            Self::Pong { number } => (12, [number, 0, 0]),
        };
        let mut bytes = [0; SIZE];
        let [first, second, third] = numbers.map(u64::to_le_bytes);
        let parts: [&[u8]; 6] =
            [&MAGIC, &PROTOCOL.to_le_bytes(), &kind.to_le_bytes(), &first, &second, &third];
        let all = parts.into_iter().flatten();
        bytes.iter_mut().zip(all).for_each(|(place, byte)| *place = *byte);
        bytes
    }

    /// The message in these bytes.
    ///
    /// # Errors
    /// [`WireError`].
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let bytes: &[u8; SIZE] = bytes.try_into().map_err(|_| WireError::Length(bytes.len()))?;
        let (head, numbers) = bytes.split_at(8);
        let (numbers, _) = numbers.as_chunks::<8>();
        let [m0, m1, m2, m3, v0, v1, k0, k1] = *head else {
            return Err(WireError::Magic);
        };
        if [m0, m1, m2, m3] != MAGIC {
            return Err(WireError::Magic);
        }
        let (version, kind) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([k0, k1]));
        if version != PROTOCOL {
            return Err(WireError::Version(version));
        }
        let [first, second, third] = *numbers else {
            return Err(WireError::Magic);
        };
        let numbers = [first, second, third].map(u64::from_le_bytes);
        Ok(match (kind, numbers) {
            (1, [build, 0, 0]) => Self::Hello { build },
            (2, [build, package, arena]) => Self::Start { build, package, arena },
            (3, [length, 0, 0]) => Self::Ready { length },
            (4, [length, 0, 0]) => Self::Refused { length },
            (5, [size, 0, 0]) => Self::Arena { size },
            (6, [bytes, 0, 0]) => Self::Space { bytes },
            (7, [number, head, 0]) => Self::Run { number, head },
            (8, [number, head, spent]) => Self::Done { number, head, spent },
            (9, [number, invalid @ (0 | 1), length]) => {
                Self::Failed { number, invalid: invalid == 1, length }
            }
            (10, [number, 0, 0]) => Self::Stop { number },
            (11, [number, 0, 0]) => Self::Ping { number },
            (12, [number, 0, 0]) => Self::Pong { number },
            (kind, numbers) => return Err(WireError::Content { kind, numbers }),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        (0..12_u8, any::<[u64; 3]>(), any::<bool>()).prop_map(|(kind, [one, two, three], flag)| match kind {
            0 => Message::Hello { build: one },
            1 => Message::Start { build: one, package: two, arena: three },
            2 => Message::Ready { length: one },
            3 => Message::Refused { length: one },
            4 => Message::Arena { size: one },
            5 => Message::Space { bytes: one },
            6 => Message::Run { number: one, head: two },
            7 => Message::Done { number: one, head: two, spent: three },
            8 => Message::Failed { number: one, invalid: flag, length: three },
            9 => Message::Stop { number: one },
            10 => Message::Ping { number: one },
            _ => Message::Pong { number: one },
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(message in message()) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn whatever_else_comes_is_refused_or_means_just_what_it_says(
            message in message(),
            at in 0..SIZE,
            byte in any::<u8>(),
            cut in 0..SIZE,
        ) {
            let mut bytes = message.encode();
            prop_assert_eq!(Message::decode(&bytes[..cut]), Err(WireError::Length(cut)));
            bytes[at] = byte;
            if let Ok(read) = Message::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _any = Message::decode(&bytes);
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = Message::Ping { number: 7 }.encode();
        bytes[4] = 9;
        let text = Message::decode(&bytes).unwrap_err().to_string();
        assert_eq!(
            text,
            "it is of version 9 of the protocol, expected 1: both sides have to be of one build"
        );
    }
}
