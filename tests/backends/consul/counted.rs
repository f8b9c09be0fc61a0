//! A way to Consul on which requests are counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::servers::listen;

type Counts = BTreeMap<String, u64>;

/// Carries connections, and notes what is asked for on them. Dropping it cuts them.
pub(super) struct Counted {
    address: SocketAddr,
    notes: Arc<Mutex<Notes>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Notes {
    requests: Counts,
    opened: usize,
    open: usize,
    most_open: usize,
}

impl Counted {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let (listener, address) = listen().await;
        let notes = Arc::new(Mutex::default());
        let task = tokio::spawn(serve(listener, server, Arc::clone(&notes)));
        Self { address, notes, _task: AbortOnDropHandle::new(task) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests of each kind there were: `PUT txn`, `GET kv`, and `GET kv until changed` for those that wait.
    pub(super) fn requests(&self) -> Counts {
        with(&self.notes, |notes| notes.requests.clone())
    }

    /// How many connections there were.
    pub(super) fn opened(&self) -> usize {
        with(&self.notes, |notes| notes.opened)
    }

    /// How many connections there were at the same time, at most.
    pub(super) fn most_open(&self) -> usize {
        with(&self.notes, |notes| notes.most_open)
    }
}

/// How many more there are now, of kinds that there are more of.
pub(super) fn since(before: &Counts, now: Counts) -> Counts {
    let more = |(kind, count): (String, u64)| {
        let more = count - before.get(&kind).copied().unwrap_or(0);
        (more > 0).then_some((kind, more))
    };
    now.into_iter().filter_map(more).collect()
}

fn with<T>(notes: &Mutex<Notes>, change: impl FnOnce(&mut Notes) -> T) -> T {
    change(&mut notes.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn serve(listener: TcpListener, server: SocketAddr, notes: Arc<Mutex<Notes>>) {
    let mut carrying = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        carrying.spawn(carry(client, server, Arc::clone(&notes)));
        while carrying.try_join_next().is_some() {}
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, notes: Arc<Mutex<Notes>>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    with(&notes, |notes| {
        notes.opened += 1;
        notes.open += 1;
        notes.most_open = notes.most_open.max(notes.open);
    });
    let ((mut asked, mut answer), (mut answered, mut ask)) = (client.split(), server.split());
    let asking = async {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = asked.read(&mut piece).await {
            if let Some(kind) = kind(&piece[..len]) {
                with(&notes, |notes| *notes.requests.entry(kind).or_default() += 1);
            }
            if ask.write_all(&piece[..len]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = asking => {}
        _ = copy(&mut answered, &mut answer) => {}
    }
    with(&notes, |notes| notes.open -= 1);
}

/// What is asked for, if a request begins here. The client writes the head of each at once.
fn kind(piece: &[u8]) -> Option<String> {
    let line = piece.split(|byte| *byte == b'\r').next()?;
    let line = str::from_utf8(line).ok()?.strip_suffix(" HTTP/1.1")?;
    let (method, target) = line.split_once(" /v1/")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let what = path.split('/').next()?;
    let waits = if query.contains("index=") { " until changed" } else { "" };
    Some(format!("{method} {what}{waits}"))
}
