//! `lock`

use std::convert::Infallible;
use std::time::Duration;

use quorate::Client;
use quorate::kv::{Clock, ErrorKind, Key, Session, SystemClock};
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
    // Its process starts while the store is reached and the lock is acquired.
    let prepared = prepared.map_or_else(|| Prepared::new(&arguments.run.command), Ok)?;
    let (name, holding) = (&arguments.name, &arguments.run.holding);
    let (connection, mut signals) = match connect(store, holding).await? {
        Ok(connected) => connected,
        Err(exit) => return Ok(exit),
    };
    let client = &connection.client;
    let mutex = if arguments.native {
        Mutex::native(client.kv(), client.sessions(), Key::new(name)?)
    } else {
        client.mutex(name)?
    };
    let acquired = tokio::select! {
        biased;
        signal = signals.end() => Err(ended_by(signal)),
        guard = awake(acquire(&mutex, client, &arguments)) => Ok(guard),
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
async fn acquire(mutex: &Mutex, client: &Client, arguments: &LockArguments) -> Result<Guard, Failure> {
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
    let clock = SystemClock::new();
    let late = async {
        match arguments.wait {
            Some(wait) => clock.sleep_until(clock.now() + wait).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        locked = locked => Ok(locked?),
        () = late => Err(Failure::not_acquired(format!("{name} could not be acquired in time"))),
        never = tell(mutex, client, arguments) => match never {},
    }
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
