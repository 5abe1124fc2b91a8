//! What a caller may do.
//!
//! Owns the three kinds of scopes and the matching of models' names.

use crate::config::ScopeWord;

/// Globs of one caller; more are passed over, since each request looks at all of them.
const MOST_GLOBS: usize = 64;

/// What a request needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// Reading metrics.
    Metrics,
    /// What operators do.
    Admin,
    /// Asking this model, or about it.
    Predict(&'a str),
}

impl Need<'_> {
    /// The scope that gives it.
    pub fn scope(&self) -> String {
        match self {
            Self::Metrics => "metrics".to_owned(),
            Self::Admin => "admin".to_owned(),
            Self::Predict(model) => format!("predict:{model}"),
        }
    }
}

/// A set of scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    admin: bool,
    metrics: bool,
    models: Vec<Box<str>>,
}

impl Scopes {
    /// Everything: that of callers where nobody has to say who they are.
    pub fn everything() -> Self {
        Self { admin: true, metrics: true, models: vec!["*".into()] }
    }

    /// The scopes among these words. A token may have others, for other servers.
    pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scopes = Self::default();
        for word in words.into_iter().filter_map(ScopeWord::parse) {
            scopes.add(&word);
        }
        scopes
    }

    /// These scopes.
    pub fn of(words: &[ScopeWord]) -> Self {
        let mut scopes = Self::default();
        words.iter().for_each(|word| scopes.add(word));
        scopes
    }

    fn add(&mut self, word: &ScopeWord) {
        match word.as_str() {
            "admin" => self.admin = true,
            "metrics" => self.metrics = true,
            other => {
                let glob = other.strip_prefix("predict:").filter(|_| self.models.len() < MOST_GLOBS);
                self.models.extend(glob.map(Into::into));
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        !self.admin && !self.metrics && self.models.is_empty()
    }

    /// Whether they give what is needed.
    pub fn allow(&self, need: Need<'_>) -> bool {
        match need {
            Need::Metrics => self.metrics,
            Need::Admin => self.admin,
            Need::Predict(model) => self.models.iter().any(|glob| matches_glob(glob, model)),
        }
    }

    /// Whether they let their owner know that there is a model of this name.
    pub fn show(&self, model: &str) -> bool {
        self.admin || self.allow(Need::Predict(model))
    }
}

/// Whether a text is as the pattern has it, in which each `*` stands for any text. It takes at most the product of both
/// lengths.
pub(super) fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(mut part) = parts.next() else {
        return rest.is_empty();
    };
    for next in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
        part = next;
    }
    rest.ends_with(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a glob means, by trying everything.
    fn means(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| means(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && means(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn globs_mean_what_they_say(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches_glob(&pattern, &text), means(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_words_are_read(text in any::<String>(), model in any::<String>()) {
            let scopes = Scopes::read(text.split(' '));
            prop_assert!(!scopes.allow(Need::Predict(&model)) || text.contains("predict:"));
        }
    }

    #[test]
    fn scopes_allow_what_they_name_and_no_more() {
        let scopes = Scopes::read("openid predict:image-* predict:digits metrics".split(' '));
        for model in ["image-", "image-classifier", "digits"] {
            assert!(scopes.allow(Need::Predict(model)), "{model}");
        }
        for model in ["", "image", "Digits", "digits2", "my-image-x"] {
            assert!(!scopes.allow(Need::Predict(model)), "{model}");
        }
        assert!(scopes.allow(Need::Metrics) && !scopes.allow(Need::Admin));
        let admin = Scopes::read(["admin"]);
        assert!(admin.show("x") && !admin.allow(Need::Predict("x")) && !admin.allow(Need::Metrics));
        assert!(Scopes::read(["Admin", "predict", "ADMIN", ""]).is_empty());
    }

    #[test]
    fn many_globs_are_cut_off() {
        let words: Vec<String> = (0..1000).map(|number| format!("predict:m{number}")).collect();
        let scopes = Scopes::read(words.iter().map(String::as_str));
        assert!(scopes.allow(Need::Predict("m63")) && !scopes.allow(Need::Predict("m64")));
    }
}
