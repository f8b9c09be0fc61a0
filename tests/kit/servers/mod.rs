//! Real servers for tests, from `target/servers` or PATH, none of which outlives the test that started it.
//!
//! Each kind of server has a file of its own, which says what is particular to it: its versions, which are a
//! [`Release`], and a [`Cluster`] of them. What all have in common is here.

pub(crate) mod certificates;
mod cluster;
pub(crate) mod consul;
pub(crate) mod etcd;
mod lines;
mod options;
pub(crate) mod redis;
mod site;
mod waiting;
pub(crate) mod zookeeper;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use certificates::Certificates;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub(crate) use cluster::{Cluster, Member, Members};
pub(crate) use lines::Lines;
pub(crate) use options::{Options, Release, is_full};
pub(crate) use site::{Server, Site};
pub(crate) use waiting::{Waiting, until};

/// How long anything that a server does may take before the test fails. An election syncs each vote, for which a disk that is
/// busy with what was just built takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Where programs that came with `scripts/servers install` lie.
pub(crate) fn unpacked(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers").join(directory).join("usr/bin")
}

/// Where the programs of PATH lie that are called `name`.
pub(crate) fn in_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).filter(|file| file.is_file()).collect()
}

/// The end of a URL: a namespace, and the files that clients of an encrypted server need.
pub(crate) fn url_rest(namespace: &str, certificates: Option<&Certificates>) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_');
    let escape = |text: &str| utf8_percent_encode(text, KEPT).to_string();
    let mut rest = String::new();
    if !namespace.is_empty() {
        rest = rest + "/" + &escape(namespace);
    }
    if let Some(Certificates { authority, client, .. }) = certificates {
        let files = [("?ca", authority), ("&cert", &client.certificate), ("&key", &client.key)];
        for (name, file) in files {
            rest = rest + name + "=" + &escape(&file.to_string_lossy());
        }
    }
    rest
}

/// The command as one would type it.
pub(crate) fn shell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A port that nobody listens on, and that is given out only once.
pub(crate) fn free_port() -> u16 {
    ports().find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("one is free")
}

/// Listens on such a port.
///
/// Who listens himself takes this, not [`free_port`]: a process that another thread starts just then has the probing
/// socket too, until it runs its own program, and for so long the port cannot be had.
pub(crate) async fn listen() -> (tokio::net::TcpListener, SocketAddr) {
    for port in ports() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Ok(listener) = tokio::net::TcpListener::bind(address).await {
            return (listener, address);
        }
    }
    panic!("none of twelve thousand ports is free");
}

/// Ports below those that the system gives to outgoing connections, as one of these would get in the way sooner or
/// later, and none of them twice. Processes that run side by side begin in different places.
fn ports() -> impl Iterator<Item = u16> {
    const LOWEST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() * 64 % u32::from(COUNT)).expect("it is below the count");
    (0..COUNT).map(move |_| LOWEST + (process + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
}
