//! Line 12: places in a queue.

use std::sync::Arc;

use super::bench::{Bench, applied, listed, nothing_at, put, refused, rejected, same, standing, write_one};
use super::case::{Case, Checked, Violation, cases, ensure};
use crate::kv::{
    Consistency, Coordinator, ErrorKind, Mode, Place, PlaceRef, Queue, Random, SessionId, Ticket, Txn,
};

pub(super) fn cases() -> Vec<Case> {
    cases![
        12: a_place_is_an_entry_of_its_queue,
        12: a_ticket_stands_once,
        12: a_place_ends_with_its_entry_or_session,
        12: leaving_tells_whether_the_place_stood,
        12: who_leaves_takes_no_other_along,
        12: the_dead_do_not_enter,
        12: places_of_one_session_are_told_apart,
        12: queues_with_nested_names_never_meet,
        12: queues_with_odd_names_never_meet,
        12: what_a_place_guards_is_refused_without_it,
        12: a_place_keeps_its_turn_when_it_is_rewritten,
        12: a_place_keeps_its_mode,
    ]
}

/// A client with a session of its own.
pub(super) struct Waiter {
    pub(super) store: Arc<dyn Coordinator>,
    pub(super) session: SessionId,
}

impl Waiter {
    pub(super) async fn new(bench: &Bench<dyn Coordinator>) -> Checked<Self> {
        let store = bench.open().await?;
        let session = bench.long_grant(&store).await?.id;
        Ok(Self { store, session })
    }

    /// Enters with a ticket of its own.
    pub(super) async fn enter(&self, bench: &Bench<dyn Coordinator>, queue: &Queue) -> Checked<Place> {
        Ok(self.store.enter(queue, &self.session, &bench.ticket(), "place".into(), 1).await?.place)
    }

    /// What is ahead of a place that must stand.
    pub(super) async fn ahead(&self, place: &Place, limit: usize) -> Checked<Vec<PlaceRef>> {
        let ahead = self.store.ahead(place, limit).await?;
        ahead.ok_or_else(|| Violation::new(format!("the place {:?} is gone", place.key)))
    }

    /// The places of a queue, as its entries tell.
    pub(super) async fn places(&self, queue: &Queue) -> Checked<Vec<PlaceRef>> {
        let entries = self.store.list(queue.key(), Consistency::Linearizable).await?;
        Ok(entries.iter().filter_map(|entry| self.store.read_place(queue, entry)).collect())
    }
}

/// A place as others see it.
pub(super) fn seen(place: &Place) -> PlaceRef {
    PlaceRef { key: place.key.clone(), fence: place.fence, ticket: Some(place.ticket) }
}

async fn a_place_is_an_entry_of_its_queue(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (Waiter::new(bench).await?, Waiter::new(bench).await?);
    let queue = bench.queue("q")?;
    let ticket = bench.ticket();
    let entered = ours.store.enter(&queue, &ours.session, &ticket, "hello".into(), 9).await?;
    same("what is ahead of the first", &entered.ahead, &vec![])?;
    let place = entered.place;
    let told = (&place.queue, &place.session, &place.ticket);
    same("the place that was made", &told, &(&queue, &ours.session, &ticket))?;
    ensure!(queue.key().covers(&place.key), "the place {:?} is not below its queue", place.key);
    let entry = standing(&theirs.store, &place.key).await?;
    same("the place's value", &entry.value.as_ref(), &b"hello".as_slice())?;
    same("the place's session", &entry.session.as_ref(), &Some(&ours.session))?;
    same("the place's fence", &entry.fence, &place.fence)?;
    same("the place read from its entry", &theirs.store.read_place(&queue, &entry), &Some(seen(&place)))?;
    same("the places listed", &theirs.places(&queue).await?, &vec![seen(&place)])?;
    same("another queue", &theirs.store.read_place(&bench.queue("other")?, &entry), &None)
}

async fn a_ticket_stands_once(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (Waiter::new(bench).await?, Waiter::new(bench).await?);
    let queue = bench.queue("q")?;
    let first = theirs.enter(bench, &queue).await?;
    let ticket = bench.ticket();
    let enter = || ours.store.enter(&queue, &ours.session, &ticket, "mine".into(), 9);
    let entered = enter().await?;
    let behind = theirs.enter(bench, &queue).await?;
    let version = standing(&ours.store, &entered.place.key).await?.version;
    for _ in 0..3 {
        same("the place a standing ticket returns", &enter().await?, &entered)?;
        same("its version", &standing(&ours.store, &entered.place.key).await?.version, &version)?;
    }
    same("what is ahead of it", &entered.ahead, &vec![seen(&first)])?;
    same("how many stand", &ours.places(&queue).await?.len(), &3)?;
    same(
        "what is ahead of the last",
        &theirs.ahead(&behind, 9).await?,
        &vec![seen(&entered.place), seen(&first)],
    )?;
    // A ticket whose place has left enters at the tail.
    applied(&ours.store, Txn::new().delete(&entered.place.key)).await?;
    let again = enter().await?;
    ensure!(again.place.fence > behind.fence, "a place that came back is not the last");
    same("what is ahead of it", &again.ahead, &vec![seen(&behind), seen(&first)])
}

async fn a_place_ends_with_its_entry_or_session(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (Waiter::new(bench).await?, Waiter::new(bench).await?);
    let queue = bench.queue("q")?;
    let (deleted, revoked) = (ours.enter(bench, &queue).await?, ours.enter(bench, &queue).await?);
    let last = theirs.enter(bench, &queue).await?;
    applied(&ours.store, Txn::new().stands(&deleted.key, deleted.fence).delete(&deleted.key)).await?;
    same("a deleted place", &ours.store.ahead(&deleted, 9).await?, &None)?;
    same("what is ahead of the next", &ours.ahead(&revoked, 9).await?, &vec![])?;
    ours.store.revoke(&ours.session).await?;
    same("the place of a revoked session", &ours.store.ahead(&revoked, 9).await?, &None)?;
    nothing_at(&theirs.store, &revoked.key).await?;
    same("what is ahead of the last", &theirs.ahead(&last, 9).await?, &vec![])?;
    same("the places listed", &theirs.places(&queue).await?, &vec![seen(&last)])
}

async fn leaving_tells_whether_the_place_stood(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (Waiter::new(bench).await?, Waiter::new(bench).await?);
    let queue = bench.queue("q")?;
    let (left, deleted) = (ours.enter(bench, &queue).await?, ours.enter(bench, &queue).await?);
    let (revoked, last) = (ours.enter(bench, &queue).await?, theirs.enter(bench, &queue).await?);
    same("leaving a place that stands", &ours.store.leave(&left).await?, &true)?;
    nothing_at(&theirs.store, &left.key).await?;
    same("a place that was left", &ours.store.ahead(&left, 9).await?, &None)?;
    same("what is ahead of the next", &ours.ahead(&deleted, 9).await?, &vec![])?;
    applied(&theirs.store, Txn::new().delete(&deleted.key)).await?;
    ours.store.revoke(&ours.session).await?;
    for (place, what) in [(&left, "left"), (&deleted, "deleted"), (&revoked, "revoked")] {
        same(&format!("leaving a place that was {what}"), &ours.store.leave(place).await?, &false)?;
    }
    same("the places listed", &theirs.places(&queue).await?, &vec![seen(&last)])?;
    // Whoever has the place's name may remove it, as an operator does.
    same("leaving for another client", &ours.store.leave(&last).await?, &true)?;
    same("what stands in the queue", &listed(&theirs.store, queue.key()).await?, &vec![])
}

async fn who_leaves_takes_no_other_along(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiter = Waiter::new(bench).await?;
    let (queue, inner) = (bench.queue("q")?, bench.queue("q/inner")?);
    let (first, second) = (waiter.enter(bench, &queue).await?, waiter.enter(bench, &queue).await?);
    let (third, below) = (waiter.enter(bench, &queue).await?, waiter.enter(bench, &inner).await?);
    same("leaving the second place", &waiter.store.leave(&second).await?, &true)?;
    same("what is ahead of the last", &waiter.ahead(&third, 9).await?, &vec![seen(&first)])?;
    same("the places of the inner queue", &waiter.places(&inner).await?, &vec![seen(&below)])?;
    // A ticket enters anew at the tail, whatever the place before was worth.
    let again = waiter.store.enter(&queue, &waiter.session, &second.ticket, "".into(), 9).await?;
    ensure!(again.place.fence > third.fence, "a place that came back is not the last");
    same("leaving where an earlier one stood", &waiter.store.leave(&second).await?, &false)?;
    same("the first", &waiter.ahead(&first, 9).await?, &vec![])
}

async fn the_dead_do_not_enter(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiter = Waiter::new(bench).await?;
    let queue = bench.queue("q")?;
    let ticket = bench.ticket();
    waiter.store.enter(&queue, &waiter.session, &ticket, "".into(), 1).await?;
    waiter.store.revoke(&waiter.session).await?;
    for ticket in [ticket, bench.ticket()] {
        let entered = waiter.store.enter(&queue, &waiter.session, &ticket, "".into(), 1).await;
        refused("entering with a dead session", entered, ErrorKind::SessionLost)?;
    }
    same("what stands in the queue", &listed(&waiter.store, queue.key()).await?, &vec![])
}

async fn places_of_one_session_are_told_apart(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiter = Waiter::new(bench).await?;
    let queue = bench.queue("q")?;
    let (first, second) = (waiter.enter(bench, &queue).await?, waiter.enter(bench, &queue).await?);
    ensure!(
        first.key != second.key && first.fence < second.fence,
        "two places are one: {first:?}, {second:?}"
    );
    same("what is ahead of the second", &waiter.ahead(&second, 9).await?, &vec![seen(&first)])?;
    applied(&waiter.store, Txn::new().delete(&second.key)).await?;
    same("the first place", &waiter.ahead(&first, 9).await?, &vec![])
}

async fn queues_with_nested_names_never_meet(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiter = Waiter::new(bench).await?;
    let (outer, inner) = (bench.queue("a")?, bench.queue("a/b")?);
    let below = waiter.enter(bench, &inner).await?;
    let above = waiter.enter(bench, &outer).await?;
    let last = waiter.enter(bench, &inner).await?;
    same("what is ahead in the outer queue", &waiter.ahead(&above, 9).await?, &vec![])?;
    same("what is ahead in the inner queue", &waiter.ahead(&last, 9).await?, &vec![seen(&below)])?;
    same("the places of the outer queue", &waiter.places(&outer).await?, &vec![seen(&above)])
}

async fn queues_with_odd_names_never_meet(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiter = Waiter::new(bench).await?;
    let mut places = Vec::new();
    for name in super::keys::ODD {
        let place = waiter.enter(bench, &bench.queue(name)?).await?;
        same(&format!("what is ahead in the queue {name:?}"), &waiter.ahead(&place, 9).await?, &vec![])?;
        places.push(place);
    }
    for (place, name) in places.iter().zip(super::keys::ODD) {
        same("the places of an odd queue", &waiter.places(&bench.queue(name)?).await?, &vec![seen(place)])?;
    }
    Ok(())
}

async fn what_a_place_guards_is_refused_without_it(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (Waiter::new(bench).await?, Waiter::new(bench).await?);
    let (queue, key) = (bench.queue("q")?, bench.key("guarded")?);
    let place = ours.enter(bench, &queue).await?;
    let guarded = |value: &'static str| Txn::new().stands(&place.key, place.fence).put(&key, value);
    applied(&ours.store, guarded("held")).await?;
    // Who holds next writes; the one before, which may not know yet, does not.
    ours.store.revoke(&ours.session).await?;
    let next = theirs.enter(bench, &queue).await?;
    let kept = put(&theirs.store, &key, "next").await?;
    rejected(&ours.store, guarded("late"), &place.key).await?;
    let wrong = Txn::new().stands(&next.key, place.fence).put(&key, "late");
    rejected(&ours.store, wrong, &next.key).await?;
    same("what was guarded", &standing(&theirs.store, &key).await?, &kept)
}

async fn a_place_keeps_its_turn_when_it_is_rewritten(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (Waiter::new(bench).await?, Waiter::new(bench).await?);
    let queue = bench.queue("q")?;
    let first = ours.enter(bench, &queue).await?;
    let second = theirs.enter(bench, &queue).await?;
    for value in ["holder", "", "holder"] {
        let rewrite = Txn::new().stands(&first.key, first.fence).put_bound(&first.key, value, &ours.session);
        let entry = write_one(&ours.store, rewrite).await?;
        same("the fence of a rewritten place", &entry.fence, &first.fence)?;
        same("what is ahead of it", &ours.ahead(&first, 9).await?, &vec![])?;
        same("what is ahead of the next", &theirs.ahead(&second, 9).await?, &vec![seen(&first)])?;
    }
    same("its value", &standing(&theirs.store, &first.key).await?.value.as_ref(), &b"holder".as_slice())
}

async fn a_place_keeps_its_mode(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiter = Waiter::new(bench).await?;
    let queue = bench.queue("q")?;
    let random = Random::seeded(2);
    for mode in [Mode::Shared, Mode::Exclusive, Mode::Shared] {
        let ticket = Ticket::new(mode, &random);
        waiter.store.enter(&queue, &waiter.session, &ticket, "".into(), 0).await?;
    }
    let last = waiter.enter(bench, &queue).await?;
    let modes: Vec<_> = waiter.ahead(&last, 9).await?.iter().map(PlaceRef::mode).collect();
    same("the modes ahead", &modes, &vec![Mode::Shared, Mode::Exclusive, Mode::Shared])
}
