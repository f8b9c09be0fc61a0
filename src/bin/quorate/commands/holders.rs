//! `holders`

use quorate::kv::Key;
use quorate::lock::{Claim, Mutex};
use serde_json::json;

use crate::arguments::{HoldersArguments, StoreArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::text::escaped;

pub(crate) async fn run(store: &StoreArguments, arguments: HoldersArguments) -> Result<Exit, Failure> {
    let connection = Connection::open(store).await?;
    let (client, name) = (&connection.client, &arguments.name);
    let mutex = if arguments.native {
        Mutex::native(client.kv(), client.sessions(), Key::new(name)?)
    } else {
        client.mutex(name)?
    };
    let claims = mutex.claims().await?;
    if claims.is_empty() {
        return Ok(output::no(&format!("nobody holds {name}")));
    }
    match store.format() {
        Format::Json => json_lines(&claims)?,
        Format::Human => table(&claims)?,
    }
    Ok(Exit::OK)
}

fn json_lines(claims: &[Claim]) -> Result<(), Failure> {
    claims.iter().enumerate().try_for_each(|(ahead, claim)| {
        output::json(&json!({
            "position": ahead + 1,
            "holds": ahead == 0,
            "owner": claim.owner,
            "fence": claim.fence.get(),
            "session": claim.session.as_ref().map(ToString::to_string),
        }))
    })
}

fn table(claims: &[Claim]) -> Result<(), Failure> {
    let mut rows = vec![["POSITION", "", "OWNER", "FENCE", "SESSION"].map(str::to_owned).to_vec()];
    rows.extend(claims.iter().enumerate().map(|(ahead, claim)| {
        vec![
            (ahead + 1).to_string(),
            if ahead == 0 { "holds" } else { "waits" }.to_owned(),
            escaped(claim.owner.as_bytes()),
            claim.fence.to_string(),
            claim.session.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]
    }));
    output::table(&rows)
}
