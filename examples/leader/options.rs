//! The command line.

use std::time::Duration;

use quorate::kv::BoxError;

const USAGE: &str = "usage: leader [--id ID [--store URL] [--ttl SECONDS]]
  --id ID        be one replica of this name; without it, three replicas run in this process
  --store URL    the store to meet in, such as embedded:/tmp/leader.db (default: a file of this user's)
  --ttl SECONDS  how long the others wait for a leader that died (default: 15, or what the URL says)";

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) id: Option<String>,
    pub(crate) ttl: Option<Duration>,
    store: Option<String>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--id" => options.id = Some(value()?),
                "--store" => options.store = Some(value()?),
                "--ttl" => {
                    let text = value()?;
                    let seconds =
                        text.parse::<f64>().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
                    let seconds =
                        seconds.ok_or(format!("--ttl {text} is not between 0.1 and 86400\n{USAGE}"))?;
                    options.ttl = Some(Duration::from_secs_f64(seconds));
                }
                _ => return Err(format!("unknown argument {argument}\n{USAGE}")),
            }
        }
        if options.id.is_none() && (options.store.is_some() || options.ttl.is_some()) {
            return Err(format!("--store and --ttl go with --id\n{USAGE}"));
        }
        Ok(options)
    }

    /// The URL that was given, or the default file.
    pub(crate) fn store(&self) -> Result<String, BoxError> {
        match &self.store {
            Some(url) => Ok(url.clone()),
            None => default_store(),
        }
    }
}

#[cfg(feature = "embedded")]
fn default_store() -> Result<String, BoxError> {
    Ok(quorate::connect::default_url()?)
}

#[cfg(not(feature = "embedded"))]
fn default_store() -> Result<String, BoxError> {
    Err("built without the embedded store; name another with --store".into())
}
