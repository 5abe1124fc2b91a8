//! Names of versions and their order.
//!
//! Owns the rule: a version is an integer or a semantic version, and the higher number is the later.

use std::cmp::Ordering;

use semver::Version;

/// Whether a folder's name is that of a version: `1`, `20260101`, `1.0.0`, `2.1.0-rc.1`.
pub(super) fn is_version(name: &str) -> bool {
    key(name).is_some()
}

fn key(name: &str) -> Option<Version> {
    let plain_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if plain_number {
        return name.parse().ok().map(|major| Version::new(major, 0, 0));
    }
    Version::parse(name).ok()
}

/// Whether two names are of one version: `2` and `2.0.0`.
pub(super) fn same(left: &str, right: &str) -> bool {
    key(left).is_some_and(|key_of_left| key(right) == Some(key_of_left))
}

/// The first number of a version's name.
pub(super) fn major(name: &str) -> Option<u64> {
    key(name).map(|version| version.major)
}

/// Later versions are greater; of two names of one version (`1`, `01`, `1.0.0`) the order is fixed.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    key(left).cmp(&key(right)).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_semantic_versions_are_versions() {
        for name in ["1", "20260101", "1.0.0", "2.1.0-rc.1", "1.0.0+build"] {
            assert!(is_version(name), "{name}");
        }
        for name in ["", "v1", "latest", "samples", "1.0", ".1", "99999999999999999999999"] {
            assert!(!is_version(name), "{name}");
        }
    }

    #[test]
    fn ten_comes_after_nine() {
        let mut names = ["10", "9", "1.5.0", "2.0.0-rc.1", "2"];
        names.sort_by(|left, right| compare(left, right));
        assert_eq!(names, ["1.5.0", "2.0.0-rc.1", "2", "9", "10"]);
    }
}
