//! `nuke keys`: API keys in a file, or in the Redis that nodes share.
//!
//! Owns its arguments and what they print. A key is shown once, when it is made, on the standard output; what is kept
//! is its hash. Where that is, is of `key_place.rs`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::json;

use super::Failure;
use super::key_place::{KeyPlace, PlaceArgs};
use crate::auth::{NewKey, Used};
use crate::client::table::{Align, Table};
use crate::client::text;
use crate::config::{ApiKeyEntry, ApiKeyFile, ScopeWord};
use crate::timestamp::timestamp;

/// A running host takes changes within a second.
#[derive(Args, Debug)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key, and show it once
    Create(CreateArgs),
    /// List the keys: not themselves, but whose they are and how they stand
    List(StoreArgs),
    /// Make a new key in place of one, which stays valid for a while
    Rotate(RotateArgs),
    /// Make a key useless at once
    Revoke(RevokeArgs),
}

#[derive(Args, Debug)]
struct StoreArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct CreateArgs {
    /// Whose key it is: the name in logs and limits
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// What it allows: admin, metrics, or predict:<model> with '*' for any text (may be given again)
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = parse_scope)]
    scopes: Vec<ScopeWord>,
    /// For how long it is valid, such as 90d or 12h [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = parse_life)]
    expires: Option<Duration>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Args, Debug)]
struct RotateArgs {
    /// The key's id, or its owner's name if there is one key of that name
    #[arg(value_name = "KEY")]
    key: String,
    /// For how long the old key stays valid
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_life)]
    grace: Duration,
    /// For how long the new key is valid [default: as long as the old one was meant to be]
    #[arg(long, value_name = "TIME", value_parser = parse_life)]
    expires: Option<Duration>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Args, Debug)]
struct RevokeArgs {
    /// The key's id, or its owner's name if there is one key of that name
    #[arg(value_name = "KEY")]
    key: String,
    /// All keys of that name
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn run(args: &KeysArgs) -> ExitCode {
    let now = SystemTime::now();
    let printed = match &args.command {
        KeysCommand::Create(args) => create(args, now),
        KeysCommand::List(args) => list(args, now),
        KeysCommand::Rotate(args) => rotate(args, now),
        KeysCommand::Revoke(args) => revoke(args, now),
    };
    match printed {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(),
    }
}

fn create(args: &CreateArgs, now: SystemTime) -> Result<String, Failure> {
    let expires = args.expires.and_then(|life| now.checked_add(life));
    let new = NewKey::make(&args.name, args.scopes.clone(), now, expires).map_err(Failure::unavailable)?;
    let entry = new.entry.clone();
    change(&args.store, |file| {
        file.keys.push(entry.clone());
        Ok(())
    })?;
    Ok(shown(&new, args.store.json, None))
}

fn rotate(args: &RotateArgs, now: SystemTime) -> Result<String, Failure> {
    let (new, until) = change(&args.store, |file| {
        let old = one_of(file, &args.key, now)?;
        let until = now.checked_add(args.grace).ok_or("--grace is too long")?;
        let until = old.expires.map_or(until, |expires| expires.min(until));
        let meant = old.expires.and_then(|expires| expires.duration_since(old.created).ok());
        let expires = args.expires.or(meant).and_then(|life| now.checked_add(life));
        let new = NewKey::make(&old.name, old.scopes.clone(), now, expires);
        let new = new.map_err(|error| format!("the system gives no randomness: {error}"))?;
        old.expires = Some(until);
        file.keys.push(new.entry.clone());
        Ok((new, until))
    })?;
    Ok(shown(&new, args.store.json, Some(until)))
}

fn revoke(args: &RevokeArgs, now: SystemTime) -> Result<String, Failure> {
    let ids = change(&args.store, |file| {
        if !args.all {
            let key = one_of(file, &args.key, now)?;
            key.revoked = Some(now);
            return Ok(vec![key.id.clone()]);
        }
        let of_name = |key: &&mut ApiKeyEntry| key.name == args.key && key.revoked.is_none();
        let ids = file.keys.iter_mut().filter(of_name).map(|key| {
            key.revoked = Some(now);
            key.id.clone()
        });
        let ids: Vec<String> = ids.collect();
        if ids.is_empty() { Err(format!("there is no key of '{}' to revoke", args.key)) } else { Ok(ids) }
    })?;
    Ok(match args.store.json {
        true => format!("{}\n", json!({"revoked": ids})),
        false => format!("revoked {}\n", ids.join(", ")),
    })
}

fn change<T>(
    store: &StoreArgs,
    change: impl FnMut(&mut ApiKeyFile) -> Result<T, String>,
) -> Result<T, Failure> {
    KeyPlace::open(&store.place)?.change(change)
}

/// The key of this id, or the only usable one of this name.
fn one_of<'f>(
    file: &'f mut ApiKeyFile,
    wanted: &str,
    now: SystemTime,
) -> Result<&'f mut ApiKeyEntry, String> {
    let is_usable = |key: &ApiKeyEntry| state(key, now) == "valid";
    let by_id = file.keys.iter().position(|key| key.id == wanted);
    let by_name = || -> Result<usize, String> {
        let named = file.keys.iter().enumerate().filter(|(_, key)| key.name == wanted && is_usable(key));
        let found: Vec<(usize, &str)> = named.map(|(at, key)| (at, key.id.as_str())).collect();
        match found.as_slice() {
            [] => Err(format!("there is no key '{wanted}' that is valid; `nuke keys list` shows them all")),
            [(at, _)] => Ok(*at),
            several => {
                let ids: Vec<&str> = several.iter().map(|(_, id)| *id).collect();
                Err(format!("'{wanted}' has several keys: {}; name one by its id", ids.join(", ")))
            }
        }
    };
    let at = by_id.map_or_else(by_name, Ok)?;
    let key = file.keys.get_mut(at).ok_or("the key is gone")?;
    match key.revoked {
        Some(_) => Err(format!("key {} is revoked", key.id)),
        None => Ok(key),
    }
}

fn state(key: &ApiKeyEntry, now: SystemTime) -> &'static str {
    match (key.revoked, key.expires) {
        (Some(_), _) => "revoked",
        (None, Some(expires)) if expires <= now => "expired",
        _ => "valid",
    }
}

/// A new key: on a terminal with what is to be done with it.
fn shown(new: &NewKey, as_json: bool, old_until: Option<SystemTime>) -> String {
    let (entry, key) = (&new.entry, new.secret.reveal());
    let expires = entry.expires.map(timestamp);
    let old_until = old_until.map(timestamp);
    if as_json {
        let scopes: Vec<&str> = entry.scopes.iter().map(ScopeWord::as_str).collect();
        let shown = json!({
            "id": entry.id, "name": entry.name, "scopes": scopes, "key": key, "expires": expires,
            "old_until": old_until,
        });
        return format!("{shown}\n");
    }
    eprintln!(
        "key {} of {}; it is shown this once, and kept nowhere:",
        entry.id,
        text::one_line(&entry.name)
    );
    if let Some(until) = old_until {
        eprintln!("the old key is valid until {until}");
    }
    format!("{key}\n")
}

fn list(args: &StoreArgs, now: SystemTime) -> Result<String, Failure> {
    let (file, used) = KeyPlace::open(&args.place)?.read()?;
    if args.json {
        return Ok(format!(
            "{}\n",
            serde_json::Value::from_iter(file.keys.iter().map(|key| row_json(key, &used, now)))
        ));
    }
    let columns = ["id", "name", "state", "scopes", "created", "expires", "last used"];
    let mut table = Table::new(columns.map(|name| (name.to_owned(), Align::Left)));
    for key in &file.keys {
        let scopes: Vec<&str> = key.scopes.iter().map(ScopeWord::as_str).collect();
        table.push(vec![
            key.id.clone(),
            text::one_line(&key.name),
            state(key, now).to_owned(),
            scopes.join(" "),
            timestamp(key.created),
            key.expires.map_or_else(|| "never".to_owned(), timestamp),
            used.get(&key.id).map_or_else(|| "never".to_owned(), |at| timestamp(*at)),
        ]);
    }
    Ok(table.render())
}

fn row_json(key: &ApiKeyEntry, used: &Used, now: SystemTime) -> serde_json::Value {
    json!({
        "id": key.id,
        "name": key.name,
        "state": state(key, now),
        "scopes": key.scopes.iter().map(ScopeWord::as_str).collect::<Vec<_>>(),
        "created": timestamp(key.created),
        "expires": key.expires.map(timestamp),
        "revoked": key.revoked.map(timestamp),
        "last_used": used.get(&key.id).map(|at| timestamp(*at)),
    })
}

fn parse_name(argument: &str) -> Result<String, String> {
    match (1..=128).contains(&argument.len()) && !argument.chars().any(char::is_control) {
        true => Ok(argument.to_owned()),
        false => Err("a name has 1 to 128 bytes and no control characters".to_owned()),
    }
}

fn parse_scope(argument: &str) -> Result<ScopeWord, String> {
    ScopeWord::parse(argument)
        .ok_or_else(|| "expected admin, metrics or predict:<model>, such as predict:image-*".to_owned())
}

/// Parses `90d`, `12h`, `30m`, `45s`: at most ten years.
fn parse_life(argument: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];
    let expected = || format!("'{argument}' is no time: a whole number and d, h, m or s, such as 90d");
    let unit = argument.chars().last().ok_or_else(expected)?;
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    let digits = &argument[..argument.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(expected());
    }
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let life = number.checked_mul(*seconds).filter(|life| *life <= 3660 * 24 * 3600);
    life.map(Duration::from_secs).ok_or_else(|| format!("'{argument}' is over ten years"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_a_number_and_a_unit() {
        assert_eq!(parse_life("90d"), Ok(Duration::from_secs(90 * 24 * 3600)));
        assert_eq!(parse_life("0s"), Ok(Duration::ZERO));
        for wrong in ["", "d", "90", "-1d", "1.5h", "1w", "99999999999999999999d", "4000d", "1é"] {
            assert!(parse_life(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_id_or_by_a_name_that_is_clear() {
        let now = SystemTime::now();
        let make = |name: &str| NewKey::make(name, Vec::new(), now, None).unwrap().entry;
        let mut file = ApiKeyFile { keys: vec![make("a"), make("b"), make("b")] };
        let id = file.keys[1].id.clone();
        assert_eq!(one_of(&mut file, "a", now).unwrap().name, "a");
        assert_eq!(one_of(&mut file, &id, now).unwrap().id, id);
        assert!(one_of(&mut file, "b", now).unwrap_err().contains("several keys"));
        assert!(one_of(&mut file, "c", now).unwrap_err().contains("no key 'c'"));
        file.keys[1].revoked = Some(now);
        assert!(one_of(&mut file, &id, now).unwrap_err().contains("is revoked"));
        assert_ne!(one_of(&mut file, "b", now).unwrap().id, id);
    }
}
