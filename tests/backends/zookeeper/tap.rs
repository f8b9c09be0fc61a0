//! A wire between clients and a server that understands ZooKeeper's frames: it counts requests, holds back replies, and
//! learns by what password a session is taken over.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::servers::listen;

/// Requests by what they ask for.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// A running tap. Dropping it cuts what it carries.
pub(super) struct Tap {
    pub(super) address: SocketAddr,
    server: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    held: Arc<watch::Sender<bool>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    counts: Counts,
    flights: u64,
    granted: Vec<Granted>,
}

/// A session, and what shows that it is one's own.
#[derive(Clone)]
pub(super) struct Granted {
    id: i64,
    password: Vec<u8>,
}

impl Granted {
    /// The session as this crate calls it.
    pub(super) fn name(&self) -> String {
        format!("{:016x}", self.id)
    }
}

/// What a request asks for; heartbeats are nobody's business.
fn operation(code: i32) -> Option<&'static str> {
    Some(match code {
        2 => "delete",
        3 => "exists",
        4 => "get",
        9 => "sync",
        8 | 12 => "children",
        14 => "multi",
        15 => "create",
        18 => "unwatch",
        19 => "container",
        22 => "reads",
        106 => "watch",
        -11 => "close",
        11 | 100 | 101 | 105 => return None,
        other => panic!("nobody knows the request {other}"),
    })
}

impl Tap {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let (listener, address) = listen().await;
        let (seen, held) = (Arc::<Mutex<Seen>>::default(), Arc::new(watch::Sender::new(false)));
        let task = tokio::spawn(run(listener, server, Arc::clone(&seen), Arc::clone(&held)));
        Self { address, server, seen, held, _task: AbortOnDropHandle::new(task) }
    }

    fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn counts(&self) -> Counts {
        self.seen(|seen| seen.counts.clone())
    }

    /// What was asked since.
    pub(super) fn since(&self, before: &Counts) -> Counts {
        let more = |(kind, count): (&'static str, u64)| {
            let more = count - before.get(kind).copied().unwrap_or(0);
            (more > 0).then_some((kind, more))
        };
        self.counts().into_iter().filter_map(more).collect()
    }

    /// How often somebody asked who had all his answers.
    pub(super) fn flights(&self) -> u64 {
        self.seen(|seen| seen.flights)
    }

    /// The sessions that were granted, in that order.
    pub(super) fn granted(&self) -> Vec<Granted> {
        self.seen(|seen| seen.granted.clone())
    }

    /// Holds back all replies, or no longer.
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Takes a session over and closes it, as an operator may who knows its password, until the server knows of no such
    /// session: its owner may take it back in between.
    pub(super) async fn end(&self, session: &Granted) {
        while self.take_over(session).await.is_none_or(|id| id != 0) {}
    }

    /// The session that the server says it is, which is 0 where there is none.
    async fn take_over(&self, session: &Granted) -> Option<i64> {
        let mut stream = TcpStream::connect(self.server).await.expect("it serves");
        let mut request = Vec::new();
        request.put_i32(0);
        request.put_i64(0);
        request.put_i32(10_000);
        request.put_i64(session.id);
        request.put_i32(16);
        request.put_slice(&session.password);
        request.put_u8(0);
        write_frame(&mut stream, &request).await.ok()?;
        let mut close = Vec::new();
        close.put_i32(1);
        close.put_i32(-11);
        write_frame(&mut stream, &close).await.ok()?;
        let answer = read_frame(&mut stream).await.ok()?;
        // Until it has done what it was told.
        while read_frame(&mut stream).await.is_ok() {}
        Some((&answer[8..16]).get_i64())
    }
}

async fn run(
    listener: TcpListener,
    server: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    held: Arc<watch::Sender<bool>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.expect("it accepts");
        let Ok(server) = TcpStream::connect(server).await else { continue };
        let (seen, held) = (Arc::clone(&seen), held.subscribe());
        let outstanding = Arc::new(Mutex::new(0));
        connections.spawn(async move {
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let there = requests(from_client, to_server, &seen, &outstanding);
            let back = replies(from_server, to_client, &seen, held, &outstanding);
            tokio::try_join!(there, back).map(drop)
        });
    }
}

/// The first frame of a connection asks for a session and has no header.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    seen: &Mutex<Seen>,
    outstanding: &Mutex<i64>,
) -> io::Result<()> {
    let first = read_frame(&mut from).await?;
    write_frame(&mut to, &first).await?;
    loop {
        let frame = read_frame(&mut from).await?;
        if let Some(kind) = operation((&frame[4..8]).get_i32()) {
            let mut waiting = outstanding.lock().unwrap_or_else(PoisonError::into_inner);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen.counts.entry(kind).or_default() += 1;
            seen.flights += u64::from(*waiting <= 0);
            *waiting += 1;
        }
        write_frame(&mut to, &frame).await?;
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    seen: &Mutex<Seen>,
    mut held: watch::Receiver<bool>,
    outstanding: &Mutex<i64>,
) -> io::Result<()> {
    let first = read_frame(&mut from).await?;
    let granted = Granted { id: (&first[8..16]).get_i64(), password: first[20..36].to_vec() };
    seen.lock().unwrap_or_else(PoisonError::into_inner).granted.push(granted);
    write_frame(&mut to, &first).await?;
    loop {
        let frame = read_frame(&mut from).await?;
        // Heartbeats and what is told unasked have numbers below 0.
        if (&frame[..4]).get_i32() >= 0 {
            *outstanding.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        }
        // The sender lives as long as the tap.
        let _ = held.wait_for(|held| !held).await;
        write_frame(&mut to, &frame).await?;
    }
}

async fn read_frame(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_i32().await?;
    let mut frame = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(to: &mut (impl AsyncWriteExt + Unpin), frame: &[u8]) -> io::Result<()> {
    let length = i32::try_from(frame.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), frame].concat();
    to.write_all(&framed).await
}
