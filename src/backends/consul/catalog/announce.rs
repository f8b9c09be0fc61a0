//! Registrations in Consul's own catalog too: each is a service of the agent, with a check that says for how long it is
//! well.
//!
//! Whatever is put or deleted in the store is noted, and one task tells the agent. It goes on to say that the services are
//! well as long as they stand in the store; when it ends without a word, or the agent cannot be reached, the agent finds them
//! critical, and forgets them a minute later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::forms::{Announced, status};
use crate::backends::consul::endpoints::{Endpoints, Kind, no_other};
use crate::backends::consul::http::{Answer, Ask, Lane};
use crate::backends::consul::{keys, reads, session};
use crate::discovery::Instance;
use crate::kv::{Consistency, Key, Result, SessionId, Txn, Watched};

/// How often services are said to be well: three times in the life of what is said.
const BEAT: Duration = Duration::from_secs(5);

/// How long a write waits for the agent to be told. It goes on without, and the agent is told later.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many things are told at once.
const ABREAST: usize = 8;

/// Tells the agent of registrations.
pub(in crate::backends::consul) struct Announcer {
    endpoints: Arc<Endpoints>,
    desk: Arc<Desk>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What the agent should know.
struct Desk {
    wanted: Mutex<BTreeMap<Key, Wanted>>,
    /// How many notes were taken, and how many of these the task has seen to.
    noted: Watched<u64>,
    told: Watched<u64>,
}

#[derive(Clone)]
struct Wanted {
    session: SessionId,
    /// `None` for one that is to go.
    instance: Option<Arc<Instance>>,
    /// Whether the agent was told.
    is_told: bool,
}

impl Announcer {
    pub(in crate::backends::consul) fn new(endpoints: &Arc<Endpoints>) -> Self {
        let desk = Desk { wanted: Mutex::default(), noted: Watched::new(0), told: Watched::new(0) };
        Self { endpoints: Arc::clone(endpoints), desk: Arc::new(desk), task: Mutex::default() }
    }

    /// Notes what a commit that was applied means for the catalog, and waits a while until the agent knows.
    pub(in crate::backends::consul) async fn applied(&self, txn: &Txn) {
        let puts = txn.puts().iter().filter(|put| is_registration(&put.key)).filter_map(|put| {
            let instance = serde_json::from_slice::<Instance>(&put.value).ok()?;
            let session = put.session.clone()?;
            Some((put.key.clone(), Wanted { session, instance: Some(Arc::new(instance)), is_told: false }))
        });
        let puts: Vec<_> = puts.collect();
        let is_noted = self.desk.with(|wanted| {
            let mut gone = false;
            for key in txn.deletes() {
                gone |= wanted.get_mut(key).is_some_and(Wanted::leave);
            }
            gone |= !puts.is_empty();
            wanted.extend(puts);
            gone
        });
        self.see_to(is_noted).await;
    }

    /// Notes that a session has ended.
    pub(in crate::backends::consul) async fn ended(&self, session: &SessionId) {
        let is_noted = self.desk.end(session);
        self.see_to(is_noted).await;
    }

    async fn see_to(&self, is_noted: bool) {
        if !is_noted || !self.start() {
            return;
        }
        let mut number = 0;
        self.desk.noted.modify(|noted| {
            *noted += 1;
            number = *noted;
            true
        });
        let told = self.desk.told.find(|told| (told >= number).then_some(()));
        if timeout(PATIENCE, told).await.is_err() {
            tracing::warn!("the agent could not be told of a registration in time, and is told later");
        }
    }

    /// Sees to it that the task runs.
    fn start(&self) -> bool {
        let Ok(runtime) = Handle::try_current() else { return false };
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let telling = run(Arc::clone(&self.endpoints), Arc::clone(&self.desk));
            *task = Some(AbortOnDropHandle::new(runtime.spawn(telling)));
        }
        true
    }
}

/// Tells the agent what it does not know, and goes on to say that services are well.
async fn run(endpoints: Arc<Endpoints>, desk: Arc<Desk>) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        tokio::select! {
            biased;
            noted = desk.noted.find(|noted| (noted > seen).then_some(noted)) => seen = noted,
            _ = beat.tick() => desk.beat(&endpoints).await,
        }
        desk.tell(&endpoints).await;
        desk.told.set(seen);
    }
}

impl Desk {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<Key, Wanted>) -> T) -> T {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&self, session: &SessionId) -> bool {
        self.with(|wanted| {
            let theirs = wanted.values_mut().filter(|wanted| wanted.session == *session);
            theirs.filter_map(|wanted| wanted.leave().then_some(())).count() > 0
        })
    }

    /// Tells the agent what it was not told. What fails is tried again with the next beat.
    async fn tell(&self, endpoints: &Endpoints) {
        let due: Vec<_> = self.with(|wanted| {
            let due = wanted.iter().filter(|(_, wanted)| !wanted.is_told);
            due.map(|(key, wanted)| (key.clone(), wanted.instance.clone())).collect()
        });
        let telling = due.into_iter().map(|(key, instance)| async move {
            let told = match &instance {
                Some(instance) => register(endpoints, &key, instance).await,
                None => deregister(endpoints, &key).await,
            };
            match told {
                Ok(()) => self.with(|wanted| {
                    // Unless it changed meanwhile.
                    if let Some(now) = wanted.get_mut(&key).filter(|now| now.is_the_same(instance.as_ref())) {
                        now.is_told = true;
                        if instance.is_none() {
                            wanted.remove(&key);
                        }
                    }
                }),
                Err(error) => tracing::warn!(%key, %error, "the agent was not told of a registration"),
            }
        });
        stream::iter(telling).buffer_unordered(ABREAST).collect::<()>().await;
    }

    /// Says that what is registered is well.
    async fn beat(&self, endpoints: &Endpoints) {
        let told: Vec<_> = self.with(|wanted| {
            let told = wanted.iter().filter(|(_, wanted)| wanted.is_told);
            told.filter_map(|(key, wanted)| {
                Some((key.clone(), wanted.session.clone(), wanted.instance.clone()?))
            })
            .collect()
        });
        let saying = told.into_iter().map(|(key, session, instance)| async move {
            let stands = match reads::get(endpoints, "announce", &key, Consistency::Linearizable).await {
                Ok(entry) => entry.map(|entry| entry.session == Some(session)),
                // Nothing is said of what is not known.
                Err(error) => {
                    return tracing::debug!(%key, %error, "it is not known whether a registration stands");
                }
            };
            match stands {
                Some(true) => self.say(endpoints, &key, &instance).await,
                // Its session has ended, or somebody deleted it.
                None => self.change(&key, &instance, |wanted| {
                    wanted.entry(key.clone()).and_modify(|now| _ = now.leave());
                }),
                // Another has it, who may have told this very agent.
                Some(false) => self.change(&key, &instance, |wanted| {
                    wanted.remove(&key);
                }),
            }
        });
        stream::iter(saying).buffer_unordered(ABREAST).collect::<()>().await;
    }

    async fn say(&self, endpoints: &Endpoints, key: &Key, instance: &Arc<Instance>) {
        let status = status(instance);
        let body = format!(r#"{{"Status":"{status}"}}"#);
        let ask = Ask::put(format!("/v1/agent/check/update/{}", id(key)), body).on(Lane::Vital);
        let said = endpoints.call(Kind::Repeatable, "announce", ask, no_other).await;
        // What is critical may have been forgotten, and is to stay so.
        if said.is_err() && status != "critical" {
            // The agent does not know it: it is another, or began anew.
            self.change(key, instance, |wanted| {
                wanted.entry(key.clone()).and_modify(|now| now.is_told = false);
            });
        }
    }

    /// Unless what is wanted is something else by now.
    fn change(&self, key: &Key, instance: &Arc<Instance>, change: impl FnOnce(&mut BTreeMap<Key, Wanted>)) {
        self.with(|wanted| {
            if wanted.get(key).is_some_and(|now| now.is_the_same(Some(instance))) {
                change(wanted);
            }
        });
    }
}

impl Wanted {
    /// Lets it go. Says whether it was still there.
    fn leave(&mut self) -> bool {
        self.is_told &= self.instance.is_none();
        self.instance.take().is_some()
    }

    fn is_the_same(&self, instance: Option<&Arc<Instance>>) -> bool {
        match (&self.instance, instance) {
            (None, None) => true,
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            _ => false,
        }
    }
}

/// Whether an instance stands at this key: `…/_quorate/service/NAME/ID`.
fn is_registration(key: &Key) -> bool {
    let mut last = key.segments().rev().skip(2);
    (last.next(), last.next()) == (Some("service"), Some("_quorate"))
}

/// The name of a service, and of its check, on the agent.
fn id(key: &Key) -> String {
    // No encoded key has a dot.
    keys::encode(key).replace('/', ".")
}

async fn register(endpoints: &Endpoints, key: &Key, instance: &Instance) -> Result<()> {
    let id = id(key);
    let body = session::json(&Announced::new(&id, instance))?;
    let ask = Ask::put("/v1/agent/service/register", body).with("replace-existing-checks", "true");
    endpoints.call(Kind::Repeatable, "announce", ask, no_other).await.map(drop)
}

async fn deregister(endpoints: &Endpoints, key: &Key) -> Result<()> {
    let ask = Ask::put(format!("/v1/agent/service/deregister/{}", id(key)), "");
    // One that the agent does not know is not there.
    let is_unknown = |answer: &Answer| String::from_utf8_lossy(answer.body()).contains("nknown service");
    endpoints.call(Kind::Repeatable, "announce", ask, is_unknown).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_known_by_their_keys() {
        for (text, is) in [
            ("_quorate/service/api/1", true),
            ("team/_quorate/service/api/1", true),
            ("_quorate/service/api", false),
            ("_quorate/lock/api/1", false),
            ("service/api/1", false),
        ] {
            assert_eq!(is_registration(&Key::decode(text).unwrap()), is, "{text}");
        }
    }
}
