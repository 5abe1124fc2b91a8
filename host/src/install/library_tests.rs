//! Installing from a registry of one file, which breaks off, lies, or is not there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::super::pins::testing::pin_of;
use super::super::wheel::testing::zip;
use super::*;

/// What the registry does with the next request for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serve {
    Whole,
    /// So many bytes, then the connection ends.
    CutAfter(usize),
    /// From the start, whatever is asked for.
    WithoutRanges,
    Status(u16),
    /// Another file of the same length.
    Changed,
}

/// A registry with an index page and a file.
struct Shop {
    address: String,
    /// The `Range` of each request for the file.
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

fn shop(wheel: Vec<u8>, name: &'static str, plan: &[Serve]) -> Shop {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/simple", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let (seen, plan) = (Arc::clone(&asked), plan.to_vec());
    let mut plan = plan.into_iter();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let answer = if head[0].contains("/simple/") {
                let page = format!("<a href=\"../../files/{name}\">{name}</a>");
                response(200, "", page.as_bytes(), page.len())
            } else {
                let range = head.iter().find_map(|line| line.strip_prefix("range: bytes="));
                seen.lock().unwrap().push(range.map(str::to_owned));
                let from = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
                file(&wheel, from, plan.next().unwrap_or(Serve::Whole))
            };
            // The other side may have had enough.
            let _closed = stream.write_all(&answer);
        }
    });
    Shop { address, asked }
}

fn file(wheel: &[u8], from: usize, serve: Serve) -> Vec<u8> {
    let range = format!("content-range: bytes {from}-{}/{}\r\n", wheel.len() - 1, wheel.len());
    let (status, range) = if from > 0 { (206, range.as_str()) } else { (200, "") };
    let rest = &wheel[from..];
    match serve {
        Serve::Whole => response(status, range, rest, rest.len()),
        Serve::CutAfter(length) => response(status, range, &rest[..length.min(rest.len())], rest.len()),
        Serve::WithoutRanges => response(200, "", wheel, wheel.len()),
        Serve::Status(status) => response(status, "", b"no", 2),
        Serve::Changed => response(status, range, &vec![0; rest.len()], rest.len()),
    }
}

fn response(status: u16, headers: &str, body: &[u8], length: usize) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

struct Case {
    cache: tempfile::TempDir,
    wheel: Vec<u8>,
    pin: Pin,
}

impl Case {
    fn new() -> Self {
        let (library, other): (Vec<u8>, Vec<u8>) = ((0..=255).cycle().take(40_000).collect(), vec![9; 300]);
        let wheel = zip(&[
            ("onnxruntime/capi/libonnxruntime.so.0", &library),
            ("onnxruntime/capi/libother.so", &other),
        ]);
        let pin = pin_of(&wheel, &[("libonnxruntime.so.0", &library), ("libother.so", &other)]);
        Self { cache: tempfile::tempdir().unwrap(), wheel, pin }
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("there")
    }

    fn shop(&self, plan: &[Serve]) -> Shop {
        shop(self.wheel.clone(), self.pin.wheel, plan)
    }

    fn install(&self, index: &str, from: Option<&Path>, force: bool) -> Result<PathBuf, InstallError> {
        let folder = self.folder();
        let order = Order { pin: &self.pin, folder: &folder, from, force };
        let registry =
            || Ok(Registry { index: index.to_owned(), certificates: None, proxy: None, direct: vec![] });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(install(order, registry, &ProgressBar::hidden()))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

const WHOLE: [&str; 4] = [".nuke-lock", "libonnxruntime.so", "libonnxruntime.so.0", "libother.so"];

#[test]
fn a_library_is_fetched_once() {
    let case = Case::new();
    let shop = case.shop(&[]);
    assert_eq!(inspect(&case.pin, &case.folder()), State::Missing);
    for _ in 0..2 {
        let library = case.install(&shop.address, None, false).unwrap();
        assert_eq!(library, case.folder().join("libonnxruntime.so"));
        assert_eq!(fs::read(&library).unwrap().len(), 40_000);
        assert_eq!(case.names(), WHOLE);
    }
    assert_eq!(shop.asked.lock().unwrap().len(), 1);
    case.install(&shop.address, None, true).unwrap();
    assert_eq!(shop.asked.lock().unwrap().len(), 2);
}

#[test]
fn a_broken_connection_is_gone_on_with_where_it_broke() {
    let case = Case::new();
    let shop = case.shop(&[Serve::CutAfter(100), Serve::Status(503), Serve::CutAfter(50), Serve::Whole]);
    case.install(&shop.address, None, false).unwrap();
    let asked = shop.asked.lock().unwrap().clone();
    let expected = [None, Some("100-"), Some("100-"), Some("150-")].map(|range| range.map(str::to_owned));
    assert_eq!(asked, expected);
    assert_eq!(inspect(&case.pin, &case.folder()), State::Intact);
}

#[test]
fn what_has_come_is_kept_for_the_next_try() {
    let case = Case::new();
    let error = case.install(&case.shop(&[Serve::CutAfter(10); 4]).address, None, false).unwrap_err();
    assert!(
        error.to_string().contains("next try goes on") && error.to_string().contains("--from"),
        "{error}"
    );
    let second = case.shop(&[Serve::WithoutRanges]);
    case.install(&second.address, None, false).unwrap();
    assert_eq!(second.asked.lock().unwrap()[0].as_deref(), Some("40-"));
    assert_eq!(case.names(), WHOLE);
}

#[test]
fn another_file_than_the_pinned_one_is_thrown_away() {
    let case = Case::new();
    let error = case.install(&case.shop(&[Serve::Changed]).address, None, false).unwrap_err().to_string();
    assert!(error.contains("has SHA-256") && error.contains(case.pin.sha256), "{error}");
    assert_eq!(case.names(), [".nuke-lock"]);
    let mut longer = case.wheel.clone();
    longer.extend([0; 10]);
    let shop = shop(longer, case.pin.wheel, &[]);
    let error = case.install(&shop.address, None, false).unwrap_err().to_string();
    assert!(error.contains("sends more than"), "{error}");
    assert_eq!(case.names(), [".nuke-lock"]);
}

#[test]
fn without_a_network_the_remedy_is_named() {
    let case = Case::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = case.install(&format!("http://{nobody}/simple"), None, false).unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains("--from FILE"), "{error}");
    let error = case.install(&case.shop(&[Serve::Status(404)]).address, None, false).unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
}

#[test]
fn a_file_takes_the_place_of_the_network() {
    let case = Case::new();
    let file = case.cache.path().join("my.whl");
    fs::write(&file, &case.wheel[1..]).unwrap();
    let error = case.install("http://127.0.0.1:1", Some(&file), false).unwrap_err().to_string();
    assert!(error.contains("my.whl has SHA-256"), "{error}");
    fs::write(&file, &case.wheel).unwrap();
    case.install("http://127.0.0.1:1", Some(&file), false).unwrap();
    assert_eq!(case.names(), WHOLE);
    assert!(file.exists());
}

#[test]
fn what_is_damaged_or_left_behind_is_mended_and_all_else_stays() {
    let case = Case::new();
    let folder = case.folder();
    case.install(&case.shop(&[]).address, None, false).unwrap();
    fs::write(folder.join("libother.so"), "cut").unwrap();
    fs::write(folder.join("mine"), "x").unwrap();
    fs::remove_file(folder.join("libonnxruntime.so")).unwrap();
    fs::write(folder.join("libonnxruntime.so"), "a stale copy").unwrap();
    fs::create_dir(folder.join(UNPACKED)).unwrap();
    fs::write(folder.join(UNPACKED).join("half"), "x").unwrap();
    assert_eq!(inspect(&case.pin, &folder), State::Damaged("libother.so"));
    case.install(&case.shop(&[]).address, None, false).unwrap();
    assert_eq!(inspect(&case.pin, &folder), State::Intact);
    assert_eq!(case.names(), [&WHOLE[..], &["mine"]].concat());
    assert_eq!(fs::read_link(folder.join("libonnxruntime.so")).unwrap(), Path::new("libonnxruntime.so.0"));
}

#[test]
fn two_at_a_time_fetch_it_once() {
    let case = Case::new();
    let shop = case.shop(&[]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| case.install(&shop.address, None, false).unwrap());
        }
    });
    assert_eq!(shop.asked.lock().unwrap().len(), 1);
}
