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
use process::{Copied, Forked, Prepared};

fn main() -> std::process::ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: this process may only be on its way to becoming a command that is run.
    if let Some(code) = process::become_command(&words) {
        return code;
    }
    let prepared = match prepare(&words) {
        Some(Forked::This(prepared)) => Some(prepared),
        Some(Forked::Other(copy)) => return go_on(copy, words),
        None => None,
    };
    let arguments = Arguments::try_parse_from(words);
    let Arguments { store, command } = match arguments {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(prepared);
            error.exit()
        }
    };
    let prepared = prepared.filter(|_| matches!(command, Command::Lock(_)));
    output::log();
    match run(&store, command, prepared) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.tell(),
    }
}

/// Copies this process, for the command that runs while a lock is held. That is done while it has but one thread, and next
/// to no memory of its own, each page of which is copied by whoever writes to it first: so before the words are
/// understood. Where it was for nothing the copy is dropped.
fn prepare(words: &[OsString]) -> Option<Forked> {
    words.iter().any(|word| word == "lock").then(Prepared::fork).flatten()
}

/// What the copy does: it understands the words for itself. If they make no sense, that is for this process to say.
fn go_on(copy: Copied, words: Vec<OsString>) -> std::process::ExitCode {
    match Arguments::try_parse_from(words) {
        Ok(Arguments { command: Command::Lock(arguments), .. }) => {
            copy.become_command(&arguments.run.command)
        }
        _ => std::process::ExitCode::SUCCESS,
    }
}

fn run(store: &StoreArguments, command: Command, prepared: Option<Prepared>) -> Result<Exit, Failure> {
    // Children are started from this thread, which lasts as long as the process: that is what the signal they get at
    // its death goes by. Sessions are renewed on threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(exit::system)?;
    runtime.block_on(commands::run(store, command, prepared))
}
