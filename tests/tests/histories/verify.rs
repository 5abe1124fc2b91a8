//! Whether just that is served which should be, once all is still.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nuke_tests::{Answer, Server, eventually, marks};

use crate::registry::{Content, Registry};
use crate::world::{Held, World};

/// What a host needs at most to load all there is, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Versions that are asked for, whether or not they ever were there.
const ASKED: std::ops::RangeInclusive<u32> = 1..=9;
/// The steps of a model that are told when it does not serve what it should.
const TOLD: usize = 15;

/// Waits until all is as it should be, and sees that it stays so. `is_new` is a host that has started with
/// the folders as they are now.
pub(crate) fn settles(server: &Server, worlds: &[World<'_>], registry: &Registry, is_new: bool) {
    let began = Instant::now();
    loop {
        assert_eq!(registry.faults(), [""; 0], "\n{}", histories(worlds.iter()));
        let wrong = wrongs(server, worlds, registry, is_new);
        if wrong.is_empty() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "still after {PATIENCE:?}:\n{}", wrong.join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let rescans = || server.metrics().sum("nuke_rescans_total", &[]);
    let before = rescans();
    eventually("two more scans", || rescans() >= before + 2.0);
    let wrong = wrongs(server, worlds, registry, is_new);
    assert!(wrong.is_empty(), "it was as it should be, but did not stay so:\n{}", wrong.join("\n"));
    assert_eq!(registry.faults(), [""; 0]);
}

/// What is not as it should be, in words, with the history that led there.
fn wrongs(server: &Server, worlds: &[World<'_>], registry: &Registry, is_new: bool) -> Vec<String> {
    let index = index(server);
    let wrong_of = |world: &World<'_>| {
        let wrong: Vec<String> = ASKED
            .filter_map(|version| wrong(server, world, version, registry, &index, is_new).err())
            .collect();
        let wrong: Vec<String> = wrong.into_iter().chain(latest(server, world).err()).collect();
        let history = || histories(std::iter::once(world));
        (!wrong.is_empty()).then(|| format!("{}: {}\n{}", world.model, wrong.join("; "), history()))
    };
    worlds.iter().filter_map(wrong_of).collect()
}

fn histories<'a, 'b: 'a>(worlds: impl Iterator<Item = &'a World<'b>>) -> String {
    let mut text = String::new();
    for world in worlds {
        let _ = writeln!(text, "{} with {:?}: {:?}", world.model, world.policy, world.there);
        for step in world.history.iter().rev().take(TOLD).rev() {
            let _ = writeln!(text, "    {}", step.trim_end());
        }
    }
    text
}

/// State and reason by model and version.
type Index = BTreeMap<(String, String), (String, String)>;

fn index(server: &Server) -> Index {
    let json = server.post("/v2/repository/index", "", "").expect(200).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entries = json.as_array().unwrap().iter();
    entries
        .map(|entry| {
            ((text(&entry["name"]), text(&entry["version"])), (text(&entry["state"]), text(&entry["reason"])))
        })
        .collect()
}

fn ask(server: &Server, path: &str) -> Answer {
    server.post(&format!("/predict/{path}"), "application/json", marks::infer_body())
}

/// One version, by the index and by what it answers.
fn wrong(
    server: &Server,
    world: &World<'_>,
    version: u32,
    registry: &Registry,
    index: &Index,
    is_new: bool,
) -> Result<(), String> {
    let (model, name) = (world.model.as_str(), version.to_string());
    let entry = index.get(&(model.to_owned(), name.clone()));
    let (state, reason) = entry.map_or(("", ""), |(state, reason)| (state.as_str(), reason.as_str()));
    let answer = ask(server, &format!("{model}/{version}"));
    let served = if answer.status == 200 { Some(Content::of(&answer)?) } else { None };
    let found = format!("version {version} is {state} '{reason}', answers {} {served:?}", answer.status);
    let is_wanted = world.wanted().contains(&version);
    let held = world.there.get(&version);
    let fits = match (is_wanted, held) {
        (true, Some(Held { content: Some(content), .. })) => {
            (state, reason) == ("READY", "") && served == Some(*content)
        }
        // What served before goes on, but never in a host that has not seen it.
        (true, Some(Held { content: None, .. })) if !is_new && state == "READY" => {
            !reason.is_empty() && served.is_some_and(|content| registry.is_whole(model, &name, content))
        }
        (true, Some(_)) => (state, reason.is_empty(), served) == ("UNAVAILABLE", false, None),
        (true, None) => served.is_none(),
        (false, Some(_)) if !is_new && !world.is_whole() => {
            served.is_none_or(|content| registry.is_whole(model, &name, content))
        }
        (false, _) => entry.is_none() && served.is_none(),
    };
    if fits { Ok(()) } else { Err(format!("{found}; wanted: {is_wanted}, there: {held:?}")) }
}

/// Who answers when nobody is named.
fn latest(server: &Server, world: &World<'_>) -> Result<(), String> {
    let wanted = world.wanted();
    let latest = wanted.iter().max().and_then(|version| world.there.get(version));
    let Some(content) = latest.and_then(|held| held.content).filter(|_| world.is_whole()) else {
        return Ok(());
    };
    let answer = ask(server, &world.model);
    let found = Content::of(&answer);
    if answer.status == 200 && found == Ok(content) {
        return Ok(());
    }
    Err(format!("without a version: {} {found:?}, wanted {content:?}", answer.status))
}
