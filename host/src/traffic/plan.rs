//! Who gets the next request: the part of traffic that every request goes through.
//!
//! Owns the draw. A plan is immutable; whatever changes, a new one takes its place. It draws by weighted
//! rendezvous hashing: each arm gets a number from the client's key, bent by the arm's weight, and the
//! least one wins. So equal keys get equal arms, and when weights change, or an arm comes or goes, only
//! as many keys move as the shares do.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::arm::Arm;
use super::shadow::{Mirror, MirrorSlot};
use crate::config::Sticky;

/// Who serves a request.
#[derive(Debug)]
pub struct Choice {
    /// The arm, with its version; it is told how the request ended.
    pub arm: Arc<Arm>,
    /// A permit to send a copy to the mirror of a shadow, if this request is one of those.
    pub mirror: Option<MirrorSlot>,
}

/// Nobody serves a request that names no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NoVersion {
    /// Why, in one line.
    pub reason: Arc<str>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    /// Arms that are ready and have a share.
    pub(super) arms: Box<[Slot]>,
    pub(super) mirror: Option<Arc<Mirror>>,
    /// Why there is no arm, if there is none.
    pub(super) reason: Arc<str>,
    pub(super) sticky: Arc<Sticky>,
    /// Labels and names of arms, with their versions.
    pub(super) names: BTreeMap<String, Arc<str>>,
    /// From the model's name: clients of several models get their arms independently.
    pub(super) seed: u64,
}

/// An arm with its share, 0 to 1.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) arm: Arc<Arm>,
    pub(super) share: f64,
}

impl Plan {
    pub(super) fn choose(&self, key: Option<&[u8]>, random: u64) -> Result<Choice, NoVersion> {
        let slot = match &*self.arms {
            [] => return Err(NoVersion { reason: Arc::clone(&self.reason) }),
            [only] => only,
            several => {
                let point = key.map_or(random, |key| xxh3_64_with_seed(key, self.seed));
                draw(several, point).unwrap_or(&several[0])
            }
        };
        let mirror = self.mirror.as_ref().and_then(|mirror| mirror.take(unit(mix(!random))));
        Ok(Choice { arm: Arc::clone(&slot.arm), mirror })
    }
}

/// The arm that has the least of its exponentially distributed numbers: with the probability of its share.
fn draw(slots: &[Slot], point: u64) -> Option<&Slot> {
    let mut least: Option<(f64, &Slot)> = None;
    for slot in slots {
        let number = -unit(mix(point ^ slot.arm.seed())).ln() / slot.share;
        if least.is_none_or(|(before, _)| number < before) {
            least = Some((number, slot));
        }
    }
    least.map(|(_, slot)| slot)
}

/// A number between 0 and 1, neither of them.
fn unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Every bit of the result depends on every bit of the input (the finaliser of splitmix64).
pub(super) fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
