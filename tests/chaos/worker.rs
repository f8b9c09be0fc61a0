//! One of the processes: it takes its turn, counts while it has it, and says what it does.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use quorate::Client;
use quorate::election::{Led, Term};
use quorate::kv::{BoxError, Clock, Entry, LossReason, Random, Result, StoreExt, SystemClock};
use quorate::lock::{Guard, Release};

use crate::contest::Contest;
use crate::record::{Moment, Said, What, now};

/// How often a holder says that it holds.
const BEAT: Duration = Duration::from_millis(20);

struct Worker {
    client: Client,
    contest: Contest,
    random: Random,
    clock: SystemClock,
    /// Whether it heeds its fence and its losses, as it should.
    guarded: bool,
}

/// Works until it is killed.
pub(crate) async fn work(
    contest: Contest,
    id: &str,
    url: &str,
    ttl: Duration,
    seed: u64,
    guarded: bool,
) -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    say(What::Started);
    let clock = SystemClock::new();
    let random = Random::seeded(seed);
    let client = loop {
        let builder = Client::builder(url).id(id).ttl(ttl);
        // Some renew on a thread of their own, at once or after a while.
        let builder = match seed % 3 {
            0 => builder.own_thread(true),
            1 => builder.own_thread_after(ttl / 2),
            _ => builder,
        };
        match builder.connect().await {
            Ok(client) => break client,
            Err(error) => tracing::warn!(%error, "not connected"),
        }
        pause(&clock, &random, 200).await;
    };
    let worker = Worker { client, contest, random, clock, guarded };
    loop {
        say(What::Called);
        let ended = match worker.contest {
            Contest::Lock => worker.lock().await,
            Contest::Election => worker.lead().await,
        };
        match ended {
            Ok(how) => say(What::Ended { how }),
            Err(error) => {
                tracing::warn!(%error, "no turn");
                pause(&worker.clock, &worker.random, 200).await;
            }
        }
    }
}

impl Worker {
    async fn lock(&self) -> Result<String> {
        let guard = self.client.mutex(self.contest.name())?.lock().await?;
        self.hold(&guard, 8).await;
        Ok(match guard.release().await {
            Release::Released => "released".to_owned(),
            Release::AlreadyLost(reason) => format!("{reason:?}"),
        })
    }

    async fn lead(&self) -> Result<String> {
        let candidate = self.client.candidate(self.contest.name())?;
        if !self.guarded {
            // `lead` would drop work that heeds nothing.
            let leadership = candidate.campaign().await?;
            self.hold(&leadership.term(), 12).await;
            leadership.resign().await;
            return Ok("released".to_owned());
        }
        let led = candidate.lead(async |term| self.hold(&term, 12).await).await?;
        Ok(match led {
            Led::Finished(None) => "released".to_owned(),
            Led::Finished(Some(reason)) | Led::Lost(reason) => format!("{reason:?}"),
            Led::Resigned => "resigned".to_owned(),
        })
    }

    /// Counts up to so many times, and says so, as long as it holds. Returns why it does not any more, if so.
    async fn hold(&self, turn: &impl Turn, most: usize) -> Option<LossReason> {
        say(What::Acquired { fence: turn.fence() });
        let beats = async {
            while beat(turn) || !self.guarded {
                tokio::time::sleep(BEAT).await;
            }
        };
        let times = 1 + self.random.below(0..most);
        let counted = async {
            for _ in 0..times {
                if let Err(error) = self.count(turn).await {
                    // Whether it was applied may not be known, and a write that arrives late must find us gone.
                    tracing::warn!(%error, "not counted");
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = beats => {}
            () = counted => {}
        }
        if turn.is_held() { None } else { Some(turn.lost().await) }
    }

    /// Reads, adds one, and writes, with time for others to interfere.
    async fn count(&self, turn: &impl Turn) -> Result<(), BoxError> {
        let (key, fence) = (self.contest.counter(), turn.fence());
        let read = self.client.kv().fetch(key).await?;
        let count = match &read {
            Some(entry) => {
                std::str::from_utf8(&entry.value)?.split(' ').next().unwrap_or_default().parse()?
            }
            None => 0,
        };
        let count: u64 = count + 1;
        pause(&self.clock, &self.random, 60).await;
        let value = format!("{count} {fence}");
        if self.guarded {
            turn.put(key, value).await?;
        } else {
            self.client.kv().put(key, value).await?;
        }
        say(What::Wrote { count, fence });
        Ok(())
    }
}

/// Says that it holds, if it does at a moment before it says so.
fn beat(turn: &impl Turn) -> bool {
    let at = now();
    let left = turn.remaining();
    let held = turn.is_held();
    if held {
        say_at(at, What::Held { until: at + left });
    }
    held
}

/// What the holder of a lock and the leader of a term have in common.
trait Turn {
    fn fence(&self) -> u64;
    fn is_held(&self) -> bool;
    fn remaining(&self) -> Duration;
    async fn lost(&self) -> LossReason;
    async fn put(&self, key: &str, value: String) -> Result<Entry>;
}

impl Turn for Guard {
    fn fence(&self) -> u64 {
        self.fence().get()
    }

    fn is_held(&self) -> bool {
        self.is_held()
    }

    fn remaining(&self) -> Duration {
        self.remaining()
    }

    async fn lost(&self) -> LossReason {
        self.lost().await
    }

    async fn put(&self, key: &str, value: String) -> Result<Entry> {
        self.put(key, value).await
    }
}

impl Turn for Term {
    fn fence(&self) -> u64 {
        self.fence().get()
    }

    fn is_held(&self) -> bool {
        self.is_leading()
    }

    fn remaining(&self) -> Duration {
        self.remaining()
    }

    async fn lost(&self) -> LossReason {
        self.lost().await
    }

    async fn put(&self, key: &str, value: String) -> Result<Entry> {
        self.put(key, value).await
    }
}

/// Between half of so many milliseconds and all of them.
async fn pause(clock: &SystemClock, random: &Random, most: u64) {
    clock.sleep_until(clock.now() + random.jitter(Duration::from_millis(most))).await;
}

fn say(what: What) {
    say_at(now(), what);
}

fn say_at(at: Moment, what: What) {
    let line = Said { at, what }.line() + "\n";
    // Nobody reads it when the runner is gone, and then this process is about to go too.
    let _ = std::io::stdout().write_all(line.as_bytes());
}
