//! Content codings: bodies that come compressed, and answers that go so.
//!
//! Owns which codings there are, how much may come out of one, and when an answer is worth the work. Requests that ask
//! for nothing pay for one look at their headers.

mod accept;
mod answer;
mod inflate;

pub(super) use accept::Wanted;
pub use answer::AnswerOptions;
pub(super) use answer::compressed;
pub(super) use inflate::{coding_of, expand, inflate};

use http::HeaderValue;

/// A coding that is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 1952, with any number of members.
    Gzip,
    /// RFC 1950; in requests also RFC 1951, which some clients send under this name.
    Deflate,
}

impl Coding {
    /// The one that costs least first.
    pub(super) const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Deflate];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.as_str()))
    }

    const fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }
}

#[cfg(test)]
fn expand_for_tests(coding: Coding, body: &[u8]) -> Vec<u8> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    inflate::expand(coding, body, 1 << 30, deadline, &super::front::MemoryBudget::new(1 << 30))
        .unwrap()
        .to_vec()
}
