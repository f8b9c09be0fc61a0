//! One connection to one member.

use std::sync::Arc;

use etcd_client::{Channel, Client, ConnectOptions, KvClient, LeaseClient, WatchClient};
use tokio::sync::OnceCell;
use tonic::transport::Endpoint;

use super::error::{Fault, classify};
use super::gathering::Connector;

/// Where a member is.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    /// What it may be when this member closes a new connection without a word, as it does over certificates.
    pub(super) hint: &'static str,
}

/// Who we are.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) name: String,
    pub(super) password: String,
}

/// A connection, on which we have said who we are. Requests on it fail at once while its member knows no leader, but
/// for those that may be answered from what that member has.
pub(super) struct Connection {
    pub(super) member: String,
    client: Client,
    /// Without the demand for a leader, but for a client that we were given.
    local: Option<Box<Local>>,
}

/// Asks for what may be stale on the same connection. Made when it is first needed: saying who we are is dear.
struct Local {
    channel: Channel,
    credentials: Option<Credentials>,
    client: OnceCell<KvClient>,
}

impl Connection {
    /// Connects, and says who we are.
    pub(super) async fn open(member: &Member, credentials: Option<Credentials>) -> Result<Self, Fault> {
        let failed = |error| classify(error, &member.name);
        let connector = Connector::new(member.endpoint.get_connect_timeout());
        let channel =
            member.endpoint.connect_with_connector(connector).await.map_err(|error| failed(error.into()))?;
        let channel = Channel::Tonic(channel);
        let client = client(channel.clone(), credentials.as_ref(), true).await.map_err(failed)?;
        let local = Box::new(Local { channel, credentials, client: OnceCell::new() });
        Ok(Self { member: member.name.clone(), client, local: Some(local) })
    }

    /// Whatever it is that this client is connected to.
    pub(super) fn given(client: Client) -> Self {
        Self { member: "the given client".to_owned(), client, local: None }
    }

    pub(super) fn kv(&self) -> KvClient {
        unbounded(self.client.kv_client())
    }

    /// For reads that may be stale, and work without a leader too.
    pub(super) async fn local(&self) -> Result<KvClient, etcd_client::Error> {
        let Some(local) = &self.local else { return Ok(self.kv()) };
        let made = local.client.get_or_try_init(|| async {
            let made = client(local.channel.clone(), local.credentials.as_ref(), false).await?;
            Ok(made.kv_client())
        });
        made.await.cloned().map(unbounded)
    }

    pub(super) fn lease(&self) -> LeaseClient {
        self.client.lease_client()
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(usize::MAX)
    }

    /// Sees whether we are let in; and asks at the same time for the server's version, which not everybody may be told.
    pub(super) async fn probe(&self) -> Result<Option<Arc<str>>, etcd_client::Error> {
        let mut maintenance = self.client.maintenance_client();
        let (let_in, status) = tokio::join!(self.is_let_in(), maintenance.status());
        let_in?;
        Ok(status.ok().map(|status| format!("etcd {}", status.version()).into()))
    }

    /// Asks for something, to see whether we are let in.
    pub(super) async fn is_let_in(&self) -> Result<(), etcd_client::Error> {
        let options = etcd_client::GetOptions::new().with_keys_only().with_serializable();
        match self.kv().get("_quorate", Some(options)).await {
            // Let in, if not everywhere.
            Err(error) if is_limited(&error) => Ok(()),
            asked => asked.map(drop),
        }
    }
}

/// A list may be longer than the 4 MiB which are the default.
fn unbounded(client: KvClient) -> KvClient {
    client.max_decoding_message_size(usize::MAX)
}

async fn client(
    channel: Channel,
    credentials: Option<&Credentials>,
    leader: bool,
) -> Result<Client, etcd_client::Error> {
    let options = ConnectOptions::new().with_require_leader(leader).with_auto_token_refresh(true);
    let Some(user) = credentials else { return Client::from_channel(channel, Some(options)).await };
    let known = options.clone().with_user(&user.name, &user.password);
    match Client::from_channel(channel.clone(), Some(known)).await {
        // Nobody needs to say who they are. When that changes, we are told, and connect anew.
        Err(error) if is_open_to_all(&error) => Client::from_channel(channel, Some(options)).await,
        connected => connected,
    }
}

fn is_open_to_all(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().ends_with("authentication is not enabled"))
}

fn is_limited(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.code() == tonic::Code::PermissionDenied)
}
