//! Reads of entries.

use std::collections::BTreeSet;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use redis::{Cmd, Value};

use super::BACKEND;
use super::error::Fault;
use super::reply::{State, array, bytes, entry, odd, text};
use super::scripts::LIST;
use super::servers::{Kind, Servers};
use crate::kv::{Entry, Key, Result, Scope, SessionId};

/// What stands at a key, and at which revision that was. No script is needed, which costs the server ten times as much: one plain
/// command tells at one moment the entry, the state of the store, and whether the session lives that it is bound to. Which
/// session that is only places say in their names; for others it is asked once more, with that one.
pub(super) async fn get(
    servers: &Servers,
    operation: &'static str,
    key: &Key,
) -> Result<(u64, Option<Entry>)> {
    let history = servers.history();
    let mut session = owner(key).map(str::to_owned);
    loop {
        let knew = history.seen();
        let asked = servers.query(operation, &command(history.meta(), key, session.as_deref())).await?;
        let (state, found, lives) = read(key, asked).map_err(|fault| fault.error.at(BACKEND, operation))?;
        let Some(state) = state.filter(|state| history.trusts(knew, Some(*state))) else {
            // Seldom, and more than need weigh upon every get.
            servers.verify(operation).boxed().await?;
            continue;
        };
        let bound = found.as_ref().and_then(|entry| entry.session.as_ref()).map(SessionId::as_str);
        let found = match bound {
            None => found,
            // Nobody outlives the store's own life.
            Some(bound) if !state.bears(bound) => None,
            bound if bound == session.as_deref() => found.filter(|_| lives),
            Some(bound) => {
                session = Some(bound.to_owned());
                continue;
            }
        };
        return Ok((state.revision, found));
    }
}

/// The session in the name of a place, `SESSION-TICKET`; all else that looks like it only costs the server a look more.
fn owner(key: &Key) -> Option<&str> {
    let (session, ticket) = key.name().rsplit_once('-')?;
    (ticket.len() == 33 && session.contains('.')).then_some(session)
}

fn command(meta: &str, key: &Key, session: Option<&str>) -> Cmd {
    let mut command = mget(meta, "e:", &[key.as_str()]);
    if let Some(session) = session {
        command.arg([meta.trim_end_matches("meta"), "s:", session].concat());
    }
    command
}

/// Asks for the state of the store, and for what stands beside it under these names.
fn mget(meta: &str, kind: &str, names: &[&str]) -> Cmd {
    let mut key = [meta.trim_end_matches("meta"), kind].concat();
    let stem = key.len();
    let size = names.iter().map(|name| stem + name.len()).sum::<usize>();
    // One more may come.
    let mut command = Cmd::with_capacity(names.len() + 3, size + 2 * SESSION);
    command.arg("MGET").arg(meta);
    for name in names {
        key.truncate(stem);
        key.push_str(name);
        command.arg(&key);
    }
    command
}

/// The key of a session, or of the state of the store, is seldom longer.
const SESSION: usize = 96;

fn read(key: &Key, answer: Value) -> Result<(Option<State>, Option<Entry>, bool), Fault> {
    let (state, mut stored) = stored(answer)?;
    let mut next = || stored.next().flatten();
    let found = next().map(|stored| entry(key.clone(), bytes(stored)?)).transpose()?;
    Ok((state, found, next().is_some()))
}

/// The state of the store, if it has one, and what is stored beside it.
fn stored(answer: Value) -> Result<(Option<State>, impl Iterator<Item = Option<Value>>), Fault> {
    let mut parts = array(answer)?.into_iter().map(|part| Some(part).filter(|part| *part != Value::Nil));
    let state = parts.next().flatten().map(text).transpose()?.and_then(|state| State::read(&state));
    Ok((state, parts))
}

/// What a prefix covers, in key order, and at which revision that was. A script tells a few entries; of more it tells the names,
/// and plain commands read them, which takes the server a fifth of the time. If they change all the while, a script reads them.
pub(super) async fn list(
    servers: &Servers,
    operation: &'static str,
    prefix: &Key,
) -> Result<(u64, Vec<Entry>)> {
    for _ in 0..TURNS {
        if let Some(listed) = list_once(servers, operation, prefix, FEW).await? {
            return Ok(listed);
        }
    }
    let listed = list_once(servers, operation, prefix, u32::MAX).await?;
    listed.ok_or_else(|| odd("only names").error.at(BACKEND, operation))
}

/// How many entries a script reads, and not a plain command: as many as cost the server what two more requests do.
const FEW: u32 = 64;

/// How often it is tried to read many entries at the revision that their names are of.
const TURNS: usize = 2;

/// How many entries one command reads.
const BATCH: usize = 1000;

/// How many commands are under way at once.
const ABREAST: usize = 4;

/// None if there are more than `most`, of which some were changed before they were read.
async fn list_once(
    servers: &Servers,
    operation: &'static str,
    prefix: &Key,
    most: u32,
) -> Result<Option<(u64, Vec<Entry>)>> {
    let (ranges, most) = (ranges(prefix), most.to_string());
    let mut arguments: Vec<&[u8]> = ranges.iter().map(Vec::as_slice).collect();
    arguments.push(most.as_bytes());
    let mut reply = servers.call(Kind::Repeatable, operation, &LIST, &arguments).await?;
    let found = reply.next().ok_or_else(|| odd("no list")).and_then(array);
    let found = found.map_err(|fault| fault.error.at(BACKEND, operation))?;
    let entries = if reply.status == "many" {
        many(servers, operation, prefix, reply.state, found).await?
    } else {
        Some(few(prefix, found).map_err(|fault| fault.error.at(BACKEND, operation))?)
    };
    Ok(entries.map(|entries| (reply.state.revision, entries)))
}

/// The two ranges of the index that a prefix covers, before and behind what is reserved there: each from and to.
fn ranges(prefix: &Key) -> [Vec<u8>; 4] {
    let at = |end: &str, last: &str| match prefix.as_str() {
        "" => [end, &last[1..]].concat(),
        prefix => [end, &prefix.replace('/', "\0"), last].concat(),
    };
    let (first, end) =
        if prefix.is_root() { ("-".into(), "+".into()) } else { (at("[", "\0"), at("(", "\x01")) };
    let reserved = [at("(", "\0_quorate"), at("[", "\0_quorate\x01")];
    let [before, behind] = reserved;
    [first, before, behind, end].map(String::into_bytes)
}

/// The key that a member of the index stands for, if the prefix covers it.
fn listed(prefix: &Key, member: Value) -> Result<Option<Key>, Fault> {
    let mut member = bytes(member)?;
    member.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'/');
    let key = std::str::from_utf8(&member).ok().and_then(|key| Key::decode(key).ok());
    let key = key.ok_or_else(|| odd("no key"))?;
    Ok(Some(key).filter(|key| prefix.covers(key)))
}

/// Reads members of the index, each with what is stored there.
fn few(prefix: &Key, found: Vec<Value>) -> Result<Vec<Entry>, Fault> {
    let (mut found, mut entries) = (found.into_iter(), Vec::new());
    while let (Some(member), Some(stored)) = (found.next(), found.next()) {
        if let Some(key) = listed(prefix, member)? {
            entries.push(entry(key, bytes(stored)?)?);
        }
    }
    Ok(entries)
}

/// What stands at these members of the index in this state of the store. None if some of it was changed since.
async fn many(
    servers: &Servers,
    operation: &'static str,
    prefix: &Key,
    state: State,
    members: Vec<Value>,
) -> Result<Option<Vec<Entry>>> {
    let keys = members.into_iter().filter_map(|member| listed(prefix, member).transpose());
    let keys = keys.collect::<Result<Vec<_>, _>>().map_err(|fault| fault.error.at(BACKEND, operation))?;
    let names: Vec<_> = keys.iter().map(Key::as_str).collect();
    let Some((_, stored)) = beside(servers, operation, state, "e:", &names).await? else { return Ok(None) };
    let (mut entries, mut last) = (Vec::with_capacity(keys.len()), None);
    for (key, stored) in keys.into_iter().zip(stored) {
        let found = stored.map(|stored| entry(key, bytes(stored)?)).transpose();
        let found = found.map_err(|fault| fault.error.at(BACKEND, operation))?;
        match found.filter(|entry| entry.version.raw() <= state.revision.into()) {
            Some(entry) => entries.push(entry.sharing(&mut last)),
            None => return Ok(None),
        }
    }
    let bound = entries.iter().filter_map(|entry| entry.session.as_ref()).map(SessionId::as_str);
    let bound: BTreeSet<_> = bound.filter(|session| state.bears(session)).map(str::to_owned).collect();
    let names: Vec<_> = bound.iter().map(String::as_str).collect();
    let asked = beside(servers, operation, state, "s:", &names).await?;
    let Some((same, told)) = asked else { return Ok(None) };
    let lives: BTreeSet<_> =
        bound.iter().zip(told).filter_map(|(session, told)| told.map(|_| &**session)).collect();
    // One that ended may have ended after something was written that is not in the list.
    if lives.len() < bound.len() && !same {
        return Ok(None);
    }
    entries.retain(|entry| entry.session.as_ref().is_none_or(|session| lives.contains(session.as_str())));
    Ok(Some(entries))
}

/// What is stored under these names, and whether the store is in this state all the while. None if it is not even the same
/// life of it.
async fn beside(
    servers: &Servers,
    operation: &'static str,
    state: State,
    kind: &str,
    names: &[&str],
) -> Result<Option<(bool, Vec<Option<Value>>)>> {
    let history = servers.history();
    let ask = |names: &[&str]| {
        let command = mget(history.meta(), kind, names);
        async move { servers.query(operation, &command).await }.boxed()
    };
    // What is asked is only written down when its turn comes.
    let asked = stream::iter(names.chunks(BATCH)).map(ask);
    let answers: Vec<_> = asked.buffered(ABREAST).try_collect().await?;
    let (mut same, mut all) = (true, Vec::with_capacity(names.len()));
    for answer in answers {
        let (found, stored) = stored(answer).map_err(|fault| fault.error.at(BACKEND, operation))?;
        let Some(found) = found.filter(|found| history.trusts(Some(state), Some(*found))) else {
            return Ok(None);
        };
        same &= found.revision == state.revision;
        all.extend(stored);
    }
    Ok(Some((same, all)))
}

/// What a scope covers, in key order, and at which revision that was.
pub(super) async fn covered(servers: &Servers, scope: &Scope) -> Result<(u64, Vec<Entry>)> {
    match scope {
        Scope::Key(key) => {
            let (revision, found) = get(servers, "watch", key).await?;
            Ok((revision, found.into_iter().collect()))
        }
        Scope::Prefix(prefix) => list(servers, "watch", prefix).await,
    }
}
