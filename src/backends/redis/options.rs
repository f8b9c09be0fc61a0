//! Where the server is, and who we are to it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::tls::Tls;
use crate::kv::{Error, Result};

/// The ports that servers and sentinels listen on.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What all keys lie below, unless it is said otherwise.
const TAG: &str = "quorate";

/// How a [`Redis`](super::Redis) store is reached: its server, TLS, user, and how long to wait.
///
/// ```no_run
/// use std::time::Duration;
/// use quorate::backends::{Redis, RedisOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let options = RedisOptions::new("redis-1:6379")
///     .user("app", "secret")
///     .ca_file("/etc/redis/ca.pem")?
///     .identity_files("/etc/redis/app.pem", "/etc/redis/app.key")?
///     .timeout(Duration::from_secs(3));
/// let store = Redis::connect(options).await?;
/// # let _ = store;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct RedisOptions {
    pub(super) kind: Kind,
    pub(super) hosts: Vec<String>,
    pub(super) user: Credentials,
    pub(super) sentinel_user: Option<Credentials>,
    pub(super) database: i64,
    pub(super) tag: String,
    pub(super) tls: Option<Tls>,
    pub(super) replicas: Option<Replicas>,
    pub(super) acknowledged: bool,
    pub(super) times: Times,
}

/// Who says where the primary is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The options: there is one server.
    One,
    /// Sentinels, who know it by this name.
    Sentinel(String),
    /// Any node of a cluster.
    Cluster,
}

/// Who we are; both are empty for the default user.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    pub(super) name: Option<String>,
    pub(super) password: Option<String>,
}

/// How many replicas must have a place before it counts, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replicas {
    pub(super) count: u32,
    pub(super) within: Duration,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For a whole request, with all its tries.
    pub(super) request: Duration,
    /// For one try.
    pub(super) attempt: Duration,
    /// For a connection.
    pub(super) connect: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(5),
            attempt: Duration::from_secs(2),
            connect: Duration::from_secs(1),
        }
    }
}

impl RedisOptions {
    /// One server, as `host`, `host:port` or `[IPv6]:port`; 6379 is the port where none is named.
    pub fn new(host: impl Into<String>) -> Self {
        Self::of(Kind::One, [host])
    }

    /// The primary that these sentinels know as `name`; 26379 is their port where none is named. A failover loses what
    /// its replica had not heard of, locks too, and is refused unless [`unsafe_failover`](Self::unsafe_failover) is called.
    pub fn sentinel<H: Into<String>>(
        name: impl Into<String>,
        sentinels: impl IntoIterator<Item = H>,
    ) -> Self {
        Self::of(Kind::Sentinel(name.into()), sentinels)
    }

    /// The cluster that these are nodes of; any that runs will do. A failover loses what its replica had not heard of,
    /// locks too, and is refused unless [`unsafe_failover`](Self::unsafe_failover) is called.
    pub fn cluster<H: Into<String>>(nodes: impl IntoIterator<Item = H>) -> Self {
        Self::of(Kind::Cluster, nodes)
    }

    pub(super) fn of<H: Into<String>>(kind: Kind, hosts: impl IntoIterator<Item = H>) -> Self {
        Self {
            kind,
            hosts: hosts.into_iter().map(Into::into).collect(),
            user: Credentials::default(),
            sentinel_user: None,
            database: 0,
            tag: TAG.to_owned(),
            tls: None,
            replicas: None,
            acknowledged: false,
            times: Times::default(),
        }
    }

    /// The ACL user to be.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Credentials { name: Some(name.into()), password: Some(password.into()) };
        self
    }

    /// The password of the default user.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.user = Credentials { name: None, password: Some(password.into()) };
        self
    }

    /// Who to be for the sentinels, which have users of their own. Nobody unless it is said.
    pub fn sentinel_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.sentinel_user = Some(Credentials { name: Some(name.into()), password: Some(password.into()) });
        self
    }

    /// The number of the database; 0 by default. A cluster has no other.
    pub fn database(mut self, number: u32) -> Self {
        self.database = i64::from(number);
        self
    }

    /// What all keys lie below, as the hash tag `{quorate}` that they begin with; `quorate` by default. Stores with other
    /// tags know nothing of each other; in a cluster each is on one node.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = tag.into();
        self
    }

    /// Talks TLS, and trusts the authorities that the system trusts unless [`ca`](Self::ca) says otherwise.
    pub fn tls(mut self) -> Self {
        self.tls.get_or_insert_default();
        self
    }

    /// Talks TLS, and trusts the authorities in this PEM text only.
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().ca = Some(pem.into());
        self
    }

    /// As [`ca`](Self::ca), from a file, which is read now.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let pem = read("certificate authority", path.as_ref())?;
        Ok(self.ca(pem))
    }

    /// Talks TLS, and shows this certificate, which belongs to this private key; both are PEM text.
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().identity = Some((certificate.into(), key.into()));
        self
    }

    /// As [`identity`](Self::identity), from files, which are read now.
    pub fn identity_files(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let certificate = read("client certificate", certificate.as_ref())?;
        let key = read("client key", key.as_ref())?;
        Ok(self.identity(certificate, key))
    }

    /// The name that the servers' certificates must have, instead of the host each is reached by.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.get_or_insert_default().server_name = Some(name.into());
        self
    }

    /// Accepts that a failover loses acknowledged writes, so that two may hold the same lock.
    pub fn unsafe_failover(mut self) -> Self {
        self.acknowledged = true;
        self
    }

    /// A place in a queue counts only once so many replicas have it; if they do not say so within `within`, it is given
    /// back. This makes a loss at failover less likely, and never impossible.
    pub fn wait_replicas(mut self, count: u32, within: Duration) -> Self {
        self.replicas = Some(Replicas { count, within });
        self
    }

    /// How long a request may take altogether; 5 s by default. Until then it is tried again as long as it certainly had
    /// no effect; reads and renewals always.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.times.request = timeout;
        self
    }

    /// How long the server may take to answer before it is connected to anew; 2 s by default.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.times.attempt = timeout;
        self
    }

    /// How long connecting may take; 1 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.times.connect = timeout;
        self
    }

    /// Refuses what can never be, or must be asked for by name.
    pub(super) fn validate(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::invalid(why));
        match (&self.kind, &*self.hosts) {
            (_, []) => return refuse("no server is named"),
            (Kind::One, [_]) => {}
            (Kind::One, _) => {
                return refuse(
                    "redis:// is for one server; name sentinels with redis+sentinel://, nodes with redis+cluster://",
                );
            }
            _ if !self.acknowledged => {
                return refuse(
                    "a failover loses acknowledged writes, so that two may hold the same lock: accept that with \
                     unsafe_failover=ack, or use one server",
                );
            }
            (Kind::Cluster, _) if self.database != 0 => return refuse("a cluster has only database 0"),
            _ => {}
        }
        if self.sentinel_user.is_some() && !matches!(self.kind, Kind::Sentinel(_)) {
            return refuse("credentials for sentinels mean nothing without sentinels");
        }
        if self.tag.is_empty() || self.tag.contains(['{', '}', '\0']) || self.tag.len() > 200 {
            return refuse("the tag must have 1 to 200 bytes, and no braces or NUL");
        }
        if let Some(Replicas { within, .. }) = self.replicas
            && within >= self.times.attempt
        {
            return refuse("wait_timeout must be shorter than try_timeout");
        }
        Ok(())
    }

    /// The key that all others lie beside, in one slot of a cluster.
    pub(super) fn meta(&self) -> String {
        format!("{{{}}}:meta", self.tag)
    }

    /// The servers to begin with, each with its port.
    pub(super) fn addresses(&self) -> Vec<String> {
        let port = if matches!(self.kind, Kind::Sentinel(_)) { SENTINEL_PORT } else { PORT };
        let whole = |host: &String| {
            let after_address = host.rsplit_once(']').map_or(&**host, |(_, rest)| rest);
            if after_address.contains(':') { host.clone() } else { format!("{host}:{port}") }
        };
        self.hosts.iter().map(whole).collect()
    }
}

pub(super) fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::invalid(format!("the {what} {} cannot be read", path.display())).because(error)
    })
}

/// Shows no secret.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("kind", &self.kind)
            .field("hosts", &self.hosts)
            .field("user", &self.user.name)
            .field("tls", &self.tls.is_some())
            .field("tag", &self.tag)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}
