//! How urgent the making of a version is, beside requests that are being answered.
//!
//! Owns which threads run at a lower priority: short-lived ones that make something and end. What they make is used
//! by others at the usual priority; no thread that answers requests is ever started by one of them, because it would
//! inherit the priority, and an unprivileged process cannot raise it again.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, scope};

/// By how much the priority is lower: about a third of the weight of a usual thread, where both want the same core.
/// The processes in which versions are validated have the same. Much lower, and a load would never end on a host
/// whose cores are all busy.
const NICE: i32 = 5;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Haste {
    /// Somebody waits for it.
    #[default]
    Now,
    /// Nobody does: requests come first.
    Background,
}

impl Haste {
    /// Runs `work` to its end, on a thread of its own if it is not urgent. It must start no thread that outlives it
    /// and answers requests.
    pub fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        if self == Self::Now {
            return work();
        }
        let work = Mutex::new(Some(work));
        let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let made = scope(|scope| {
            let low = Builder::new().name("nuke-load".to_owned()).spawn_scoped(scope, || {
                // At the usual priority it is as well, if the system does not allow this.
                let _lowered = rustix::process::nice(NICE);
                take().map(|work| work())
            });
            low.ok().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        // There can be no more threads: then on this one.
        match (made.flatten(), take()) {
            (Some(made), _) => made,
            (None, Some(work)) => work(),
            (None, None) => unreachable!("the work was taken and gave nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The priority of the calling thread, as the system has it.
    #[cfg(target_os = "linux")]
    fn priority() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_the_thread_of_the_work_is_lowered() {
        let before = priority();
        let within = Haste::Background.run(|| (priority(), std::thread::current().name().map(str::to_owned)));
        assert_eq!(within, ((before + NICE).min(19), Some("nuke-load".to_owned())));
        assert_eq!((priority(), Haste::Now.run(priority)), (before, before));
    }

    #[test]
    fn a_panic_is_the_callers() {
        let caught = std::panic::catch_unwind(|| Haste::Background.run(|| panic!("inside")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"inside"));
    }
}
