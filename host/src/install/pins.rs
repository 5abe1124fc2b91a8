//! The files that this host is built for.
//!
//! Owns their digests: of each package, and of each library in it. A digest is changed with the version, by a
//! person who has looked at the registry's page.

use super::error::InstallError;

/// The version of the packages.
pub const VERSION: &str = "1.31.1";

/// What a library can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The machine's own cores.
    Cpu,
    /// NVIDIA's devices as well.
    Cuda,
}

impl Flavour {
    /// Both, the smaller first.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Cuda];

    /// The package, which is the name of its folder in the cache too.
    pub const fn package(self) -> &'static str {
        match self {
            Self::Cpu => "onnxruntime",
            Self::Cuda => "onnxruntime-gpu",
        }
    }
}

/// One platform's package.
#[derive(Clone, Copy, Debug)]
pub struct Pin {
    /// What it runs on.
    pub flavour: Flavour,
    os: &'static str,
    arch: &'static str,
    /// The package's file.
    pub wheel: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: &'static str,
    /// What is taken out of it: the library itself first, then what the library loads by itself.
    pub files: &'static [PinnedFile],
}

/// One library in a package.
#[derive(Clone, Copy, Debug)]
pub struct PinnedFile {
    /// Its name, below `onnxruntime/capi/`.
    pub name: &'static str,
    /// Its SHA-256, in hexadecimal.
    pub sha256: &'static str,
}

/// The package for a platform, by the names that Rust has for it.
///
/// # Errors
/// [`InstallError::NoPin`].
pub fn pin(flavour: Flavour, os: &str, arch: &str) -> Result<&'static Pin, InstallError> {
    let found = PINS.iter().find(|pin| pin.flavour == flavour && pin.os == os && pin.arch == arch);
    found.ok_or_else(|| InstallError::NoPin {
        package: flavour.package(),
        os: os.to_owned(),
        arch: arch.to_owned(),
    })
}

const LINUX: &str = "libonnxruntime.so.1.31.1";
const SHARED: &str = "libonnxruntime_providers_shared.so";
const CUDA: &str = "libonnxruntime_providers_cuda.so";
const TENSORRT: &str = "libonnxruntime_providers_tensorrt.so";

const fn file(name: &'static str, sha256: &'static str) -> PinnedFile {
    PinnedFile { name, sha256 }
}

const PINS: &[Pin] = &[
    Pin {
        flavour: Flavour::Cpu,
        os: "linux",
        arch: "x86_64",
        wheel: "onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl",
        size: 23_760_988,
        sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        files: &[file(LINUX, "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3")],
    },
    Pin {
        flavour: Flavour::Cpu,
        os: "linux",
        arch: "aarch64",
        wheel: "onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_aarch64.whl",
        size: 21_420_803,
        sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
        files: &[file(LINUX, "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467")],
    },
    Pin {
        flavour: Flavour::Cpu,
        os: "macos",
        arch: "aarch64",
        wheel: "onnxruntime-1.31.1-cp312-cp312-macosx_14_0_arm64.whl",
        size: 20_882_125,
        sha256: "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
        files: &[file(
            "libonnxruntime.1.31.1.dylib",
            "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36",
        )],
    },
    Pin {
        flavour: Flavour::Cuda,
        os: "linux",
        arch: "x86_64",
        wheel: "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl",
        size: 255_569_273,
        sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
        files: &[
            file(LINUX, "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303"),
            file(SHARED, "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"),
            file(CUDA, "8387867e857499e045caff5d13ac6a5de29571c801562fa2dde0e45f1f31de52"),
            file(TENSORRT, "1882ee49fdb0e6fc2d272b00cfaf9a3310bf8580a34385c0eec4d82014ea172e"),
        ],
    },
    Pin {
        flavour: Flavour::Cuda,
        os: "linux",
        arch: "aarch64",
        wheel: "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_34_aarch64.whl",
        size: 212_341_829,
        sha256: "a0f1725c5a6d1ef82d63498b5ebc25e2c90c9560e91dc76db9be4a49162d4d33",
        files: &[
            file(LINUX, "25430c15445a74ea480116a0da41533d83e59bceb1a18004c97e4873334afc90"),
            file(SHARED, "1fc9a38c51a15164ae7d126f4e89447e718e47bd0a934eaa1a86bb60a6ec4955"),
            file(CUDA, "bf506a34897f3bdbd9c162f4fd697d0073d2ed1e2a32b3d654b34f2e3bda04c2"),
        ],
    },
];

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A pin of a package that a test made.
    pub(in crate::install) fn pin_of(wheel: &[u8], files: &[(&'static str, &[u8])]) -> Pin {
        let leak = |text: String| -> &'static str { text.leak() };
        let files = files.iter().map(|(name, bytes)| file(name, leak(super::super::wheel::sha256(bytes))));
        Pin {
            flavour: Flavour::Cpu,
            os: "linux",
            arch: "x86_64",
            wheel: "onnxruntime-0-test.whl",
            size: wheel.len() as u64,
            sha256: leak(super::super::wheel::sha256(wheel)),
            files: files.collect::<Vec<_>>().leak(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pin_has_digests_and_names_the_version() {
        for pin in PINS {
            let digests = pin.files.iter().map(|file| file.sha256).chain([pin.sha256]);
            for digest in digests {
                assert!(
                    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{digest}"
                );
            }
            assert!(pin.wheel.contains(VERSION) && pin.files[0].name.contains(VERSION), "{}", pin.wheel);
            assert!(pin.wheel.starts_with(&pin.flavour.package().replace('-', "_")));
        }
    }

    #[test]
    fn a_platform_without_a_pin_is_named() {
        assert!(pin(Flavour::Cpu, "linux", "x86_64").is_ok());
        let error = pin(Flavour::Cuda, "macos", "aarch64").err().unwrap().to_string();
        assert!(error.contains("macos on aarch64") && error.contains("NUKE_ORT_LIB"), "{error}");
    }
}
