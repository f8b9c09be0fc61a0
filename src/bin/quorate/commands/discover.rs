//! `discover`

use std::sync::Arc;

use futures_util::StreamExt as _;
use quorate::discovery::providers::StoreProvider;
use quorate::discovery::{Instance, Provider as _, Update};
use serde_json::{Value, json};

use crate::arguments::{DiscoverArguments, StoreArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::text::escaped;

pub(crate) async fn run(store: &StoreArguments, arguments: DiscoverArguments) -> Result<Exit, Failure> {
    let connection = Connection::open(store).await?;
    if arguments.watch {
        watch(store.format(), &connection, arguments).await?;
        return Ok(Exit::OK);
    }
    let wanted = |instance: &Instance| arguments.tag.as_ref().is_none_or(|tag| instance.tags.contains(tag));
    let mut instances = instances(&connection, &arguments.service).await?;
    instances.retain(wanted);
    if instances.is_empty() {
        let service = &arguments.service;
        return Ok(output::no(&format!("nobody is registered for {service}")));
    }
    match store.format() {
        Format::Json => instances.iter().try_for_each(|instance| output::json(&object(instance)))?,
        Format::Human => {
            let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
            rows.extend(instances.iter().map(|instance| cells(instance).to_vec()));
            output::table(&rows)?;
        }
    }
    Ok(Exit::OK)
}

/// All there is now. Unlike a live view, which waits, this says so when the store does not answer.
async fn instances(connection: &Connection, service: &str) -> Result<Vec<Instance>, Failure> {
    let mut updates = StoreProvider::new(connection.client.kv(), service)?.updates();
    while let Some(update) = updates.next().await {
        if let Update::Reset(instances) = update? {
            return Ok(instances);
        }
    }
    Ok(Vec::new())
}

async fn watch(format: Format, connection: &Connection, arguments: DiscoverArguments) -> Result<(), Failure> {
    let members = connection.client.members(&arguments.service)?;
    let members = match arguments.tag {
        Some(tag) => members.tagged(tag),
        None => members,
    };
    let mut changes = members.changes();
    while let Some(changes) = changes.next().await {
        for (what, instances) in
            [("removed", &changes.removed), ("updated", &changes.updated), ("added", &changes.added)]
        {
            instances.iter().try_for_each(|instance| tell(format, what, instance))?;
        }
    }
    Ok(())
}

/// One line for each change.
fn tell(format: Format, what: &str, instance: &Arc<Instance>) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let mut object = object(instance);
            object["event"] = what.into();
            output::json(&object)
        }
        Format::Human => output::line(format!("{what:<7}  {}", cells(instance).join("  ")).trim_end()),
    }
}

/// All of its fields, also those that the store leaves out while they are empty.
fn object(instance: &Instance) -> Value {
    json!({
        "service": instance.service,
        "id": instance.id,
        "address": instance.address,
        "state": instance.state,
        "health": instance.health,
        "weight": instance.weight,
        "zone": instance.zone,
        "tags": instance.tags,
        "metadata": instance.metadata,
    })
}

const HEAD: [&str; 6] = ["ID", "ADDRESS", "STATE", "HEALTH", "TAGS", "METADATA"];

fn cells(instance: &Instance) -> [String; 6] {
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let metadata: Vec<_> = instance.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let tags: Vec<_> = instance.tags.iter().map(String::as_str).collect();
    [
        escaped(instance.id.as_bytes()),
        escaped(instance.address.as_bytes()),
        word(json!(instance.state)),
        word(json!(instance.health)),
        escaped(tags.join(",").as_bytes()),
        escaped(metadata.join(" ").as_bytes()),
    ]
}
