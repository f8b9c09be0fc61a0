//! `leader`

use futures_util::StreamExt as _;
use quorate::election::{Follower, Leader};
use quorate::kv::Key;
use serde_json::{Map, Value, json};

use crate::arguments::{LeaderArguments, StoreArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::text::{escaped, insert_bytes};

pub(crate) async fn run(store: &StoreArguments, arguments: LeaderArguments) -> Result<Exit, Failure> {
    let connection = Connection::open(store).await?;
    let (client, name) = (&connection.client, &arguments.name);
    let follower = if arguments.native {
        Follower::native(client.kv(), Key::new(name)?)
    } else {
        client.follower(name)?
    };
    if arguments.watch {
        // Asked first: the stream tells of no error, however long the store is away.
        follower.leader().await?;
        let mut leaders = follower.leaders();
        while let Some(leader) = leaders.next().await {
            tell(store.format(), name, leader.as_ref())?;
        }
        return Ok(Exit::OK);
    }
    let Some(leader) = follower.leader().await? else {
        return Ok(output::no(&format!("nobody leads {name}")));
    };
    match store.format() {
        Format::Json => output::json(&object(name, &leader))?,
        Format::Human => {
            let head = ["ID", "FENCE", "DATA"].map(str::to_owned);
            output::table(&[head.to_vec(), cells(&leader).to_vec()])?;
        }
    }
    Ok(Exit::OK)
}

/// One line for each change.
fn tell(format: Format, name: &str, leader: Option<&Leader>) -> Result<(), Failure> {
    match (format, leader) {
        (Format::Json, Some(leader)) => output::json(&object(name, leader)),
        (Format::Json, None) => output::json(&json!({"name": name, "leader": null})),
        (Format::Human, Some(leader)) => {
            let [id, fence, data] = cells(leader);
            output::line(format!("{id}  fence {fence}  {data}").trim_end())
        }
        (Format::Human, None) => output::line("nobody"),
    }
}

fn object(name: &str, leader: &Leader) -> Value {
    let mut object = Map::new();
    object.insert("name".into(), name.into());
    object.insert("id".into(), leader.id.as_str().into());
    insert_bytes(&mut object, "data", &leader.data);
    object.insert("fence".into(), leader.fence.get().into());
    object.insert("session".into(), leader.session.as_ref().map(ToString::to_string).into());
    Value::Object(object)
}

fn cells(leader: &Leader) -> [String; 3] {
    [escaped(leader.id.as_bytes()), leader.fence.to_string(), escaped(&leader.data)]
}
