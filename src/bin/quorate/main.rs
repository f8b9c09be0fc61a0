//! The command `quorate`: locks, elections and discovery for any program in any language.

mod arguments;
mod commands;
mod connection;
mod exit;
mod output;
mod process;
mod text;

use std::ffi::OsString;

use clap::Parser;

use arguments::{Arguments, Command, StoreArguments};
use exit::{Exit, Failure};
use process::{Forked, Prepared};

fn main() -> std::process::ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: this process may only be on its way to becoming a command that is run.
    if let Some(code) = process::become_command(&words) {
        return code;
    }
    let arguments = Arguments::parse_from(words);
    output::log();
    let Arguments { store, command } = arguments;
    let ended = match prepare(&command) {
        Ok(Some(Forked::Other(code))) => return code,
        Ok(Some(Forked::This(prepared))) => run(&store, command, Some(prepared)),
        Ok(None) => run(&store, command, None),
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => failure.tell(),
    }
}

/// Prepares a command that runs once, while this process has but one thread.
fn prepare(command: &Command) -> Result<Option<Forked>, Failure> {
    match command {
        Command::Lock(arguments) => Prepared::fork(&arguments.run.command).map(Some),
        _ => Ok(None),
    }
}

fn run(store: &StoreArguments, command: Command, prepared: Option<Prepared>) -> Result<Exit, Failure> {
    // Children are started from this thread, which lasts as long as the process: that is what the signal they get at
    // its death goes by. Sessions are renewed on threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(exit::system)?;
    runtime.block_on(commands::run(store, command, prepared))
}
