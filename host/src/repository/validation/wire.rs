//! What goes from the parent to the child, and back.
//!
//! Owns both encodings: a head in JSON with the length in front and the files' bytes behind it, and lines
//! of JSON in answer. Whatever is not exactly that is refused, by both sides. It never opens anything.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::{Capability, ModelConfig};
use crate::model::{DeviceWish, ModelSource, OutputLabels, RuntimeOptions, SessionOptions};
use crate::plugin::PluginLimits;
use crate::repository::content::{Content, PluginContent};
use crate::repository::load::LoaderOptions;

/// What every job begins with; the number is that of the encoding.
const MAGIC: &[u8; 8] = b"nukeval1";
/// Bytes that a head may have: names, settings and sizes.
const HEAD: u64 = 64 << 20;

/// All but the files' bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// The model's name.
    pub(super) model: String,
    /// The version's name.
    pub(super) version: String,
    /// The model's file, for messages.
    pub(super) model_path: String,
    /// What a plugin may use.
    pub(super) limits: PluginLimits,
    /// What the operator allows plugins to import.
    pub(super) allow: Vec<Capability>,
    /// Threads within one operator.
    pub(super) intra_threads: usize,
    /// How the model is opened: on the cores, whatever the host does, since a child may open no device.
    pub(super) session: SessionOptions,
    /// The batch sizes that the host will warm up with.
    pub(super) batch_sizes: Vec<usize>,
    /// What the bundle declares.
    capabilities: Vec<Capability>,
    /// The bundle's settings.
    settings: Vec<(String, String)>,
    /// The plugin's name, if there is one.
    plugin: Option<String>,
    /// The paths of the files that the model keeps weights in.
    external: Vec<String>,
    /// Each file of the bundle, with its size, and whether its bytes follow.
    files: Vec<(String, u64, bool)>,
    /// The paths of the samples.
    samples: Vec<String>,
    /// The lengths of what follows: the model, its other files, the plugin, the bundle's files, the samples.
    lengths: Vec<u64>,
}

/// A version as it is handed to a child.
#[derive(Debug)]
pub(super) struct Job<'a> {
    head: Vec<u8>,
    /// The head without the place where the version lies, which changes nothing about it.
    placeless: Vec<u8>,
    blobs: Vec<&'a [u8]>,
}

impl<'a> Job<'a> {
    /// Puts the content and what it is to be held against into their order.
    ///
    /// # Errors
    /// The head is longer than any real one.
    pub(super) fn new(
        content: &'a Content,
        settings: &ModelConfig,
        runtime: &RuntimeOptions,
        options: &LoaderOptions,
    ) -> Result<Self, String> {
        let mut blobs: Vec<&[u8]> = vec![content.source.model()];
        blobs.extend(content.source.external().values().map(AsRef::as_ref));
        blobs.extend(content.plugin.as_ref().map(|plugin| plugin.component.as_ref()));
        blobs.extend(content.files.values().filter_map(|(_, bytes)| bytes.as_deref()));
        blobs.extend(content.samples.iter().map(|(_, bytes)| bytes.as_ref()));
        let mut head = Head {
            model: content.model.clone(),
            version: content.version.clone(),
            model_path: String::new(),
            limits: options.limits.clone(),
            allow: options.allow.clone(),
            intra_threads: runtime.intra_threads,
            session: SessionOptions {
                device: DeviceWish::Cpu,
                arena: settings.workers.session.arena,
                ..SessionOptions::default()
            },
            batch_sizes: settings.warmup.batch_sizes.clone(),
            capabilities: content.capabilities.clone(),
            settings: content.settings.clone(),
            plugin: content.plugin.as_ref().map(|plugin| plugin.name.clone()),
            external: content.source.external().keys().cloned().collect(),
            files: content
                .files
                .iter()
                .map(|(path, (size, bytes))| (path.clone(), *size, bytes.is_some()))
                .collect(),
            samples: content.samples.iter().map(|(path, _)| path.clone()).collect(),
            lengths: blobs.iter().map(|blob| blob.len() as u64).collect(),
        };
        let encoded =
            |head: &Head| serde_json::to_vec(head).map_err(|error| format!("the validation's head: {error}"));
        let placeless = encoded(&head)?;
        head.model_path.clone_from(&content.model_path);
        let head = encoded(&head)?;
        if head.len() as u64 > HEAD {
            return Err(format!(
                "names and settings have {} bytes; at most {HEAD} can be validated",
                head.len()
            ));
        }
        Ok(Self { head, placeless, blobs })
    }

    /// Bytes of all files together.
    pub(super) fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.len() as u64).sum()
    }

    /// All that a verdict depends on, piece by piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.placeless.as_slice()).chain(self.blobs.iter().copied())
    }

    /// Writes it to a child.
    ///
    /// # Errors
    /// The child does not read on.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(MAGIC)?;
        to.write_all(&(self.head.len() as u64).to_le_bytes())?;
        to.write_all(&self.head)?;
        for blob in &self.blobs {
            to.write_all(blob)?;
        }
        to.flush()
    }
}

/// Reads a job to its last byte.
///
/// # Errors
/// It is none, is cut short, goes on where it should end, or does not fit into memory.
pub(super) fn read(from: &mut impl Read) -> Result<(Head, Content), String> {
    if take(from, MAGIC.len() as u64)? != MAGIC {
        return Err("standard input is no version: `nuke serve` starts this command itself".to_owned());
    }
    let length = take(from, 8)?.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
    if length > HEAD {
        return Err(format!("the head has {length} bytes, at most {HEAD} are read"));
    }
    let head: Head = serde_json::from_slice(&take(from, length)?)
        .map_err(|error| format!("the head is not as expected: {error}"))?;
    let kept = head.files.iter().filter(|(_, _, kept)| *kept).count();
    let expected = 1 + head.external.len() + usize::from(head.plugin.is_some()) + kept + head.samples.len();
    if head.lengths.len() != expected {
        return Err(format!("the head names {expected} files and {} lengths", head.lengths.len()));
    }
    let mut blobs = Vec::with_capacity(expected);
    for &length in &head.lengths {
        blobs.push(Bytes::from(take(from, length)?));
    }
    if from.read(&mut [0]).map_err(|error| format!("standard input: {error}"))? > 0 {
        return Err("there are bytes after the last file".to_owned());
    }
    let content = content(&head, blobs)?;
    Ok((head, content))
}

fn content(head: &Head, blobs: Vec<Bytes>) -> Result<Content, String> {
    let mut blobs = blobs.into_iter();
    let mut next = || blobs.next().ok_or_else(|| "a file is missing".to_owned());
    let model = next()?;
    let mut external = BTreeMap::new();
    for path in &head.external {
        external.insert(path.as_str(), next()?);
    }
    let plugin = match &head.plugin {
        Some(name) => Some(PluginContent { name: name.clone(), component: next()? }),
        None => None,
    };
    let mut files = BTreeMap::new();
    for (path, size, kept) in &head.files {
        files.insert(path.clone(), (*size, if *kept { Some(next()?) } else { None }));
    }
    let mut samples = Vec::with_capacity(head.samples.len());
    for path in &head.samples {
        samples.push((path.clone(), next()?));
    }
    let given = |path: &str| external.get(path).cloned().ok_or_else(|| "it was not handed over".to_owned());
    let source = ModelSource::new(model, given).map_err(|error| format!("{}: {error}", head.model_path))?;
    Ok(Content {
        model: head.model.clone(),
        version: head.version.clone(),
        model_path: head.model_path.clone(),
        source,
        plugin,
        capabilities: head.capabilities.clone(),
        settings: head.settings.clone(),
        files,
        samples,
        // The parent has read them; nothing that is tried out depends on them.
        labels: OutputLabels::new(),
    })
}

/// So many bytes. A length alone takes no memory: bytes are waited for in pieces.
fn take(from: &mut impl Read, length: u64) -> Result<Vec<u8>, String> {
    const PIECE: u64 = 16 << 20;

    let mut bytes = Vec::new();
    let wanted = usize::try_from(length.min(PIECE)).unwrap_or_default();
    bytes.try_reserve_exact(wanted).map_err(|error| format!("a file of {length} bytes: {error}"))?;
    while (bytes.len() as u64) < length {
        let piece = (length - bytes.len() as u64).min(PIECE);
        // Once half of a long file has come, its length is believed.
        let ahead = if bytes.len() as u64 * 2 >= length { length - bytes.len() as u64 } else { piece };
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(ahead).map_err(|error| format!("a file of {length} bytes: {error}"))?;
        let came =
            from.take(piece).read_to_end(&mut bytes).map_err(|error| format!("standard input: {error}"))?;
        if (came as u64) < piece {
            return Err(format!("standard input ends after {} of {length} bytes of a file", bytes.len()));
        }
    }
    Ok(bytes)
}

/// One line of the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// What it does from now on, to go after "while it".
    Stage(String),
    /// A right that it could not take from itself, and why.
    Unconfined(String),
    /// The version is good; what may still be said of it.
    Good(Vec<String>),
    /// The version is not.
    Bad(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn sample_content() -> Content {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        Content {
            model: "m".to_owned(),
            version: "1".to_owned(),
            model_path: "models/m/1/model.onnx".to_owned(),
            source: ModelSource::new(bytes(""), |_| Err(String::new())).unwrap(),
            plugin: Some(PluginContent { name: "p".to_owned(), component: bytes("component") }),
            capabilities: vec![Capability::Bundle],
            settings: vec![("k".to_owned(), "v".to_owned())],
            files: [("a".to_owned(), (3, Some(bytes("abc")))), ("b".to_owned(), (1 << 40, None))].into(),
            samples: vec![("s.jpg".to_owned(), bytes("sample"))],
            labels: OutputLabels::new(),
        }
    }

    fn encoded() -> Vec<u8> {
        let content = sample_content();
        let runtime = RuntimeOptions { library: None, intra_threads: 2 };
        let options = LoaderOptions {
            plugins: "plugins".into(),
            limits: PluginLimits::default(),
            allow: Capability::ALL.to_vec(),
            files: 0,
            keys: crate::repository::TrustedKeys::parse([]).unwrap(),
            validation: None,
        };
        let mut bytes = Vec::new();
        Job::new(&content, &ModelConfig::default(), &runtime, &options).unwrap().write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let (head, content) = read(&mut encoded().as_slice()).unwrap();
        let expected = sample_content();
        assert_eq!((head.intra_threads, head.session.device, head.allow.len()), (2, DeviceWish::Cpu, 3));
        assert_eq!(head.limits.time, PluginLimits::default().time);
        assert_eq!((content.files, content.samples), (expected.files, expected.samples));
        assert_eq!(content.plugin.unwrap().component, expected.plugin.unwrap().component);
        assert_eq!((content.settings, content.capabilities), (expected.settings, expected.capabilities));
    }

    #[test]
    fn a_job_that_is_cut_short_or_too_long_is_refused() {
        let whole = encoded();
        for end in 0..whole.len() {
            assert!(read(&mut &whole[..end]).is_err(), "{end}");
        }
        let more = [whole.as_slice(), b"x"].concat();
        assert_eq!(read(&mut more.as_slice()).unwrap_err(), "there are bytes after the last file");
    }

    #[test]
    fn a_length_alone_takes_no_memory() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(read(&mut bytes.as_slice()).unwrap_err().contains("at most"));
        let text = take(&mut [1_u8; 10].as_slice(), u64::MAX).unwrap_err();
        assert!(text.contains("10 of"), "{text}");
    }

    proptest! {
        #[test]
        fn no_byte_changed_makes_it_panic(at in 0_usize..600, byte in any::<u8>()) {
            let mut bytes = encoded();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _any = read(&mut bytes.as_slice());
        }
    }
}
