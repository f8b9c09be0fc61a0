//! Real servers for tests, from `target/servers` or PATH, none of which outlives the test that started it.
//!
//! Each kind of server has a file of its own and is told here only what all have in common: where the binaries are,
//! which ports are free, and a [`Site`] to run in.

pub(crate) mod certificates;
pub(crate) mod etcd;
mod site;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub(crate) use site::{Server, Site};

/// How long anything that a server does may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where programs that came with `scripts/servers install` lie.
pub(crate) fn unpacked(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers").join(directory).join("usr/bin")
}

/// Where the programs of PATH lie that are called `name`.
pub(crate) fn in_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).filter(|file| file.is_file()).collect()
}

/// A port that nobody listens on, and that is given out only once.
///
/// It lies below those that the system gives to outgoing connections, as one of these would get in the way sooner or
/// later. Processes that run side by side begin in different places.
pub(crate) fn free_port() -> u16 {
    const LOWEST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() * 64 % u32::from(COUNT)).expect("it is below the count");
    (0..COUNT)
        .map(|_| LOWEST + (process + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of twelve thousand ports is free")
}

/// Asks until there is an answer, for at most `patience`; fails with the last reason why there was none.
pub(crate) async fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let mut reason = String::from("it was not asked to the end");
    let answer = tokio::time::timeout(patience, async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(why) => reason = why,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    answer.await.unwrap_or_else(|_| panic!("{what}: not within {patience:?}: {reason}"))
}
