//! Where the agents are, and who we are to them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::tls::Trust;
use crate::connect::StoreUrl;
use crate::kv::{Error, Result};

/// The ports that agents listen on, without TLS and with it.
const PORTS: (u16, u16) = (8500, 8501);

/// The node that sessions hang on, unless another is named.
const NODE: &str = "quorate";

/// How a [`Consul`](super::Consul) store is reached: its agents, TLS, token, and how long to wait.
///
/// ```no_run
/// use std::time::Duration;
/// use quorate::backends::{Consul, ConsulOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let options = ConsulOptions::new(["localhost:8501", "consul-2:8501"])
///     .token_file("/run/secrets/consul-token")?
///     .ca_file("/etc/consul/ca.pem")?
///     .identity_files("/etc/consul/app.pem", "/etc/consul/app.key")?
///     .timeout(Duration::from_secs(3));
/// let store = Consul::connect(options).await?;
/// # let _ = store;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ConsulOptions {
    hosts: Vec<String>,
    pub(super) token: Option<String>,
    pub(super) datacenter: Option<String>,
    pub(super) node: String,
    pub(super) native: bool,
    pub(super) trust: Option<Trust>,
    pub(super) times: Times,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For a whole request, with all its tries.
    pub(super) request: Duration,
    /// For one try at one agent.
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

impl ConsulOptions {
    /// The agents, each as `host`, `host:port` or `[IPv6]:port`; 8500 is the port where none is named, 8501 with TLS. One
    /// is enough, such as the agent on the same host; others are asked when it fails.
    pub fn new<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        Self {
            hosts: hosts.into_iter().map(Into::into).collect(),
            token: None,
            datacenter: None,
            node: NODE.to_owned(),
            native: false,
            trust: None,
            times: Times::default(),
        }
    }

    /// The ACL token to show. It needs to write keys (`key_prefix`) and sessions on the [node](Self::node).
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// As [`token`](Self::token), from a file, which is read now.
    pub fn token_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let text = String::from_utf8(read("token file", path.as_ref())?)
            .map_err(|_| Error::invalid(format!("the token file {} is no text", path.as_ref().display())))?;
        Ok(self.token(text.trim()))
    }

    /// The datacenter to ask; the agents' own by default.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = Some(name.into());
        self
    }

    /// The node that sessions hang on, `quorate` by default: a name in the catalog and no machine, so that no session
    /// ends with one. It is registered when it is missing, for which a token needs `node` write; or register it
    /// beforehand.
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = name.into();
        self
    }

    /// Puts registrations into Consul's own catalog as well, where its DNS, its UI and other programs find them: as
    /// services of the agent that is asked, with a check that is passing, or a warning while the instance drains. Whoever
    /// dies is critical there after 15 s, and gone a minute later. Each costs a request every 5 s, and the token needs
    /// `service` write.
    pub fn native(mut self, native: bool) -> Self {
        self.native = native;
        self
    }

    /// Talks TLS, and trusts the authorities that the system trusts unless [`ca`](Self::ca) says otherwise.
    pub fn tls(mut self) -> Self {
        self.trust.get_or_insert_default();
        self
    }

    /// Talks TLS, and trusts the authorities in this PEM text only.
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.trust.get_or_insert_default().ca = Some(pem.into());
        self
    }

    /// As [`ca`](Self::ca), from a file, which is read now.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let pem = read("certificate authority", path.as_ref())?;
        Ok(self.ca(pem))
    }

    /// Talks TLS, and shows this certificate, which belongs to this private key; both are PEM text.
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.trust.get_or_insert_default().identity = Some((certificate.into(), key.into()));
        self
    }

    /// As [`identity`](Self::identity), from files, which are read now.
    pub fn identity_files(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let certificate = read("client certificate", certificate.as_ref())?;
        let key = read("client key", key.as_ref())?;
        Ok(self.identity(certificate, key))
    }

    /// Talks TLS, and expects this name in the agents' certificates instead of the host each is reached by, such as
    /// `server.dc1.consul`.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.trust.get_or_insert_default().server_name = Some(name.into());
        self
    }

    /// How long a request may take altogether; 5 s by default. Until then it is tried again, at one agent after
    /// another, as long as it certainly had no effect; reads and renewals always.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.times.request = timeout;
        self
    }

    /// How long one agent may take to answer before another is asked; 2 s by default.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.times.attempt = timeout;
        self
    }

    /// How long connecting to one agent may take; 1 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.times.connect = timeout;
        self
    }

    /// What a URL says, such as `consul://h1:8500,h2:8500?token_file=/run/secrets/token`. Its options are `token`,
    /// `token_file`, `datacenter`, `node`, `native=true`, `ca`, `cert` and `key` (files), `tls=true`, `server_name`, `timeout`,
    /// `try_timeout` and `connect_timeout`.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        if url.hosts().is_empty() || !url.path().is_empty() {
            return Err(Error::invalid(format!("{url} should have the form consul://HOST:PORT,…/NAMESPACE")));
        }
        if url.user().is_some() {
            return Err(Error::invalid(format!(
                "{url} names a user; Consul knows tokens: use the option token"
            )));
        }
        let mut options = Self::new(url.hosts().iter().cloned());
        options = match (url.take("token"), url.take("token_file")) {
            (Some(_), Some(_)) => return Err(Error::invalid("the store URL has both token and token_file")),
            (Some(token), None) => options.token(token),
            (None, Some(path)) => options.token_file(path)?,
            (None, None) => options,
        };
        options.datacenter = url.take("datacenter");
        options.node = url.take("node").unwrap_or(options.node);
        options.native = take_flag(&mut url, "native")?;
        if take_flag(&mut url, "tls")? {
            options = options.tls();
        }
        if let Some(path) = url.take("ca") {
            options = options.ca_file(path)?;
        }
        options = match (url.take("cert"), url.take("key")) {
            (Some(certificate), Some(key)) => options.identity_files(certificate, key)?,
            (None, None) => options,
            _ => return Err(Error::invalid("the store URL names one of cert and key, and not the other")),
        };
        if let Some(name) = url.take("server_name") {
            options = options.server_name(name);
        }
        let times = &mut options.times;
        for (option, time) in [
            ("timeout", &mut times.request),
            ("try_timeout", &mut times.attempt),
            ("connect_timeout", &mut times.connect),
        ] {
            *time = url.take_duration(option)?.unwrap_or(*time);
        }
        url.finish()?;
        Ok(options)
    }

    /// Where each agent is, as the beginning of a URL. Refuses what can never be.
    pub(super) fn agents(&self) -> Result<Vec<String>> {
        if self.hosts.is_empty() {
            return Err(Error::invalid("no agent of Consul is named"));
        }
        if self.node.is_empty() {
            return Err(Error::invalid("the node that sessions hang on has no name"));
        }
        self.hosts.iter().map(|host| self.agent(host)).collect()
    }

    fn agent(&self, host: &str) -> Result<String> {
        let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
        let (scheme, port) = if self.trust.is_some() { ("https", PORTS.1) } else { ("http", PORTS.0) };
        let port = if after_address.contains(':') { String::new() } else { format!(":{port}") };
        let name = format!("{scheme}://{host}{port}");
        let bad = |error| Error::invalid(format!("{host:?} is no host")).because(error);
        let uri: http::Uri = name.parse().map_err(|error: http::uri::InvalidUri| bad(error))?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(Error::invalid(format!("{host:?} is no host")));
        }
        Ok(name)
    }
}

fn take_flag(url: &mut StoreUrl, option: &str) -> Result<bool> {
    match url.take(option).as_deref() {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(other) => Err(Error::invalid(format!("{option} {other:?} is neither true nor false"))),
    }
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::invalid(format!("the {what} {} cannot be read", path.display())).because(error)
    })
}

/// Shows no secret.
impl fmt::Debug for ConsulOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulOptions")
            .field("hosts", &self.hosts)
            .field("datacenter", &self.datacenter)
            .field("node", &self.node)
            .field("tls", &self.trust.is_some())
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<ConsulOptions> {
        ConsulOptions::from_url(StoreUrl::parse(url).unwrap())
    }

    #[test]
    fn a_url_says_it_all() {
        let options = of("consul://h1,h2:1,[::1],[::1]:5/?timeout=7s&try_timeout=1s&connect_timeout=300ms\
                          &token=secret&datacenter=dc2&node=n")
        .unwrap();
        assert_eq!(
            options.agents().unwrap(),
            ["http://h1:8500", "http://h2:1", "http://[::1]:8500", "http://[::1]:5"]
        );
        assert_eq!(options.times.request, Duration::from_secs(7));
        assert_eq!(options.times.attempt, Duration::from_secs(1));
        assert_eq!(options.times.connect, Duration::from_millis(300));
        assert_eq!((options.datacenter.as_deref(), options.node.as_str()), (Some("dc2"), "n"));
        assert_eq!(options.token.as_deref(), Some("secret"));
        assert!(!format!("{options:?}").contains("secret"));
        assert_eq!(of("consul://h?tls=true").unwrap().agents().unwrap(), ["https://h:8501"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, named) in [
            ("consul:h", "consul://HOST"),
            ("consul://me@h", "option token"),
            ("consul://h?tls=perhaps", "perhaps"),
            ("consul://h?cert=/x", "cert and key"),
            ("consul://h?ca=/nowhere/ca.pem", "authority /nowhere/ca.pem"),
            ("consul://h?token_file=/nowhere/t", "token file /nowhere/t"),
            ("consul://h?token_file=/t&token=x", "both token"),
            ("consul://h?timeout=soon", "timeout"),
            ("consul://h?colour=red", "colour"),
        ] {
            let error = of(url).unwrap_err().to_string();
            assert!(error.contains(named), "{url}: {error}");
        }
        for hosts in [vec!["a b"], vec!["h/x"], vec![]] {
            assert!(ConsulOptions::new(hosts).agents().is_err());
        }
        assert!(of("consul://h?node=").unwrap().agents().is_err());
    }
}
