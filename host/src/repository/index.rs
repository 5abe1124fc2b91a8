//! What is being served, for requests to look up.
//!
//! Owns the map from a model's name and version to its generation, and for each model the traffic between its
//! versions. Reading either takes no lock: a request gets an `Arc` of the generation and keeps it to its end,
//! whatever is swapped meanwhile.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::decisions::Decisions;
use super::found::Found;
use super::status::VersionStatus;
use super::version;
use crate::config::ModelConfig;
use crate::error::{Error, ErrorCode};
use crate::pipeline::Generation;
use crate::traffic::{Arm, Event, MirrorSlot, ReadyVersion, Say, Traffic};

/// A model's versions, the earliest first, and its traffic.
#[derive(Clone, Debug)]
pub struct Model {
    /// Each version's name and how it stands.
    pub versions: Vec<(String, VersionStatus)>,
    /// Which of them answers a request that names none.
    pub traffic: Arc<Traffic>,
}

impl Model {
    fn status(&self, name: &str) -> Option<&VersionStatus> {
        self.versions.iter().find(|(version, _)| version == name).map(|(_, status)| status)
    }

    /// The versions that serve, in memory or on demand, with what tells their contents apart.
    fn ready(&self) -> Vec<ReadyVersion> {
        let serving = self.versions.iter().filter_map(|(name, status)| Some((name, status.found()?)));
        serving
            .map(|(name, found)| ReadyVersion { name: name.clone(), digest: found.digest().to_owned() })
            .collect()
    }
}

/// What answers a request that traffic has given out.
#[derive(Debug)]
pub struct Route {
    /// It answers.
    pub found: Found,
    /// Where it is counted how it went; `None` if the request named the version itself.
    pub arm: Option<Arc<Arm>>,
    /// What is to be asked the same, and is not waited for.
    pub mirror: Option<(MirrorSlot, Arc<Generation>)>,
}

type Models = BTreeMap<String, Arc<Model>>;

/// How often a request is given out anew when versions change in just that moment.
const TRIES: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct ModelIndex {
    models: ArcSwap<Models>,
    decisions: Arc<Decisions>,
    /// One change at a time.
    changing: Mutex<()>,
    /// What nobody has been told of yet.
    events: Mutex<Vec<(String, Event)>>,
    /// Each draw has another number.
    draws: AtomicU64,
    /// What was there at the start is still being loaded.
    starting: AtomicBool,
    /// Other nodes have a say in traffic.
    shared: AtomicBool,
}

impl ModelIndex {
    /// An empty one; `decisions` say how traffic stood when it was last seen.
    pub fn new(decisions: Arc<Decisions>) -> Self {
        let draws = AtomicU64::new(RandomState::new().hash_one("draws"));
        let starting = AtomicBool::new(true);
        Self {
            models: ArcSwap::default(),
            decisions,
            changing: Mutex::default(),
            events: Mutex::default(),
            draws,
            starting,
            shared: AtomicBool::new(false),
        }
    }

    /// Whether a model's traffic and labels are these.
    pub fn is_configured(&self, model: &str, settings: &ModelConfig) -> bool {
        self.models
            .load()
            .get(model)
            .is_some_and(|found| found.traffic.is(&settings.traffic, &settings.labels))
    }

    /// What keeps a model's traffic from being changed to this: a version that is named and not ready, while
    /// the present traffic is answered.
    pub fn missing_for(&self, model: &str, settings: &ModelConfig) -> Option<String> {
        let models = self.models.load();
        let found = models.get(model).filter(|found| found.traffic.main_version().is_ok())?;
        let not_ready = |name: &String| match found.status(name) {
            Some(status) if status.is_ready() => None,
            Some(status) => {
                let reason = status.failure().map_or(status.as_str(), |failure| failure.reason.as_str());
                Some(format!("version {name} is not ready: {reason}"))
            }
            None => Some(format!("version {name} is not there")),
        };
        // A label that leads nowhere is its own fault.
        settings.traffic.also_wanted(&settings.labels, false).names.iter().find_map(not_ready)
    }

    /// What was there at the start has been loaded, or has failed: what comes from now on is new.
    pub fn started(&self) {
        self.starting.store(false, Relaxed);
        for model in self.models.load().values() {
            model.traffic.starting(false);
        }
    }

    /// Other nodes have a say in traffic from now on: nothing moves by itself until it is known who moves it.
    pub(super) fn share(&self) {
        self.shared.store(true, Relaxed);
        for model in self.models.load().values() {
            model.traffic.set_say(Say::CutOff);
        }
    }

    /// Applies a model's traffic and labels; versions stay as they are.
    pub fn configure(&self, model: &str, settings: &ModelConfig) {
        self.change(|models| {
            if let Some(known) = models.get(model) {
                let (traffic, labels) = (settings.traffic.clone(), settings.labels.clone());
                let before = known.traffic.place();
                let mut events = known.traffic.reconfigure(traffic, labels, SystemTime::now());
                if known.traffic.place() != before {
                    events.extend(self.join_others(model, &known.traffic));
                }
                self.note(model, events);
                return false;
            }
            models.insert(model.to_owned(), Arc::new(self.new_model(model, settings)));
            true
        });
    }

    /// Sets how one version stands; all others stay as they are.
    pub fn set(&self, model: &str, name: &str, status: &VersionStatus) {
        self.change_versions(model, |versions| {
            versions.retain(|(version, _)| version != name);
            versions.push((name.to_owned(), status.clone()));
            versions.sort_by(|(left, _), (right, _)| version::compare(left, right));
        });
    }

    /// Takes a version out; requests that it answers already end as they would have.
    pub fn remove(&self, model: &str, name: &str) {
        self.change_versions(model, |versions| versions.retain(|(version, _)| version != name));
    }

    /// Traffic leaves a version before the version leaves the map, and comes to one after it is in there.
    fn change_versions(&self, model: &str, change: impl FnOnce(&mut Vec<(String, VersionStatus)>)) {
        let mut events = Vec::new();
        self.change(|models| {
            let before = models.get(model).cloned();
            let mut after =
                before.as_deref().cloned().unwrap_or_else(|| self.new_model(model, &ModelConfig::default()));
            change(&mut after.versions);
            let ready = after.ready();
            let stays = |one: &ReadyVersion| ready.iter().any(|other| other.name == one.name);
            if let Some(before) = before.filter(|before| !before.ready().iter().all(stays)) {
                let staying: Vec<_> = before.ready().into_iter().filter(stays).collect();
                events.extend(before.traffic.versions_changed(&staying, SystemTime::now()));
            }
            let (is_empty, after) = (after.versions.is_empty(), Arc::new(after));
            if is_empty {
                models.remove(model);
            } else {
                models.insert(model.to_owned(), Arc::clone(&after));
            }
            self.models.store(Arc::new(models.clone()));
            events.extend(after.traffic.versions_changed(&ready, SystemTime::now()));
            false
        });
        self.note(model, events);
    }

    /// What has taken place in traffic since this was asked last.
    pub fn take_events(&self) -> Vec<(String, Event)> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn note(&self, model: &str, events: Vec<Event>) {
        let mut noted = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend(events.into_iter().map(|event| (model.to_owned(), event)));
    }

    /// Lets `change` work on a copy, which is published if it says so.
    fn change(&self, change: impl FnOnce(&mut Models) -> bool) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut models = Models::clone(&self.models.load());
        if change(&mut models) {
            self.models.store(Arc::new(models));
        }
    }

    fn new_model(&self, model: &str, settings: &ModelConfig) -> Model {
        let memory = self.decisions.remembered(model);
        let traffic = Traffic::new(model, settings.traffic.clone(), settings.labels.clone(), memory);
        traffic.starting(self.starting.load(Relaxed));
        if self.shared.load(Relaxed) {
            traffic.set_say(Say::CutOff);
        }
        let events = self.join_others(model, &traffic);
        self.note(model, events);
        Model { versions: Vec::new(), traffic: Arc::new(traffic) }
    }

    /// Traffic that comes into a place where other nodes are begins with what they have come to.
    fn join_others(&self, model: &str, traffic: &Traffic) -> Vec<Event> {
        let agreed = traffic.place().and_then(|place| Some((self.decisions.moved(model, &place)?, place)));
        agreed.map(|(moved, place)| traffic.adopt(&place, &moved, SystemTime::now())).unwrap_or_default()
    }

    /// A model's traffic.
    ///
    /// # Errors
    /// `NotFound` for a name that is not there.
    pub fn traffic(&self, model: &str) -> Result<Arc<Traffic>, Error> {
        let models = self.models.load();
        models.get(model).map(|found| Arc::clone(&found.traffic)).ok_or_else(|| unknown(model))
    }

    /// What answers a request that names no version, as the model's traffic has it. `key` is what keeps the
    /// request at one arm, if it has that. A mirror that is not in memory is asked from when it is.
    ///
    /// # Errors
    /// `NotFound` for a name that is not there, `Unavailable` if no version is ready that traffic goes to.
    pub fn route(&self, model: &str, key: Option<&[u8]>) -> Result<Route, Error> {
        let random = self.draws.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        for _ in 0..TRIES {
            let models = self.models.load();
            let found = models.get(model).ok_or_else(|| unknown(model))?;
            let choice =
                found.traffic.choose(key, random).map_err(|error| not_ready(model, found, &error.reason))?;
            let ready = |version: &str| found.status(version)?.found();
            // A version that has come since the map was read is in the next one.
            let Some(chosen) = ready(choice.arm.version()) else {
                continue;
            };
            let mirror = choice.mirror.and_then(|slot| match ready(slot.arm().version())? {
                Found::Loaded(mirror) => Some((slot, mirror)),
                Found::Standby(door) => {
                    door.ring();
                    None
                }
            });
            return Ok(Route { found: chosen, arm: Some(choice.arm), mirror });
        }
        Err(Error::new(ErrorCode::Unavailable, format!("model '{model}' is changing; try again")))
    }

    /// The version, label or arm that is named; without a name the version that gets most requests.
    ///
    /// # Errors
    /// `NotFound` for a name that is not there, `Unavailable` for one that is not ready.
    pub fn find(&self, model: &str, name: Option<&str>) -> Result<Found, Error> {
        let models = self.models.load();
        let found = models.get(model).ok_or_else(|| unknown(model))?;
        let name: Arc<str> = match name {
            Some(name) if found.status(name).is_some() => name.into(),
            Some(name) => found.traffic.resolve(name).unwrap_or_else(|| name.into()),
            None => found.traffic.main_version().map_err(|error| not_ready(model, found, &error.reason))?,
        };
        match found.status(&name) {
            Some(status) => ready(model, &name, status),
            None => Err(Error::new(
                ErrorCode::NotFound,
                format!("Request for unknown model: '{model}' version {} is not found", shorten(&name)),
            )),
        }
    }

    /// All models with how each of their versions stands.
    pub fn all(&self) -> Arc<BTreeMap<String, Arc<Model>>> {
        self.models.load_full()
    }

    /// All generations that are in memory and serve.
    pub fn generations(&self) -> Vec<Arc<Generation>> {
        let models = self.models.load();
        let statuses = models.values().flat_map(|model| model.versions.iter().map(|(_, status)| status));
        statuses.filter_map(VersionStatus::generation).map(Arc::clone).collect()
    }
}

fn unknown(model: &str) -> Error {
    let message = format!("Request for unknown model: '{}' is not found", shorten(model));
    Error::new(ErrorCode::NotFound, message)
}

/// No version is ready that traffic goes to: of a single version, or of the latest traffic has no other word,
/// its own reason says more.
fn not_ready(model: &str, found: &Model, reason: &str) -> Error {
    let latest = found.versions.last().filter(|_| found.traffic.is_latest());
    let told = latest.and_then(|(version, status)| ready(model, version, status).err());
    told.unwrap_or_else(|| {
        Error::new(ErrorCode::Unavailable, format!("model '{model}' is not ready: {reason}"))
    })
}

fn ready(model: &str, version: &str, status: &VersionStatus) -> Result<Found, Error> {
    if let Some(found) = status.found() {
        return Ok(found);
    }
    let reason = match status {
        VersionStatus::Ready(_) | VersionStatus::Outdated(..) | VersionStatus::Standby(..) => "",
        VersionStatus::Discovered | VersionStatus::Loading(_) => "it is being loaded",
        VersionStatus::Draining(_) => "it is being unloaded",
        VersionStatus::Unloaded(failure) | VersionStatus::Failed(failure) => &failure.reason,
    };
    Err(Error::new(
        ErrorCode::Unavailable,
        format!("model '{model}' version {version} is not ready: {reason}"),
    ))
}

/// Control characters as escapes: a message is one line, and no terminal's command.
fn escape(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_debug());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

/// A name from outside, cut to what fits a message.
fn shorten(name: &str) -> String {
    name.chars().take(200).flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::LoadFailure;

    #[test]
    fn what_is_not_there_is_not_found_and_what_failed_says_why() {
        let index = ModelIndex::new(Arc::default());
        assert_eq!(index.find("m", None).unwrap_err().code, ErrorCode::NotFound);
        index.set("m", "1", &VersionStatus::Failed(LoadFailure::now("no model.onnx")));
        let error = index.find("m", None).unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert_eq!(error.message, "model 'm' version 1 is not ready: no model.onnx");
        assert_eq!(index.find("m", Some("2")).unwrap_err().code, ErrorCode::NotFound);
        index.set("m", "1", &VersionStatus::Discovered);
        assert_eq!(index.all()["m"].versions.len(), 1);
        index.remove("m", "1");
        assert!(index.all().is_empty());
    }
}
