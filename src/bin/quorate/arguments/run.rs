//! Arguments of what holds something while a command runs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::parse_time;

/// `lock`
#[derive(Args, Debug)]
#[command(after_long_help = LOCK)]
pub(crate) struct LockArguments {
    /// The name of the lock: any text
    pub(crate) name: String,
    /// Give up after this long, with exit status 75 [default: wait for as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "no_wait")]
    pub(crate) wait: Option<Duration>,
    /// Give up at once if it is held, with exit status 75
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Take NAME as a key in the layout of the server's own clients, to exclude them too
    #[arg(long)]
    pub(crate) native: bool,
    #[command(flatten)]
    pub(crate) sharing: SharingArguments,
    /// Say nothing while waiting
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// How many may hold it at once.
#[derive(Args, Debug)]
pub(crate) struct SharingArguments {
    /// Share it with others that share it (not there yet)
    #[arg(long)]
    pub(crate) shared: bool,
    /// Let so many hold it at once (not there yet)
    #[arg(long, value_name = "N", conflicts_with = "shared")]
    pub(crate) permits: Option<u32>,
}

const LOCK: &str = "\
The command runs in a process group of its own. It gets the signals that this
command gets, and its exit status is passed on. If the lock is lost it gets
TERM, and KILL in time to be dead before anybody else can hold, also when the
store cannot be reached. QUORATE_FENCE in its environment is a number that grows
with every holder: hand it to what the lock protects, and let that refuse
smaller ones. What the command leaves running in the background when it ends is
neither waited for nor ended.

Examples:
  quorate lock nightly-report -- ./report.sh
  quorate lock deploy --wait 30s -- sh -c 'echo holder $QUORATE_FENCE deploys'
  quorate lock backup --no-wait -- ./backup.sh || echo 'somebody else is at it'";

/// `elect`
#[derive(Args, Debug)]
#[command(after_long_help = ELECT)]
pub(crate) struct ElectArguments {
    /// The name of the election: any text
    pub(crate) name: String,
    /// What the leader tells those who ask [default: its id]
    #[arg(long, value_name = "TEXT")]
    pub(crate) data: Option<String>,
    /// End with the command, or with the loss of the leadership (exit 76), rather than stand again
    #[arg(long)]
    pub(crate) once: bool,
    /// Take NAME as a key in the layout of the server's own clients, to stand against them too
    #[arg(long)]
    pub(crate) native: bool,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

const ELECT: &str = "\
Start it on every replica: one of them runs the command, and another takes over
when that one dies, is cut off, or is told to stop. A command that ends is
started again, by whoever leads next: this replica steps down first and lets
others try, for a second, and longer each time up to a minute. TERM, INT, HUP or
QUIT are passed to the command; once it has ended, leadership is handed over and
this command ends.

Examples:
  quorate elect scheduler --id a --data 10.0.0.7:8080 -- ./scheduler
  quorate elect migration --once -- ./migrate.sh
  quorate elect vip --on-loss './drop-address.sh' -- ./hold-address.sh";

/// `register`
#[derive(Args, Debug)]
#[command(after_long_help = REGISTER)]
pub(crate) struct RegisterArguments {
    /// The name of the service: any text
    pub(crate) service: String,
    /// Where it can be reached
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: String,
    /// What else to tell about it; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) meta: Vec<(String, String)>,
    /// A tag to find it by; may be given again
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    #[command(flatten)]
    pub(crate) holding: HoldArguments,
    /// The command to run while registered [default: none, until this is told to end]
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

const REGISTER: &str = "\
The registration comes back by itself after an outage, and is gone as soon as
this ends.

Examples:
  quorate register api --address 10.0.0.7:80 --meta version=3 -- ./api
  quorate register db --address db1:5432 --id db1 --tag primary";

/// How something is held.
#[derive(Args, Debug)]
pub(crate) struct HoldArguments {
    /// How long what is held survives the death of this process
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) ttl: Option<Duration>,
    /// Who this is, as others see it [default: host, process and a random part]
    #[arg(long, env = "QUORATE_ID")]
    pub(crate) id: Option<String>,
    /// A file that is there, with the fence in it, while the command runs
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// How a command is run that must not outlive what is held.
#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) holding: HoldArguments,
    /// A shell command to run after a loss, once the command is dead; QUORATE_REASON says why
    #[arg(long, value_name = "CMD")]
    pub(crate) on_loss: Option<String>,
    /// The command to run
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it should be NAME=VALUE".to_owned()),
    }
}
