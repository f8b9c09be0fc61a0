//! Breaks lines 9 and 10: what an error says, and halves of writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quorate::backends::Memory;
use quorate::kv::{
    Entered, Entry, Error, ErrorKind, Key, Mode, Outcome, QueueStore, Random, Renewal, Result, SessionId,
    SessionStore, Store, Ticket, Txn, Write,
};

use super::{Defect, Enter, Flaw, READ, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        9: RefusedYetApplied,
        9: DeadYetApplied,
        9: LostReplyIsCalledNotApplied,
        9: LostEnterIsCalledNotApplied,
        9: AcknowledgedYetLost,
        9: RefusedAsUnknown,
        10: CommitInSteps,
        10: RejectedInPart,
        10: RevokeInSteps,
        10: EnterByAnotherName,
        10: AnswersOutOfStep,
        10: RenewalStaysLocked,
        10: ReadStaysLocked,
    ]
}

/// Each write by itself, in order.
fn parts(txn: &Txn) -> impl Iterator<Item = Txn> {
    let puts = txn.puts().iter().map(|put| Txn::new().entry(put.clone()));
    puts.chain(txn.deletes().iter().map(|key| Txn::new().delete(key)))
}

pub(super) async fn commit_parts(memory: &Memory, txn: &Txn) -> Result<Write> {
    let mut made = Vec::new();
    for part in parts(txn) {
        made.extend(memory.commit(part).await?.applied().unwrap_or_default());
    }
    Ok(Write::Applied(made))
}

/// What can be done of a refused write is done.
#[derive(Default)]
struct RefusedYetApplied;

#[async_trait]
impl Flaw for RefusedYetApplied {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let answer = memory.commit(txn.clone()).await;
        if matches!(&answer, Err(error) if error.kind() == ErrorKind::InvalidInput) {
            for part in parts(&txn) {
                let _ = memory.commit(part).await;
            }
        }
        answer
    }
}

#[derive(Default)]
struct DeadYetApplied;

#[async_trait]
impl Flaw for DeadYetApplied {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let answer = memory.commit(txn.clone()).await;
        if matches!(&answer, Err(error) if error.kind() == ErrorKind::SessionLost) {
            for put in txn.puts() {
                let _ = memory.commit(Txn::new().put(&put.key, put.value.clone())).await?;
            }
        }
        answer
    }
}

fn not_applied() -> Error {
    Error::new(ErrorKind::Unavailable, Outcome::NotApplied, "the connection broke")
}

/// In trouble the reply is lost, and that is told as if nothing had happened.
#[derive(Default)]
struct LostReplyIsCalledNotApplied(AtomicBool);

#[async_trait]
impl Flaw for LostReplyIsCalledNotApplied {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let write = memory.commit(txn).await?;
        if self.0.swap(false, Ordering::Relaxed) { Err(not_applied()) } else { Ok(write) }
    }

    fn disturb(&self, _: &Memory) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct LostEnterIsCalledNotApplied(AtomicBool);

#[async_trait]
impl Flaw for LostEnterIsCalledNotApplied {
    async fn enter(&self, memory: &Memory, enter: Enter) -> Result<Entered> {
        let entered = enter.send(memory).await?;
        if self.0.swap(false, Ordering::Relaxed) { Err(not_applied()) } else { Ok(entered) }
    }

    fn disturb(&self, _: &Memory) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// In trouble a write is acknowledged and then lost, as by a leader that is deposed.
#[derive(Default)]
struct AcknowledgedYetLost(AtomicBool);

#[async_trait]
impl Flaw for AcknowledgedYetLost {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let undo = txn.puts().iter().fold(Txn::new(), |undo, put| undo.delete(&put.key));
        let write = memory.commit(txn).await?;
        if self.0.swap(false, Ordering::Relaxed) {
            let _ = memory.commit(undo).await?;
        }
        Ok(write)
    }

    fn disturb(&self, _: &Memory) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct RefusedAsUnknown;

#[async_trait]
impl Flaw for RefusedAsUnknown {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        memory.commit(txn).await.map_err(Error::unsettled)
    }
}

/// Looks at the checks, and then writes one by one.
#[derive(Default)]
struct CommitInSteps;

#[async_trait]
impl Flaw for CommitInSteps {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        for check in txn.checks() {
            if !check.holds(memory.get(check.key(), READ).await?.as_ref()) {
                return memory.commit(txn).await;
            }
        }
        txn.validate(&memory.limits())?;
        let mut made = Vec::new();
        for part in parts(&txn) {
            made.extend(memory.commit(part).await?.applied().unwrap_or_default());
            tokio::task::yield_now().await;
        }
        Ok(Write::Applied(made))
    }
}

/// The deletes of a rejected write are done.
#[derive(Default)]
struct RejectedInPart;

#[async_trait]
impl Flaw for RejectedInPart {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let deletes = txn.deletes().iter().fold(Txn::new(), Txn::delete);
        let write = memory.commit(txn).await?;
        if !write.is_applied() {
            let _ = memory.commit(deletes).await?;
        }
        Ok(write)
    }
}

/// Deletes what is bound one by one, and then ends the session.
#[derive(Default)]
struct RevokeInSteps;

#[async_trait]
impl Flaw for RevokeInSteps {
    async fn revoke(&self, memory: &Memory, session: &SessionId) -> Result<()> {
        for entry in memory.list(&Key::root(), READ).await? {
            if entry.session.as_ref() == Some(session) {
                let _ = memory.commit(Txn::new().delete(&entry.key)).await?;
                tokio::task::yield_now().await;
            }
        }
        memory.revoke(session).await
    }
}

/// Enters by a name of its own first, and takes the right one later.
#[derive(Default)]
struct EnterByAnotherName;

#[async_trait]
impl Flaw for EnterByAnotherName {
    async fn enter(&self, memory: &Memory, enter: Enter) -> Result<Entered> {
        let ticket = Ticket::new(Mode::Exclusive, &Random::from_os());
        let first = memory.enter(&enter.queue, &enter.session, &ticket, enter.value.clone(), 0).await?;
        tokio::task::yield_now().await;
        let _ = memory.commit(Txn::new().delete(&first.place.key)).await?;
        enter.send(memory).await
    }
}

/// Answers come in the order of the requests, also those that nobody waits for any more.
#[derive(Default)]
struct AnswersOutOfStep(std::sync::Mutex<Vec<Option<Entry>>>);

impl AnswersOutOfStep {
    fn answers(&self) -> std::sync::MutexGuard<'_, Vec<Option<Entry>>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Flaw for AnswersOutOfStep {
    async fn get(&self, memory: &Memory, key: &Key) -> Result<Option<Entry>> {
        let answer = memory.get(key, READ).await?;
        self.answers().insert(0, answer);
        tokio::task::yield_now().await;
        Ok(self.answers().pop().flatten())
    }
}

/// A renewal that was dropped half way keeps out those that follow.
#[derive(Default)]
struct RenewalStaysLocked(AtomicBool);

#[async_trait]
impl Flaw for RenewalStaysLocked {
    async fn renew(&self, memory: &Memory, session: &SessionId) -> Result<Renewal> {
        if self.0.swap(true, Ordering::Relaxed) {
            return Ok(Renewal::Lost);
        }
        tokio::task::yield_now().await;
        self.0.store(false, Ordering::Relaxed);
        memory.renew(session).await
    }
}

/// A read that was dropped half way leaves the next waiting for ever.
#[derive(Default)]
struct ReadStaysLocked(AtomicBool);

#[async_trait]
impl Flaw for ReadStaysLocked {
    async fn get(&self, memory: &Memory, key: &Key) -> Result<Option<Entry>> {
        while self.0.swap(true, Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::task::yield_now().await;
        self.0.store(false, Ordering::Relaxed);
        memory.get(key, READ).await
    }
}
