//! Arguments of what looks at the store, and changes plain keys.

use std::time::Duration;

use clap::{Args, Subcommand};
use quorate::kv::Version;

use super::parse_time;

/// `leader`
#[derive(Args, Debug)]
pub(crate) struct LeaderArguments {
    /// The name of the election
    pub(crate) name: String,
    /// Go on, and say so with every change
    #[arg(long)]
    pub(crate) watch: bool,
    /// Take NAME as a key in the layout of the server's own clients
    #[arg(long)]
    pub(crate) native: bool,
}

/// `holders`
#[derive(Args, Debug)]
pub(crate) struct HoldersArguments {
    /// The name of the lock
    pub(crate) name: String,
    /// Take NAME as a key in the layout of the server's own clients
    #[arg(long)]
    pub(crate) native: bool,
}

/// `discover`
#[derive(Args, Debug)]
pub(crate) struct DiscoverArguments {
    /// The name of the service
    pub(crate) service: String,
    /// Go on, and say what was added, removed and updated
    #[arg(long)]
    pub(crate) watch: bool,
    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,
}

/// `doctor`
#[derive(Args, Debug)]
pub(crate) struct DoctorArguments {
    /// How often each operation is timed
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) samples: u32,
}

/// `completions`
#[derive(Args, Debug)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// `kv`
#[derive(Args, Debug)]
pub(crate) struct KvArguments {
    #[command(subcommand)]
    pub(crate) command: KvCommand,
}

/// What may be done to the plain store.
#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// Print the value at a key; exit status 1 if there is none
    Get {
        /// The key, such as config/limits
        key: String,
        /// Print the value alone, with no newline after it
        #[arg(long)]
        raw: bool,
    },
    /// Put a value at a key, whatever stands there
    Put {
        /// The key
        key: String,
        /// The value; - reads it from stdin
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// Let it go after this long, if it is not put again
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        ttl: Option<Duration>,
    },
    /// Put a value at a key where nothing stands; exit status 1 if something does
    Create {
        /// The key
        key: String,
        /// The value; - reads it from stdin
        #[arg(allow_negative_numbers = true)]
        value: String,
    },
    /// Put a value at a key if it is still at this version; exit status 1 if it is not
    Replace {
        /// The key
        key: String,
        /// The value; - reads it from stdin
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// The version, as printed by get --json
        #[arg(long)]
        version: Version,
    },
    /// Delete a key, or all below it; what is not there is no error
    Delete {
        /// The key
        key: String,
        /// Delete everything below the key, rather than the key itself
        #[arg(long, conflicts_with = "version")]
        prefix: bool,
        /// Only if it is still at this version; exit status 1 if it is not
        #[arg(long)]
        version: Option<Version>,
    },
    /// Print what stands below a key
    List {
        /// The key; leave it out for everything
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Print what stands at a key, and every change
    Watch {
        /// The key
        key: String,
        /// Watch everything below the key, rather than the key itself
        #[arg(long)]
        prefix: bool,
    },
}
