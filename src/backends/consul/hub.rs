//! Where all watches of a store are served from: a blocking query each for what is asked for, for as long as there are few,
//! and one for all of a directory where many ask below the same key.
//!
//! One task owns the queries. It starts with the first watch and ends with the store, or with the runtime it runs on, in
//! which case the next watch starts another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::endpoints::Endpoints;
use super::feed::{Feed, Joined, Look};
use super::reads::{self, Found};
use super::{BACKEND, feed};
use crate::kv::{Consistency, Error, ErrorKind, Key, Outcome, Result, Scope};

/// How many wishes wait for the task.
const WISHES: usize = 256;

/// How long a query waits for a change before it is asked anew, so that it is noticed when nobody answers any more.
const WAIT: Duration = Duration::from_secs(5);

/// How long one waits whose answer is long even where nothing has changed. As often as the others are asked anew, one
/// small entry is then asked for.
const LONG_WAIT: Duration = Duration::from_secs(30);

/// How many queries there may be right below a key before one for all of that takes over. Whoever stands in a queue
/// watches the place ahead: that is heard by one client alone as long as there are no more of them in this one, and else
/// each change of the queue is.
const SIBLINGS: usize = 16;

/// How many there may be anywhere below a key: each takes one of the 200 connections that Consul takes from an address.
const QUERIES: usize = 48;

/// What the task is asked for.
enum Wish {
    Join {
        scope: Scope,
        reply: oneshot::Sender<Result<Joined>>,
    },
    /// Somebody has left.
    Leave,
}

/// Where watches join.
pub(super) struct Hub {
    endpoints: Arc<Endpoints>,
    task: Mutex<Option<mpsc::Sender<Wish>>>,
}

/// One watch; it leaves when it is dropped.
pub(super) struct Watcher {
    pub(super) joined: Joined,
    _leaver: Leaver,
}

struct Leaver(mpsc::Sender<Wish>);

impl Drop for Leaver {
    fn drop(&mut self) {
        // Without room, the task finds out with the next answer.
        let _ = self.0.try_send(Wish::Leave);
    }
}

impl Hub {
    pub(super) fn new(endpoints: &Arc<Endpoints>) -> Self {
        Self { endpoints: Arc::clone(endpoints), task: Mutex::default() }
    }

    /// Watches a scope: what stands there now, and what happens from now on.
    pub(super) async fn join(&self, scope: &Scope) -> Result<Watcher> {
        loop {
            let wishes = self.task()?;
            let (reply, joined) = oneshot::channel();
            let leaver = Leaver(wishes.clone());
            let asked = wishes.send(Wish::Join { scope: scope.clone(), reply }).await;
            // Otherwise the task has just ended with its runtime.
            if let (Ok(()), Ok(joined)) = (asked, joined.await) {
                // The subscription goes first, and then the task is told to look who is left.
                return Ok(Watcher { joined: joined?, _leaver: leaver });
            }
        }
    }

    /// Where to send wishes: to a task that runs.
    fn task(&self) -> Result<mpsc::Sender<Wish>> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wishes) = task.as_ref().filter(|wishes| !wishes.is_closed()) {
            return Ok(wishes.clone());
        }
        let runtime = Handle::try_current().map_err(|error| {
            Error::invalid("watches need a tokio runtime").because(error).at(BACKEND, "watch")
        })?;
        let (wishes, received) = mpsc::channel(WISHES);
        let serving = Task {
            endpoints: Arc::clone(&self.endpoints),
            wishes: received,
            feeds: BTreeMap::new(),
            asked: FuturesUnordered::new(),
            made: 0,
        };
        runtime.spawn(serving.run());
        *task = Some(wishes.clone());
        Ok(wishes)
    }
}

/// An answer, and to which query of which feed.
struct Answered {
    scope: Scope,
    feed: u64,
    look: Look,
    /// `None` when the feed was given up meanwhile, or within when nothing has changed.
    found: Option<Result<Option<Found>>>,
}

/// The task that owns the queries.
struct Task {
    endpoints: Arc<Endpoints>,
    wishes: mpsc::Receiver<Wish>,
    feeds: BTreeMap<Scope, Feed>,
    asked: FuturesUnordered<BoxFuture<'static, Answered>>,
    made: u64,
}

impl Task {
    /// Ends when nobody can join any more.
    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                wish = self.wishes.recv() => match wish {
                    Some(Wish::Join { scope, reply }) => self.join(scope, reply),
                    Some(Wish::Leave) => self.feeds.retain(|_, feed| feed.is_wanted()),
                    None => return,
                },
                Some(answered) = self.asked.next() => self.take(answered),
            }
        }
    }

    fn join(&mut self, scope: Scope, reply: oneshot::Sender<Result<Joined>>) {
        let query = self.query_for(&scope);
        let made = &mut self.made;
        let feed = self.feeds.entry(query.clone()).or_insert_with(|| {
            *made += 1;
            Feed::new(*made)
        });
        feed.join(&query, scope, reply);
        self.go_on(&query);
    }

    /// The query that serves a watch of this scope: its own, unless there are too many.
    fn query_for(&self, scope: &Scope) -> Scope {
        if self.feeds.contains_key(scope) {
            return scope.clone();
        }
        let above = std::iter::successors(scope.key().parent(), Key::parent);
        for (distance, directory) in above.enumerate() {
            let below = |feed: &&Scope| feed.key().strip(&directory).is_some_and(|rest| !rest.is_root());
            let all = Scope::Prefix(directory.clone());
            let room = if distance == 0 && !directory.is_root() { SIBLINGS } else { QUERIES };
            // One that only stands in for many comes to its end as those leave.
            let served = distance == 0 && self.feeds.get(&all).is_some_and(Feed::is_for_all);
            if served || self.feeds.keys().filter(below).count() >= room {
                return all;
            }
        }
        scope.clone()
    }

    fn take(&mut self, answered: Answered) {
        let Answered { scope, feed: number, look, found } = answered;
        let Some((feed, found)) = self.feeds.get_mut(&scope).filter(|feed| feed.number == number).zip(found)
        else {
            return;
        };
        match found {
            Ok(found) => feed.take(look, found),
            Err(error) => {
                tracing::debug!(?scope, %error, "a watch was disturbed");
                feed.fail(&error);
                self.feeds.remove(&scope);
                return;
            }
        }
        if feed.is_wanted() {
            self.go_on(&scope);
        } else {
            self.feeds.remove(&scope);
        }
    }

    /// Sends what queries a feed is due.
    fn go_on(&mut self, scope: &Scope) {
        let Some(feed) = self.feeds.get_mut(scope) else { return };
        while let Some(look) = feed.next_look() {
            let (endpoints, scope, number) = (Arc::clone(&self.endpoints), scope.clone(), feed.number);
            let (wanted, sample) = (feed.wanted(), feed.sample());
            self.asked.push(Box::pin(async move {
                let looking = async {
                    match look {
                        Look::Now { .. } => now(&endpoints, &scope).await.map(Some),
                        Look::Changed { since, pause } => {
                            // Whoever has just heard what they wanted to know leaves before it is asked for again.
                            if pause.is_zero() {
                                yield_now().await;
                            } else {
                                sleep(pause).await;
                            }
                            changed(&endpoints, &scope, since, sample).await
                        }
                    }
                };
                // Whether anybody still wants to know comes first: a request that is begun and dropped closes its connection,
                // sent or not.
                let found = tokio::select! {
                    biased;
                    () = wanted.cancelled() => None,
                    found = looking => Some(found),
                };
                Answered { scope, feed: number, look, found }
            }));
        }
    }
}

/// What stands there now.
async fn now(endpoints: &Endpoints, scope: &Scope) -> Result<Found> {
    reads::found(endpoints, "watch", scope, Consistency::Linearizable).await
}

/// What stands there once that is newer than `since`. The server is asked for the sample meanwhile, where there is one: when
/// it does not answer any more, the agent is given up, and with it whatever waits there.
async fn changed(
    endpoints: &Endpoints,
    scope: &Scope,
    since: u64,
    sample: Option<Scope>,
) -> Result<Option<Found>> {
    let Some(sample) = sample else { return reads::changed(endpoints, scope, since, WAIT).await };
    let failing = async {
        loop {
            sleep(WAIT).await;
            if let Err(error) = now(endpoints, &sample).await {
                return error;
            }
        }
    };
    tokio::select! {
        found = reads::changed(endpoints, scope, since, LONG_WAIT) => found,
        error = failing => Err(error),
    }
}

/// Whoever watches looks again, and so starts another task.
impl Drop for Task {
    fn drop(&mut self) {
        for feed in self.feeds.values_mut() {
            feed.fail(&Error::new(ErrorKind::WatchLost, Outcome::NotApplied, feed::ENDED));
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::ConsulOptions;

    fn task() -> Task {
        Task {
            endpoints: Arc::new(Endpoints::new(&ConsulOptions::new(["127.0.0.1:1"])).unwrap()),
            wishes: mpsc::channel(1).1,
            feeds: BTreeMap::new(),
            asked: FuturesUnordered::new(),
            made: 0,
        }
    }

    fn place(queue: &str, nth: usize) -> Scope {
        Scope::Key(Key::new(&format!("{queue}/{nth:03}")).unwrap())
    }

    fn all(queue: &str) -> Scope {
        Scope::Prefix(Key::new(queue).unwrap())
    }

    /// Watches a scope, and gives what serves that.
    fn join(task: &mut Task, scope: &Scope) -> Scope {
        let query = task.query_for(scope);
        task.join(scope.clone(), oneshot::channel().0);
        query
    }

    #[tokio::test]
    async fn each_is_asked_for_alone_until_there_are_too_many() {
        let mut task = task();
        for nth in 0..SIBLINGS {
            assert_eq!(join(&mut task, &place("a", nth)), place("a", nth));
        }
        for nth in SIBLINGS..200 {
            assert_eq!(join(&mut task, &place("a", nth)), all("a"));
        }
        assert_eq!(join(&mut task, &place("a", 0)), place("a", 0));
        assert_eq!(task.feeds.len(), SIBLINGS + 1);
        // Where there is room again it is used, though others are served by the query for all still.
        task.feeds.remove(&place("a", 3));
        assert_eq!(join(&mut task, &place("a", 300)), place("a", 300));
        assert_eq!(join(&mut task, &place("a", 301)), all("a"));
    }

    #[tokio::test]
    async fn who_watches_all_has_parts_told_too() {
        let mut task = task();
        assert_eq!(join(&mut task, &all("a")), all("a"));
        assert_eq!(join(&mut task, &place("a", 1)), all("a"));
        assert_eq!(join(&mut task, &place("b", 1)), place("b", 1));
    }

    #[tokio::test]
    async fn there_are_never_many_queries() {
        let mut task = task();
        for queue in 0..100 {
            for nth in 0..SIBLINGS {
                join(&mut task, &place(&format!("q{queue}"), nth));
            }
        }
        assert!(task.feeds.len() <= QUERIES + 1, "{}", task.feeds.len());
    }
}
