//! `Accept-Encoding`: which coding an answer may have.
//!
//! Owns the reading of the header, with its weights. What cannot be read counts as not said.

use http::{HeaderMap, header};

use super::Coding;

/// Entries of the header that are looked at: there are not that many codings.
const MOST: usize = 32;

/// What a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Wanted(pub(super) Option<Coding>);

impl Wanted {
    /// The coding that the client likes best; of several, the one that costs least.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::ACCEPT_ENCODING).iter().peekable();
        if values.peek().is_none() {
            return Self(None);
        }
        let text = values.filter_map(|value| value.to_str().ok());
        Self(best(text.flat_map(|value| value.split(',')).take(MOST)))
    }
}

fn best<'a>(entries: impl Iterator<Item = &'a str>) -> Option<Coding> {
    let mut weights = [None; Coding::ALL.len()];
    let (mut any, mut identity) = (None, None);
    for entry in entries {
        let Some((name, weight)) = weighted(entry) else { continue };
        if name == "*" {
            any = Some(weight);
        } else if name.eq_ignore_ascii_case("identity") {
            identity = Some(weight);
        } else if let Some(coding) = Coding::parse(name)
            && let Some(slot) = weights.get_mut(coding as usize)
        {
            *slot = Some(weight);
        }
    }
    let mut best = (None, identity.unwrap_or(0));
    for (coding, weight) in Coding::ALL.into_iter().zip(weights) {
        let weight = weight.or(any).unwrap_or(0);
        // At the same weight a coding beats identity, and an earlier coding a later one.
        if weight > 0 && (weight > best.1 || (best.0.is_none() && weight == best.1)) {
            best = (Some(coding), weight);
        }
    }
    best.0
}

/// A name and its weight in thousandths.
fn weighted(entry: &str) -> Option<(&str, u16)> {
    let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
    let name = name.trim();
    let weight = match parameters.trim() {
        "" => 1000,
        text => thousandths(text.strip_prefix("q=").or_else(|| text.strip_prefix("Q="))?)?,
    };
    (!name.is_empty()).then_some((name, weight))
}

/// `0`, `1`, `0.8`, `0.125`.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u16 = whole.parse().ok()?;
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    Some(whole * 1000 + fraction).filter(|&weight| weight <= 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str) -> Option<Coding> {
        best(header.split(','))
    }

    #[test]
    fn the_client_decides_and_then_the_cost() {
        assert_eq!(of("gzip"), Some(Coding::Gzip));
        assert_eq!(of("deflate, GZIP"), Some(Coding::Gzip));
        assert_eq!(of("gzip, deflate, br, zstd"), Some(Coding::Zstd));
        assert_eq!(of("zstd;q=0.5, gzip;q=0.8"), Some(Coding::Gzip));
        assert_eq!(of("*"), Some(Coding::Zstd));
        assert_eq!(of("*, zstd;q=0"), Some(Coding::Gzip));
        assert_eq!(of("x-gzip; q=1.000"), Some(Coding::Gzip));
        assert_eq!(of("gzip;q=0.5, identity"), None);
        assert_eq!(of("gzip;q=0.5, identity;q=0.5"), Some(Coding::Gzip));
        assert_eq!(of("identity;q=0, deflate"), Some(Coding::Deflate));
    }

    #[test]
    fn what_cannot_be_read_is_not_said() {
        for header in [
            "",
            "br",
            "gzip;q=0",
            "gzip;q=0.000",
            "gzip;q=2",
            "gzip;q=1.5",
            "gzip;q=-1",
            "gzip;q=0.1234",
            "gzip;q=",
            ";q=1",
            "gzip;level=9",
            "gzip;q=\u{e9}",
        ] {
            assert_eq!(of(header), None, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_too_odd(text in ".{0,200}") {
            let _ = of(&text);
        }
    }
}
