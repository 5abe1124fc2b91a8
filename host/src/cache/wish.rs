//! What a request's `Cache-Control` asks for.
//!
//! Owns the directives that a request may have (RFC 9111, section 5.2.1), as the client wrote them. What is not
//! known, or has no proper value, is left out, as the RFC has it.

use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `no-store`: neither look for a remembered answer nor remember this one.
    pub no_store: bool,
    /// `no-cache`: compute the answer for this request; it may be remembered.
    pub no_cache: bool,
    /// `only-if-cached`: a remembered answer or none.
    pub only_if_cached: bool,
    /// `max-age`: none that is older.
    pub max_age: Option<Duration>,
    /// `max-stale`: also one whose time is over for so long.
    pub max_stale: Option<Duration>,
    /// `min-fresh`: one that is fresh for so long yet.
    pub min_fresh: Option<Duration>,
}

impl Wish {
    /// Of the values of all `cache-control` fields of a request, in their order.
    pub fn read<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut wish = Self::default();
        for directive in fields.flat_map(split) {
            let (name, value) = match directive.iter().position(|&byte| byte == b'=') {
                Some(at) => (&directive[..at], Some(unquoted(&directive[at + 1..]))),
                None => (directive, None),
            };
            let name = name.trim_ascii();
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let seconds = value.and_then(seconds);
            // Of a directive that comes more than once, the first one counts.
            if is("no-store") {
                wish.no_store = true;
            } else if is("no-cache") {
                wish.no_cache = true;
            } else if is("only-if-cached") {
                wish.only_if_cached = true;
            } else if is("max-age") {
                wish.max_age = wish.max_age.or(seconds);
            } else if is("min-fresh") {
                wish.min_fresh = wish.min_fresh.or(seconds);
            } else if is("max-stale") {
                let any = value.is_none().then_some(Duration::MAX);
                wish.max_stale = wish.max_stale.or(any).or(seconds);
            }
        }
        wish
    }

    /// Whether an answer of this age will do, which is fresh for `ttl`, and may be given for `stale` after that unless
    /// the request says something else.
    pub fn takes(&self, age: Duration, ttl: Duration, stale: Duration) -> bool {
        if self.max_age.is_some_and(|most| age > most) {
            return false;
        }
        if let Some(left) = ttl.checked_sub(age).filter(|left| !left.is_zero()) {
            return self.min_fresh.is_none_or(|least| left >= least);
        }
        // Who says how old or how fresh it has to be does not mean one past its time, unless it says so.
        let patient = match self.max_stale {
            Some(most) => most.min(stale),
            None if self.max_age.is_some() => Duration::ZERO,
            None => stale,
        };
        self.min_fresh.is_none() && age.saturating_sub(ttl) < patient
    }
}

/// The directives of a field: between commas that are not within quotes.
fn split(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    field.split(move |&byte| {
        if escaped {
            escaped = false;
        } else if quoted && byte == b'\\' {
            escaped = true;
        } else if byte == b'"' {
            quoted = !quoted;
        }
        byte == b',' && !quoted
    })
}

fn unquoted(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

/// Digits alone; a number that is too large is a very large one (RFC 9111, section 1.2.2).
fn seconds(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, &digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(Duration::from_secs(value.iter().fold(0, add)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[&str]) -> Wish {
        Wish::read(fields.iter().map(|field| field.as_bytes()))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn directives_are_read_over_all_fields() {
        let wish = read(&["No-Store , max-age=5", "only-if-cached,MAX-STALE", "min-fresh=\"7\", no-cache"]);
        let all = Wish {
            no_store: true,
            no_cache: true,
            only_if_cached: true,
            max_age: Some(5 * SECOND),
            max_stale: Some(Duration::MAX),
            min_fresh: Some(7 * SECOND),
        };
        assert_eq!(wish, all);
        assert_eq!(read(&["max-stale=9"]).max_stale, Some(9 * SECOND));
        assert_eq!(read(&["max-age=1, max-age=2"]).max_age, Some(SECOND));
        assert_eq!(read(&["max-age=99999999999999999999999"]).max_age, Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn what_is_malformed_or_unknown_is_left_out() {
        for field in [
            "",
            ",",
            "=",
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1s",
            "max-age=1.5",
            "max-age=\"",
            "no store",
            "no-storeX",
            "max-stale=x",
            "min-fresh",
            "foo=\"no-store, no-cache\"",
            "x=\"\\\", no-store\"",
            "immutable",
            "\"no-store\"",
        ] {
            assert_eq!(read(&[field]), Wish::default(), "{field}");
        }
    }

    #[test]
    fn an_answer_is_taken_while_it_is_fresh_and_as_the_request_says() {
        let (ttl, stale) = (10 * SECOND, 5 * SECOND);
        let takes = |field: &str, age: u32| read(&[field]).takes(age * SECOND, ttl, stale);
        assert!(takes("", 0) && takes("", 9) && takes("", 10) && takes("", 14) && !takes("", 15));
        assert!(takes("max-age=3", 3) && !takes("max-age=3", 4) && !takes("max-age=100", 12));
        assert!(takes("max-age=100, max-stale", 12) && !takes("max-stale=2", 12) && takes("max-stale=3", 12));
        assert!(!takes("max-stale=100", 15));
        assert!(takes("min-fresh=3", 7) && !takes("min-fresh=3", 8) && !takes("min-fresh=0", 11));
        assert!(!Wish::default().takes(10 * SECOND, ttl, Duration::ZERO));
    }

    proptest! {
        #[test]
        fn any_field_is_read(fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
            Wish::read(fields.iter().map(Vec::as_slice));
        }
    }
}
