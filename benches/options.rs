//! What to measure.

use std::path::{Path, PathBuf};

use crate::arena::Arena;
use crate::metrics::{self, Scale};

const USAGE: &str =
    "scripts/bench [BACKEND…] [--metric NAME]… [--quick] [--disk] [--peers] [--peer PROGRAM]…";

pub(crate) struct Options {
    pub(crate) backends: Vec<String>,
    /// Part of their names; all where none is said.
    pub(crate) metrics: Vec<String>,
    pub(crate) scale: Scale,
    /// Whether data is on disk instead of in memory.
    pub(crate) disk: bool,
    /// Programs that take part; see [`program`](crate::program).
    pub(crate) peers: Vec<PathBuf>,
}

impl Options {
    pub(crate) fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            backends: Vec::new(),
            metrics: Vec::new(),
            scale: Scale::Usual,
            disk: false,
            peers: Vec::new(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} says nothing\n{USAGE}"));
            match &*argument {
                // Cargo says so to everything it runs as a benchmark.
                "--bench" => {}
                "--quick" => options.scale = Scale::Quick,
                "--disk" => options.disk = true,
                "--peer" => options.peers.push(value()?.into()),
                "--peers" => options.peers.extend(peers()),
                "--metric" => options.metrics.push(value()?),
                backend if Arena::BACKENDS.contains(&backend) => options.backends.push(argument),
                _ => {
                    let known = Arena::BACKENDS.join(", ");
                    return Err(format!("unknown {argument:?}; there are {known}\n{USAGE}"));
                }
            }
        }
        if options.backends.is_empty() {
            options.backends = Arena::BACKENDS.iter().map(|name| (*name).to_owned()).collect();
        }
        match options.metrics.iter().find(|name| metrics::all().iter().all(|metric| metric.name != **name)) {
            Some(unknown) => Err(format!("there is no metric {unknown:?}; there are {}", names().join(", "))),
            None => Ok(options),
        }
    }

    pub(crate) fn wants(&self, metric: &str) -> bool {
        self.metrics.is_empty() || self.metrics.iter().any(|name| name == metric)
    }
}

/// Those that are here.
fn peers() -> impl Iterator<Item = PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    ["kazoo", "redis-py", "etcdctl", "consul"].into_iter().map(move |name| directory.join(name))
}

fn names() -> Vec<&'static str> {
    metrics::all().iter().map(|metric| metric.name).collect()
}
