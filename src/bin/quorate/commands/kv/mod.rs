//! `kv`

mod show;
mod watch;

use std::io::Read as _;

use quorate::kv::{Consistency, Coordinator, Entry, Key, Scope, StoreExt as _, Write};
use serde_json::json;

use crate::arguments::{KvCommand, StoreArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure, system};
use crate::output::{self, Format};

pub(crate) async fn run(store: &StoreArguments, command: KvCommand) -> Result<Exit, Failure> {
    let format = store.format();
    let connection = Connection::open(store).await?;
    let kv = &**connection.client.kv();
    match command {
        KvCommand::Get { key, raw } => get(kv, format, &key, raw).await,
        KvCommand::Put { key, value, ttl } => {
            let value = read(kv, value)?;
            let entry = match ttl {
                Some(ttl) => kv.put_with_ttl(&*key, value, ttl).await?,
                None => kv.put(&*key, value).await?,
            };
            written(format, &entry)
        }
        KvCommand::Create { key, value } => {
            let created = kv.create(&*key, read(kv, value)?).await?;
            conditional(format, created, || format!("something stands at {key:?} already"))
        }
        KvCommand::Replace { key, value, version } => {
            let replaced = kv.replace(&*key, version, read(kv, value)?).await?;
            conditional(format, replaced, || format!("{key:?} is not at version {version}"))
        }
        KvCommand::Delete { key, prefix: true, .. } => {
            let deleted = kv.delete_prefix(&Key::new(&key)?).await?;
            match format {
                Format::Json => output::json(&json!({"prefix": key, "deleted": deleted}))?,
                Format::Human => output::line(&deleted.to_string())?,
            }
            Ok(Exit::OK)
        }
        KvCommand::Delete { key, version: None, .. } => {
            kv.delete(&*key).await?;
            Ok(Exit::OK)
        }
        KvCommand::Delete { key, version: Some(version), .. } => match kv.delete_if(&*key, version).await? {
            Write::Applied(()) => Ok(Exit::OK),
            Write::Rejected(_) => Ok(output::no(&format!("{key:?} is not at version {version}"))),
        },
        KvCommand::List { prefix } => {
            show::list(format, &kv.list(&Key::new(&prefix)?, Consistency::Linearizable).await?)?;
            Ok(Exit::OK)
        }
        KvCommand::Watch { key, prefix } => {
            let key = Key::new(&key)?;
            let scope = if prefix { Scope::Prefix(key) } else { Scope::Key(key) };
            watch::run(connection.client.kv(), format, scope).await
        }
    }
}

async fn get(kv: &dyn Coordinator, format: Format, key: &str, raw: bool) -> Result<Exit, Failure> {
    let Some(entry) = kv.fetch(key).await? else {
        return Ok(output::no(&format!("nothing stands at {key:?}")));
    };
    match format {
        Format::Json => output::json(&show::object(&entry))?,
        Format::Human => {
            output::bytes(&entry.value)?;
            if !raw {
                output::bytes(b"\n")?;
            }
        }
    }
    Ok(Exit::OK)
}

/// The value that was given, or what stdin has if that was `-`; no more of it than shows that it is too much.
fn read(kv: &dyn Coordinator, value: String) -> Result<Vec<u8>, Failure> {
    if value != "-" {
        return Ok(value.into_bytes());
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(kv.limits().max_value).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(system)?;
    Ok(bytes)
}

/// People know what they wrote; programs may want its version.
fn written(format: Format, entry: &Entry) -> Result<Exit, Failure> {
    if format == Format::Json {
        output::json(&show::object(entry))?;
    }
    Ok(Exit::OK)
}

fn conditional(
    format: Format,
    write: Write<Entry>,
    refusal: impl FnOnce() -> String,
) -> Result<Exit, Failure> {
    match write {
        Write::Applied(entry) => written(format, &entry),
        Write::Rejected(_) => Ok(output::no(&refusal())),
    }
}
