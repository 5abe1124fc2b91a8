//! Where a package index keeps a file.
//!
//! Owns the reading of both forms of an index page: JSON (PEP 691) and HTML (PEP 503). What the page says of
//! digests is not believed: the pin is.

use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;

use super::error::InstallError;
use super::https::{Client, join};
use super::pins::Pin;
use super::settings::without_secret;

const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1";
/// Bytes of an index page.
const PAGE: usize = 64 << 20;

#[derive(Deserialize)]
struct Page {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    filename: String,
    url: String,
}

/// The address of the pinned package.
///
/// # Errors
/// [`InstallError::Unreachable`] or [`InstallError::Answer`].
pub(super) async fn locate(client: &Client, pin: &Pin) -> Result<String, InstallError> {
    let address = format!("{}/{}/", client.registry().index, pin.flavour.package());
    let shown = without_secret(&address);
    let unreachable =
        |reason: String| InstallError::Unreachable { address: shown.clone(), reason, wheel: pin.wheel };
    let answer = client.get(&address, ACCEPT, 0).await.map_err(unreachable)?;
    let status = answer.status();
    if !status.is_success() {
        let problem = format!("it answers {status}; is pip's index-url right?");
        return Err(InstallError::Answer { address: shown, problem });
    }
    let body = Limited::new(answer.into_body(), PAGE).collect().await;
    let body = body.map_err(|error| unreachable(format!("the answer broke off: {error}")))?.to_bytes();
    let found = find(&body, pin.wheel).ok_or_else(|| InstallError::Answer {
        address: shown.clone(),
        problem: format!("there is no {} there; fetch it elsewhere and pass --from FILE", pin.wheel),
    })?;
    Ok(with_secret_of(&address, join(&address, &found)))
}

/// Where a page says that `wheel` is.
fn find(page: &[u8], wheel: &str) -> Option<String> {
    if let Ok(page) = serde_json::from_slice::<Page>(page) {
        return page.files.into_iter().find(|entry| entry.filename == wheel).map(|entry| entry.url);
    }
    let text = String::from_utf8_lossy(page);
    let targets = text.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        rest.get(1..)?.split(quote).next()
    });
    let is_wheel = |target: &&str| {
        let path = target.split(['#', '?']).next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        percent_encoding::percent_decode_str(name).decode_utf8_lossy() == wheel
    };
    targets.into_iter().find(is_wheel).map(|target| target.replace("&amp;", "&"))
}

/// A file on the index's own host is asked for as the index was.
fn with_secret_of(index: &str, target: String) -> String {
    let authority = |address: &str| -> Option<String> {
        Some(address.split_once("://")?.1.split('/').next()?.to_owned())
    };
    let (Some(full), Some(bare)) = (authority(index), authority(&without_secret(index))) else {
        return target;
    };
    if full != bare && authority(&target).as_deref() == Some(bare.as_str()) {
        return target.replacen(&format!("://{bare}"), &format!("://{full}"), 1);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_page_are_read() {
        let json = br#"{"meta":{"api-version":"1.3"},"files":[{"filename":"b.whl","url":"u"},{"filename":"a.whl","url":"../a.whl","hashes":{}}]}"#;
        assert_eq!(find(json, "a.whl").as_deref(), Some("../a.whl"));
        let html =
            b"<a href='x/b.whl'>b</a> <a data-x=\"1\" href=\"/p/a%2Ewhl?k=1&amp;l=2#sha256=0\">a.whl</a>";
        assert_eq!(find(html, "a.whl").as_deref(), Some("/p/a%2Ewhl?k=1&l=2#sha256=0"));
    }

    #[test]
    fn a_page_without_the_file_or_that_is_none_has_nothing() {
        for page in
            [&b""[..], b"{}", b"{\"files\":[]}", b"<a href=", b"<a href=\"a.whl.metadata\">", b"\xff href='"]
        {
            assert_eq!(find(page, "a.whl"), None);
        }
    }

    #[test]
    fn a_password_goes_to_its_own_host_only() {
        let index = "https://me:pw@h/simple/x/";
        assert_eq!(with_secret_of(index, "https://h/f/a".to_owned()), "https://me:pw@h/f/a");
        assert_eq!(with_secret_of(index, "https://g/f/a".to_owned()), "https://g/f/a");
        assert_eq!(with_secret_of("https://h/s/", "https://h/a".to_owned()), "https://h/a");
    }
}
