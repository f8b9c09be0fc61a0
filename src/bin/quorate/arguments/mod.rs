//! What may be asked for.
#![expect(clippy::doc_markdown, reason = "these are help texts, not documentation")]

mod look;
mod run;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use quorate::Client;
use quorate::connect::parse_duration;

pub(crate) use look::*;
pub(crate) use run::*;

use crate::exit::Failure;
use crate::output::Format;

/// Locks, leader election and service discovery for any program, on whatever store you already run.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, disable_help_subcommand = true, after_long_help = LONG)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

// No line of what follows is longer than 80 characters: clap would break it, and an example with it.
const LONG: &str = "\
Without a store it is one file of this user's on this host,
$XDG_STATE_HOME/quorate/default.db or ~/.local/state/quorate/default.db, so
everything works at once and with no server.

Examples:
  quorate lock nightly-report -- ./report.sh            one at a time
  quorate lock --no-wait backup -- ./backup.sh          or not at all (exit 75)
  quorate elect scheduler --id a -- ./scheduler         one of many runs it
  quorate leader scheduler --watch                      who leads, and changes
  quorate register api --address 10.0.0.7:80 -- ./api   found while it runs
  quorate discover api --json                           who is there
  quorate kv put motd hello                             the plain store below
  quorate doctor                                        is the store well?

Exit status: that of the command that was run (128 + N if signal N ended it);
  else 0 for yes, 1 for no,
  2 wrong usage, 69 store unavailable, 70 internal error, 71 system error,
  74 output error, 75 not acquired in time, 76 lost while running,
  77 refused by the store, 126 command not executable, 127 command not found.

Environment: QUORATE_STORE, QUORATE_NAMESPACE, QUORATE_PASSWORD,
  QUORATE_PASSWORD_FILE, QUORATE_ID, RUST_LOG, NO_COLOR.
A command that is run finds QUORATE_NAME, QUORATE_FENCE, QUORATE_ID,
QUORATE_STORE and QUORATE_NAMESPACE. Its QUORATE_STORE has no password and no
token: it finds those where this command did, in QUORATE_PASSWORD or
QUORATE_PASSWORD_FILE; what stood in the URL itself is not handed on.";

/// Where the store is.
#[derive(Args, Debug)]
pub(crate) struct StoreArguments {
    /// The store, such as embedded:/var/lib/app.db [default: a file of this user's]
    #[arg(long, global = true, value_name = "URL", env = "QUORATE_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// Do everything below this key
    #[arg(long, global = true, value_name = "NS", env = "QUORATE_NAMESPACE", value_parser = parse_namespace)]
    pub(crate) namespace: Option<String>,
    /// Read the password of the URL's user from this file; or set QUORATE_PASSWORD
    #[arg(long, global = true, value_name = "PATH", env = "QUORATE_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// Print data as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    /// What was connected. It is dropped with the arguments, when the runtime has ended: then the embedded store takes
    /// the time to close its file.
    #[arg(skip)]
    pub(crate) client: OnceLock<Client>,
}

impl StoreArguments {
    /// How data is to be printed.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Human }
    }

    /// The file that the password is read from.
    pub(crate) fn password_file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }

    /// The password that was given apart from the URL.
    pub(crate) fn password(&self) -> Result<Option<String>, Failure> {
        if let Some(path) = &self.password_file {
            let told = |error| {
                Failure::usage(format!("the password file {} cannot be read: {error}", path.display()))
            };
            let text = std::fs::read_to_string(path).map_err(told)?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        let told = |_| Failure::usage("QUORATE_PASSWORD is not UTF-8");
        std::env::var_os("QUORATE_PASSWORD").map(|password| password.into_string().map_err(told)).transpose()
    }
}

/// What is to be done.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Run a command while holding a lock
    Lock(LockArguments),
    /// Run a command only while leading; stand again after a loss
    Elect(ElectArguments),
    /// Say who leads; exit status 1 if nobody does
    Leader(LeaderArguments),
    /// Say who holds a lock, and who waits for it; exit status 1 if nobody does
    Holders(HoldersArguments),
    /// Register an instance of a service, for as long as this runs
    Register(RegisterArguments),
    /// Say who is registered for a service; exit status 1 if nobody is
    Discover(DiscoverArguments),
    /// Read, write and watch the plain store
    Kv(KvArguments),
    /// Look whether the store is well, and say what it promises
    Doctor(DoctorArguments),
    /// Print completions for a shell
    Completions(CompletionsArguments),
}

fn parse_namespace(text: &str) -> Result<String, String> {
    quorate::kv::Key::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn parse_time(text: &str) -> Result<Duration, String> {
    parse_duration("the time", text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_make_sense() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn examples_fit_any_terminal() {
        use clap::CommandFactory as _;
        let mut whole = Arguments::command();
        whole.build();
        let texts = std::iter::once(&whole).chain(whole.get_subcommands());
        let texts: Vec<_> =
            texts.filter_map(|command| Some(command.get_after_long_help()?.to_string())).collect();
        assert_eq!(texts.len(), 4);
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.len() <= 80, "{line}");
        }
    }
}
