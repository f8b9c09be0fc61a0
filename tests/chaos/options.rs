//! What a run is to be like.

use std::fmt;
use std::time::Duration;

use quorate::kv::Random;

use crate::servers::{self, Release};

#[derive(Clone, Debug)]
pub(crate) struct Options<V> {
    pub(crate) servers: servers::Options<V>,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    /// Whether workers heed their fences and losses. They do, unless the judge is to be judged.
    pub(crate) guarded: bool,
}

impl<V: Release> Options<V> {
    pub(crate) fn new(length: Duration) -> Self {
        // Nine digits can be typed.
        let seed = u64::try_from(Random::from_os().nonce() % 1_000_000_000).expect("it is small");
        let servers = servers::Options::new(V::usual()).members(V::TROUBLED).lines();
        Self { servers, length, seed, guarded: true }
    }

    /// Reads the arguments of `scripts/chaos` that follow the server's name.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut rest = arguments.iter();
        let mut options = Self::new(Duration::from_mins(1));
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().copied().ok_or(format!("{argument} needs a value"));
            match *argument {
                "--minutes" => options.length = Duration::from_secs_f64(number::<f64>(value()?)? * 60.0),
                "--members" => options.servers = options.servers.members(number(value()?)?),
                "--seed" => options.seed = number(value()?)?,
                "--version" => options.servers = options.servers.version(value()?)?,
                "--unguarded" => options.guarded = false,
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        if options.servers.members < V::TROUBLED {
            return Err(format!("a member can only fail where there are {} or more", V::TROUBLED));
        }
        Ok(options)
    }

    /// What the servers are, for people.
    pub(crate) fn servers(&self) -> String {
        format!("{} {}, {} members", V::SERVER, self.servers.version.name(), self.servers.members)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no such number"))
}

impl<V: Release> fmt::Display for Options<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, seed, guarded, .. } = self;
        let heed = if *guarded { "" } else { ", nobody heeds a fence" };
        write!(f, "{}, {} s of trouble, seed {seed}{heed}", self.servers(), length.as_secs())
    }
}
