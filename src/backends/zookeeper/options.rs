//! Where the servers are, and who we are to them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use zookeeper_client::{Acls, Client, Connector};

use super::tls::Tls;
use super::user::{Proof, User};
use crate::connect::StoreUrl;
use crate::kv::{Error, Result};

/// The port that ZooKeeper listens on.
const PORT: u16 = 2181;

/// How a [`Zookeeper`](super::Zookeeper) store is reached: its servers, TLS, user, and how long to wait.
///
/// ```no_run
/// use std::time::Duration;
/// use quorate::backends::{Zookeeper, ZookeeperOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let options = ZookeeperOptions::new(["zk-1:2281", "zk-2:2281", "zk-3:2281"])
///     .user("app", "secret")
///     .ca_file("/etc/zookeeper/ca.pem")?
///     .identity_files("/etc/zookeeper/app.pem", "/etc/zookeeper/app.key")?
///     .timeout(Duration::from_secs(3));
/// let store = Zookeeper::connect(options).await?;
/// # let _ = store;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ZookeeperOptions {
    hosts: Vec<String>,
    user: Option<(String, String)>,
    proof: Proof,
    private: Option<bool>,
    ca: Option<String>,
    identity: Option<(String, String)>,
    times: Times,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For a whole request, with all its tries.
    pub(super) request: Duration,
    /// For one try on one connection.
    pub(super) attempt: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { request: Duration::from_secs(5), attempt: Duration::from_secs(2) }
    }
}

impl ZookeeperOptions {
    /// The servers, each as `host`, `host:port` or `[IPv6]:port`; 2181 is the port where none is named.
    pub fn new<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        Self {
            hosts: hosts.into_iter().map(Into::into).collect(),
            user: None,
            proof: Proof::default(),
            private: None,
            ca: None,
            identity: None,
            times: Times::default(),
        }
    }

    /// The user to be, by the scheme `digest`. ZooKeeper takes any name and password, and only compares them with those
    /// of whoever made a node: a wrong one shows when something is refused. What is made is then
    /// [private](Self::private) to this user.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Makes the [user](Self::user) known by SASL's DIGEST-MD5 instead: servers that are set up for it know the passwords,
    /// and refuse who has another, as does [`connect`](super::Zookeeper::connect) a server that is not. Name and password
    /// are ASCII then. The password is not sent, but all else goes as it is: use it along with TLS.
    pub fn sasl_digest_md5(mut self) -> Self {
        self.proof = Proof::Sasl;
        self
    }

    /// Whether only who made a node may see and change it; by default it is so where a [user](Self::user) is named, else
    /// everybody may. A client certificate counts as a user where the servers have it so.
    pub fn private(mut self, private: bool) -> Self {
        self.private = Some(private);
        self
    }

    /// Talks TLS, and trusts the authorities in this PEM text only.
    pub fn ca(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// As [`ca`](Self::ca), from a file, which is read now.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let pem = read("certificate authority", path.as_ref())?;
        Ok(self.ca(pem))
    }

    /// Shows this certificate, which belongs to this private key; both are PEM text. It needs a [`ca`](Self::ca).
    pub fn identity(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// As [`identity`](Self::identity), from files, which are read now.
    pub fn identity_files(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let certificate = read("client certificate", certificate.as_ref())?;
        let key = read("client key", key.as_ref())?;
        Ok(self.identity(certificate, key))
    }

    /// How long a request may take altogether; 5 s by default. Until then it is tried again as long as it certainly had
    /// no effect; reads and renewals always.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.times.request = timeout;
        self
    }

    /// How long a server may be silent before another is asked; 2 s by default.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.times.attempt = timeout;
        self
    }

    /// What a URL says, such as `zookeeper://user:password@h1:2181,h2:2181?ca=/etc/zookeeper/ca.pem`. Its options are `ca`,
    /// `cert` and `key` (files), `sasl=digest-md5`, `private=true|false`, `timeout` and `try_timeout`.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        if url.hosts().is_empty() || !url.path().is_empty() {
            return Err(Error::invalid(format!(
                "{url} should have the form zookeeper://HOST:PORT,…/NAMESPACE"
            )));
        }
        let mut options = Self::new(url.hosts().iter().cloned());
        if let Some(name) = url.user().map(str::to_owned) {
            let password = url.password().ok_or_else(|| {
                Error::invalid(format!("the store URL names the user {name:?} and no password"))
            })?;
            options = options.user(name, password);
        }
        options = match url.take("sasl").as_deref() {
            None => options,
            Some("digest-md5") => options.sasl_digest_md5(),
            Some(other) => return Err(Error::invalid(format!("sasl {other:?} is not digest-md5"))),
        };
        options.private = match url.take("private").as_deref() {
            None => None,
            Some("true" | "") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                return Err(Error::invalid(format!("private {other:?} is neither true nor false")));
            }
        };
        if let Some(path) = url.take("ca") {
            options = options.ca_file(path)?;
        }
        options = match (url.take("cert"), url.take("key")) {
            (Some(certificate), Some(key)) => options.identity_files(certificate, key)?,
            (None, None) => options,
            _ => return Err(Error::invalid("the store URL names one of cert and key, and not the other")),
        };
        let times = &mut options.times;
        for (option, time) in [("timeout", &mut times.request), ("try_timeout", &mut times.attempt)] {
            *time = url.take_duration(option)?.unwrap_or(*time);
        }
        url.finish()?;
        Ok(options)
    }

    /// Ready to connect with. Refuses what can never be.
    pub(super) fn settle(self) -> Result<Settled> {
        if self.hosts.is_empty() {
            return Err(Error::invalid("no server of the ZooKeeper ensemble is named"));
        }
        let servers = self.hosts.iter().map(|host| server(host)).collect::<Result<_>>()?;
        let tls = match (&self.ca, &self.identity) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::invalid(
                    "a client certificate needs a certificate authority (ca), to know the servers by",
                ));
            }
            (Some(ca), identity) => Some(Tls::new(ca, identity.as_ref())?),
        };
        if self.proof == Proof::Sasl && self.user.is_none() {
            return Err(Error::invalid("SASL needs a user"));
        }
        let private = self.private.unwrap_or(self.user.is_some());
        if private && self.user.is_none() && self.identity.is_none() {
            return Err(Error::invalid("private nodes need a user, or a client certificate"));
        }
        let user = self.user.map(|(name, password)| User::new(name, password, self.proof)).transpose()?;
        Ok(Settled { servers, tls, user, private, times: self.times })
    }
}

/// One server: its host without brackets, and its port.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

fn server(text: &str) -> Result<Server> {
    let bad = || Error::invalid(format!("{text:?} is no host"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(bad)?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(bad)?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port =
        if port.is_empty() { PORT } else { port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)? };
    // The client takes it for granted.
    ServerName::try_from(host).map_err(|error| bad().because(error))?;
    Ok(Server { host: host.to_owned(), port })
}

/// Options that can be connected with.
pub(super) struct Settled {
    pub(super) servers: Vec<Server>,
    tls: Option<Tls>,
    user: Option<User>,
    private: bool,
    pub(super) times: Times,
}

impl Settled {
    /// The servers as the client takes them.
    pub(super) fn cluster(&self) -> String {
        let scheme = if self.tls.is_some() { "tcp+tls://" } else { "tcp://" };
        let servers: Vec<_> = self.servers.iter().map(|server| format!("{scheme}{server}")).collect();
        servers.join(",")
    }

    pub(super) fn connector(&self) -> Connector {
        let connector = match &self.tls {
            Some(tls) => Client::connector().with_tls(tls.options.clone()),
            None => Client::connector(),
        };
        match &self.user {
            Some(User::Sasl(options)) => connector.with_sasl(options.clone()),
            _ => connector,
        }
    }

    /// Who we are, as the scheme `digest` has it.
    pub(super) fn digest(&self) -> Option<&[u8]> {
        match &self.user {
            Some(User::Digest(digest)) => Some(digest.as_bytes()),
            _ => None,
        }
    }

    /// Whether the servers are to know us by SASL.
    pub(super) fn is_sasl(&self) -> bool {
        matches!(self.user, Some(User::Sasl(_)))
    }

    /// For whoever looks why nobody lets us in.
    pub(super) fn tls_config(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref().map(|tls| Arc::clone(&tls.config))
    }

    /// Who may see and change what we make.
    pub(super) fn acls(&self) -> Acls<'static> {
        if self.private { Acls::creator_all() } else { Acls::anyone_all() }
    }
}

fn read(what: &str, path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Error::invalid(format!("the {what} {} cannot be read", path.display())).because(error)
    })
}

/// Shows no secret.
impl fmt::Debug for ZookeeperOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZookeeperOptions")
            .field("hosts", &self.hosts)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("tls", &self.ca.is_some())
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<ZookeeperOptions> {
        ZookeeperOptions::from_url(StoreUrl::parse(url).unwrap())
    }

    #[test]
    fn a_url_says_it_all() {
        let options = of("zookeeper://me:secret@h1,h2:1,[::1],[::1]:5/?timeout=7s&try_timeout=1s").unwrap();
        assert!(!format!("{options:?}").contains("secret"));
        let settled = options.settle().unwrap();
        assert_eq!(settled.cluster(), "tcp://h1:2181,tcp://h2:1,tcp://[::1]:2181,tcp://[::1]:5");
        assert_eq!(settled.times.request, Duration::from_secs(7));
        assert_eq!(settled.times.attempt, Duration::from_secs(1));
        assert!(settled.private);
        assert!(!of("zookeeper://me:secret@h?private=false").unwrap().settle().unwrap().private);
        assert!(!of("zookeeper://h").unwrap().settle().unwrap().private);
        let known = of("zookeeper://me:secret@h?sasl=digest-md5").unwrap().settle().unwrap();
        assert!(known.is_sasl() && known.private && known.digest().is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, named) in [
            ("zookeeper:h", "zookeeper://HOST"),
            ("zookeeper://me@h", "no password"),
            ("zookeeper://h?private=perhaps", "perhaps"),
            ("zookeeper://me:secret@h?sasl=gssapi", "gssapi"),
            ("zookeeper://h?cert=/x", "cert and key"),
            ("zookeeper://h?ca=/nowhere/ca.pem", "authority /nowhere/ca.pem"),
            ("zookeeper://h?timeout=soon", "timeout"),
            ("zookeeper://h?colour=red", "colour"),
        ] {
            let error = of(url).unwrap_err().to_string();
            assert!(error.contains(named), "{url}: {error}");
        }
        for (options, named) in [
            (ZookeeperOptions::new(Vec::<String>::new()), "no server"),
            (ZookeeperOptions::new(["a b"]), "a b"),
            (ZookeeperOptions::new(["h:0"]), "h:0"),
            (ZookeeperOptions::new(["[::1"]), "[::1"),
            (ZookeeperOptions::new(["h"]).ca("no pem"), "certificate authority"),
            (ZookeeperOptions::new(["h"]).identity("c", "k"), "needs a certificate authority"),
            (ZookeeperOptions::new(["h"]).user("a:b", "c"), "a:b"),
            (ZookeeperOptions::new(["h"]).private(true), "private"),
            (ZookeeperOptions::new(["h"]).sasl_digest_md5(), "SASL needs a user"),
            (ZookeeperOptions::new(["h"]).user("a\"b", "secret").sasl_digest_md5(), "no name of a user"),
            (ZookeeperOptions::new(["h"]).user("é", "secret").sasl_digest_md5(), "no name of a user"),
            (ZookeeperOptions::new(["h"]).user("a", "secret é").sasl_digest_md5(), "password of \"a\""),
        ] {
            let error = options.settle().err().unwrap().to_string();
            assert!(error.contains(named) && !error.contains("secret"), "{named}: {error}");
        }
    }
}
