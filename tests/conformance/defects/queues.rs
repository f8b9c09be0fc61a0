//! Breaks line 12: places in a queue.

use std::time::Duration;

use async_trait::async_trait;
use quorate::backends::Memory;
use quorate::kv::{
    Entered, ErrorKind, Fence, Mode, Place, PlaceRef, Queue, QueueStore, Random, Result, SessionStore, Store,
    Ticket, Txn,
};

use super::numbers::FenceStandsByName;
use super::{Defect, Enter, Flaw, READ, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        12: FarthestFirst,
        12: LastInFirstOut,
        12: TicketIgnored,
        12: PlaceOutlivesItself,
        12: LeftForGood,
        12: LeftInSilence,
        12: LeavesWithNeighbours,
        12: LimitIgnored,
        12: NearestUnseen,
        12: EnterSeesNothing,
        12: NestedNamesMeet,
        12: TheDeadEnter,
        12: OneFenceForAll,
        12: AlwaysExclusive,
        12: FenceStandsByName,
    ]
}

/// `ahead` with another view of what is ahead.
macro_rules! views {
    ($($flaw:ident: |$ahead:ident, $limit:ident| $view:expr),* $(,)?) => {$(
        #[derive(Default)]
        struct $flaw;

        #[async_trait]
        impl Flaw for $flaw {
            async fn ahead(&self, memory: &Memory, place: &Place, $limit: usize) -> Result<Option<Vec<PlaceRef>>> {
                let ahead = memory.ahead(place, usize::MAX).await?;
                Ok(ahead.map(|$ahead| $view))
            }
        }
    )*};
}

views! {
    FarthestFirst: |ahead, limit| ahead.into_iter().rev().take(limit).collect(),
    LimitIgnored: |ahead, _limit| ahead,
    NearestUnseen: |ahead, limit| ahead.into_iter().skip(1).take(limit).collect(),
    AlwaysExclusive: |ahead, limit| ahead.into_iter().map(|place| PlaceRef { ticket: None, ..place }).take(limit).collect(),
}

/// Who came last is first.
#[derive(Default)]
struct LastInFirstOut;

#[async_trait]
impl Flaw for LastInFirstOut {
    async fn ahead(&self, memory: &Memory, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        if memory.ahead(place, 0).await?.is_none() {
            return Ok(None);
        }
        let session = memory.grant(Duration::from_mins(1)).await?.id;
        let ticket = Ticket::new(Mode::Exclusive, &Random::from_os());
        let probe = memory.enter(&place.queue, &session, &ticket, "".into(), usize::MAX).await?;
        memory.revoke(&session).await?;
        Ok(Some(
            probe.ahead.into_iter().filter(|other| other.fence > place.fence).rev().take(limit).collect(),
        ))
    }
}

#[derive(Default)]
struct TicketIgnored;

#[async_trait]
impl Flaw for TicketIgnored {
    async fn enter(&self, memory: &Memory, enter: Enter) -> Result<Entered> {
        let ticket = Ticket::new(enter.ticket.mode(), &Random::from_os());
        Enter { ticket, ..enter }.send(memory).await
    }
}

#[derive(Default)]
struct PlaceOutlivesItself;

#[async_trait]
impl Flaw for PlaceOutlivesItself {
    async fn ahead(&self, memory: &Memory, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        Ok(Some(memory.ahead(place, limit).await?.unwrap_or_default()))
    }
}

/// Leaves whatever stood there, and says it did.
#[derive(Default)]
struct LeftForGood;

#[async_trait]
impl Flaw for LeftForGood {
    async fn leave(&self, memory: &Memory, place: &Place) -> Result<bool> {
        memory.leave(place).await.map(|_| true)
    }
}

/// Says that it left, and stands.
#[derive(Default)]
struct LeftInSilence;

#[async_trait]
impl Flaw for LeftInSilence {
    async fn leave(&self, memory: &Memory, place: &Place) -> Result<bool> {
        Ok(memory.ahead(place, 0).await?.is_some())
    }
}

/// Takes along what stands behind.
#[derive(Default)]
struct LeavesWithNeighbours;

#[async_trait]
impl Flaw for LeavesWithNeighbours {
    async fn leave(&self, memory: &Memory, place: &Place) -> Result<bool> {
        let stood = memory.leave(place).await?;
        let below = memory.list(place.queue.key(), READ).await?;
        for entry in below.iter().filter(|entry| entry.fence > place.fence) {
            let _ = memory.commit(Txn::new().delete(&entry.key)).await?;
        }
        Ok(stood)
    }
}

#[derive(Default)]
struct EnterSeesNothing;

#[async_trait]
impl Flaw for EnterSeesNothing {
    async fn enter(&self, memory: &Memory, enter: Enter) -> Result<Entered> {
        Ok(Entered { ahead: vec![], ..enter.send(memory).await? })
    }
}

/// `a` and `a/b` are one queue.
#[derive(Default)]
struct NestedNamesMeet;

#[async_trait]
impl Flaw for NestedNamesMeet {
    async fn enter(&self, memory: &Memory, enter: Enter) -> Result<Entered> {
        let name = enter.queue.name();
        let parts: Vec<_> = name.split('/').take(2).collect();
        let queue = Queue::lock(&parts.join("/"))?;
        let entered = Enter { queue, ..enter }.send(memory).await?;
        Ok(entered)
    }
}

/// A dead session enters with a new one.
#[derive(Default)]
struct TheDeadEnter;

#[async_trait]
impl Flaw for TheDeadEnter {
    async fn enter(&self, memory: &Memory, enter: Enter) -> Result<Entered> {
        match enter.clone().send(memory).await {
            Err(error) if error.kind() == ErrorKind::SessionLost => {
                let session = memory.grant(Duration::from_mins(1)).await?.id;
                Enter { session, ..enter }.send(memory).await
            }
            answer => answer,
        }
    }
}

#[derive(Default)]
struct OneFenceForAll;

#[async_trait]
impl Flaw for OneFenceForAll {
    async fn enter(&self, memory: &Memory, enter: Enter) -> Result<Entered> {
        let entered = enter.send(memory).await?;
        Ok(Entered { place: Place { fence: Fence::new(1), ..entered.place }, ..entered })
    }
}
