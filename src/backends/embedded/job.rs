//! A request on its way to the engine: it is started or called off, never both.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::error::Fault;
use super::tables::Tables;
use crate::kv::{Error, Result};

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To look.
    Read,
    /// To look, and hear of every later change.
    Watch,
    /// To change a session, with what is bound to it: what no boot of the host outlives.
    Session,
    /// To change something that must not be forgotten.
    Write,
}

impl Kind {
    /// Whether it waits for the disk.
    pub(super) fn is_synced(self) -> bool {
        self == Self::Write
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Engine,
    Caller,
}

/// Decides, once, between the engine that starts a request and the caller who gives it up.
#[derive(Debug, Default)]
pub(super) struct Claim(OnceLock<By>);

impl Claim {
    /// For the engine: whether the request may take effect.
    pub(super) fn start(&self) -> bool {
        *self.0.get_or_init(|| By::Engine) == By::Engine
    }

    /// For the caller: whether the request will surely have no effect.
    pub(super) fn call_off(&self) -> bool {
        *self.0.get_or_init(|| By::Caller) == By::Caller
    }
}

/// Calls its request off when the caller's future is dropped; one that was started goes on.
#[derive(Debug)]
pub(super) struct CallOff(pub(super) Arc<Claim>);

impl Drop for CallOff {
    fn drop(&mut self) {
        self.0.call_off();
    }
}

/// One request.
pub(super) struct Job {
    pub(super) kind: Kind,
    claim: Arc<Claim>,
    work: Box<dyn Work>,
}

trait Work: Send {
    fn run(&mut self, tables: &Tables<'_>) -> std::result::Result<(), Fault>;
    fn answer(self: Box<Self>, end: Result<()>);
}

struct Typed<T, F> {
    work: Option<F>,
    made: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl Job {
    /// Does `work` and answers with what it made, once that is settled.
    pub(super) fn new<T, F>(kind: Kind, work: F) -> (Self, Arc<Claim>, oneshot::Receiver<Result<T>>)
    where
        T: Send + 'static,
        F: FnOnce(&Tables<'_>) -> std::result::Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let claim = Arc::<Claim>::default();
        let work = Box::new(Typed { work: Some(work), made: None, reply });
        (Self { kind, claim: Arc::clone(&claim), work }, claim, answer)
    }

    /// Does the work, unless it was called off. Fails only with what concerns the whole transaction.
    pub(super) fn run(&mut self, tables: &Tables<'_>) -> std::result::Result<(), Fault> {
        if self.claim.start() { self.work.run(tables) } else { Ok(()) }
    }

    /// Tells the caller: what the work made, or why the transaction it was done in failed.
    pub(super) fn answer(self, end: Result<(), Error>) {
        self.work.answer(end);
    }
}

impl<T, F> Work for Typed<T, F>
where
    T: Send,
    F: FnOnce(&Tables<'_>) -> std::result::Result<T, Fault> + Send,
{
    fn run(&mut self, tables: &Tables<'_>) -> std::result::Result<(), Fault> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.made = Some(match work(tables) {
            Ok(made) => Ok(made),
            Err(Fault::Told(error)) => Err(error),
            Err(fault) => return Err(fault),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, end: Result<()>) {
        let Self { made, reply, .. } = *self;
        // One that was called off has made nothing, and nobody waits for it.
        if let Some(answer) = end.map_or_else(|error| Some(Err(error)), |()| made) {
            let _ = reply.send(answer);
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("kind", &self.kind).field("claim", &self.claim).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_decides() {
        let (started, called_off) = (Claim::default(), Claim::default());
        assert!(started.start() && !started.call_off());
        assert!(called_off.call_off() && !called_off.start() && called_off.call_off());
    }
}
