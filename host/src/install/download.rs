//! Fetching one pinned file, and going on where a try before has ended.
//!
//! Owns the unfinished file: it is named by the digest that it shall have, so that nothing else is ever
//! appended to it, and it goes once its whole length has the wrong digest.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_RANGE;
use http_body_util::BodyExt as _;
use indicatif::ProgressBar;

use super::error::InstallError;
use super::https::Client;
use super::pins::Pin;
use super::settings::without_secret;
use super::{index, wheel};

/// How often a connection that breaks off is made anew.
const TRIES: usize = 4;
/// How long no byte may come.
const SILENCE: Duration = Duration::from_secs(60);

/// Fetches the package into `folder`, and returns where it is: verified.
///
/// # Errors
/// [`InstallError`]; what has come so far is kept for the next try, unless it is wrong.
pub(super) async fn fetch(
    client: &Client,
    pin: &Pin,
    folder: &Path,
    bar: &ProgressBar,
) -> Result<PathBuf, InstallError> {
    let path = folder.join(format!("{}.part", pin.sha256));
    if length(&path) < pin.size {
        let address = index::locate(client, pin).await?;
        let mut last = String::new();
        for _ in 0..TRIES {
            match go_on(client, &address, pin, &path, bar).await? {
                None => break,
                Some(reason) => last = reason,
            }
        }
        if length(&path) < pin.size {
            let (so_far, size) = (length(&path) >> 20, pin.size >> 20);
            let reason =
                format!("{last}; {so_far} of {size} MiB have come, and the next try goes on from there");
            let address = without_secret(&address);
            return Err(InstallError::Unreachable { address, reason, wheel: pin.wheel });
        }
    }
    if let Err(error) = wheel::verify(&path, pin) {
        std::fs::remove_file(&path).map_err(InstallError::file("remove", &path))?;
        return Err(error);
    }
    Ok(path)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Appends what comes; `Some` with the reason if the connection broke off.
async fn go_on(
    client: &Client,
    address: &str,
    pin: &Pin,
    path: &Path,
    bar: &ProgressBar,
) -> Result<Option<String>, InstallError> {
    let from = length(path);
    let answer = match client.get(address, "*/*", from).await {
        Ok(answer) => answer,
        Err(reason) => return Ok(Some(reason)),
    };
    let refused = |problem: String| InstallError::Answer { address: without_secret(address), problem };
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let continues = range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")));
    let start = match answer.status() {
        StatusCode::PARTIAL_CONTENT if continues => from,
        StatusCode::OK => 0,
        status if status.is_server_error() => return Ok(Some(format!("it answers {status}"))),
        status => return Err(refused(format!("it answers {status}, expected the file"))),
    };
    let writing = InstallError::file("write", path);
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    let seek = |mut file: File| {
        file.set_len(start)?;
        file.seek(SeekFrom::Start(start)).map(|_| file)
    };
    let mut file = opened.and_then(seek).map_err(writing)?;
    bar.set_position(start);
    let (mut at, mut body) = (start, answer.into_body());
    loop {
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Err(_) => return Ok(Some(format!("nothing came for {} s", SILENCE.as_secs()))),
            Ok(Some(Err(error))) => return Ok(Some(format!("it broke off: {error}"))),
            Ok(None) if at < pin.size => return Ok(Some("it ended early".to_owned())),
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        at += data.len() as u64;
        if at > pin.size {
            std::fs::remove_file(path).map_err(InstallError::file("remove", path))?;
            return Err(refused(format!("it sends more than the {} bytes that {} has", pin.size, pin.wheel)));
        }
        file.write_all(&data).map_err(InstallError::file("write", path))?;
        bar.set_position(at);
    }
}
