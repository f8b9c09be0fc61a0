//! From a URL to a store.

mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::kv::{Coordinator, Error, Key, Namespaced, Result};

pub use url::{StoreUrl, parse_duration};

/// A store on its way.
pub type Connecting = BoxFuture<'static, Result<Arc<dyn Coordinator>>>;

type Connector = Arc<dyn Fn(StoreUrl) -> Connecting + Send + Sync>;

/// Which URL schemes lead to which stores: an explicit value, to extend with stores of one's own.
///
/// ```
/// use std::sync::Arc;
/// use quorate::backends::Memory;
/// use quorate::connect::Schemes;
/// use quorate::kv::{Coordinator, StoreExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let shared = Memory::new();
/// let ours = shared.clone();
/// let schemes = Schemes::default().with("shared", move |url| {
///     let store: Arc<dyn Coordinator> = Arc::new(ours.clone());
///     Box::pin(async move { url.finish().map(|()| store) })
/// });
/// let store = schemes.connect("shared:?namespace=app").await?;
/// store.put("motd", "hello").await?;
/// assert!(shared.exists("app/motd").await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Schemes(BTreeMap<String, Connector>);

impl Schemes {
    /// No schemes at all.
    #[must_use]
    pub fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// The same, and URLs of `scheme` lead where `connector` says. It must take every option it knows from the URL and
    /// call [`StoreUrl::finish`], which refuses the rest.
    #[must_use]
    pub fn with<F>(mut self, scheme: &str, connector: F) -> Self
    where
        F: Fn(StoreUrl) -> Connecting + Send + Sync + 'static,
    {
        self.0.insert(scheme.to_owned(), Arc::new(connector));
        self
    }

    /// The schemes that are known, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The store behind a URL. A path after hosts, or the option `namespace`, makes it a [chroot](Namespaced).
    ///
    /// A URL that is malformed, of an unknown scheme or with an unknown option is refused by name, before anything is
    /// sent.
    pub async fn connect(&self, url: &str) -> Result<Arc<dyn Coordinator>> {
        self.open(StoreUrl::parse(url)?).await
    }

    pub(crate) async fn open(&self, mut url: StoreUrl) -> Result<Arc<dyn Coordinator>> {
        let Some(connector) = self.0.get(url.scheme()) else {
            let (scheme, known) = (url.scheme(), self.names().collect::<Vec<_>>().join(", "));
            return Err(Error::invalid(format!("unknown scheme {scheme:?} in {url}; known are: {known}")));
        };
        let namespace = Key::new(&url.take_namespace()?)?;
        let store = connector(url).await?;
        Ok(if namespace.is_root() { store } else { Arc::new(Namespaced::new(store, namespace)) })
    }
}

/// The store of those who name none: one file of this user's on this host, `$XDG_STATE_HOME/quorate/default.db`, else
/// `~/.local/state/quorate/default.db`. Makes the directory if it is missing.
#[cfg(feature = "embedded")]
pub fn default_url() -> Result<String> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| std::path::Path::new(path).is_absolute());
    let state =
        state.map(std::path::PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".local/state")));
    let directory = state.map(|state| state.join("quorate")).ok_or_else(|| {
        Error::invalid(
            "there is no home directory for the default store; name a store, such as embedded:/tmp/app.db",
        )
    })?;
    std::fs::create_dir_all(&directory).map_err(|error| {
        let why = format!("the directory of the default store, {}, cannot be made", directory.display());
        Error::invalid(why).because(error)
    })?;
    let path = directory.join("default.db");
    let path = path.to_str().ok_or_else(|| {
        Error::invalid(format!(
            "the path of the default store, {}, is not UTF-8; name a store",
            path.display()
        ))
    })?;
    Ok(format!("embedded:{}", percent_encoding::utf8_percent_encode(path, &url::ESCAPED)))
}

/// Every store this build has.
impl Default for Schemes {
    fn default() -> Self {
        let schemes = Self::none().with("memory", |url| {
            async move {
                url.finish_opaque("memory:", true)?;
                let store: Arc<dyn Coordinator> = Arc::new(crate::backends::Memory::new());
                Ok(store)
            }
            .boxed()
        });
        #[cfg(feature = "embedded")]
        let schemes = schemes.with("embedded", |url| {
            async move {
                let path = url.path().to_owned();
                url.finish_opaque("embedded:PATH", false)?;
                let store: Arc<dyn Coordinator> = Arc::new(crate::backends::Embedded::open(path).await?);
                Ok(store)
            }
            .boxed()
        });
        #[cfg(feature = "consul")]
        let schemes = schemes.with("consul", |url| {
            async move {
                let options = crate::backends::ConsulOptions::from_url(url)?;
                let store: Arc<dyn Coordinator> = Arc::new(crate::backends::Consul::connect(options).await?);
                Ok(store)
            }
            .boxed()
        });
        #[cfg(feature = "etcd")]
        let schemes = schemes.with("etcd", |url| {
            async move {
                let with_session = url.is_with_session();
                let options = crate::backends::EtcdOptions::from_url(url)?;
                let store = if with_session {
                    crate::backends::Etcd::with_session(&options)?
                } else {
                    crate::backends::Etcd::connect(options).await?
                };
                let store: Arc<dyn Coordinator> = Arc::new(store);
                Ok(store)
            }
            .boxed()
        });
        #[cfg(feature = "redis")]
        let schemes = ["redis", "rediss", "redis+sentinel", "redis+cluster"].into_iter().fold(
            schemes,
            |schemes, name| {
                schemes.with(name, |url| {
                    async move {
                        let options = crate::backends::RedisOptions::from_url(url)?;
                        let store: Arc<dyn Coordinator> =
                            Arc::new(crate::backends::Redis::connect(options).await?);
                        Ok(store)
                    }
                    .boxed()
                })
            },
        );
        #[cfg(feature = "zookeeper")]
        let schemes = schemes.with("zookeeper", |url| {
            async move {
                let options = crate::backends::ZookeeperOptions::from_url(url)?;
                let store: Arc<dyn Coordinator> =
                    Arc::new(crate::backends::Zookeeper::connect(options).await?);
                Ok(store)
            }
            .boxed()
        });
        schemes
    }
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
