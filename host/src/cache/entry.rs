//! An answer that is remembered, and its form outside this process.
//!
//! Owns the codec: magic, version, the key itself and a checksum over everything, so that what is cut off, damaged, of
//! another version or of another key is no entry. Bytes from outside never lead to a panic, nor to more memory than
//! they have themselves, or than an entry may have where they are compressed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};

use super::key::{KEY_BYTES, Key};
use crate::config::CacheCompression;
use crate::error::{Error, ErrorCode};
use crate::model::tensor::{DataType, Tensor};
use crate::plugin::Response;

/// "Nuke's answer", and the version of its form.
const MAGIC: [u8; 4] = *b"NKA1";
/// Magic, flags, key, three times, length of what follows.
const HEAD: usize = MAGIC.len() + 1 + KEY_BYTES + 4 * 8;
/// The checksum at the end.
const TAIL: usize = 8;
/// The flag of a compressed entry.
const COMPRESSED: u8 = 1;
/// Quick, and better than the others at this speed.
const ZSTD_LEVEL: i32 = 1;
/// What an entry costs beside its bytes: its key, its places in the tables of the memory level.
const OVERHEAD: usize = 384;

/// What is remembered.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Outputs of a model.
    Tensors(Vec<Tensor>),
    /// The answer of a plugin.
    Response(Response),
    /// A plugin's refusal, which depends on the request alone.
    Refusal(Error),
}

impl Value {
    /// Bytes of memory that it takes, about.
    pub fn size(&self) -> usize {
        let pairs = |pairs: &[(String, String)]| -> usize {
            pairs.iter().map(|(name, value)| name.len() + value.len() + 48).sum()
        };
        match self {
            Self::Tensors(tensors) => {
                tensors.iter().map(|one| one.data.len() + one.name.len() + one.shape.len() * 8 + 96).sum()
            }
            Self::Response(response) => {
                response.body.len() + response.content_type.len() + pairs(&response.parameters)
            }
            Self::Refusal(error) => error.message.len() + pairs(&error.details),
        }
    }

    /// The same with bytes of its own. Outputs of requests that shared a run are slices of one piece of memory, which
    /// would stay for as long as any of them.
    #[must_use]
    pub fn compact(&self) -> Self {
        match self {
            Self::Tensors(tensors) => {
                let total = tensors.iter().map(|tensor| tensor.data.len()).sum();
                let mut whole = Vec::with_capacity(total);
                tensors.iter().for_each(|tensor| whole.extend_from_slice(&tensor.data));
                let mut whole = Bytes::from(whole);
                let own = |tensor: &Tensor| Tensor {
                    data: whole.split_to(tensor.data.len()),
                    name: tensor.name.clone(),
                    shape: tensor.shape.clone(),
                    datatype: tensor.datatype,
                };
                Self::Tensors(tensors.iter().map(own).collect())
            }
            Self::Response(response) => {
                Self::Response(Response { body: Bytes::copy_from_slice(&response.body), ..response.clone() })
            }
            Self::Refusal(error) => Self::Refusal(error.clone()),
        }
    }
}

/// A value with its times.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it is.
    pub value: Value,
    /// When the oldest part of it was computed, in milliseconds since 1970.
    pub born_ms: u64,
    /// For how long after that it is fresh.
    pub ttl: Duration,
    /// For how long after that it may still be given while it is computed anew.
    pub stale: Duration,
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Entry {
    /// Bytes of memory that it takes, about.
    pub fn size(&self) -> usize {
        self.value.size() + OVERHEAD
    }

    /// How old it is. One that another machine's clock has in the future is new.
    pub fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.born_ms))
    }

    /// How long it may be kept from now on.
    pub fn lifetime(&self, now_ms: u64) -> Duration {
        self.ttl.saturating_add(self.stale).saturating_sub(self.age(now_ms))
    }

    /// Its form outside this process.
    pub fn encode(&self, key: &Key, compression: CacheCompression) -> Bytes {
        let payload = write_value(&self.value);
        let packed = match compression {
            CacheCompression::None => None,
            CacheCompression::Zstd => zstd::bulk::compress(&payload, ZSTD_LEVEL).ok(),
        };
        let packed = packed.filter(|packed| packed.len() < payload.len());
        let (flags, stored) = packed.as_ref().map_or((0, &payload), |packed| (COMPRESSED, packed));
        let mut out = Vec::with_capacity(HEAD + stored.len() + TAIL);
        out.extend_from_slice(&MAGIC);
        out.push(flags);
        out.extend_from_slice(key.as_bytes());
        for number in [self.born_ms, millis(self.ttl), millis(self.stale), payload.len() as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(stored);
        let checksum = xxhash_rust::xxh3::xxh3_64(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.into()
    }

    /// For fuzzing: what an entry holds of which the first byte are the flags, the next four numbers its times and
    /// length, and the rest its payload, with a head and a checksum that fit.
    pub(crate) fn forged(key: &Key, data: &[u8], limit: usize) -> Option<Self> {
        let (flags, rest) = data.split_first()?;
        let mut bytes = [&MAGIC[..], &[*flags], key.as_bytes(), rest].concat();
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Self::decode(key, &bytes.into(), limit)
    }

    /// What `bytes` hold, if that is an entry of this key of at most `limit` bytes. Tensors and bodies are slices of
    /// `bytes`, unless these are compressed.
    pub fn decode(key: &Key, bytes: &Bytes, limit: usize) -> Option<Self> {
        let checked = bytes.len().checked_sub(TAIL).filter(|&end| end >= HEAD)?;
        let checksum = bytes.slice(checked..).get_u64_le();
        if xxhash_rust::xxh3::xxh3_64(&bytes[..checked]) != checksum {
            return None;
        }
        let mut reader = Reader(bytes.slice(..checked));
        if reader.take(MAGIC.len())? != MAGIC.as_slice() {
            return None;
        }
        let flags = reader.byte()?;
        if reader.take(KEY_BYTES)? != key.as_bytes().as_slice() {
            return None;
        }
        let [born_ms, ttl, stale, length] =
            [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
        let length = usize::try_from(length).ok().filter(|&length| length <= limit)?;
        let payload = match flags {
            0 => reader.0,
            COMPRESSED => Bytes::from(zstd::bulk::decompress(&reader.0, length).ok()?),
            _ => return None,
        };
        if payload.len() != length {
            return None;
        }
        let value = read_value(payload)?;
        let (ttl, stale) = (Duration::from_millis(ttl), Duration::from_millis(stale));
        Some(Self { value, born_ms, ttl, stale })
    }
}

const TENSORS: u8 = 0;
const RESPONSE: u8 = 1;
const REFUSAL: u8 = 2;

fn write_value(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.size());
    match value {
        Value::Tensors(tensors) => {
            out.push(TENSORS);
            number(&mut out, tensors.len());
            for tensor in tensors {
                piece(&mut out, tensor.name.as_bytes());
                piece(&mut out, tensor.datatype.as_str().as_bytes());
                number(&mut out, tensor.shape.len());
                tensor.shape.iter().for_each(|&dimension| number(&mut out, dimension));
                piece(&mut out, &tensor.data);
            }
        }
        Value::Response(response) => {
            out.push(RESPONSE);
            piece(&mut out, response.content_type.as_bytes());
            piece(&mut out, &response.body);
            pairs(&mut out, &response.parameters);
        }
        Value::Refusal(error) => {
            out.push(REFUSAL);
            piece(&mut out, error.code.as_str().as_bytes());
            piece(&mut out, error.message.as_bytes());
            pairs(&mut out, &error.details);
        }
    }
    out
}

fn number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&(number as u64).to_le_bytes());
}

fn piece(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn pairs(out: &mut Vec<u8>, pairs: &[(String, String)]) {
    number(out, pairs.len());
    for (name, value) in pairs {
        piece(out, name.as_bytes());
        piece(out, value.as_bytes());
    }
}

fn read_value(payload: Bytes) -> Option<Value> {
    let mut reader = Reader(payload);
    let value = match reader.byte()? {
        TENSORS => Value::Tensors(reader.list(Reader::tensor)?),
        RESPONSE => Value::Response(Response {
            content_type: reader.text()?,
            body: reader.piece()?,
            parameters: reader.pairs()?,
        }),
        REFUSAL => {
            let code = reader.text()?;
            let code = ErrorCode::ALL.into_iter().find(|one| one.as_str() == code)?;
            let message = reader.text()?;
            Value::Refusal(Error { details: reader.pairs()?, ..Error::new(code, message) })
        }
        _ => return None,
    };
    reader.0.is_empty().then_some(value)
}

/// Takes pieces off the front.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        Some(self.take(8)?.get_u64_le())
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn piece(&mut self) -> Option<Bytes> {
        let length = self.size()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.piece()?.to_vec()).ok()
    }

    /// A list. Each item takes eight bytes at least, so that a length that cannot be is found before memory is taken.
    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.size()?;
        if count > self.0.len() / 8 {
            return None;
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Some(items)
    }

    fn pairs(&mut self) -> Option<Vec<(String, String)>> {
        self.list(|reader| Some((reader.text()?, reader.text()?)))
    }

    fn tensor(&mut self) -> Option<Tensor> {
        let name = self.text()?;
        let datatype: DataType = self.text()?.parse().ok()?;
        let shape = self.list(Self::size)?;
        Tensor::new(name, datatype, shape, self.piece()?).ok()
    }
}
