//! What the command can do, each in a file of its own.

mod completions;
mod discover;
mod doctor;
mod elect;
mod holders;
mod kv;
mod leader;
mod lock;
mod register;
mod running;

use crate::arguments::{Command, StoreArguments};
use crate::exit::{Exit, Failure};
use crate::process::Prepared;

/// Does what was asked for.
pub(crate) async fn run(
    store: &StoreArguments,
    command: Command,
    prepared: Option<Prepared>,
) -> Result<Exit, Failure> {
    match command {
        Command::Lock(arguments) => lock::run(store, arguments, prepared).await,
        Command::Elect(arguments) => elect::run(store, arguments).await,
        Command::Leader(arguments) => leader::run(store, arguments).await,
        Command::Holders(arguments) => holders::run(store, arguments).await,
        Command::Register(arguments) => register::run(store, arguments).await,
        Command::Discover(arguments) => discover::run(store, arguments).await,
        Command::Kv(arguments) => kv::run(store, arguments.command).await,
        Command::Doctor(arguments) => doctor::run(store, arguments).await,
        Command::Completions(arguments) => completions::run(&arguments),
    }
}
