//! Replicas that elect a leader, with no server:
//!
//! ```text
//! cargo run --example leader -- --id a        # in one terminal, and with other ids in others
//! cargo run --example leader                  # three replicas, a crash and a hand-over in one process
//! ```
//!
//! On each change of role a process prints one line: `leader fence=N`, or `following ID fence=N`. What else happens is
//! told on stderr; `RUST_LOG=quorate=debug` tells more.

mod demo;
mod options;
mod replica;

use std::process::ExitCode;

use options::Options;
use quorate::Client;
use quorate::kv::BoxError;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "quorate=error".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    let done = match options.id.clone() {
        Some(id) => one(&options, &id).await,
        None => demo::run().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leader: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One replica, until it is told to stop; then it hands over at once.
async fn one(options: &Options, id: &str) -> Result<(), BoxError> {
    let mut client = Client::builder(options.store()?).id(id).own_thread(true);
    if let Some(ttl) = options.ttl {
        client = client.ttl(ttl);
    }
    let client = client.connect().await?;
    let stop = CancellationToken::new();
    let signals = stop.clone();
    let listening = tokio::spawn(async move {
        interrupted().await;
        signals.cancel();
    });
    let served = replica::serve(&client, stop).await;
    listening.abort();
    client.close().await;
    served
}

/// Completes on Ctrl-C, and on SIGTERM where there is one.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
