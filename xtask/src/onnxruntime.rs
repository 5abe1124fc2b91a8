//! Owns the ONNX Runtime library that Nuke is built for: the pinned wheel for each platform, fetched by
//! pip, checked twice (pip checks the wheel's SHA-256, this module the library's) and kept in the cache.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::{fetch, process, progress, python};

/// The version of the `onnxruntime` package.
const VERSION: &str = "1.31.1";
const REMEDY: &str = "set NUKE_ORT_LIB to an ONNX Runtime library to use another";

/// Copies the one library out of a wheel (which is a zip file): WHEEL NAME OUTPUT.
const EXTRACT: &str = "\
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, open(sys.argv[3], 'wb') as out:
    with wheel.open('onnxruntime/capi/' + sys.argv[2]) as library:
        shutil.copyfileobj(library, out)
";

/// One platform's file.
struct Wheel {
    os: &'static str,
    arch: &'static str,
    platform: &'static str,
    wheel_sha256: &'static str,
    library: &'static str,
    plain_name: &'static str,
    library_sha256: &'static str,
}

const WHEELS: [Wheel; 3] = [
    Wheel {
        os: "linux",
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        wheel_sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        library: "libonnxruntime.so.1.31.1",
        plain_name: "libonnxruntime.so",
        library_sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        wheel_sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
        library: "libonnxruntime.so.1.31.1",
        plain_name: "libonnxruntime.so",
        library_sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_14_0_arm64",
        wheel_sha256: "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
        library: "libonnxruntime.1.31.1.dylib",
        plain_name: "libonnxruntime.dylib",
        library_sha256: "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36",
    },
];

/// The library's path: what `NUKE_ORT_LIB` says, or the pinned one, fetched if it is not there.
///
/// # Errors
/// `NUKE_ORT_LIB` names no file, the platform has no wheel, or the wheel cannot be fetched or is not
/// the pinned one.
pub(crate) fn ensure(paths: &Paths) -> Result<PathBuf> {
    if let Some(named) = env::var_os("NUKE_ORT_LIB").filter(|path| !path.is_empty()).map(PathBuf::from) {
        let path = fs::canonicalize(&named).with_context(|| {
            format!("NUKE_ORT_LIB names {}, which is no file; unset it or correct it", named.display())
        })?;
        return Ok(path);
    }
    let wheel = wheel_for(env::consts::OS, env::consts::ARCH)?;
    let folder = paths.cache.join("onnxruntime").join(VERSION);
    let library = folder.join(wheel.library);
    let _lock = paths.lock("onnxruntime")?;
    if !is_intact(&library, wheel) {
        progress::step(&format!("fetch ONNX Runtime {VERSION}"), || fetch_library(paths, wheel, &folder))?;
    }
    link(&folder, wheel)
}

fn wheel_for(os: &str, arch: &str) -> Result<&'static Wheel> {
    let found = WHEELS.iter().find(|wheel| wheel.os == os && wheel.arch == arch);
    found.with_context(|| format!("no ONNX Runtime {VERSION} is pinned for {os} on {arch}; {REMEDY}"))
}

fn is_intact(library: &Path, wheel: &Wheel) -> bool {
    fetch::file_sha256(library).is_ok_and(|digest| digest == wheel.library_sha256)
}

fn fetch_library(paths: &Paths, wheel: &Wheel, folder: &Path) -> Result<()> {
    let scratch = paths.scratch("onnxruntime")?;
    let file = download(scratch.path(), wheel)?;
    let extracted = scratch.path().join(wheel.library);
    let mut extract = Command::new(python::SYSTEM);
    extract.args(["-c", EXTRACT]).arg(&file).arg(wheel.library).arg(&extracted);
    process::quiet(&mut extract).context("cannot unpack the onnxruntime wheel")?;
    if !is_intact(&extracted, wheel) {
        let found = fetch::file_sha256(&extracted)?;
        bail!("{} has SHA-256 {found}, expected {}; {REMEDY}", wheel.library, wheel.library_sha256);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let library = folder.join(wheel.library);
    fs::rename(&extracted, &library).with_context(|| format!("cannot write {}", library.display()))
}

/// The wheel for this platform, whatever the python that fetches it: the library inside does not
/// depend on it.
fn download(folder: &Path, wheel: &Wheel) -> Result<PathBuf> {
    python::require_pip()?;
    let requirements = folder.join("requirements.txt");
    let pin = format!("onnxruntime=={VERSION} --hash=sha256:{}\n", wheel.wheel_sha256);
    fs::write(&requirements, pin).with_context(|| format!("cannot write {}", requirements.display()))?;
    let files = folder.join("files");
    let mut pip = python::pip(Path::new(python::SYSTEM));
    pip.args(["download", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    pip.args(["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]);
    pip.args(["--platform", wheel.platform]).arg("-r").arg(&requirements).arg("-d").arg(&files);
    process::quiet(&mut pip)
        .with_context(|| format!("pip cannot fetch onnxruntime {VERSION}; update pip, or {REMEDY}"))?;
    let mut found = fs::read_dir(&files).with_context(|| format!("cannot read {}", files.display()))?;
    let entry = found.next().with_context(|| format!("pip left no wheel in {}", files.display()))?;
    Ok(entry.context("cannot read what pip fetched")?.path())
}

/// The library under its plain name, beside the versioned one.
fn link(folder: &Path, wheel: &Wheel) -> Result<PathBuf> {
    let plain = folder.join(wheel.plain_name);
    if fs::read_link(&plain).is_ok_and(|target| target == Path::new(wheel.library)) {
        return Ok(plain);
    }
    let fresh = folder.join(format!("{}.tmp-{}", wheel.plain_name, std::process::id()));
    symlink(wheel.library, &fresh).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, &plain).with_context(|| format!("cannot write {}", plain.display()))?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::{VERSION, WHEELS, is_intact, link, wheel_for};

    #[test]
    fn each_pin_is_a_sha256_and_names_the_version() {
        for wheel in &WHEELS {
            for digest in [wheel.wheel_sha256, wheel.library_sha256] {
                assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
            }
            assert!(wheel.library.contains(VERSION));
        }
    }

    #[test]
    fn a_platform_without_a_pin_is_named() {
        assert!(wheel_for("linux", "x86_64").is_ok());
        let error = wheel_for("plan9", "mips").err().unwrap().to_string();
        assert!(error.contains("plan9 on mips") && error.contains("NUKE_ORT_LIB"), "{error}");
    }

    #[test]
    fn a_cut_library_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library");
        assert!(!is_intact(&path, &WHEELS[0]));
        std::fs::write(&path, b"\x7fELF").unwrap();
        assert!(!is_intact(&path, &WHEELS[0]));
    }

    #[test]
    fn the_plain_name_follows_the_versioned_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(WHEELS[0].plain_name), b"a stale copy").unwrap();
        for _ in 0..2 {
            let plain = link(folder.path(), &WHEELS[0]).unwrap();
            assert_eq!(std::fs::read_link(plain).unwrap().to_str(), Some(WHEELS[0].library));
        }
    }
}
