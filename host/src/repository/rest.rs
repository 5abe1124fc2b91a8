//! Versions that come into memory when they are asked for, and leave it when others need the room.
//!
//! Owns the doors at which requests wait, and that no more is loaded than `repository.memory` has room for. Which
//! versions make room is `room.rs`'s to say, what waking and resting mean is the reconciler's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::door::Door;
use super::keeper::Keeper;
use super::load::{Checked, needs_opener};
use super::reconcile::{Outcome, Standing, Task, Work};
use super::room::{Resident, Stock, Verdict};
use super::scan::Key;
use crate::model::Device;
use crate::pipeline::{Footprint, Generation, worker_range};

/// From one look for room to the next, while something waits for it.
const LOOK: Duration = Duration::from_millis(10);
/// How often it is looked whether more is in use than may be.
const TEND: Duration = Duration::from_secs(1);

impl Keeper {
    /// Requests wait at doors: brings in what they wait for.
    pub(super) fn answer_bell(&mut self) {
        let rung = self.doors.iter().filter(|(_, door)| door.was_rung());
        let rung: Vec<Key> = rung.map(|(key, _)| key.clone()).collect();
        for key in rung {
            let works = self.reconciler.wake(&key, Instant::now());
            self.start(works);
        }
        self.show_changes();
    }

    /// Begins what has come to its turn and has room, in the order in which it came; puts to rest what makes room,
    /// refuses what will never have any, and what nobody waits for any more.
    pub(super) fn start_where_there_is_room(&mut self) {
        let mut crowded = false;
        for work in std::mem::take(&mut self.without_room) {
            let key = work.candidate.key();
            if work.task != Task::Load {
                self.begin(work);
                continue;
            }
            let need = self.need(&work);
            let verdict = match self.options.memory {
                _ if crowded => {
                    Verdict::Later { rest: Vec::new(), reason: "others wait for room".to_owned() }
                }
                Some(budget) => self.stock().room_for(need, budget),
                None => Verdict::Now,
            };
            match verdict {
                Verdict::Now => self.begin_load(key, work, need),
                Verdict::Never(reason) => self.refuse(&work, reason),
                Verdict::Later { .. } if self.is_forsaken(&key, &work) => {
                    self.refuse(&work, "nobody waits for it any more".to_owned());
                }
                Verdict::Later { rest, reason } => {
                    rest.iter().for_each(|other| self.put_to_rest(other, "memory"));
                    if let Some(door) = self.doors.get(&key) {
                        door.explain(&reason);
                    }
                    self.without_room.push_back(work);
                    crowded = true;
                }
            }
        }
    }

    fn begin_load(&mut self, key: Key, work: Work, need: u64) {
        if let Some(door) = self.doors.get(&key) {
            let waiting = door.waiting();
            door.begin();
            tracing::info!(model = key.0, version = key.1, waiting, "the version is loaded on demand");
        }
        self.coming.insert(key, need);
        self.begin(work);
    }

    fn refuse(&mut self, work: &Work, reason: String) {
        let key = work.candidate.key();
        if let Some(door) = self.doors.get(&key) {
            door.refuse(&reason);
            self.loader.metrics.memory().woke(&key.0, "refused");
        }
        tracing::warn!(model = key.0, version = key.1, %reason, "there is no room for the version");
        let (_, works) = self.reconciler.finished(Instant::now(), work, Outcome::Refused(reason));
        // Those behind it are looked at when this one is done with.
        self.without_room.extend(works);
        self.ended(&key);
    }

    /// Whether what is to be loaded has changed, or the load was for requests, and those have gone.
    fn is_forsaken(&self, key: &Key, work: &Work) -> bool {
        if !self.reconciler.wants(work) {
            return true;
        }
        let of_requests = !self.reconciler.is_called(&key.0) && work.candidate.is_lazy();
        of_requests && self.doors.get(key).is_some_and(|door| door.waiting() == 0)
    }

    /// Bytes that a load will take.
    fn need(&self, work: &Work) -> u64 {
        let settings = work.candidate.source.settings.as_ref().ok();
        let known = self.doors.get(&work.candidate.key()).map(|door| door.footprint());
        let footprint = known.unwrap_or_else(|| {
            let (files, plugin) = work.candidate.fingerprint.bytes();
            Footprint::new(
                files,
                settings.is_some_and(|settings| needs_opener(settings, Device::Cpu)),
                plugin,
                0,
            )
        });
        footprint.bytes(settings.map_or(1, |settings| worker_range(settings, Device::Cpu).min))
    }

    /// What there is in memory.
    fn stock(&self) -> Stock {
        let resident = |(key, generation): (&Key, &Arc<Generation>)| Resident {
            key: key.clone(),
            memory: generation.memory(),
            is_lazy: self.reconciler.serving(key).is_some_and(|serving| serving.is_lazy()),
            in_use: generation.usage().in_use() > 0,
            last_used: generation.usage().last_used(),
        };
        Stock {
            residents: self.generations.iter().map(resident).collect(),
            leaving: self.draining.values().flatten().map(|draining| draining.memory).sum(),
            coming: self.coming.values().sum(),
        }
    }

    /// When to look again whether something can be loaded, or is to be put to rest.
    pub(super) fn next_tend(&self) -> Option<Instant> {
        let now = Instant::now();
        if !self.without_room.is_empty() {
            return Some(now + LOOK);
        }
        let idle = self.generations.values().filter_map(idle_until);
        let regular = self.options.memory.map(|_| now + TEND);
        idle.chain(regular).min().map(|at| at.max(now + LOOK))
    }

    /// Puts to rest what lies idle for too long, and what is too much; begins what has room now.
    pub(super) fn tend(&mut self) {
        let now = Instant::now();
        let is_idle = |generation: &Arc<Generation>| {
            generation.usage().in_use() == 0 && idle_until(generation).is_some_and(|at| at <= now)
        };
        let idle = self.generations.iter().filter(|(_, generation)| is_idle(generation));
        let idle: Vec<Key> = idle.map(|(key, _)| key.clone()).collect();
        idle.iter().for_each(|key| self.put_to_rest(key, "idle"));
        if let Some(budget) = self.options.memory {
            let excess = self.stock().excess(budget);
            excess.iter().for_each(|key| self.put_to_rest(key, "memory"));
        }
        self.loader.metrics.memory().total(self.stock().used());
        self.start_where_there_is_room();
    }

    /// Takes a version out of memory; requests that it has are answered, and the next one brings it back.
    fn put_to_rest(&mut self, key: &Key, reason: &'static str) {
        let Some(generation) = self.generations.get(key).map(Arc::clone) else {
            return;
        };
        if !self.reconciler.rest(key) {
            return;
        }
        let idle = generation.usage().last_used().elapsed();
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let (bytes, (model, version)) = (generation.memory(), (key.0.as_str(), key.1.as_str()));
        tracing::info!(
            model,
            version,
            reason,
            idle_ms,
            bytes,
            "the version is unloaded until it is asked for"
        );
        self.loader.metrics.memory().rested(model, reason);
        let checked = Checked { digest: generation.digest().to_owned(), footprint: generation.footprint() };
        drop(generation);
        self.put_door(key, checked);
        self.loader.metrics.changed_state(model, "standby");
        self.told.insert(key.clone(), ("standby", String::new()));
        self.show_changes();
    }

    /// Puts a door where requests for a version wait until it is loaded.
    pub(super) fn put_door(&mut self, key: &Key, checked: Checked) {
        let (name, bell) = ((key.0.as_str(), key.1.as_str()), Arc::clone(&self.bell));
        let door = Door::new(name, checked.digest, checked.footprint, self.queue_size(key), bell);
        let before = self.doors.insert(key.clone(), Arc::new(door));
        if let Some(before) = before {
            self.show_again(key);
            before.close();
        }
    }

    fn queue_size(&self, key: &Key) -> usize {
        let settings = self.reconciler.serving(key).and_then(|serving| serving.source.settings.as_ref().ok());
        settings.map_or(0, |settings| settings.queue.size)
    }

    /// Lets as many wait as the settings say now.
    pub(super) fn renew_doors(&mut self) {
        for (key, door) in &self.doors {
            door.let_wait(self.queue_size(key));
        }
    }

    /// Before a standing is shown: a door that led nowhere is made anew for those who come now.
    pub(super) fn prepare_door(&mut self, key: &Key, standing: &Standing) {
        if let (Standing::Standby(_), Some(door)) = (standing, self.doors.get_mut(key))
            && door.is_over()
        {
            *door = Arc::new(door.renewed());
        }
    }

    /// After a failure is shown: tells those who wait.
    pub(super) fn shut_door(&mut self, key: &Key, reason: &str) {
        if let Some(door) = self.doors.get(key) {
            door.fail(reason);
        }
        if self.reconciler.serving(key).is_none() {
            self.doors.remove(key);
        }
    }

    /// After something else is shown: those who wait look again.
    pub(super) fn close_door(&mut self, key: &Key) {
        if let Some(door) = self.doors.remove(key) {
            door.close();
        }
    }
}

/// Until when a generation may lie idle, if it was loaded on demand.
fn idle_until(generation: &Arc<Generation>) -> Option<Instant> {
    let idle = generation.settings().on_demand.idle()?;
    Some(generation.usage().last_used() + idle)
}
