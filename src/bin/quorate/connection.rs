//! From the arguments to a store.

use std::path::PathBuf;
use std::time::Duration;

use quorate::Client;
use quorate::connect::{StoreUrl, default_url};
use quorate::kv::Key;
use tracing::level_filters::LevelFilter;

use crate::arguments::{HoldArguments, StoreArguments};
use crate::exit::{Failure, system};

/// What is held for no longer needs no thread that renews it.
const BRIEF: Duration = Duration::from_millis(50);

/// A connected store, and how children find it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// The URL, without secrets: children get those from where this process got them.
    pub(crate) url: String,
    pub(crate) namespace: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
}

impl Connection {
    /// Connects, to hold nothing.
    pub(crate) async fn open(arguments: &StoreArguments) -> Result<Self, Failure> {
        Self::connect(arguments, None, None, false).await
    }

    /// Connects, to hold what hangs on a session, as these arguments say; to hold it at once, if that is said.
    pub(crate) async fn open_to_hold(
        arguments: &StoreArguments,
        holding: &HoldArguments,
        at_once: bool,
    ) -> Result<Self, Failure> {
        Self::connect(arguments, holding.ttl, holding.id.as_deref(), at_once).await
    }

    async fn connect(
        arguments: &StoreArguments,
        ttl: Option<Duration>,
        id: Option<&str>,
        with_session: bool,
    ) -> Result<Self, Failure> {
        let url = match &arguments.store {
            Some(url) => url.clone(),
            None => default_url()?,
        };
        let open = StoreUrl::parse(&url)?.without_secrets();
        let builder = Client::builder(url).with_session(with_session);
        // What is held at once may be given back at once, and most often is before a thread would be of use. Nothing
        // blocks this one so early but a log that nobody reads.
        let mut builder = if with_session && LevelFilter::current() == LevelFilter::OFF {
            builder.own_thread_after(BRIEF)
        } else {
            builder.own_thread(true)
        };
        if let Some(password) = arguments.password()? {
            builder = builder.password(password);
        }
        if let Some(namespace) = &arguments.namespace {
            builder = builder.namespace(Key::new(namespace)?);
        }
        if let Some(ttl) = ttl {
            builder = builder.ttl(ttl);
        }
        if let Some(id) = id {
            builder = builder.id(id);
        }
        let client = builder.connect().await?;
        let client = arguments.client.get_or_init(|| client).clone();
        let absolute = |path| std::path::absolute(path).map_err(system);
        let password_file = arguments.password_file().map(absolute).transpose()?;
        Ok(Self { client, url: open, namespace: arguments.namespace.clone(), password_file })
    }
}
