//! When to look again rather than to sleep.
//!
//! To wake a thread that sleeps on another core takes the kernel longer than most requests take. So the engine lingers a
//! little for the next request before it sleeps, and a caller who is alone looks a little for its answer before its task
//! waits: a lock that took two such naps for each request takes none. Both yield to whoever else wants the core.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::host::{self, Ear, Wake};
use super::job::Kind;

/// How long the engine lingers after it has done something: longer than it takes to wake a caller, or it would be asleep
/// whenever a caller that did not look comes again.
const LINGER: Duration = Duration::from_micros(100);
/// How long it lingers while the file has been open for no longer than this: a program that wants but a moment of it is about
/// to ask again, and to wake a core that fell asleep since takes as long as all that it asks for.
const AT_FIRST: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
/// How long a caller looks for its answer, at most: an engine that sleeps must wake first. No other task of its thread
/// goes on meanwhile.
const LOOK: Duration = Duration::from_micros(150);
/// What takes no longer is looked for. What is done right after a nap takes twice as long as otherwise, and must not be the
/// reason for the next nap.
const QUICK: Duration = Duration::from_micros(100);

/// What the engine and its callers know of each other.
#[derive(Debug)]
pub(super) struct Pace {
    wake: Wake,
    /// Until when it is [at first](AT_FIRST).
    young_until: i64,
    asleep: AtomicBool,
    /// How many callers have asked and are not answered.
    asking: AtomicUsize,
    /// Whether the last request was quick: one that does not wait for the disk, and one that does.
    quick: [AtomicBool; 2],
}

impl Pace {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            wake: Wake::new()?,
            young_until: after(AT_FIRST.1),
            asleep: AtomicBool::new(false),
            asking: AtomicUsize::new(0),
            // The first write is often all that a short program asks for.
            quick: [false, true].map(AtomicBool::new),
        })
    }

    /// For whoever has put something into the queue, or has closed it: the engine sees it.
    pub(super) fn ring(&self) {
        // Pairs with that in `sleep`: either it sees what is in the queue, or we see that it goes to sleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake.ring();
        }
    }

    /// For the engine: sleeps until it is [rung](Self::ring) for, something is heard, or the time is up; not at all if
    /// there is something to do.
    pub(super) fn sleep(
        &self,
        is_idle: impl Fn() -> bool,
        ear: Option<&Ear>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let slept = if is_idle() { host::wait(&self.wake, ear, timeout) } else { Ok(()) };
        self.asleep.store(false, Ordering::Relaxed);
        slept
    }

    /// For the engine: lingers while there is nothing to do.
    pub(super) fn linger(&self, is_idle: impl Fn() -> bool) {
        let until = after(if host::now() < self.young_until { AT_FIRST.0 } else { LINGER });
        while is_idle() && host::now() < until {
            std::thread::yield_now();
        }
    }

    /// For the engine: requests of this kind have taken so long.
    pub(super) fn took(&self, kind: Kind, nanos: i64) {
        self.quick[usize::from(kind.is_synced())].store(nanos <= nanos_of(QUICK), Ordering::Relaxed);
    }

    /// For a caller, for as long as it waits for its answer.
    pub(super) fn ask(&self, kind: Kind) -> Asking<'_> {
        let alone = self.asking.fetch_add(1, Ordering::Relaxed) == 0;
        let quick = self.quick[usize::from(kind.is_synced())].load(Ordering::Relaxed);
        Asking { pace: self, looks: alone && quick }
    }
}

/// One caller among those who ask.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    pace: &'a Pace,
    looks: bool,
}

impl Asking<'_> {
    /// The answer, or `None` when it will never come.
    pub(super) async fn answer<T>(&self, mut answer: oneshot::Receiver<T>) -> Option<T> {
        let until = after(LOOK);
        while self.looks && host::now() < until {
            match answer.try_recv() {
                Ok(answer) => return Some(answer),
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) => std::thread::yield_now(),
            }
        }
        answer.await.ok()
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.pace.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

fn after(duration: Duration) -> i64 {
    host::now().saturating_add(nanos_of(duration))
}

fn nanos_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn no_ring_is_lost_on_who_is_about_to_sleep() {
        const TURNS: usize = 20_000;
        let pace = Pace::new().unwrap();
        let (asked, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while answered.load(Ordering::SeqCst) < TURNS {
                    let is_idle = || asked.load(Ordering::SeqCst) == answered.load(Ordering::SeqCst);
                    let overslept = after(SOON);
                    pace.sleep(is_idle, None, Some(SOON)).unwrap();
                    if host::now() >= overslept {
                        return;
                    }
                    answered.store(asked.load(Ordering::SeqCst), Ordering::SeqCst);
                }
            });
            for turn in 1..=TURNS {
                asked.store(turn, Ordering::SeqCst);
                pace.ring();
                let until = after(2 * SOON);
                while answered.load(Ordering::SeqCst) < turn {
                    assert!(host::now() < until, "it sleeps, and {turn} is not answered");
                    std::hint::spin_loop();
                }
            }
        });
    }

    #[test]
    fn the_engine_of_a_young_file_lingers_longer() {
        let mut pace = Pace::new().unwrap();
        for (young_until, least) in [(i64::MAX, AT_FIRST.0), (0, LINGER)] {
            pace.young_until = young_until;
            let earliest = after(least);
            pace.linger(|| true);
            assert!(host::now() >= earliest);
        }
    }

    #[test]
    fn only_who_is_alone_looks_and_only_after_something_quick() {
        let pace = Pace::new().unwrap();
        assert!(!pace.ask(Kind::Read).looks && pace.ask(Kind::Write).looks, "nothing is known yet");
        pace.took(Kind::Read, 10_000);
        pace.took(Kind::Write, 2_000_000);
        assert!(!pace.ask(Kind::Write).looks);
        let first = pace.ask(Kind::Read);
        assert!(first.looks && !pace.ask(Kind::Read).looks);
        drop(first);
        assert!(pace.ask(Kind::Session).looks);
    }
}
