//! Requests over HTTP, on connections that are kept.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::HeaderValue;
use http::response::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use super::error::{Cure, Fault, broken, unanswered};
use super::keys::Stored;
use super::options::Times;
use super::parts::List;
use crate::kv::{BoxError, Entry, Result};

/// How many requests are under way at once; more wait here. Consul takes 200 connections from one address, and other
/// processes may live there.
const ABREAST: usize = 32;

/// The same for what keeps sessions alive, which does not wait behind the rest.
const VITAL: usize = 8;

/// How many requests that wait for changes have connections apart from the others': giving one up closes its connection,
/// which another request would have to open anew. Where more wait, the others' connections lie idle that brought them there.
const APART: usize = 2;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_mins(1);

/// The longest answer that is taken.
const LONGEST: usize = 512 * 1024 * 1024;

/// How a request is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Among many.
    Usual,
    /// Before the many: a session hangs on it.
    Vital,
    /// It is answered when something changes, or after this time. How many there are is the caller's affair.
    Long(Duration),
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Bytes,
    pub(super) lane: Lane,
    /// Whether the answer is a list of entries, to be read as it comes in.
    pub(super) for_entries: bool,
}

impl Ask {
    pub(super) fn get(path: String, query: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path,
            query: query.into(),
            body: Bytes::new(),
            lane: Lane::Usual,
            for_entries: false,
        }
    }

    pub(super) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let (path, body) = (path.into(), body.into());
        Self { method: Method::PUT, path, query: String::new(), body, lane: Lane::Usual, for_entries: false }
    }

    pub(super) fn on(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }

    /// The same, with one more parameter.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let separator = if self.query.is_empty() { "" } else { "&" };
        self.query = format!("{}{separator}{name}={value}", self.query);
        self
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The index of what was asked for, where there is one.
    pub(super) index: Option<u64>,
    /// What it tells, where it was [asked for entries](Ask::for_entries); then nothing is left of the body.
    pub(super) entries: Vec<Entry>,
    /// The body as it came in.
    pub(super) parts: Vec<Bytes>,
    whole: OnceLock<Bytes>,
}

impl Answer {
    /// The body.
    pub(super) fn body(&self) -> &[u8] {
        match &*self.parts {
            [whole] => whole,
            parts => self.whole.get_or_init(|| parts.concat().into()),
        }
    }

    /// What the body tells, which must be JSON of this form.
    pub(super) fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T> {
        const OTHER: &str = "an answer of another form than Consul's";
        // Looked through once, each string in it is not again.
        let text = str::from_utf8(self.body()).map_err(|error| broken(OTHER).because(error))?;
        serde_json::from_str(text).map_err(|error| broken(OTHER).because(error))
    }
}

type Web = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Connections that live on one runtime.
pub(super) struct Pool {
    /// For most requests.
    common: Web,
    /// For the first of those that wait for changes.
    apart: Web,
    usual: Semaphore,
    vital: Semaphore,
    waiting: Semaphore,
}

impl Pool {
    pub(super) fn new(tls: &ClientConfig, server_name: Option<&str>, times: Times) -> Result<Self> {
        Ok(Self {
            common: web(tls, server_name, times)?,
            apart: web(tls, server_name, times)?,
            usual: Semaphore::new(ABREAST),
            vital: Semaphore::new(VITAL),
            waiting: Semaphore::new(APART),
        })
    }

    /// Sends a request to the agent and reads its answer, once there is room; `sent` is called when there is.
    pub(super) async fn ask(
        &self,
        agent: &str,
        token: Option<&HeaderValue>,
        ask: &Ask,
        sent: impl Fn(),
    ) -> Result<Answer, Fault> {
        let request = request(agent, token, ask)?;
        // None of these is ever closed.
        let room = match ask.lane {
            Lane::Usual => self.usual.acquire().await.ok(),
            Lane::Vital => self.vital.acquire().await.ok(),
            Lane::Long(_) => self.waiting.try_acquire().ok(),
        };
        let is_apart = room.is_some() && matches!(ask.lane, Lane::Long(_));
        let web = if is_apart { &self.apart } else { &self.common };
        sent();
        let answer = web.request(request).await;
        let answer = answer.map_err(|error| {
            let sent = !error.is_connect();
            unanswered(error, agent, sent)
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST).into_data_stream();
        receive(&head, body, ask.for_entries, agent).await
    }
}

/// Reads an answer as it comes in.
async fn receive(
    head: &Parts,
    mut body: impl Stream<Item = std::result::Result<Bytes, BoxError>> + Send + Unpin,
    for_entries: bool,
    agent: &str,
) -> Result<Answer, Fault> {
    let index = head.headers.get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
    // Without an index, something else than Consul answered.
    let is_list = for_entries && head.status == StatusCode::OK && index.is_some();
    let mut list = is_list.then(List::default);
    let (mut parts, mut entries, mut session) = (Vec::new(), Vec::new(), None);
    let mut each = |stored: &Stored<'_>| {
        entries.extend(stored.entry().map(|entry| entry.sharing(&mut session)));
    };
    let wrong = |error| Fault { error, cure: Cure::None };
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| unanswered(Cut(error), agent, true))?;
        match &mut list {
            Some(list) => list.take(&part, &mut each).map_err(wrong)?,
            None => parts.push(part),
        }
    }
    list.map_or(Ok(()), |list| list.end()).map_err(wrong)?;
    Ok(Answer { status: head.status, index, entries, parts, whole: OnceLock::new() })
}

fn request(agent: &str, token: Option<&HeaderValue>, ask: &Ask) -> Result<Request<Full<Bytes>>, Fault> {
    let separator = if ask.query.is_empty() { "" } else { "?" };
    let uri = format!("{agent}{}{separator}{}", ask.path, ask.query);
    let mut request = Request::builder().method(ask.method.clone()).uri(uri);
    if let Some(token) = token {
        request = request.header("x-consul-token", token);
    }
    request.body(Full::new(ask.body.clone())).map_err(|error| unanswered(error, agent, false))
}

fn web(tls: &ClientConfig, server_name: Option<&str>, times: Times) -> Result<Web> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(times.connect));
    let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
    let https = match server_name {
        Some(name) => {
            let name = rustls::pki_types::ServerName::try_from(name.to_owned()).map_err(|error| {
                crate::kv::Error::invalid(format!("the server name {name:?} is none")).because(error)
            })?;
            https.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
        }
        None => https,
    };
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(ABREAST)
        .pool_timer(TokioTimer::new())
        .build(https.enable_http1().wrap_connector(connector)))
}

/// An answer that broke off.
#[derive(Debug)]
struct Cut(BoxError);

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl std::error::Error for Cut {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
