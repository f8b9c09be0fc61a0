//! Where the members are, and who we are to them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::connection::{Credentials, Member};
use crate::connect::StoreUrl;
use crate::kv::{Error, Result};

/// The port that etcd listens on.
const PORT: u16 = 2379;

/// How an [`Etcd`](super::Etcd) store is reached: its members, TLS, user, and how long to wait.
///
/// ```no_run
/// use std::time::Duration;
/// use quorate::backends::{Etcd, EtcdOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let options = EtcdOptions::new(["etcd-1:2379", "etcd-2:2379", "etcd-3:2379"])
///     .user("app", "secret")
///     .ca_file("/etc/etcd/ca.pem")?
///     .identity_files("/etc/etcd/app.pem", "/etc/etcd/app.key")?
///     .timeout(Duration::from_secs(3));
/// let store = Etcd::connect(options).await?;
/// # let _ = store;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct EtcdOptions {
    hosts: Vec<String>,
    user: Option<Credentials>,
    tls: bool,
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
    times: Times,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For a whole request, with all its tries.
    pub(super) request: Duration,
    /// For one try at one member.
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

impl EtcdOptions {
    /// The members, each as `host`, `host:port` or `[IPv6]:port`; 2379 is the port where none is named. One is enough,
    /// as long as it runs: the others are not asked for.
    pub fn new<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        Self {
            hosts: hosts.into_iter().map(Into::into).collect(),
            user: None,
            tls: false,
            ca: None,
            identity: None,
            server_name: None,
            times: Times::default(),
        }
    }

    /// The user to be, where etcd has authentication enabled. Where it has not, they are not used.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some(Credentials { name: name.into(), password: password.into() });
        self
    }

    /// Talks TLS, and trusts the authorities that the system trusts unless [`ca`](Self::ca) says otherwise.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Talks TLS, and trusts the authorities in this PEM text only.
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self.tls()
    }

    /// As [`ca`](Self::ca), from a file, which is read now.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let pem = read("certificate authority", path.as_ref())?;
        Ok(self.ca(pem))
    }

    /// Talks TLS, and shows this certificate, which belongs to this private key; both are PEM text.
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self.tls()
    }

    /// As [`identity`](Self::identity), from files, which are read now.
    pub fn identity_files(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let certificate = read("client certificate", certificate.as_ref())?;
        let key = read("client key", key.as_ref())?;
        Ok(self.identity(certificate, key))
    }

    /// The name that the members' certificates must have, instead of the host each is reached by.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long a request may take altogether; 5 s by default. Until then it is tried again, at one member after
    /// another, as long as it certainly had no effect; reads and renewals always.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.times.request = timeout;
        self
    }

    /// How long one member may take to answer before another is asked; 2 s by default. Such a member is left alone from
    /// then on, until its turn comes again.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.times.attempt = timeout;
        self
    }

    /// How long connecting to one member may take; 1 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.times.connect = timeout;
        self
    }

    /// What a URL says, such as `etcd://user:password@h1:2379,h2:2379?ca=/etc/etcd/ca.pem`. Its options are `ca`, `cert` and `key`
    /// (files), `tls=true`, `server_name`, `timeout`, `try_timeout` and `connect_timeout`.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        if url.hosts().is_empty() || !url.path().is_empty() {
            return Err(Error::invalid(format!("{url} should have the form etcd://HOST:PORT,…/NAMESPACE")));
        }
        let mut options = Self::new(url.hosts().iter().cloned());
        if let Some(name) = url.user().map(str::to_owned) {
            let password = url.password().ok_or_else(|| {
                Error::invalid(format!("the store URL names the user {name:?} and no password"))
            })?;
            options = options.user(name, password);
        }
        match url.take("tls").as_deref() {
            None | Some("false") => {}
            Some("true" | "") => options = options.tls(),
            Some(other) => return Err(Error::invalid(format!("tls {other:?} is neither true nor false"))),
        }
        if let Some(path) = url.take("ca") {
            options = options.ca_file(path)?;
        }
        options = match (url.take("cert"), url.take("key")) {
            (Some(certificate), Some(key)) => options.identity_files(certificate, key)?,
            (None, None) => options,
            _ => return Err(Error::invalid("the store URL names one of cert and key, and not the other")),
        };
        options.server_name = url.take("server_name");
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

    pub(super) fn times(&self) -> Times {
        self.times
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.user.as_ref()
    }

    /// The members, ready to be connected to. Refuses what can never be.
    pub(super) fn members(&self) -> Result<Vec<Member>> {
        if self.hosts.is_empty() {
            return Err(Error::invalid("no member of the etcd cluster is named"));
        }
        if self.server_name.is_some() && !self.tls {
            return Err(Error::invalid("a server name means nothing without TLS"));
        }
        self.hosts.iter().map(|host| self.member(host)).collect()
    }

    fn member(&self, host: &str) -> Result<Member> {
        let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
        let port = if after_address.contains(':') { String::new() } else { format!(":{PORT}") };
        let scheme = if self.tls { "https" } else { "http" };
        let name = format!("{scheme}://{host}{port}");
        let bad = |error| Error::invalid(format!("{host:?} is no host")).because(error);
        let mut endpoint = Endpoint::from_shared(name.clone()).map_err(bad)?;
        if self.tls {
            let bad = |error| Error::invalid("the TLS settings are not usable").because(error);
            endpoint = endpoint.tls_config(self.tls_config()).map_err(bad)?;
        }
        let hint = match (self.tls, &self.identity) {
            (false, _) => "perhaps it wants TLS",
            (true, None) => "perhaps it wants a client certificate",
            (true, Some(_)) => "perhaps it does not trust the client certificate",
        };
        Ok(Member { name, endpoint: endpoint.connect_timeout(self.times.connect), hint })
    }

    fn tls_config(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new();
        let config = match &self.ca {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        let config = match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        };
        match &self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        }
    }
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::invalid(format!("the {what} {} cannot be read", path.display())).because(error)
    })
}

/// Shows no secret.
impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("hosts", &self.hosts)
            .field("user", &self.user.as_ref().map(|user| &user.name))
            .field("tls", &self.tls)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<EtcdOptions> {
        EtcdOptions::from_url(StoreUrl::parse(url).unwrap())
    }

    fn members(options: &EtcdOptions) -> Vec<String> {
        options.members().unwrap().into_iter().map(|member| member.name).collect()
    }

    #[test]
    fn a_url_says_it_all() {
        let options =
            of("etcd://me:secret@h1,h2:1,[::1],[::1]:5/?timeout=7s&try_timeout=1s&connect_timeout=300ms")
                .unwrap();
        assert_eq!(
            members(&options),
            ["http://h1:2379", "http://h2:1", "http://[::1]:2379", "http://[::1]:5"]
        );
        assert_eq!(options.times.request, Duration::from_secs(7));
        assert_eq!(options.times.attempt, Duration::from_secs(1));
        assert_eq!(options.times.connect, Duration::from_millis(300));
        assert!(!format!("{options:?}").contains("secret"));
        assert_eq!(members(&of("etcd://h?tls=true").unwrap()), ["https://h:2379"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, named) in [
            ("etcd:h", "etcd://HOST"),
            ("etcd://me@h", "no password"),
            ("etcd://h?tls=perhaps", "perhaps"),
            ("etcd://h?cert=/x", "cert and key"),
            ("etcd://h?ca=/nowhere/ca.pem", "authority /nowhere/ca.pem"),
            ("etcd://h?timeout=soon", "timeout"),
            ("etcd://h?colour=red", "colour"),
        ] {
            let error = of(url).unwrap_err().to_string();
            assert!(error.contains(named), "{url}: {error}");
        }
        let nonsense = EtcdOptions::new(["h"]).identity("no", "pem").members().unwrap_err();
        assert!(nonsense.to_string().contains("TLS settings"), "{nonsense}");
        assert!(of("etcd://h?server_name=x").unwrap().members().is_err());
        assert!(EtcdOptions::new(["a b"]).members().is_err());
        assert!(EtcdOptions::new(Vec::<String>::new()).members().is_err());
    }
}
