//! What was ever whole, and so may be served.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nuke_tests::{Answer, marks};

use crate::QUIET;

/// What a version serves: its model's number, and its plugin's if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    pub(crate) model: u32,
    pub(crate) plugin: Option<u32>,
}

impl Content {
    /// What made an answer of `/predict`. A version without a plugin answers as `/v2` does.
    pub(crate) fn of(answer: &Answer) -> Result<Self, String> {
        if answer.body.first() == Some(&b'{') {
            let factor = marks::factor(answer)?;
            let model = marks::whole(factor).ok_or_else(|| format!("no number: {factor}"))?;
            return Ok(Self { model, plugin: None });
        }
        marks::of_prediction(answer).map(|marks| Self { model: marks.model, plugin: Some(marks.plugin) })
    }
}

type Entry = (String, String, Content);

/// A content that is only on its way to another one.
#[must_use]
pub(crate) struct Between {
    entry: Entry,
    since: Instant,
    /// The longest time in which no file changed.
    longest: Duration,
}

impl Between {
    /// A file has changed, but what could be loaded is still the same.
    pub(crate) fn goes_on(&mut self) {
        self.longest = self.longest.max(self.since.elapsed());
        self.since = Instant::now();
    }
}

/// All contents of all versions that were whole at some time.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    whole: Mutex<BTreeSet<Entry>>,
    /// Those of them that answered.
    seen: Mutex<BTreeSet<Entry>>,
    faults: Mutex<Vec<String>>,
    /// Answers that were not served, and that were.
    judged: [AtomicUsize; 2],
}

impl Registry {
    pub(crate) fn allow(&self, model: &str, version: &str, content: Content) {
        self.whole.lock().unwrap().insert((model.to_owned(), version.to_owned(), content));
    }

    pub(crate) fn is_whole(&self, model: &str, version: &str, content: Content) -> bool {
        self.whole.lock().unwrap().contains(&(model.to_owned(), version.to_owned(), content))
    }

    /// The files will be such that they could be loaded, but more is to come.
    pub(crate) fn enter(&self, model: &str, version: &str, content: Content) -> Between {
        self.allow(model, version, content);
        let entry = (model.to_owned(), version.to_owned(), content);
        Between { entry, since: Instant::now(), longest: Duration::ZERO }
    }

    /// What could be loaded is another thing now. If the files were never still for long, the host must not
    /// have loaded what was there before.
    pub(crate) fn leave(&self, mut between: Between) {
        between.goes_on();
        if between.longest >= QUIET / 2 {
            return;
        }
        let mut whole = self.whole.lock().unwrap();
        whole.remove(&between.entry);
        if self.seen.lock().unwrap().contains(&between.entry) {
            let (longest, entry) = (between.longest, &between.entry);
            self.fault(format!("{entry:?} answered, but no file was still for longer than {longest:?}"));
        }
    }

    /// Holds an answer of `/predict` against what was whole. Not being served is no fault.
    pub(crate) fn judge(&self, model: &str, answer: &Answer) {
        self.judged[usize::from(answer.status == 200)].fetch_add(1, SeqCst);
        if [404, 503].contains(&answer.status) {
            return;
        }
        let version = answer.header("x-nuke-model-version").unwrap_or_default();
        let fault = match Content::of(answer) {
            _ if answer.status != 200 => format!("{}: {}", answer.status, answer.text()),
            Err(fault) => fault,
            Ok(content) if self.is_whole(model, version, content) => {
                self.seen.lock().unwrap().insert((model.to_owned(), version.to_owned(), content));
                return;
            }
            Ok(content) => format!("version '{version}' never was {content:?}"),
        };
        self.fault(format!("{model}: {fault}"));
    }

    pub(crate) fn fault(&self, fault: String) {
        self.faults.lock().unwrap().push(fault);
    }

    /// How many requests were refused, how many answered, and by how many contents they might have been.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let [refused, answered] = [0, 1].map(|at: usize| self.judged[at].load(SeqCst));
        (refused, answered, self.whole.lock().unwrap().len())
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().iter().take(10).cloned().collect()
    }
}
