//! One connection to one server.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::{Cmd, ErrorKind as Kind, RedisError, Value};
use tokio::task::JoinHandle;

use super::channel::Channel;
use super::error::{Fault, classify};
use super::link::Link;
use super::options::Credentials;
use super::scripts::{PROBE, Script};
use super::tls::Way;
use crate::kv::{Error, ErrorKind, Outcome};

/// A connection, on which we have said who we are. Requests share it, and are answered in their order.
pub(super) struct Connection {
    pub(super) address: String,
    link: Arc<Link>,
    /// Carries bytes to and fro while many ask; it ends with the connection.
    carrier: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

impl Connection {
    pub(super) async fn open(
        way: &Way,
        address: String,
        user: &Credentials,
        database: i64,
    ) -> Result<Self, Fault> {
        let stream = way.open(&address).await.map_err(|error| Fault::unreachable(&address, error))?;
        let link = Link::new(stream);
        let carrier = tokio::spawn(Arc::clone(&link).carry());
        let made = Self { address, link, carrier };
        match made.introduce(user, database).await {
            Ok(()) => Ok(made),
            Err(error) => {
                let Fault { error, cure } = classify(error, &made.address);
                // Whatever was sent only says who we are.
                let silent = error.outcome() == Outcome::Unknown;
                let error = if silent { silence(way, &made.address, error) } else { error };
                Err(Fault { error, cure })
            }
        }
    }

    /// Says who we are, and which database we mean.
    async fn introduce(&self, user: &Credentials, database: i64) -> Result<(), RedisError> {
        if let Some(password) = &user.password {
            let mut auth = redis::cmd("AUTH");
            auth.arg(user.name.as_deref()).arg(password);
            self.query(&auth).await.map_err(|error| match error.code() {
                Some(_) => (Kind::AuthenticationFailed, "authentication failed", error.to_string()).into(),
                None => error,
            })?;
        }
        if database != 0 {
            self.query(redis::cmd("SELECT").arg(database)).await?;
        }
        Ok(())
    }

    /// Whether it has broken, so that nothing can be sent any more.
    pub(super) fn is_over(&self) -> bool {
        self.link.is_over()
    }

    pub(super) async fn query(&self, command: &Cmd) -> Result<Value, RedisError> {
        self.link.ask(&command.get_packed_command()).await
    }

    /// Runs a script, which the server may have to be told first.
    pub(super) async fn run(
        &self,
        script: &Script,
        meta: &str,
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        let request = script.by_name(meta, arguments).get_packed_command();
        match self.link.ask(&request).await {
            // Once in a server's life, and more than need weigh upon every request.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                let request = script.in_full(meta, arguments).get_packed_command();
                self.link.ask(&request).boxed().await
            }
            ran => ran,
        }
    }

    /// Tries what we do later, to see whether we may; and asks at the same time what runs there, which not everybody may be
    /// told.
    pub(super) async fn probe(&self, meta: &str, nonce: &str) -> Result<Option<Arc<str>>, RedisError> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let nonce = [nonce.as_bytes()];
        let (probed, info) = tokio::join!(self.run(&PROBE, meta, &nonce), self.query(&info));
        probed?;
        let info = info.ok().and_then(|info| redis::from_redis_value::<String>(info).ok());
        Ok(info.and_then(|info| version(&info)).map(Into::into))
    }

    /// Makes it one on which the server tells what is published as `name`.
    pub(super) async fn listen(self, name: &str) -> Result<Channel, Fault> {
        let opened = Channel::open(self.link.take_stream(), name).await;
        opened.map_err(|error| classify(error, &self.address))
    }

    /// How many replicas have what was written here before, asked for so many and waited for so long.
    pub(super) async fn replicated(&self, count: u32, within: Duration) -> Result<u32, RedisError> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(count).arg(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        Ok(redis::from_redis_value(self.query(&wait).await?)?)
    }
}

/// A server that takes the connection and then says nothing may have a reason.
fn silence(way: &Way, address: &str, error: Error) -> Error {
    let why = format!("{address} closed the connection; {}", way.hint);
    Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why).because(error)
}

fn version(info: &str) -> Option<String> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    match field("valkey_version:") {
        Some(version) => Some(format!("Valkey {version}")),
        None => field("redis_version:").map(|version| format!("Redis {version}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_runs_there() {
        assert_eq!(version("# Server\r\nredis_version:7.0.15\r\n").as_deref(), Some("Redis 7.0.15"));
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n";
        assert_eq!(version(valkey).as_deref(), Some("Valkey 8.0.1"));
        assert_eq!(version(""), None);
    }
}
