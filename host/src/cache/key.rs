//! The name under which an answer is remembered.
//!
//! Owns what of a request an answer depends on, and the form in which that is hashed: a list of pieces, each with its
//! length before it, so that no two lists have the same bytes. What an answer does not depend on (who is in a hurry,
//! the request's name, the form in which tensors travel) is in no key.

use std::fmt;

use crate::model::tensor::Tensor;

/// Grows with every change of what goes into a key, and of what an entry means.
const FORMAT: &str = "nuke answers 1";

/// Bytes of a hash.
pub(super) const KEY_BYTES: usize = 32;

/// Names one answer of one model among all answers of all models: 256 bits of a cryptographic hash, so that no client
/// can make a request whose key is that of another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// In hexadecimal.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// What all answers of one generation depend on, hashed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed([u8; KEY_BYTES]);

/// What goes into a [`Seed`].
#[derive(Clone, Debug, Default)]
pub struct SeedParts<'a> {
    /// The model's name: a plugin may ask for it.
    pub model: &'a str,
    /// The version's name: likewise.
    pub version: &'a str,
    /// Of the version's content: model, weights, plugin, capabilities, settings, files.
    pub digest: &'a str,
    /// What ONNX Runtime says of its own build.
    pub runtime: &'a str,
    /// Where the model runs and with what, which moves the last digits of its numbers.
    pub place: &'a str,
    /// The limits of plugins by which a host function may refuse, or memory may run out.
    pub limits: [u64; 3],
}

impl Seed {
    /// Of these parts, and of this host's version: its functions shape what plugins answer.
    pub fn new(parts: &SeedParts<'_>) -> Self {
        let mut pieces = Pieces::new();
        pieces.text(FORMAT).text(env!("CARGO_PKG_VERSION"));
        pieces.text(parts.model).text(parts.version).text(parts.digest);
        pieces.text(parts.runtime).text(parts.place);
        parts.limits.iter().for_each(|&limit| {
            pieces.number(limit);
        });
        Self(pieces.finish())
    }
}

/// Who may be given an answer, beside all else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(Box<[u8]>);

impl Owner {
    /// Somebody who has shown to be `subject` by means of `kind`.
    pub fn new(kind: &str, subject: &str) -> Self {
        // A kind is one of the host's own words: it has no zero in it.
        Self([kind.as_bytes(), &[0], subject.as_bytes()].concat().into())
    }
}

/// For whom, and since which purge, answers are remembered.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The one caller; `None` for all of them.
    pub owner: Option<&'a Owner>,
    /// Counts the purges of the model.
    pub epoch: u64,
}

/// Of what an answer is remembered.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The model alone: its inputs in its own order, and the outputs that are wanted, by their place in its
    /// signature. A request for inference and a model's run inside a pipeline share these.
    Run {
        /// The inputs.
        inputs: &'a [Tensor],
        /// The outputs.
        wanted: &'a [usize],
    },
    /// The whole pipeline, from a body on.
    Body {
        /// The media type.
        content_type: &'a str,
        /// The body.
        body: &'a [u8],
        /// The query's pairs in order, then those of selected headers.
        parameters: &'a [(String, String)],
    },
    /// The pipeline without a preprocessor, from the model's inputs on.
    Tensors {
        /// The inputs, in the model's order.
        inputs: &'a [Tensor],
        /// As above.
        parameters: &'a [(String, String)],
    },
}

impl Key {
    /// Of what is asked of a generation.
    pub fn new(seed: &Seed, scope: Scope<'_>, subject: Subject<'_>) -> Self {
        let mut pieces = Pieces::new();
        pieces.bytes(&seed.0).number(scope.epoch);
        match scope.owner {
            None => pieces.number(0),
            Some(owner) => pieces.number(1).bytes(&owner.0),
        };
        match subject {
            Subject::Run { inputs, wanted } => {
                pieces.text("run").tensors(inputs).number(wanted.len() as u64);
                wanted.iter().for_each(|&output| {
                    pieces.number(output as u64);
                });
            }
            Subject::Body { content_type, body, parameters } => {
                pieces.text("body").text(content_type).bytes(body).pairs(parameters);
            }
            Subject::Tensors { inputs, parameters } => {
                pieces.text("tensors").tensors(inputs).pairs(parameters);
            }
        }
        Self(pieces.finish())
    }
}

impl Subject<'_> {
    /// Bytes that have to be hashed, about.
    pub fn size(&self) -> usize {
        let tensors = |inputs: &[Tensor]| inputs.iter().map(|input| input.data.len()).sum();
        match self {
            Self::Run { inputs, .. } | Self::Tensors { inputs, .. } => tensors(inputs),
            Self::Body { body, .. } => body.len(),
        }
    }
}

/// A hash over pieces. Lists begin with the number of what is in them.
struct Pieces(blake3::Hasher);

impl Pieces {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    fn bytes(&mut self, piece: &[u8]) -> &mut Self {
        self.number(piece.len() as u64);
        self.0.update(piece);
        self
    }

    fn text(&mut self, piece: &str) -> &mut Self {
        self.bytes(piece.as_bytes())
    }

    fn pairs(&mut self, pairs: &[(String, String)]) -> &mut Self {
        self.number(pairs.len() as u64);
        for (name, value) in pairs {
            self.text(name).text(value);
        }
        self
    }

    fn tensors(&mut self, tensors: &[Tensor]) -> &mut Self {
        self.number(tensors.len() as u64);
        for tensor in tensors {
            self.text(&tensor.name).text(tensor.datatype.as_str()).number(tensor.shape.len() as u64);
            for &dimension in &tensor.shape {
                self.number(dimension as u64);
            }
            self.bytes(&tensor.data);
        }
        self
    }

    fn finish(&self) -> [u8; KEY_BYTES] {
        *self.0.finalize().as_bytes()
    }
}
