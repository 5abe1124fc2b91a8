//! The known word that a mistyped one is closest to.

/// Longer words are not compared: they are no slips of a key.
const LONGEST_WORD: usize = 64;

/// The candidate closest to `word`, if it is close enough to be meant: at most one slip in three
/// characters (a slip is a character added, left out, replaced, or swapped with its neighbour).
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.is_empty() || word.len() > LONGEST_WORD {
        return None;
    }
    let word = word.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let allowed = (word.len().max(candidate.len()) / 3).max(1);
        if word.len().abs_diff(candidate.len()) > allowed * 4 {
            continue;
        }
        let distance = strsim::osa_distance(&word, &candidate.to_lowercase());
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let known = ["http", "max_connections", "idle_timeout"];
        assert_eq!(nearest("htp", known), Some("http"));
        assert_eq!(nearest("HTTP", known), Some("http"));
        assert_eq!(nearest("max-conections", known), Some("max_connections"));
        assert_eq!(nearest("grpc", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"h".repeat(1000), known), None);
    }
}
