//! `register`

use std::convert::Infallible;

use quorate::discovery::{Instance, Registration, Status};

use super::running::{Ready, connect, environment};
use crate::arguments::{RegisterArguments, StoreArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::process::{Child, Signals, accompany, ended_by};

pub(crate) async fn run(store: &StoreArguments, arguments: RegisterArguments) -> Result<Exit, Failure> {
    let (connection, mut signals) = match connect(store, &arguments.holding, false).await? {
        Ok(connected) => connected,
        Err(exit) => return Ok(exit),
    };
    let client = &connection.client;
    let registered = tokio::select! {
        biased;
        signal = signals.end() => Err(ended_by(signal)),
        registered = client.register(instance(client.id(), &arguments)) => Ok(registered),
    };
    let ended = match registered {
        Err(exit) => Ok(exit),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(registration)) => stay(&registration, &connection, &arguments, &mut signals).await,
    };
    client.close().await; // One request deregisters, with the session.
    ended
}

fn instance(id: &str, arguments: &RegisterArguments) -> Instance {
    let instance = Instance::new(&arguments.service, id, &arguments.address);
    let instance = arguments.tag.iter().fold(instance, Instance::tag);
    arguments.meta.iter().fold(instance, |instance, (name, value)| instance.metadata(name, value))
}

/// Runs the command, or waits to be told to end.
async fn stay(
    registration: &Registration,
    connection: &Connection,
    arguments: &RegisterArguments,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let child = if arguments.command.is_empty() {
        None
    } else {
        let environment = environment(connection, &arguments.service, None);
        Some(Child::spawn(&arguments.command, &environment)?)
    };
    let path = arguments.holding.ready_file.as_deref();
    let _ready = path.map(|path| Ready::write(path, None)).transpose()?;
    let ended = async {
        match child {
            Some(child) => accompany(child, signals).await,
            None => Ok(ended_by(signals.end().await)),
        }
    };
    tokio::select! {
        biased;
        ended = ended => ended,
        never = tell(registration) => match never {},
    }
}

/// Says what becomes of the registration, until it is over.
async fn tell(registration: &Registration) -> Infallible {
    let mut status = registration.status();
    let instance = registration.instance();
    let name = format!("{} as {}", instance.service, instance.id);
    status.mark_unchanged();
    while status.changed().await.is_ok() {
        let now = *status.borrow_and_update();
        match now {
            Status::Registered => output::note(&format!("registered {name} again")),
            Status::Reconnecting => {
                output::note(&format!("the registration of {name} is lost; trying again"));
            }
            Status::Displaced => output::note(&format!(
                "another process has registered {name}; this one comes back when that is gone"
            )),
            _ => {}
        }
    }
    std::future::pending().await
}
