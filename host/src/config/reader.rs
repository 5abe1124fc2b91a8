//! What is gathered while one file is decoded: the problems, the report, the unknown keys.

use std::path::{Path, PathBuf};

use super::later::{self, Later};
use super::nearest::nearest;
use super::overlay;
use super::path::KeyPath;
use super::problem::{Problem, Problems};
use super::report::{Report, ReportLine, Source};
use super::section::Section;
use super::tree::{Entry, Node, Place, Value};

/// Decodes one file: hands out the top [`Section`], keeps what is found, and judges at the end.
pub(super) struct Reader {
    file: String,
    base: PathBuf,
    later: &'static [Later],
    problems: Vec<Problem>,
    report: Report,
    unknown: Vec<Unknown>,
}

/// A key nobody asked for. Judged at the end, when all keys are known.
struct Unknown {
    parent: KeyPath,
    entry: Entry,
    known_here: Vec<&'static str>,
}

impl Reader {
    /// A reader for the file of this name, with the problems that reading it as YAML gave. Paths
    /// in the file are relative to its folder.
    pub(super) fn new(file: &str, later: &'static [Later], problems: Vec<Problem>) -> Self {
        let base = Path::new(file).parent().map(Path::to_path_buf).unwrap_or_default();
        Self { file: file.to_owned(), base, later, problems, report: Report::default(), unknown: Vec::new() }
    }

    /// Decodes the whole tree.
    pub(super) fn decode<T>(
        mut self,
        root: Node,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Result<(T, Report), Problems> {
        let mut section = Section::open(&mut self, KeyPath::default(), Some(root));
        let value = read(&mut section);
        section.finish();
        self.judge_unknown();
        self.problems.sort_by_key(|problem| rank(problem, &self.file));
        Problems::check(self.problems)?;
        Ok((value, self.report))
    }

    /// The folder that relative paths in the file start from.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, place: &Place, path: &KeyPath, message: impl Into<String>) {
        let (file, line, column) = match place {
            Place::File { line, column } => (&self.file, *line, *column),
            Place::Env(name) | Place::Flag(name) => (name, 0, 0),
        };
        let (file, key) = (file.clone(), path.to_string());
        self.problems.push(Problem { file, line, column, key, message: message.into() });
    }

    /// Notes a value in effect; `place` is `None` for a default.
    pub(super) fn record(&mut self, path: KeyPath, value: String, place: Option<&Place>) {
        let source = match place {
            None => Source::Default,
            Some(Place::File { line, .. }) => Source::File { path: self.file.clone(), line: *line },
            Some(Place::Env(name)) => Source::Env { name: name.clone() },
            Some(Place::Flag(name)) => Source::Flag { name: name.clone() },
        };
        self.report.push(ReportLine { path, value, source });
    }

    /// Notes a key nobody asked for.
    pub(super) fn unknown(&mut self, parent: &KeyPath, entry: Entry, known_here: &[&'static str]) {
        self.unknown.push(Unknown { parent: parent.clone(), entry, known_here: known_here.to_vec() });
    }

    fn judge_unknown(&mut self) {
        let all: Vec<String> = self.report.iter().map(|line| line.path.pattern()).collect();
        for Unknown { parent, entry, known_here } in std::mem::take(&mut self.unknown) {
            let path = parent.key(&entry.key);
            let mut places = vec![entry.place.clone()];
            overlaid_places(&entry.value, &mut places);
            for place in places {
                let message = match (later::find(self.later, &path.pattern()), &place) {
                    (Some(later), _) => later.message(),
                    (None, Place::Env(name)) => unknown_variable(name, &all),
                    (None, _) => unknown_key(&parent, &entry.key, &known_here, &all),
                };
                self.problem(&place, &path, message);
            }
        }
    }
}

/// Problems of the file first, by line; then those of variables and flags, by name.
fn rank(problem: &Problem, file: &str) -> (bool, usize, usize, String) {
    if problem.file == file {
        (false, problem.line, problem.column, String::new())
    } else {
        (true, 0, 0, problem.file.clone())
    }
}

/// The variables and flags that put something below a key, each once.
fn overlaid_places(node: &Node, places: &mut Vec<Place>) {
    if !matches!(node.place, Place::File { .. }) && !places.contains(&node.place) {
        places.push(node.place.clone());
    }
    if let Value::Mapping(entries) = &node.value {
        entries.iter().for_each(|entry| overlaid_places(&entry.value, places));
    }
}

fn unknown_variable(name: &str, all: &[String]) -> String {
    let known = overlay::variable_names(all);
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("unknown variable; did you mean {near}?"),
        None => {
            "unknown variable; a variable is NUKE_ and the key's path, as in NUKE_SERVER__HTTP".to_owned()
        }
    }
}

fn unknown_key(parent: &KeyPath, key: &str, known_here: &[&str], all: &[String]) -> String {
    let known = known_here.join(", ");
    let hint = match nearest(key, known_here.iter().copied()) {
        Some(near) => format!("; did you mean '{}'?", parent.key(near)),
        None => match same_name_elsewhere(key, all) {
            Some(near) => format!("; did you mean '{near}'?"),
            None => String::new(),
        },
    };
    let end = if hint.is_empty() { ";" } else { "" };
    format!("unknown key{hint}{end} known keys here: {known}")
}

/// The key of this name in another section: `http` at the top is `server.http`.
fn same_name_elsewhere<'a>(key: &str, all: &'a [String]) -> Option<&'a String> {
    all.iter().find(|path| path.rsplit('.').next() == Some(key))
}
