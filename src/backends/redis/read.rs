//! Reads of entries.

use redis::{Cmd, Value};

use super::BACKEND;
use super::error::Fault;
use super::reply::{State, array, bytes, entries, entry, odd, text};
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
            servers.verify(operation).await?;
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
    let beside = |kind: &str, name: &str| [meta.trim_end_matches("meta"), kind, name].concat();
    let mut command = redis::cmd("MGET");
    command.arg(meta).arg(beside("e:", key.as_str()));
    if let Some(session) = session {
        command.arg(beside("s:", session));
    }
    command
}

fn read(key: &Key, answer: Value) -> Result<(Option<State>, Option<Entry>, bool), Fault> {
    let mut parts = array(answer)?.into_iter();
    let mut next = || parts.next().filter(|part| *part != Value::Nil);
    let state = next().map(text).transpose()?.and_then(|state| State::read(&state));
    let found = next().map(|stored| entry(key.clone(), &bytes(stored)?)).transpose()?;
    Ok((state, found, next().is_some()))
}

/// What a prefix covers, in key order, and at which revision that was.
pub(super) async fn list(
    servers: &Servers,
    operation: &'static str,
    prefix: &Key,
) -> Result<(u64, Vec<Entry>)> {
    let mut reply = servers.call(Kind::Repeatable, operation, &LIST, &[prefix.as_str().as_bytes()]).await?;
    let entries = reply.next().ok_or_else(|| odd("no list")).and_then(entries);
    Ok((reply.state.revision, entries.map_err(|fault| fault.error.at(BACKEND, operation))?))
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
