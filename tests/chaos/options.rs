//! What a run is to be like.

use std::fmt;
use std::time::Duration;

use quorate::kv::Random;

use crate::cluster::Cluster;

/// The servers that can be tormented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    #[cfg(feature = "etcd")]
    Etcd(crate::servers::etcd::Version),
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) backend: Backend,
    pub(crate) members: u16,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    /// Whether workers heed their fences and losses. They do, unless the judge is to be judged.
    pub(crate) guarded: bool,
}

impl Options {
    pub(crate) fn new(backend: Backend, length: Duration) -> Self {
        // Nine digits can be typed.
        let seed = u64::try_from(Random::from_os().nonce() % 1_000_000_000).expect("it is small");
        Self { backend, members: 3, length, seed, guarded: true }
    }

    /// Reads the arguments of `scripts/chaos`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut rest = arguments.iter().map(String::as_str);
        let backend = Backend::named(rest.next().unwrap_or_default())?;
        let mut options = Self::new(backend, Duration::from_mins(1));
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{argument} needs a value"));
            match argument {
                "--minutes" => options.length = Duration::from_secs_f64(number::<f64>(value()?)? * 60.0),
                "--members" => options.members = number(value()?)?,
                "--seed" => options.seed = number(value()?)?,
                "--version" => options.backend = backend.version(value()?)?,
                "--unguarded" => options.guarded = false,
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        if options.members < 3 {
            return Err("a member can only fail where there are three or more".to_owned());
        }
        Ok(options)
    }

    /// Starts the servers.
    pub(crate) async fn start(&self) -> Box<dyn Cluster> {
        match self.backend {
            #[cfg(feature = "etcd")]
            Backend::Etcd(version) => Box::new(crate::etcd::start(version, self.members).await),
        }
    }
}

impl Backend {
    fn named(name: &str) -> Result<Self, String> {
        match name {
            #[cfg(feature = "etcd")]
            "etcd" => Ok(Self::Etcd(crate::servers::etcd::Version::V3_5)),
            _ => Err(format!("unknown backend {name:?}, or built without it")),
        }
    }

    fn version(self, name: &str) -> Result<Self, String> {
        match self {
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => {
                let known = crate::servers::etcd::Version::ALL.into_iter();
                let version = known.into_iter().find(|version| version.name() == name);
                version.map(Self::Etcd).ok_or(format!("unknown version {name}"))
            }
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no such number"))
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, members, length, seed, guarded } = self;
        let heed = if *guarded { "" } else { ", nobody heeds a fence" };
        write!(f, "{backend:?}, {members} members, {} s of trouble, seed {seed}{heed}", length.as_secs())
    }
}
