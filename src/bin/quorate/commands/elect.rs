//! `elect`

use std::time::Duration;

use quorate::election::{Candidate, Leadership};
use quorate::kv::{Clock, Error, ErrorKind, Key, SystemClock};

use super::running::{connect, run_under};
use crate::arguments::{ElectArguments, StoreArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::process::{End, Prepared, Signals, ended_by};

/// How long others go first after the command ended by itself: at first, and after many times. A term that lasts longer
/// than the latter starts anew with the former.
const HOLD_OFF: Pauses = Pauses::new(Duration::from_secs(1), Duration::from_mins(1));
/// The same after an error.
const RETRY: Pauses = Pauses::new(Duration::from_millis(100), Duration::from_secs(5));

/// Pauses that grow twofold.
struct Pauses {
    next: Duration,
    most: Duration,
}

impl Pauses {
    const fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.most);
        pause
    }
}

pub(crate) async fn run(store: &StoreArguments, arguments: ElectArguments) -> Result<Exit, Failure> {
    let holding = &arguments.run.holding;
    let (connection, mut signals) = match connect(store, holding, false).await? {
        Ok(connected) => connected,
        Err(exit) => return Ok(exit),
    };
    let ended = stand(&connection, &arguments, &mut signals).await;
    connection.client.close().await;
    ended
}

/// Stands and leads, again and again.
async fn stand(
    connection: &Connection,
    arguments: &ElectArguments,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let (name, clock) = (&arguments.name, SystemClock::new());
    let candidate = candidate(connection, arguments)?;
    let (mut hold_off, mut retry) = (HOLD_OFF, RETRY);
    loop {
        let campaign = tokio::select! {
            biased;
            signal = signals.end() => return Ok(ended_by(signal)),
            campaign = candidate.campaign() => campaign,
        };
        let pause = match campaign {
            Ok(leadership) => {
                retry = RETRY;
                let began = clock.now();
                match lead(leadership, connection, arguments, signals).await? {
                    End::Exited { exit, told } if told || arguments.once => return Ok(exit),
                    End::Lost(_) if arguments.once => return Ok(Exit::LOST),
                    End::Lost(_) => Duration::ZERO,
                    End::Exited { .. } => {
                        if clock.now().since(began) > HOLD_OFF.most {
                            hold_off = HOLD_OFF;
                        }
                        let pause = hold_off.take();
                        output::note(&format!("the command ended; others may lead {name} for {pause:?}"));
                        pause
                    }
                }
            }
            Err(error) if is_final(&error) => return Err(error.into()),
            Err(error) => {
                output::note(&format!("{error}; standing again"));
                retry.take()
            }
        };
        tokio::select! {
            biased;
            signal = signals.end() => return Ok(ended_by(signal)),
            () = clock.sleep_until(clock.now() + pause) => {}
        }
    }
}

/// One term: the command, then the hand-over.
async fn lead(
    leadership: Leadership,
    connection: &Connection,
    arguments: &ElectArguments,
    signals: &mut Signals,
) -> Result<End, Failure> {
    let (name, fence) = (&arguments.name, leadership.fence());
    output::note(&format!("leading {name} with fence {fence}"));
    let prepared = Prepared::new(&arguments.run.command)?;
    let end = run_under(prepared, &leadership, fence, connection, name, &arguments.run, signals).await?;
    leadership.resign().await;
    Ok(end)
}

fn candidate(connection: &Connection, arguments: &ElectArguments) -> Result<Candidate, Failure> {
    let client = &connection.client;
    let candidate = if arguments.native {
        let path = Key::new(&arguments.name)?;
        Candidate::native(client.kv(), client.sessions(), path, client.id())?
    } else {
        client.candidate(&arguments.name)?
    };
    Ok(candidate.data(arguments.data.clone().unwrap_or_else(|| client.id().to_owned())))
}

/// Whether standing again cannot help.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::Unauthorized)
}
