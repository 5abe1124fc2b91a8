//! Which version of a model answers which request.
//!
//! Owns the strategies of `traffic` in `model.yaml`: the draw for each request ([`Traffic::choose`], which
//! takes no lock), the state that moves by itself (rollouts, bandits), and the statistics behind it. It
//! knows no protocol, no folder and no generation: versions are names, time and randomness are handed in.
//!
//! - `plan`: the draw, for every request
//! - `layout`: what each strategy means
//! - `rollout`, `window`, `gates`: a canary's steps, one step, and what it has to keep to
//! - `bandit`: what is believed of arms, and the shares that follow
//! - `shadow`: how many copies are made
//! - `arm`, `histogram`: counters that requests write
//! - `share`: what hosts with the same model have in common
//! - `model_traffic`: all of it together, for one model

mod arm;
mod bandit;
mod command;
mod event;
mod gates;
mod histogram;
mod layout;
mod model_traffic;
mod plan;
mod rollout;
mod shadow;
mod share;
mod show;
mod status;
mod window;

#[cfg(test)]
mod tests;

pub use arm::{Arm, Outcome};
pub use command::Command;
pub use event::{Event, EventKind};
pub use gates::{GateReading, GateState};
pub use model_traffic::{FeedbackError, Traffic};
pub use plan::{Choice, NoVersion};
pub use rollout::ReadyVersion;
pub use shadow::MirrorSlot;
pub use share::{Counted, Moved, Say, Stands};
pub use status::{
    ArmStatus, BeliefStatus, Quantiles, Remembered, RewardStatus, RolloutStatus, ShadowStatus, Status,
};
