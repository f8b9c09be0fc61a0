//! A TCP proxy between clients and a server that fails in the ways networks do.
//!
//! It knows nothing of what it carries, so it serves any protocol, encrypted ones too. What one side sent and the proxy
//! read at once is a *piece*; a request may be several, and one may hold several requests.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::servers::{PATIENCE, Waiting, listen};

/// A running proxy. Dropping it cuts what it carries.
///
/// It starts healthy. Every trouble stays until [`Proxy::heal`], except cuts, which are over at once. They add up, but
/// of freezing and refusing the last counts.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    door: Door,
    swallow_replies: bool,
    delay: Duration,
    /// How many pieces from now on, up to the one that is cut off instead of carried.
    requests_to_cut: Option<usize>,
    replies_to_cut: Option<usize>,
    /// Connections end when it changes.
    cuts: u64,
    /// Some connection lacks bytes, so that it can never be healthy again.
    torn: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Door {
    #[default]
    Open,
    Frozen,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Request,
    Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Carried,
    Swallowed,
    Cut,
}

impl Proxy {
    /// A proxy to `server` at an address of its own.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let (listener, address) = listen().await;
        let rules = Arc::new(watch::Sender::new(Rules::default()));
        let task = tokio::spawn(run(address, server, listener, Arc::clone(&rules)));
        Self { address, rules, _task: AbortOnDropHandle::new(task) }
    }

    /// One for each of `servers`.
    pub(crate) async fn to_each(servers: &[SocketAddr]) -> Vec<Self> {
        let mut proxies = Vec::new();
        for server in servers {
            proxies.push(Self::to(*server).await);
        }
        proxies
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, with a reset on both sides. New ones are welcome.
    pub(crate) fn cut(&self) {
        self.rules.send_modify(|rules| rules.cuts += 1);
    }

    /// Cuts every connection instead of carrying the `n`th piece from now to the server; the first is 1.
    pub(crate) fn cut_before_request(&self, n: usize) {
        self.rules.send_modify(|rules| rules.requests_to_cut = Some(n));
    }

    /// Cuts every connection instead of carrying the `n`th piece from now to a client; the first is 1.
    pub(crate) fn cut_before_reply(&self, n: usize) {
        self.rules.send_modify(|rules| rules.replies_to_cut = Some(n));
    }

    /// The server gets every request, and no client a reply.
    pub(crate) fn swallow_replies(&self) {
        self.rules.send_modify(|rules| rules.swallow_replies = true);
    }

    /// Carries every piece at least so much later, in either way.
    pub(crate) fn delay(&self, delay: Duration) {
        self.rules.send_modify(|rules| rules.delay = delay);
    }

    /// Carries nothing and closes nothing; new connections are held too. What waits goes on when it heals.
    pub(crate) fn freeze(&self) {
        self.rules.send_modify(|rules| rules.door = Door::Frozen);
    }

    /// Cuts every connection and accepts no new ones, as if nobody were there.
    pub(crate) fn refuse(&self) {
        self.rules.send_modify(|rules| {
            rules.door = Door::Closed;
            rules.cuts += 1;
        });
    }

    /// Accepts no new connections, and carries what there are.
    pub(crate) fn turn_away(&self) {
        self.rules.send_modify(|rules| rules.door = Door::Closed);
    }

    /// Ends all trouble. Connections that lack a reply are cut, as they could only go on with a gap.
    pub(crate) fn heal(&self) {
        self.rules.send_modify(|rules| {
            let cuts = rules.cuts + u64::from(rules.torn);
            *rules = Rules { cuts, ..Rules::default() };
        });
    }
}

impl Rules {
    /// What becomes of the next piece that goes this way.
    fn judge(&mut self, way: Way) -> Fate {
        let to_cut = match way {
            Way::Request => &mut self.requests_to_cut,
            Way::Reply => &mut self.replies_to_cut,
        };
        *to_cut = to_cut.map(|left| left.saturating_sub(1));
        if *to_cut == Some(0) {
            *to_cut = None;
            self.cuts += 1;
            return Fate::Cut;
        }
        if way == Way::Reply && self.swallow_replies {
            self.torn = true;
            return Fate::Swallowed;
        }
        Fate::Carried
    }
}

async fn run(address: SocketAddr, server: SocketAddr, first: TcpListener, rules: Arc<watch::Sender<Rules>>) {
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    let mut news = rules.subscribe();
    loop {
        let closed = news.borrow_and_update().door == Door::Closed;
        if closed {
            listener = None;
        } else if listener.is_none() {
            listener = Some(listen_again(address).await);
        }
        tokio::select! {
            biased;
            _ = news.changed() => {}
            Some(_) = connections.join_next() => {}
            Some(accepted) = accept(listener.as_ref()) => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, server, Arc::clone(&rules)));
                }
            }
        }
    }
}

/// A process that was being started when the door was closed may have the old socket for an instant more.
async fn listen_again(address: SocketAddr) -> TcpListener {
    let mut waiting = Waiting::new("the proxy listens again", PATIENCE);
    loop {
        let bound = async { TcpListener::bind(address).await.map_err(|error| error.to_string()) };
        if let Some(listener) = waiting.ask(bound).await {
            return listener;
        }
        waiting.rest().await;
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    match listener {
        Some(listener) => Some(listener.accept().await),
        None => None,
    }
}

/// One connection, up to its end by itself or by a cut.
async fn connection(mut client: TcpStream, server: SocketAddr, rules: Arc<watch::Sender<Rules>>) {
    let mut news = rules.subscribe();
    let cuts = news.borrow_and_update().cuts;
    let mut cut = pin!(news.wait_for(|rules| rules.cuts != cuts));
    let opened = tokio::select! {
        biased;
        _ = &mut cut => Err(io::ErrorKind::ConnectionAborted.into()),
        opened = open(&client, server, &rules) => opened,
    };
    let Ok(mut server) = opened else {
        return reset(&client);
    };
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let carried = async {
            tokio::try_join!(
                carry(Way::Request, from_client, to_server, &rules),
                carry(Way::Reply, from_server, to_client, &rules),
            )
        };
        tokio::select! {
            biased;
            _ = &mut cut => Err(io::ErrorKind::ConnectionAborted.into()),
            ended = carried => ended,
        }
    };
    if ended.is_err() {
        reset(&client);
        reset(&server);
    }
}

async fn open(client: &TcpStream, server: SocketAddr, rules: &watch::Sender<Rules>) -> io::Result<TcpStream> {
    thawed(rules).await;
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Makes the end of this connection an abrupt one.
fn reset(connection: &TcpStream) {
    // It fails only on one that is gone already.
    let _ = connection.set_zero_linger();
}

/// Carries pieces one way until there are no more.
async fn carry(
    way: Way,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    rules: &watch::Sender<Rules>,
) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        thawed(rules).await;
        let delay = rules.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
            // It may have frozen meanwhile.
            thawed(rules).await;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        let mut fate = Fate::Carried;
        rules.send_if_modified(|rules| {
            fate = rules.judge(way);
            fate == Fate::Cut
        });
        match fate {
            Fate::Carried => to.write_all(&piece[..length]).await?,
            Fate::Swallowed => {}
            Fate::Cut => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// Waits until nothing is frozen.
async fn thawed(rules: &watch::Sender<Rules>) {
    // The sender is there, so the wait cannot fail.
    let _ = rules.subscribe().wait_for(|rules| rules.door != Door::Frozen).await;
}
