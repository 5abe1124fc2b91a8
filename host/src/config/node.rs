//! `node`: who this host is among those that share a Redis.

use std::time::Duration;

use super::names::Name;
use super::section::Section;

/// `node`: who this host is among those that share a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// `name`, default the machine's: what `nuke nodes` calls this host. Two may have the same name. Set it where
    /// machines have names that say nothing.
    pub name: Option<String>,
    /// `heartbeat`, default 1 s: how often this host says that it is there, and looks who else is. The others miss
    /// it after four times as long. Raise it for fleets of hundreds of hosts.
    pub heartbeat: Duration,
}

/// Decodes the section.
pub(super) fn decode(section: &mut Section<'_>) -> NodeSettings {
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    NodeSettings {
        name: section.take("name", None::<Name>).map(|name| name.0),
        heartbeat: section.take_in("heartbeat", Duration::from_secs(1), range),
    }
}
