//! The media type of a file that is to be sent: by its first bytes, then by its name.

use std::path::Path;

/// What cannot be told apart from noise.
const UNKNOWN: &str = "application/octet-stream";

/// Guesses the media type. The first bytes of a picture or an archive are believed before the
/// name's extension, the extension before the look of the text.
pub(crate) fn guess(path: Option<&Path>, body: &[u8]) -> &'static str {
    by_magic(body).or_else(|| path.and_then(by_extension)).unwrap_or_else(|| by_text(body))
}

fn by_magic(body: &[u8]) -> Option<&'static str> {
    const PREFIXES: [(&[u8], &str); 12] = [
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"%PDF-", "application/pdf"),
        (b"\x1f\x8b", "application/gzip"),
        (b"PK\x03\x04", "application/zip"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"ID3", "audio/mpeg"),
    ];
    const IN_RIFF: [(&[u8], &str); 2] = [(b"WEBP", "image/webp"), (b"WAVE", "audio/wav")];
    const BRANDS: [(&[u8], &str); 3] =
        [(b"avif", "image/avif"), (b"heic", "image/heic"), (b"isom", "video/mp4")];
    let found = |list: &[(&[u8], &'static str)], at: usize| {
        let rest = body.get(at..)?;
        list.iter().find(|(magic, _)| rest.starts_with(magic)).map(|(_, media_type)| *media_type)
    };
    if body.starts_with(b"RIFF") {
        return found(&IN_RIFF, 8);
    }
    if body.get(4..8) == Some(b"ftyp") {
        return found(&BRANDS, 8);
    }
    found(&PREFIXES, 0)
}

fn by_extension(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "csv" => "text/csv; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "xml" => "application/xml",
        "txt" | "text" | "md" => "text/plain; charset=utf-8",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "pdf" => "application/pdf",
        "bin" | "npy" => UNKNOWN,
        _ => return None,
    })
}

fn by_text(body: &[u8]) -> &'static str {
    let Ok(text) = std::str::from_utf8(body) else {
        return UNKNOWN;
    };
    if text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        return "application/json";
    }
    let is_binary = text.chars().any(|character| character.is_control() && !character.is_whitespace());
    if is_binary { UNKNOWN } else { "text/plain; charset=utf-8" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_believed_before_the_name() {
        let png = b"\x89PNG\r\n\x1a\n....";
        assert_eq!(guess(Some(Path::new("cat.jpg")), png), "image/png");
        assert_eq!(guess(None, b"\xff\xd8\xff\xe0"), "image/jpeg");
        assert_eq!(guess(None, b"RIFF\0\0\0\0WEBPVP8 "), "image/webp");
        assert_eq!(guess(None, b"RIFF\0\0\0\0WAVEfmt "), "audio/wav");
        assert_eq!(guess(None, b"\0\0\0\x18ftypavif"), "image/avif");
    }

    #[test]
    fn then_the_extension_then_the_text() {
        assert_eq!(guess(Some(Path::new("a.JPEG")), b"?"), "image/jpeg");
        assert_eq!(guess(Some(Path::new("a.csv")), b"1,2"), "text/csv; charset=utf-8");
        assert_eq!(guess(None, b" {\"a\": 1}"), "application/json");
        assert_eq!(guess(None, b"[not json"), "text/plain; charset=utf-8");
        assert_eq!(guess(Some(Path::new("a.unheard")), "h\u{e9}\n".as_bytes()), "text/plain; charset=utf-8");
    }

    #[test]
    fn short_and_strange_bodies_are_octets() {
        for body in [b"\xff\xd8".as_slice(), b"RIFF\xff", b"\0\0\0\x18ftyp", b"\x00\x01", b"RIFF\0\0\0\0AVI "]
        {
            assert_eq!(guess(None, body), UNKNOWN, "{body:?}");
        }
        assert_eq!(guess(None, b""), "text/plain; charset=utf-8");
    }
}
