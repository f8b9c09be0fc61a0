//! One URL, one kept session, the primitives by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connect::{Schemes, StoreUrl};
use crate::discovery::providers::StoreProvider;
use crate::discovery::{Instance, Members, Registrar, Registration};
use crate::election::{Candidate, Follower};
use crate::kv::{
    Clock, Coordinator, Key, LossReason, Namespaced, Random, Result, SessionOptions, SessionState, Sessions,
    Traced,
};
use crate::lock::Mutex;

/// Connects to the store behind a URL, with everything else as the URL says or by default; see [`Client::builder`].
pub async fn connect(url: &str) -> Result<Client> {
    Client::builder(url).connect().await
}

/// A store, one session that all held through it hangs on, and the primitives by name. Clones are the same client.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let client = quorate::connect("memory:?ttl=10s").await?;
/// let guard = client.mutex("migration")?.lock().await?;
/// println!("migrating with fence {}", guard.fence());
/// guard.release().await;
/// client.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Coordinator>,
    sessions: Sessions,
    registrar: Registrar,
}

/// How the client's session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing was held yet, so there is no session.
    Idle,
    /// Renewed on time; the last good renewal was sent this long ago.
    Live(Duration),
    /// A renewal failed or is overdue; the last good one was sent this long ago.
    Suspect(Duration),
    /// Lost, for this reason; the next use opens another.
    Lost(LossReason),
}

impl Client {
    /// Starts to connect to the store behind a URL. It may say `ttl`, `margin`, `id` and `namespace` too; what is said
    /// here wins.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(Source::Url(url.into()))
    }

    /// Starts a client of a store that is there already.
    pub fn over<S: Coordinator>(store: S) -> ClientBuilder {
        ClientBuilder::new(Source::Store(Arc::new(store)))
    }

    /// The store itself.
    #[must_use]
    pub fn kv(&self) -> &Arc<dyn Coordinator> {
        &self.store
    }

    /// The session that all hangs on, and the ones after it.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Who this client is, as others see it.
    #[must_use]
    pub fn id(&self) -> &str {
        self.sessions.owner()
    }

    /// The lock of this name.
    pub fn mutex(&self, name: &str) -> Result<Mutex> {
        Mutex::new(&self.store, &self.sessions, name)
    }

    /// A candidate with this client's id in the election of this name.
    pub fn candidate(&self, name: &str) -> Result<Candidate> {
        Candidate::new(&self.store, &self.sessions, name, self.id())
    }

    /// A look at who leads in the election of this name.
    pub fn follower(&self, name: &str) -> Result<Follower> {
        let follower = Follower::new(&self.store, name)?;
        Ok(follower.with(Arc::clone(self.sessions.clock()), self.sessions.random().clone()))
    }

    /// Registers an instance, for as long as the registration is kept; see [`Registrar::register`].
    pub async fn register(&self, instance: Instance) -> Result<Registration> {
        self.registrar.register(instance).await
    }

    /// A live view of who is registered for `service`; see [`Members`].
    pub fn members(&self, service: &str) -> Result<Members> {
        let (clock, random) = (Arc::clone(self.sessions.clock()), self.sessions.random().clone());
        let provider = StoreProvider::new(&self.store, service)?.with(Arc::clone(&clock), random.clone());
        Members::with(provider, clock, random)
    }

    /// How the session is doing now. No I/O.
    #[must_use]
    pub fn health(&self) -> Health {
        let Some(session) = self.sessions.peek() else { return Health::Idle };
        match session.state() {
            SessionState::Live => Health::Live(session.age()),
            SessionState::Suspect => Health::Suspect(session.age()),
            SessionState::Lost(reason) => Health::Lost(reason),
        }
    }

    /// Hands everything over: ends the session, and with it every lock, term and registration held through it. Takes one
    /// round trip, and 5 s at most. Stop what depends on them first.
    pub async fn close(&self) {
        self.sessions.close().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("store", &self.store)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

/// A client to be.
#[must_use = "it connects when told to"]
pub struct ClientBuilder {
    source: Source,
    schemes: Schemes,
    namespace: Key,
    password: Option<String>,
    ttl: Option<Duration>,
    margin: Option<Duration>,
    id: Option<String>,
    options: SessionOptions,
    with_session: bool,
}

enum Source {
    Url(String),
    Store(Arc<dyn Coordinator>),
}

impl ClientBuilder {
    fn new(source: Source) -> Self {
        Self {
            source,
            schemes: Schemes::default(),
            namespace: Key::root(),
            password: None,
            ttl: None,
            margin: None,
            id: None,
            options: SessionOptions::default(),
            with_session: false,
        }
    }

    /// How long what is held survives this process; see [`SessionOptions::new`]. 15 s by default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long before its end the session counts as lost; see [`SessionOptions::margin`].
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// Who this client is, as others see it; see [`SessionOptions::owner`].
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The password of the URL's user, so that it need not stand in the URL; it is never shown. Refused where the URL
    /// names no user, or a password of its own.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Does everything below this key, within the namespace of the URL if it names one.
    pub fn namespace(mut self, namespace: Key) -> Self {
        self.namespace = namespace;
        self
    }

    /// Which schemes a URL may have.
    pub fn schemes(mut self, schemes: Schemes) -> Self {
        self.schemes = schemes;
        self
    }

    /// The clock that deadlines go by.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.options = self.options.clock(clock);
        self
    }

    /// Where tickets and jitter come from.
    pub fn random(mut self, random: Random) -> Self {
        self.options = self.options.random(random);
        self
    }

    /// Whether the session is renewed on a thread of its own; see [`SessionOptions::own_thread`].
    pub fn own_thread(mut self, own_thread: bool) -> Self {
        self.options = self.options.own_thread(own_thread);
        self
    }

    /// The same, with a thread that is started once the session has lived for so long; see
    /// [`SessionOptions::own_thread_after`].
    pub fn own_thread_after(mut self, life: Duration) -> Self {
        self.options = self.options.own_thread_after(life);
        self
    }

    /// Whether the session is opened along with the connection, rather than with the first thing that is held: for programs
    /// that hold something as soon as they are connected. On etcd that saves a round trip, as both are asked at once;
    /// there [`Limits::server`](crate::kv::Limits::server) stays unknown. Off by default.
    pub fn with_session(mut self, with_session: bool) -> Self {
        self.with_session = with_session;
        self
    }

    /// Connects. The session itself is opened with the first thing that is held, unless it is to be opened
    /// [along](Self::with_session). Cancel-safe: dropped, it leaves at most a session that nobody renews.
    pub async fn connect(mut self) -> Result<Client> {
        let store = match self.source {
            Source::Store(store) => store,
            Source::Url(text) => {
                let mut url = StoreUrl::parse(&text)?;
                if let Some(password) = self.password {
                    url.set_password(password)?;
                }
                let (ttl, margin) = (url.take_duration("ttl")?, url.take_duration("margin")?);
                self.ttl = self.ttl.or(ttl);
                self.margin = self.margin.or(margin);
                self.id = self.id.or(url.take("id"));
                if self.with_session {
                    url.promise_session();
                }
                self.schemes.open(url).await?
            }
        };
        let store = Traced::new(store);
        let store: Arc<dyn Coordinator> = if self.namespace.is_root() {
            Arc::new(store)
        } else {
            Arc::new(Namespaced::new(store, self.namespace))
        };
        let mut options = self.options;
        options.ttl = self.ttl.unwrap_or(options.ttl);
        options.margin = self.margin.or(options.margin);
        options.owner = self.id.unwrap_or(options.owner);
        let sessions = Sessions::new(&store, options)?;
        if self.with_session {
            sessions.current().await?;
        }
        let registrar = Registrar::new(&store, &sessions);
        Ok(Client { store, sessions, registrar })
    }
}

/// Shows neither the password nor what may stand in the URL.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::Memory;
    use crate::kv::{ErrorKind, StoreExt, Txn};

    #[tokio::test]
    async fn urls_that_lead_nowhere_are_refused_by_name() {
        for (url, named) in [
            ("", "scheme"),
            ("etdc://h:1", "known are: "),
            ("memory:x", "memory:"),
            ("memory://h", "memory:"),
            ("memory:?tll=1s", "\"tll\""),
            ("memory:?ttl=0s", "ttl 0ns"),
            ("memory:?ttl=25h", "ttl 90000s"),
            ("memory:?ttl=soon", "\"soon\""),
            ("memory:?ttl=10s&margin=9s", "margin 9s"),
            ("memory:?id=", "owner"),
            ("memory:?namespace=a//b", "\"a//b\""),
            ("memory:?namespace=_quorate", "_quorate"),
        ] {
            let error = connect(url).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
        let unknown = connect("etdc://me:secret@h:1").await.unwrap_err().to_string();
        assert!(unknown.contains("memory") && !unknown.contains("secret"), "{unknown}");
    }

    #[tokio::test(start_paused = true)]
    async fn health_follows_the_session() {
        let store = Memory::new();
        let link = store.client();
        let client = Client::over(link.clone()).ttl(Duration::from_secs(10)).connect().await.unwrap();
        assert_eq!(client.health(), Health::Idle);
        let guard = client.mutex("m").unwrap().lock().await.unwrap();
        assert!(matches!(client.health(), Health::Live(age) if age < Duration::from_secs(1)));
        link.freeze();
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(matches!(client.health(), Health::Suspect(age) if age >= Duration::from_secs(6)));
        guard.lost().await;
        assert_eq!(client.health(), Health::Lost(LossReason::StoreUnavailable));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_opened_along_is_the_one_that_all_hangs_on() {
        let store = Memory::new();
        let client = Client::over(store.client()).with_session(true).connect().await.unwrap();
        assert!(matches!(client.health(), Health::Live(_)));
        let opened = client.sessions().peek().unwrap();
        let guard = client.mutex("m").unwrap().lock().await.unwrap();
        let holders = client.mutex("m").unwrap().holders().await.unwrap();
        assert_eq!(holders[0].session.as_ref(), Some(opened.id()));
        client.close().await;
        assert_eq!(guard.lost().await, LossReason::Closed);
        let link = store.client();
        link.freeze();
        let error = Client::over(link).with_session(true).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_hands_over_all_that_is_held() {
        let store = Memory::new();
        let client = Client::over(store.client()).connect().await.unwrap();
        let other = Client::over(store.client()).connect().await.unwrap();
        let guard = client.mutex("m").unwrap().lock().await.unwrap();
        let leadership = client.candidate("e").unwrap().campaign().await.unwrap();
        let registration = client.register(Instance::new("s", "1", "10.0.0.1:80")).await.unwrap();
        client.close().await;
        assert_eq!((guard.lost().await, leadership.lost().await), (LossReason::Closed, LossReason::Closed));
        assert!(other.mutex("m").unwrap().try_lock().await.unwrap().is_some());
        assert!(other.follower("e").unwrap().leader().await.unwrap().is_none());
        assert!(other.members("s").unwrap().ready().await.instances().is_empty());
        assert_eq!(client.mutex("m").unwrap().lock().await.unwrap_err().kind(), ErrorKind::SessionLost);
        drop(registration);
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_is_a_world_of_its_own() {
        let store = Memory::new();
        let team = Client::over(store.client()).namespace(Key::new("team").unwrap()).connect().await.unwrap();
        let whole = Client::over(store.client()).connect().await.unwrap();
        let held = team.mutex("m").unwrap().lock().await.unwrap();
        assert!(whole.mutex("m").unwrap().try_lock().await.unwrap().is_some());
        held.put("data", "1").await.unwrap();
        assert!(whole.kv().exists("team/data").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn bad_input_is_refused_before_anything_is_sent() {
        // Nothing that is sent is ever answered.
        let link = Memory::new();
        link.freeze();
        let client = Client::over(link).connect().await.unwrap();
        let kv = client.kv();
        let big = vec![0; 1024 * 1024 + 1];
        let key = Key::new("k").unwrap();
        let refusals = async {
            [
                (kv.put("a//b", "").await.map(drop), "\"a//b\""),
                (kv.put("a\0b", "").await.map(drop), "NUL"),
                (kv.put("_quorate/lock", "").await.map(drop), "_quorate"),
                (kv.put("", "").await.map(drop), "root"),
                (kv.put("x".repeat(2000), "").await.map(drop), "2000 bytes"),
                (kv.put("k", big).await.map(drop), "1048577 bytes"),
                (kv.put_with_ttl("k", "", Duration::ZERO).await.map(drop), "ttl 0ns"),
                (kv.put_with_ttl("k", "", Duration::from_hours(48)).await.map(drop), "ttl 172800s"),
                (kv.commit(Txn::new().put(&key, "1").delete(&key)).await.map(drop), "twice"),
                (client.mutex("").map(drop), "empty"),
                (client.register(Instance::new("s", "", "10.0.0.1:80")).await.map(drop), "id"),
            ]
        };
        let refusals = tokio::time::timeout(Duration::from_mins(1), refusals).await.expect("nothing is sent");
        for (refusal, named) in refusals {
            let error = refusal.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(named), "{named}: {error}");
        }
    }
}
