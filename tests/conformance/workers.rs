//! Stores in worker processes: this program, started again to serve one.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use libtest_mimic::{Failed, Trial};
use quorate::connect::Schemes;
use quorate::kv::conformance::{self, Subject};
use quorate::kv::{BoxError, Coordinator, ErrorKind, Key, Result, StoreExt};

use crate::remote::{self, Process};
use crate::stores::{Time, runtime};

/// Worker processes with the store at a URL open: one for all clients, or one for each.
#[derive(Debug)]
struct Workers {
    url: &'static str,
    shared: bool,
    first: tokio::sync::OnceCell<Arc<Process>>,
}

/// The store at `url`, opened in one worker process that all clients share, or in one for each client.
pub(crate) fn workers(url: &'static str, shared: bool) -> Arc<dyn Subject> {
    Arc::new(Workers { url, shared, first: tokio::sync::OnceCell::new() })
}

#[async_trait]
impl Subject for Workers {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        if !self.shared {
            return Process::start(self.url)?.client().await;
        }
        let process = self.first.get_or_try_init(|| async { Process::start(self.url) }).await?;
        process.client().await
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }
}

/// Runs as a worker process: serves the store over stdin and stdout until stdin ends.
pub(crate) fn serve(url: &str) -> ExitCode {
    let served = runtime(Time::Real).map_err(BoxError::from).and_then(|runtime| {
        runtime.block_on(async {
            remote::serve(Schemes::default().connect(url).await?, tokio::io::stdin(), tokio::io::stdout())
                .await;
            Ok(())
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Trials of the worker processes themselves.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    [
        Trial::test("workers::a_killed_worker_is_unavailable", || bounded(killed_worker())),
        Trial::test("workers::a_worker_without_a_store_is_unavailable", || bounded(refused_url())),
    ]
    .into_iter()
}

fn bounded(trial: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    runtime(Time::Real)?.block_on(async { tokio::time::timeout(Duration::from_mins(1), trial).await })?
}

async fn killed_worker() -> Result<(), Failed> {
    let process = Process::start("memory:")?;
    let client = process.client().await?;
    client.put("a", "1").await?;
    process.kill()?;
    loop {
        // Until the signal has arrived, it may still answer.
        if let Err(error) = client.put("a", "2").await {
            let told = (error.kind(), error.to_string().contains("worker"));
            return if told == (ErrorKind::Unavailable, true) { Ok(()) } else { Err(error.into()) };
        }
    }
}

async fn refused_url() -> Result<(), Failed> {
    match Process::start("nowhere:")?.client().await {
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("a worker opened a store that is nowhere".into()),
    }
}
