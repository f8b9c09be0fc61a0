//! Histories by chance: clients of a key that is correct by construction, and replies falsified.

use std::time::Duration;

use bytes::Bytes;
use quorate::kv::{Fence, Random, Version};

use super::super::{Found, History, Id, Operation, Reply};

/// What the clients do.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) operations: usize,
    /// How many different values there are; few make it hard to tell whose a version is.
    pub(super) values: usize,
    /// One in so many operations gets no reply; 0 for none.
    pub(super) unknown: u32,
    /// One in so many operations is refused; 0 for none.
    pub(super) refused: u32,
}

/// What a history is made of.
#[derive(Clone)]
pub(super) enum Event {
    Invoked(usize, Operation),
    Replied(usize, Reply),
    Lost(usize),
    Refused(usize),
}

enum Client {
    Idle,
    Sent(usize, Operation),
    Served(usize, Reply),
}

struct World {
    random: Random,
    plan: Plan,
    standing: Option<Found>,
    revision: u64,
    /// Sent, not answered, and not in effect yet.
    late: Vec<Operation>,
    /// Versions that clients may rely on, the latest last.
    known: Vec<Version>,
    events: Vec<Event>,
    invoked: usize,
}

/// What happens with this seed, in order. It has an order by construction: everything takes effect on one key, at
/// one moment between its invocation and its reply, or after that if the reply is lost.
pub(super) fn play(seed: u64, plan: Plan) -> Vec<Event> {
    let mut world = World {
        random: Random::seeded(seed),
        plan,
        standing: None,
        revision: 0,
        late: Vec::new(),
        known: vec![Version::new(0)],
        events: Vec::new(),
        invoked: 0,
    };
    let mut clients: Vec<_> = (0..plan.clients).map(|_| Client::Idle).collect();
    while world.invoked < plan.operations || clients.iter().any(|client| !matches!(client, Client::Idle)) {
        let process = world.random.below(0..clients.len());
        clients[process] = match std::mem::replace(&mut clients[process], Client::Idle) {
            Client::Idle => world.invoke(process),
            Client::Sent(call, operation) => world.serve(call, operation),
            Client::Served(call, reply) => world.reply(call, reply),
        };
        if world.random.one_in(20) && !world.late.is_empty() {
            let index = world.random.below(0..world.late.len());
            let operation = world.late.swap_remove(index);
            world.apply(operation);
        }
    }
    world.events
}

/// The history of some events, one a millisecond.
pub(super) fn history(events: &[Event]) -> History {
    let mut history = History::default();
    let mut ids: Vec<Id> = Vec::new();
    for (event, millisecond) in events.iter().zip(0..) {
        let at = Duration::from_millis(millisecond);
        match event {
            Event::Invoked(process, operation) => ids.push(history.invoke(*process, operation.clone(), at)),
            Event::Replied(call, reply) => history.complete(ids[*call], reply.clone(), at),
            Event::Lost(call) => history.unknown(ids[*call]),
            Event::Refused(call) => history.not_applied(ids[*call]),
        }
    }
    history
}

/// Falsifies one reply, chosen by `seed`, if there is one that could be another.
pub(super) fn falsify(events: &[Event], seed: u64) -> Vec<Event> {
    let random = Random::seeded(seed);
    let mut events = events.to_vec();
    for _ in 0..100 {
        let index = random.below(0..events.len());
        if let Event::Replied(call, reply) = &events[index]
            && let Some(other) = another(&events, *call, reply, &random)
        {
            events[index] = Event::Replied(*call, other);
            break;
        }
    }
    events
}

/// A reply that the operation could have got some other time, but did not get.
fn another(events: &[Event], call: usize, reply: &Reply, random: &Random) -> Option<Reply> {
    let others: Vec<&Reply> = events
        .iter()
        .filter_map(|event| match event {
            Event::Replied(_, other) if other != reply => Some(other),
            _ => None,
        })
        .collect();
    let mut operations = events.iter().filter_map(|event| match event {
        Event::Invoked(_, operation) => Some(operation),
        _ => None,
    });
    let conditional = matches!(
        operations.nth(call)?,
        Operation::Create(_) | Operation::Replace(..) | Operation::DeleteIf(_)
    );
    let fits: Vec<Reply> = match reply {
        Reply::Read(_) => {
            others.into_iter().filter(|other| matches!(other, Reply::Read(_))).cloned().collect()
        }
        Reply::Written(..) if conditional && random.one_in(2) => vec![Reply::Rejected(None)],
        Reply::Written(version, fence) if random.one_in(2) => {
            vec![Reply::Written(*version, Fence::new(fence.get() + 1))]
        }
        Reply::Written(_, fence) => others
            .into_iter()
            .filter_map(|other| match other {
                Reply::Written(version, _) => Some(Reply::Written(*version, *fence)),
                _ => None,
            })
            .collect(),
        Reply::Deleted if conditional => vec![Reply::Rejected(None)],
        Reply::Deleted => Vec::new(),
        Reply::Rejected(_) => {
            others.into_iter().filter(|other| matches!(other, Reply::Rejected(_))).cloned().collect()
        }
    };
    (!fits.is_empty()).then(|| fits[random.below(0..fits.len())].clone())
}

impl World {
    fn invoke(&mut self, process: usize) -> Client {
        if self.invoked == self.plan.operations {
            return Client::Idle;
        }
        let value = Bytes::from(format!("v{}", self.random.below(0..self.plan.values)));
        // Mostly the latest, sometimes one that is gone.
        let recent = self.known.len().saturating_sub(3);
        let version = self.known[self.random.below(recent..self.known.len())];
        let operation = match self.random.below(0..10) {
            0..4 => Operation::Get,
            4 | 5 => Operation::Put(value),
            6 => Operation::Create(value),
            7 => Operation::Replace(version, value),
            8 => Operation::Delete,
            _ => Operation::DeleteIf(version),
        };
        self.events.push(Event::Invoked(process, operation.clone()));
        self.invoked += 1;
        Client::Sent(self.invoked - 1, operation)
    }

    fn serve(&mut self, call: usize, operation: Operation) -> Client {
        if self.random.one_in(self.plan.refused) {
            self.events.push(Event::Refused(call));
            return Client::Idle;
        }
        if self.random.one_in(self.plan.unknown) {
            self.events.push(Event::Lost(call));
            self.late.push(operation);
            return Client::Idle;
        }
        Client::Served(call, self.apply(operation))
    }

    fn reply(&mut self, call: usize, mut reply: Reply) -> Client {
        if let Reply::Rejected(found) = &mut reply
            && self.random.one_in(2)
        {
            found.clone_from(&self.standing);
        }
        match &reply {
            Reply::Read(Some(found)) | Reply::Rejected(Some(found)) => self.known.push(found.version),
            Reply::Written(version, _) => self.known.push(*version),
            _ => {}
        }
        self.events.push(Event::Replied(call, reply));
        Client::Idle
    }

    fn apply(&mut self, operation: Operation) -> Reply {
        let stands = |version| self.standing.as_ref().is_some_and(|found| found.version == version);
        match operation {
            Operation::Get => Reply::Read(self.standing.clone()),
            Operation::Create(_) if self.standing.is_some() => Reply::Rejected(self.standing.clone()),
            Operation::Replace(version, _) | Operation::DeleteIf(version) if !stands(version) => {
                Reply::Rejected(self.standing.clone())
            }
            Operation::Put(value) | Operation::Create(value) | Operation::Replace(_, value) => {
                self.revision += 1;
                let version = Version::new(self.revision.into());
                let fence = self.standing.as_ref().map_or(Fence::new(self.revision), |found| found.fence);
                self.standing = Some(Found { value, version, fence });
                Reply::Written(version, fence)
            }
            Operation::Delete | Operation::DeleteIf(_) => {
                self.standing = None;
                Reply::Deleted
            }
        }
    }
}
