//! Which contents may answer, and what clients saw.
//!
//! Owns the judgement of every answer: it has to come from one content that was announced, under that
//! content's version, and from none that was superseded before the request was sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, RwLock};

use nuke_tests::Answer;
use nuke_tests::marks::{self, Marks};

/// How many faults are kept in words.
const KEPT: usize = 20;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Predict,
    Infer,
}

/// One content: model and plugin that were put there together, under a version's name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    version: String,
    marks: Marks,
    /// Contents of a model are numbered in the order in which they were announced.
    ordinal: u64,
}

#[derive(Debug, Default)]
struct Told {
    contents: RwLock<Vec<Content>>,
    /// The latest content that was seen to answer: none before it may answer a later request.
    seen: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    models: BTreeMap<&'static str, Told>,
    ordinals: AtomicU64,
    faults: Mutex<Vec<String>>,
    failed: AtomicUsize,
    misversioned: AtomicUsize,
    answered: [AtomicUsize; 4],
}

impl Ledger {
    pub(crate) fn new(models: &[&'static str]) -> Self {
        Self {
            models: models.iter().map(|model| (*model, Told::default())).collect(),
            ordinals: AtomicU64::new(0),
            faults: Mutex::default(),
            failed: AtomicUsize::new(0),
            misversioned: AtomicUsize::new(0),
            answered: Default::default(),
        }
    }

    /// From now on this content may answer. To be called before the files change.
    pub(crate) fn announce(&self, model: &str, version: &str, marks: Marks) -> u64 {
        let ordinal = self.ordinals.fetch_add(1, SeqCst) + 1;
        let mut contents = self.models[model].contents.write().unwrap();
        contents.retain(|content| (content.version.as_str(), content.marks) != (version, marks));
        contents.push(Content { version: version.to_owned(), marks, ordinal });
        ordinal
    }

    /// That content was never there for long enough to be loaded.
    pub(crate) fn withdraw(&self, model: &str, ordinal: u64) {
        self.models[model].contents.write().unwrap().retain(|content| content.ordinal != ordinal);
    }

    /// That content has been seen to answer.
    pub(crate) fn confirm(&self, model: &str, ordinal: u64) {
        self.models[model].seen.fetch_max(ordinal, SeqCst);
    }

    /// The oldest content that may answer a request which is sent now.
    pub(crate) fn since(&self, model: &str) -> u64 {
        self.models[model].seen.load(SeqCst)
    }

    /// Judges an answer to a request that was sent when `since` was the oldest content.
    pub(crate) fn judge(&self, model: &str, kind: Kind, is_h2: bool, since: u64, answer: &Answer) {
        if answer.status != 200 {
            return self.failed(&format!("{model} {kind:?}: {}: {}", answer.status, answer.text()));
        }
        self.answered[usize::from(is_h2) * 2 + kind as usize].fetch_add(1, SeqCst);
        if let Err(fault) = self.consistent(model, kind, since, answer) {
            self.misversioned.fetch_add(1, SeqCst);
            self.keep(format!("{model} {kind:?}: {fault}"));
        }
    }

    /// A request that was not answered.
    pub(crate) fn failed(&self, fault: &str) {
        self.failed.fetch_add(1, SeqCst);
        self.keep(fault.to_owned());
    }

    fn keep(&self, fault: String) {
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < KEPT {
            faults.push(fault);
        }
    }

    fn consistent(&self, model: &str, kind: Kind, since: u64, answer: &Answer) -> Result<(), String> {
        let version = answer.header("x-nuke-model-version").unwrap_or_default();
        let (number, plugin) = match kind {
            Kind::Predict => {
                let marks = marks::of_prediction(answer)?;
                (Some(marks.model), Some(marks.plugin))
            }
            Kind::Infer => {
                let json = answer.json();
                if (json["model_name"].as_str(), json["model_version"].as_str())
                    != (Some(model), Some(version))
                {
                    return Err(format!("the header says version {version}, the body {json}"));
                }
                (marks::whole(marks::factor(answer)?), None)
            }
        };
        let contents = self.models[model].contents.read().unwrap();
        let fits = |content: &&Content| {
            content.version == version
                && Some(content.marks.model) == number
                && plugin.is_none_or(|plugin| plugin == content.marks.plugin)
        };
        let found = contents.iter().rev().find(fits);
        let said = format!("version '{version}' with model {number:?} and plugin {plugin:?}");
        match found {
            None => Err(format!("{said} was never there; the last are {:?}", contents.iter().rev().take(4))),
            Some(content) if content.ordinal < since => {
                Err(format!("{said} answered after a later content had answered"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Answers so far by protocol and kind: HTTP/1.1 predict and infer, HTTP/2 predict and infer.
    pub(crate) fn answered(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|at: usize| self.answered[at].load(SeqCst))
    }

    /// Requests that failed, answers of a wrong version, and some of both in words.
    pub(crate) fn faults(&self) -> (usize, usize, Vec<String>) {
        let faults = self.faults.lock().unwrap().clone();
        (self.failed.load(SeqCst), self.misversioned.load(SeqCst), faults)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const MODEL: &str = "m";

    fn prediction(version: &str, marks: Marks) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("x-nuke-model-version", version.parse().unwrap());
        let digits = format!("{:04}{:04}", marks.plugin, marks.plugin);
        let values =
            (1..=4_u8).flat_map(|column| (f32::from(column) * 2.125 * marks.model as f32).to_le_bytes());
        Answer { status: 200, headers, body: digits.bytes().chain(values).collect() }
    }

    #[test]
    fn only_what_was_announced_and_not_superseded_may_answer() {
        let ledger = Ledger::new(&[MODEL]);
        let (old, new) = (Marks { model: 1, plugin: 2 }, Marks { model: 3, plugin: 4 });
        let first = ledger.announce(MODEL, "1", old);
        let judge = |version: &str, marks: Marks, since: u64| {
            let before = ledger.faults().1;
            ledger.judge(MODEL, Kind::Predict, false, since, &prediction(version, marks));
            ledger.faults().1 == before
        };
        assert!(judge("1", old, ledger.since(MODEL)));
        assert!(!judge("1", new, 0) && !judge("2", old, 0), "not announced");
        let second = ledger.announce(MODEL, "2", new);
        assert!(judge("1", old, ledger.since(MODEL)) && judge("2", new, ledger.since(MODEL)));
        assert!(!judge("2", Marks { model: 3, plugin: 2 }, 0), "a mixture of both");
        let since = ledger.since(MODEL);
        ledger.confirm(MODEL, second);
        assert!(judge("1", old, since), "sent before the later one was seen");
        assert!(!judge("1", old, ledger.since(MODEL)), "sent afterwards");
        assert!(first < ledger.announce(MODEL, "1", old), "it is put back");
        assert!(judge("1", old, ledger.since(MODEL)));
        ledger.withdraw(MODEL, second);
        assert!(!judge("2", new, 0), "it was never there");
        assert_eq!(ledger.faults().0, 0);
        let refused = Answer { status: 503, ..prediction("1", old) };
        ledger.judge(MODEL, Kind::Predict, true, 0, &refused);
        assert_eq!(ledger.faults().0, 1);
    }
}
