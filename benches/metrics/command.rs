//! The command's start: a lock, `true`, and the lock given back.

use std::ffi::OsStr;
use std::fs::File;
use std::future::ready;
use std::rc::Rc;

use futures_util::FutureExt as _;
use tokio::process::Command;

use super::{Bar, Metric, Scale};
use crate::arena::{Arena, Start};
use crate::contest::{Contestant, Role, Work};
use crate::work::timed;

/// The variable with the path of the command, as it is installed.
const INSTALLED: &str = "QUORATE_BENCH_COMMAND";

pub(super) fn metrics() -> Vec<Metric> {
    vec![Metric {
        name: "lock-true",
        unit: "µs",
        bar: |backend| match backend {
            "embedded" => Bar::AtMost(2.0),
            "consul" | "etcd" => Bar::AtMost(0.25),
            _ => Bar::None,
        },
        rounds: 9,
        contestants: |arena, scale| ready(lock_true(arena, scale)).boxed_local(),
    }]
}

fn lock_true(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let Some(quorate) = std::env::var_os(INSTALLED) else {
        eprintln!("lock-true is left out: {INSTALLED} names no quorate");
        return Vec::new();
    };
    let url = arena.url.clone();
    let ours: Start = Rc::new(move || {
        let mut command = bare(&quorate);
        command.args(["--store", &url, "lock", "command", "--", "true"]);
        command
    });
    let mut all = vec![Contestant::new(Role::Quorate, "quorate lock", each(scale, ours))];
    let alike = arena.command.as_ref();
    let alike = alike.map(|(name, start)| Contestant::new(Role::Floor, name, each(scale, Rc::clone(start))));
    all.extend(alike);
    all
}

/// A program that finds in its environment no more than where other programs are. Cargo adds dozens of variables to ours, and places
/// where programs and libraries are looked for first.
pub(crate) fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command
}

/// Reads a program from the disk once more, as after a start of the machine. In what pieces it lies in memory hangs on who wrote
/// it, and on whether the system has taken some of them back meanwhile, and makes a tenth of a start.
fn read_again(program: &OsStr) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(program));
    // A path from the root stays what it is, whatever it is joined to.
    let place = places.find(|place| place.is_file()).unwrap_or_else(|| program.into());
    let mut file = File::open(place).expect("the program is there");
    file.sync_all().expect("it is on the disk");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("it may go from memory");
    std::io::copy(&mut file, &mut std::io::sink()).expect("it is read");
}

fn each(scale: Scale, start: Start) -> impl Work {
    read_again(start().as_std().get_program());
    timed(scale.of(20), async move || {
        let output = start().output().await.expect("it starts");
        assert!(output.status.success(), "it failed: {}", String::from_utf8_lossy(&output.stderr));
    })
}
