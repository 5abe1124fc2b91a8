//! What an operator commands: promote, abort, retry, switch.
//!
//! Owns when each is possible, and what is said where it is not.

use std::time::SystemTime;

use super::event::{Event, EventKind};
use super::model_traffic::{State, Traffic};
use crate::config::{Colour, TrafficPolicy};

/// A command of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ends a rollout at once: the canary is the stable version.
    Promote,
    /// Takes a canary back, one that was promoted included where the policy names the two versions.
    Abort,
    /// Tries a canary once more that was rolled back.
    Retry,
    /// Switches blue-green to this colour; without one, to the other one.
    Switch(Option<Colour>),
}

impl Traffic {
    /// Carries out a command.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn command(&self, command: Command, now: SystemTime) -> Result<Event, String> {
        self.change(now, |state, now| match command {
            Command::Switch(colour) => state.switch(colour),
            _ => state.rollout_command(command, now),
        })
    }
}

impl State {
    fn switch(&mut self, colour: Option<Colour>) -> Result<Event, String> {
        let TrafficPolicy::BlueGreen { .. } = self.policy else {
            return Err(format!("traffic is {}, not blue-green", self.policy.strategy()));
        };
        let colour = colour.unwrap_or(self.active.other());
        let wanted = self.wanted.iter().find(|wanted| wanted.name == colour.as_str());
        let version = wanted.map(|wanted| wanted.version.clone()).unwrap_or_default();
        if self.digest(&version).is_none() {
            return Err(format!(
                "version {version} ({}) is not ready; nothing was switched",
                colour.as_str()
            ));
        }
        let before = std::mem::replace(&mut self.active, colour);
        let reason = match before == colour {
            true => format!("{} was active already", colour.as_str()),
            false => format!("switched from {} to {} by command", before.as_str(), colour.as_str()),
        };
        Ok(Event::new(EventKind::Switched, &version, reason))
    }

    fn rollout_command(&mut self, command: Command, now: u64) -> Result<Event, String> {
        let TrafficPolicy::Rollout(policy) = &self.policy else {
            return Err(format!("traffic is {}, not a rollout", self.policy.strategy()));
        };
        let pair = self.source().pair(policy);
        self.rollout.command(policy, &pair, command, now)
    }
}
