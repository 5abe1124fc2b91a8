//! A stand-in for the host, for unit tests on the author's machine.
//!
//! Owns what a test says the bundle holds and what the plugin logged, for the test's own thread. It
//! exists only outside WebAssembly, where nothing else answers the imports.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::bundle::Identity;
use crate::error::Result;
use crate::log::Level;
use crate::plugin::Plugin;

thread_local! {
    static BUNDLE: RefCell<Option<Bundle>> = const { RefCell::new(None) };
}

/// One line that a plugin logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The message.
    pub message: String,
    /// The fields, in order.
    pub fields: Vec<(String, String)>,
}

#[derive(Debug)]
enum File {
    Kept(Vec<u8>),
    /// Over the host's limit, by its length.
    Oversized(u64),
}

#[derive(Debug)]
struct Bundle {
    identity: Identity,
    files: BTreeMap<String, File>,
    settings: Vec<(String, String)>,
    log: Vec<LogLine>,
    max_pixels: u32,
}

/// The host of the current thread, as long as it lives.
///
/// ```
/// use nuke_plugin_sdk::testing::TestHost;
/// use nuke_plugin_sdk::{bundle, log};
///
/// let host = TestHost::new().file("labels.txt", "cat\ndog\n").setting("top_k", 3);
/// assert_eq!(bundle::text("labels.txt")?.lines().count(), 2);
/// assert_eq!(bundle::settings().get::<usize>("top_k")?, Some(3));
/// log::info!("parsed the labels", count = 2);
/// assert_eq!(host.log()[0].message, "parsed the labels");
/// # Ok::<(), nuke_plugin_sdk::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the host is gone as soon as this is dropped: keep it in a variable"]
pub struct TestHost {
    // The state is of the thread that made it.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl TestHost {
    /// A host that serves version 1 of a model `test`, with an empty bundle. It takes the place of any
    /// other of this thread.
    #[expect(clippy::new_without_default, reason = "it changes the thread, which a default should not")]
    pub fn new() -> Self {
        BUNDLE.set(Some(Bundle {
            identity: Identity { model: "test".to_owned(), version: "1".to_owned() },
            files: BTreeMap::new(),
            settings: Vec::new(),
            log: Vec::new(),
            max_pixels: 64 << 20,
        }));
        Self { _not_send: std::marker::PhantomData }
    }

    /// Adds a file to the bundle.
    pub fn file(self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        with(|bundle| bundle.files.insert(path.into(), File::Kept(bytes.into())));
        self
    }

    /// Adds a file that is listed, but over the host's limit for bundle files.
    pub fn oversized_file(self, path: impl Into<String>, size: u64) -> Self {
        with(|bundle| bundle.files.insert(path.into(), File::Oversized(size)));
        self
    }

    /// Adds a setting, a list or a map as JSON.
    pub fn setting(self, name: impl Into<String>, value: impl ToString) -> Self {
        with(|bundle| bundle.settings.push((name.into(), value.to_string())));
        self
    }

    /// Sets the names of model and version.
    pub fn identity(self, model: impl Into<String>, version: impl Into<String>) -> Self {
        with(|bundle| bundle.identity = Identity { model: model.into(), version: version.into() });
        self
    }

    /// Sets the host's limit for pictures (`plugins.pixels`).
    pub fn max_pixels(self, pixels: u32) -> Self {
        with(|bundle| bundle.max_pixels = pixels);
        self
    }

    /// A new instance of a plugin, as the host makes one for the first request.
    ///
    /// # Errors
    /// What [`Plugin::new`] says.
    pub fn instance<P: Plugin>(&self) -> Result<P> {
        P::new()
    }

    /// What was logged so far.
    pub fn log(&self) -> Vec<LogLine> {
        with(|bundle| bundle.log.clone())
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        BUNDLE.set(None);
    }
}

#[expect(clippy::panic, reason = "a test that forgot its host is to fail, and to say why")]
fn with<T>(work: impl FnOnce(&mut Bundle) -> T) -> T {
    BUNDLE.with_borrow_mut(|bundle| match bundle {
        Some(bundle) => work(bundle),
        None => panic!("this thread has no host: keep a `TestHost::new()` in a variable of the test"),
    })
}

/// The answers to the imports.
pub(crate) mod imports {
    use super::{BUNDLE, File, LogLine, with};
    use crate::bundle::{FileError, FileInfo, Identity};
    use crate::log::Level;

    /// Without a host, lines are dropped: a function that logs is to be testable alone.
    pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
        BUNDLE.with_borrow_mut(|bundle| {
            if let Some(bundle) = bundle {
                bundle.log.push(LogLine { level, message: message.to_owned(), fields: fields.to_vec() });
            }
        });
    }

    pub(crate) fn read(path: &str) -> Result<Vec<u8>, FileError> {
        with(|bundle| match bundle.files.get(path) {
            Some(File::Kept(bytes)) => Ok(bytes.clone()),
            Some(File::Oversized(_)) => Err(FileError::TooLarge),
            None => Err(FileError::NotFound),
        })
    }

    pub(crate) fn files() -> Vec<FileInfo> {
        let info = |(path, file): (&String, &File)| {
            let size = match file {
                File::Kept(bytes) => bytes.len() as u64,
                File::Oversized(size) => *size,
            };
            FileInfo { path: path.clone(), size }
        };
        with(|bundle| bundle.files.iter().map(info).collect())
    }

    pub(crate) fn settings() -> Vec<(String, String)> {
        with(|bundle| bundle.settings.clone())
    }

    pub(crate) fn whoami() -> Identity {
        with(|bundle| bundle.identity.clone())
    }

    #[cfg(feature = "image")]
    pub(crate) mod image {
        //! The same kernels as the host's.

        use nuke_image as kernels;

        use super::with;
        use crate::datatype::DataType;
        use crate::image::{
            Channels, DecodeOptions, Error, ErrorKind, Filter, ImageInfo, Layout, TensorOptions,
        };
        use crate::tensor::Tensor;

        pub(crate) type Picture = kernels::Picture;

        fn error(error: kernels::ImageError) -> Error {
            let kind = match error.kind {
                kernels::ErrorKind::UnsupportedFormat => ErrorKind::UnsupportedFormat,
                kernels::ErrorKind::Malformed => ErrorKind::Malformed,
                kernels::ErrorKind::TooLarge => ErrorKind::TooLarge,
                kernels::ErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
            };
            Error { kind, message: error.message.into_owned() }
        }

        const fn filter(filter: Filter) -> kernels::Filter {
            match filter {
                Filter::Nearest => kernels::Filter::Nearest,
                Filter::Bilinear => kernels::Filter::Bilinear,
                Filter::Bicubic => kernels::Filter::Bicubic,
                Filter::Lanczos3 => kernels::Filter::Lanczos3,
            }
        }

        pub(crate) fn inspect(bytes: &[u8]) -> Result<ImageInfo, Error> {
            let info = kernels::inspect(bytes).map_err(error)?;
            let content_type = info.format.content_type().to_owned();
            Ok(ImageInfo { content_type, width: info.width, height: info.height })
        }

        pub(crate) fn decode(bytes: &[u8], options: DecodeOptions) -> Result<Picture, Error> {
            let limit = with(|bundle| bundle.max_pixels);
            let max_pixels = if options.max_pixels == 0 { limit } else { limit.min(options.max_pixels) };
            let options = kernels::DecodeOptions {
                max_pixels,
                max_result_pixels: limit,
                apply_orientation: options.apply_orientation,
            };
            Picture::decode(bytes, &options).map_err(error)
        }

        pub(crate) const fn size(picture: &Picture) -> (u32, u32) {
            (picture.width(), picture.height())
        }

        pub(crate) fn resize(
            picture: &Picture,
            width: u32,
            height: u32,
            by: Filter,
        ) -> Result<Picture, Error> {
            picture.resize(width, height, filter(by)).map_err(error)
        }

        pub(crate) fn resize_shorter(picture: &Picture, shorter: u32, by: Filter) -> Result<Picture, Error> {
            picture.resize_shorter(shorter, filter(by)).map_err(error)
        }

        pub(crate) fn crop(
            picture: &Picture,
            x: u32,
            y: u32,
            width: u32,
            height: u32,
        ) -> Result<Picture, Error> {
            picture.crop(x, y, width, height).map_err(error)
        }

        pub(crate) fn crop_center(picture: &Picture, width: u32, height: u32) -> Result<Picture, Error> {
            picture.crop_center(width, height).map_err(error)
        }

        pub(crate) fn to_tensor(picture: &Picture, options: &TensorOptions) -> Result<Tensor, Error> {
            let element = match options.datatype {
                DataType::Fp16 => kernels::ElementType::Fp16,
                DataType::Bf16 => kernels::ElementType::Bf16,
                DataType::Fp32 => kernels::ElementType::Fp32,
                DataType::Fp64 => kernels::ElementType::Fp64,
                DataType::Uint8 => kernels::ElementType::Uint8,
                other => {
                    let message =
                        format!("a picture has no tensor of {other}: FP16, BF16, FP32, FP64 or UINT8");
                    return Err(Error { kind: ErrorKind::InvalidArgument, message });
                }
            };
            let tensor = picture
                .to_tensor(&kernels::TensorOptions {
                    element,
                    layout: match options.layout {
                        Layout::Nchw => kernels::Layout::Nchw,
                        Layout::Nhwc => kernels::Layout::Nhwc,
                    },
                    channels: match options.channels {
                        Channels::Rgb => kernels::Channels::Rgb,
                        Channels::Bgr => kernels::Channels::Bgr,
                        Channels::Gray => kernels::Channels::Gray,
                    },
                    mean: options.mean.clone(),
                    std: options.std.clone(),
                })
                .map_err(error)?;
            Ok(Tensor {
                name: options.name.clone(),
                datatype: options.datatype,
                shape: tensor.shape.to_vec(),
                data: tensor.data,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bundle, log};

    #[test]
    fn the_bundle_is_what_the_test_says() {
        let host =
            TestHost::new().file("b", "2").file("a/c", "333").setting("x", "[1, 2]").identity("m", "7");
        let paths: Vec<(String, u64)> =
            bundle::files().into_iter().map(|file| (file.path, file.size)).collect();
        assert_eq!(paths, [("a/c".to_owned(), 3), ("b".to_owned(), 1)]);
        assert_eq!(bundle::settings().text("x"), Some("[1, 2]"));
        assert_eq!((bundle::whoami().model.as_str(), bundle::whoami().version.as_str()), ("m", "7"));
        let error = bundle::file("labels.txt").unwrap_err();
        assert_eq!(error.message, "the bundle has no file 'labels.txt': put it beside the model");
        let host = host.oversized_file("big", 1 << 40);
        assert!(bundle::file("big").unwrap_err().message.contains("over the host's limit"));
        assert_eq!(bundle::files()[2].size, 1 << 40);
        drop(host);
        assert!(std::panic::catch_unwind(bundle::files).unwrap_err().is::<&str>());
    }

    #[test]
    fn a_log_line_has_level_message_and_fields() {
        let host = TestHost::new();
        let count = 3;
        log::warn!("skipped {count} lines", file = "labels.txt", last = count + 1);
        log::trace!("plain");
        let lines = host.log();
        assert_eq!(lines[0].level, Level::Warn);
        assert_eq!(lines[0].message, "skipped 3 lines");
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(lines[0].fields, [field("file", "labels.txt"), field("last", "4")]);
        assert_eq!((lines[1].level, lines[1].fields.len()), (Level::Trace, 0));
    }

    #[test]
    fn text_of_a_file_must_be_text() {
        let _host = TestHost::new().file("labels.txt", vec![b'a', 0xff]);
        assert!(
            bundle::text("labels.txt").unwrap_err().message.starts_with("the file 'labels.txt' is no UTF-8")
        );
    }

    #[cfg(feature = "image")]
    #[test]
    fn pictures_are_answered_by_the_hosts_kernels() {
        use crate::image::{DecodeOptions, ErrorKind, Filter, Picture, TensorOptions, inspect};
        let _host = TestHost::new().max_pixels(100);
        let file = nuke_image::Picture::from_rgb(4, 2, vec![9; 24]).unwrap().to_png();
        let info = inspect(&file).unwrap();
        assert_eq!((info.content_type.as_str(), info.width, info.height), ("image/png", 4, 2));
        let picture = Picture::decode(&file, DecodeOptions::default()).unwrap();
        let picture = picture.resize_shorter(4, Filter::Bilinear).unwrap().crop(1, 0, 6, 4).unwrap();
        let picture = picture.crop_center(2, 3).unwrap();
        assert_eq!((picture.width(), picture.height()), (2, 3));
        let tensor = picture.to_tensor(&TensorOptions::new("x")).unwrap();
        assert_eq!(
            (tensor.shape.as_slice(), &*tensor.as_f32().unwrap()),
            (&[1, 3, 3, 2][..], &[9.0; 18][..])
        );
        assert_eq!(picture.resize(20, 20, Filter::Nearest).unwrap_err().kind, ErrorKind::TooLarge);
        let options = DecodeOptions { max_pixels: 7, ..DecodeOptions::default() };
        assert_eq!(Picture::decode(&file, options).unwrap_err().kind, ErrorKind::TooLarge);
        let text = Picture::decode(b"text", DecodeOptions::default()).unwrap_err();
        assert_eq!(crate::Error::from(text).code, crate::ErrorCode::UnsupportedMediaType);
    }
}
