//! `workers` in `model.yaml`: where a model runs, and the memory of its sessions.
//!
//! Owns the forms of these keys. What they lead to is `model`'s.

use super::quantity::ByteSize;
use super::section::Section;
use super::setting::{Choice, Text, Wrong};
use crate::model::{ArenaExtend, ArenaOptions, DeviceWish, SessionOptions, Shrink};

/// The largest number that a device may have.
const MOST_DEVICES: u32 = 1023;
/// An arena below this holds no model.
const LEAST_MEMORY: ByteSize = ByteSize::mib(16);
const MOST_MEMORY: ByteSize = ByteSize::mib(16 << 20);

impl Choice for ArenaExtend {
    const WORDS: &'static [(&'static str, Self)] =
        &[("as_requested", Self::AsRequested), ("power_of_two", Self::PowerOfTwo)];
}

impl Choice for Shrink {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)];
}

impl Text for DeviceWish {
    fn expected() -> String {
        "auto, cpu, or a GPU like cuda:0".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" | "gpu" => return Err(Wrong::Because("did you mean 'cuda:0'?".to_owned())),
            _ => {}
        }
        let number = text.strip_prefix("cuda:").ok_or(Wrong::Form)?;
        let number = <u32 as Text>::parse(number)?;
        if number > MOST_DEVICES {
            return Err(Wrong::Because(format!("devices have numbers of 0 to {MOST_DEVICES}")));
        }
        Ok(Self::Cuda(number))
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(number) => format!("cuda:{number}"),
        }
    }
}

/// Decodes those keys of `workers` that say how sessions are opened.
pub(super) fn decode(section: &mut Section<'_>) -> SessionOptions {
    let memory = section.take_if("gpu_memory", None, |memory: &Option<ByteSize>| match memory {
        Some(size) if !(LEAST_MEMORY..=MOST_MEMORY).contains(size) => {
            Err(format!("expected {LEAST_MEMORY} to {MOST_MEMORY}, got {size}"))
        }
        _ => Ok(()),
    });
    let default = SessionOptions::default();
    SessionOptions {
        device: section.take("device", default.device),
        tensorrt: section.take("tensorrt", default.tensorrt),
        gpu_memory: memory.map(ByteSize::as_u64),
        share_weights: section.take("share_weights", true),
        arena: section.section("arena", |section| {
            let default = ArenaOptions::default();
            ArenaOptions {
                enabled: section.take("enabled", default.enabled),
                extend: section.take("extend", default.extend),
                shrink: section.take("shrink", default.shrink),
            }
        }),
    }
}

/// `models[].gpu_id`.
///
/// # Errors
/// What was expected.
pub(super) fn check_gpu(number: Option<u32>) -> Result<(), String> {
    match number {
        Some(number) if number > MOST_DEVICES => Err(format!("expected 0 to {MOST_DEVICES}, got {number}")),
        _ => Ok(()),
    }
}

/// `auto`, or a number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count(pub(super) Option<usize>);

impl Text for Count {
    fn expected() -> String {
        "auto or a whole number like 2".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "auto" {
            Ok(Self(None))
        } else {
            <usize as Text>::parse(text).map(|count| Self(Some(count)))
        }
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "auto".to_owned(), |count| count.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ModelConfig;

    fn parse(text: &str) -> Option<DeviceWish> {
        <DeviceWish as Text>::parse(text).ok()
    }

    #[test]
    fn devices() {
        assert_eq!(parse("auto"), Some(DeviceWish::Auto));
        assert_eq!(parse("cpu"), Some(DeviceWish::Cpu));
        assert_eq!(parse("cuda:0"), Some(DeviceWish::Cuda(0)));
        assert_eq!(parse("cuda:15"), Some(DeviceWish::Cuda(15)));
        for wrong in [
            "",
            "CPU",
            "cuda",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:1024",
            "cuda:0x1",
            "cuda: 1",
            "rocm:0",
            "0",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    fn workers(text: &str) -> Result<SessionOptions, String> {
        let loaded = ModelConfig::from_text("model.yaml", &format!("workers: {text}"));
        loaded.map(|loaded| loaded.value.workers.session).map_err(|problems| problems.to_string())
    }

    #[test]
    fn all_keys_together() {
        let text = "{device: cuda:1, tensorrt: true, gpu_memory: 2GiB, share_weights: false, \
                    arena: {enabled: false, extend: power_of_two, shrink: never}}";
        let arena = ArenaOptions { enabled: false, extend: ArenaExtend::PowerOfTwo, shrink: Shrink::Never };
        let expected = SessionOptions {
            device: DeviceWish::Cuda(1),
            tensorrt: true,
            gpu_memory: Some(2 << 30),
            arena,
            share_weights: false,
        };
        assert_eq!(workers(text).unwrap(), expected);
        let default = SessionOptions { share_weights: true, ..SessionOptions::default() };
        assert_eq!(workers("{}").unwrap(), default);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            (
                "{device: cuda}",
                "workers.device: expected auto, cpu, or a GPU like cuda:0, got 'cuda'; did you mean 'cuda:0'?",
            ),
            ("{device: tpu}", "workers.device: expected auto"),
            ("{gpu_memory: 1MiB}", "workers.gpu_memory: expected 16MiB to 16TiB, got 1MiB"),
            ("{gpu_memory: much}", "workers.gpu_memory: expected"),
            ("{arena: {shrink: sometimes}}", "workers.arena.shrink: expected one of auto, always, never"),
            ("{arena: {extend: slowly}}", "workers.arena.extend: expected one of"),
            ("{arena: true}", "workers.arena: expected a map"),
            ("{tensorrt: 1}", "workers.tensorrt: expected true or false"),
        ] {
            let error = workers(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_device_that_is_shown_reads_back(number in 0..=MOST_DEVICES) {
            let device = DeviceWish::Cuda(number);
            prop_assert_eq!(parse(&device.show()), Some(device));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _any = parse(&text);
        }
    }
}
