//! `lock`

use std::convert::Infallible;
use std::time::Duration;

use quorate::Client;
use quorate::kv::{Clock, ErrorKind, Instant, Key, Queue, Session, SystemClock};
use quorate::lock::{Claim, Guard, Mutex};

use super::running::{awake, connect, run_under};
use crate::arguments::{LockArguments, StoreArguments};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::process::{End, Prepared, ended_by};

/// How long a wait may be before it is told of, and the longest time between two such words.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

pub(crate) async fn run(
    store: &StoreArguments,
    arguments: LockArguments,
    prepared: Option<Prepared>,
) -> Result<Exit, Failure> {
    if arguments.sharing.shared || arguments.sharing.permits.is_some() {
        return Err(Failure::usage(
            "shared locks and permits are not there yet; leave out --shared and --permits",
        ));
    }
    // Nobody is asked for what cannot be.
    let native = arguments.native.then(|| Key::new(&arguments.name)).transpose()?;
    if native.is_none() {
        Queue::lock(&arguments.name)?;
    }
    // Its process starts while the store is reached and the lock is acquired; anew, where it could not be copied.
    let prepared = prepared.map_or_else(|| Prepared::new(&arguments.run.command), Ok)?;
    let (name, holding) = (&arguments.name, &arguments.run.holding);
    let limit = Limit::begin(arguments.wait);
    let connected = tokio::select! {
        biased;
        connected = connect(store, holding, true) => connected?,
        () = limit.passed() => return Err(too_late(name)),
    };
    let (connection, mut signals) = match connected {
        Ok(connected) => connected,
        Err(exit) => return Ok(exit),
    };
    let client = &connection.client;
    let mutex = match native {
        Some(path) => Mutex::native(client.kv(), client.sessions(), path),
        None => client.mutex(name)?,
    };
    let acquired = tokio::select! {
        biased;
        signal = signals.end() => Err(ended_by(signal)),
        guard = awake(acquire(&mutex, client, &arguments, &limit)) => Ok(guard),
    };
    let (ended, guard) = match acquired {
        Err(exit) => (Ok(exit), None),
        Ok(Err(failure)) => (Err(failure), None),
        Ok(Ok(guard)) => {
            let fence = guard.fence();
            let end =
                run_under(prepared, &guard, fence, &connection, name, &arguments.run, &mut signals).await;
            let ended = end.map(|end| match end {
                End::Exited { exit, .. } => exit,
                End::Lost(_) => Exit::LOST,
            });
            (ended, Some(guard))
        }
    };
    // One request gives back the lock, or the place in the queue, with the session. A guard that is dropped before that
    // makes it two.
    awake(client.close()).await;
    drop(guard);
    ended
}

/// Waits for the lock, for as long as was asked for. A session that is lost while waiting costs the place in the queue,
/// not the wait.
async fn acquire(
    mutex: &Mutex,
    client: &Client,
    arguments: &LockArguments,
    limit: &Limit,
) -> Result<Guard, Failure> {
    let name = &arguments.name;
    if arguments.no_wait {
        let taken = mutex.try_lock().await?;
        return taken.ok_or_else(|| Failure::not_acquired(format!("{name} is held by another")));
    }
    let locked = async {
        loop {
            match mutex.lock().await {
                Err(error) if error.kind() == ErrorKind::SessionLost => {
                    output::note(&format!("{error}; waiting again"));
                }
                locked => return locked,
            }
        }
    };
    tokio::select! {
        biased;
        locked = locked => Ok(locked?),
        () = limit.passed() => Err(too_late(name)),
        never = tell(mutex, client, arguments) => match never {},
    }
}

/// How long a wait may take.
struct Limit {
    clock: SystemClock,
    latest: Option<Instant>,
}

impl Limit {
    fn begin(wait: Option<Duration>) -> Self {
        let clock = SystemClock::new();
        let latest = wait.map(|wait| clock.now() + wait);
        Self { clock, latest }
    }

    async fn passed(&self) {
        match self.latest {
            Some(latest) => self.clock.sleep_until(latest).await,
            None => std::future::pending().await,
        }
    }
}

fn too_late(name: &str) -> Failure {
    Failure::not_acquired(format!("{name} could not be acquired in time"))
}

/// Says what the wait is for: at first, and then ever more seldom. Each time costs one request.
async fn tell(mutex: &Mutex, client: &Client, arguments: &LockArguments) -> Infallible {
    if arguments.quiet {
        return std::future::pending().await;
    }
    let clock = SystemClock::new();
    let began = clock.now();
    let mut pause = PATIENCE.0;
    let mut holder = None;
    loop {
        clock.sleep_until(clock.now() + pause).await;
        pause = (pause * 4).min(PATIENCE.1);
        let Ok(claims) = mutex.claims().await else { continue };
        let Some(first) = claims.first() else { continue };
        let now = clock.now();
        let since = match holder {
            Some((fence, since)) if fence == first.fence => since,
            _ => now,
        };
        holder = Some((first.fence, since));
        let session = client.sessions().peek();
        let own = |claim: &&Claim| claim.session.as_ref() == session.as_ref().map(Session::id);
        let position = claims.iter().skip(1).position(|claim| own(&claim)).map_or(0, |before| before + 1);
        output::note(&format!(
            "waiting for {} since {:.1} s, as number {position} of {}; {} holds it with fence {}, since {:.1} s or longer",
            arguments.name,
            now.since(began).as_secs_f64(),
            claims.len() - 1,
            first.owner,
            first.fence,
            now.since(since).as_secs_f64(),
        ));
    }
}
