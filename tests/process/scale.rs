//! What much held by one process costs.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use quorate::Client;
use quorate::discovery::Instance;

use crate::url;

const MANY: usize = 10_000;
/// All that ten thousand held locks, each watching its place, and as many registrations may take, with the store's own
/// cache: some 6 KiB for each pair.
const BOUND_KIB: u64 = 64 * 1024;

pub(crate) fn bounded() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut holder = Command::new(std::env::current_exe().expect("a path"))
        .args(["work", "hold", &url(directory.path())])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(holder.stdout.take().expect("it is piped")).lines();
    let mut next = || -> u64 { lines.next().expect("a line").expect("text").parse().expect("a number") };
    let (before, after) = (next(), next());
    assert!(holder.wait().expect("it is our child").success());
    let grown = after.saturating_sub(before);
    println!("{MANY} locks and {MANY} registrations: {grown} KiB");
    assert!(grown > 0 && grown < BOUND_KIB, "{grown} KiB");
}

/// Prints its resident memory in KiB before and after it holds much.
pub(crate) async fn hold(url: &str) -> ExitCode {
    let client = Client::builder(url).connect().await.expect("the file opens");
    client.sessions().current().await.expect("a session");
    println!("{}", resident());
    let mut guards = Vec::with_capacity(MANY);
    let mut registrations = Vec::with_capacity(MANY);
    for chunk in 0..MANY / 100 {
        let mut locking = tokio::task::JoinSet::new();
        let mut registering = tokio::task::JoinSet::new();
        for nth in 0..100 {
            let name = format!("{}", chunk * 100 + nth);
            let mutex = client.mutex(&name).expect("a good name");
            locking.spawn(async move { mutex.lock().await.expect("it is free") });
            let (client, instance) = (client.clone(), Instance::new("many", name, "127.0.0.1:80"));
            registering.spawn(async move { client.register(instance).await.expect("it is registered") });
        }
        guards.extend(locking.join_all().await);
        registrations.extend(registering.join_all().await);
    }
    println!("{}", resident());
    assert!(guards.iter().all(quorate::lock::Guard::is_held));
    drop((guards, registrations));
    client.close().await;
    ExitCode::SUCCESS
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
