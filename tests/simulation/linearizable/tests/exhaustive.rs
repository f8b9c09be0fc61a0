//! The same question asked of every order there is, of histories short enough for that: no memory, nothing skipped,
//! and versions learned when they are first seen rather than guessed when they are put.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate::kv::{Fence, Version};

use super::super::history::Outcome;
use super::super::{Found, History, Operation, Reply};

struct Item {
    operation: Operation,
    invoked: usize,
    /// When, and what; `None` while unknown.
    reply: Option<(Reply, usize)>,
}

#[derive(Clone, Default)]
struct World {
    standing: Option<Standing>,
    bound: BTreeSet<u128>,
    highest: Option<Fence>,
}

#[derive(Clone)]
struct Standing {
    value: Bytes,
    version: Option<Version>,
    /// Versions it was found not to have before it was known which it has.
    excluded: Vec<Version>,
    fence: Option<Fence>,
}

/// Whether any order explains the history.
pub(super) fn has_order(history: &History) -> bool {
    let mut items = Vec::new();
    for (_, call) in history.calls() {
        let (operation, invoked) = (call.operation.clone(), call.invoked.order);
        match &call.outcome {
            Outcome::NotApplied => {}
            Outcome::Unknown => items.push(Item { operation, invoked, reply: None }),
            Outcome::Replied(reply, returned) => {
                let returned = returned.order;
                items.push(Item { operation, invoked, reply: Some((reply.clone(), returned)) });
                if let Reply::Rejected(found) = reply {
                    let reply = Some((Reply::Read(found.clone()), returned));
                    items.push(Item { operation: Operation::Get, invoked, reply });
                }
            }
        }
    }
    let mut used = vec![false; items.len()];
    any_order(&items, &mut used, &World::default())
}

fn any_order(items: &[Item], used: &mut Vec<bool>, world: &World) -> bool {
    let left = (0..items.len()).filter(|index| !used[*index]);
    let Some(limit) =
        left.filter_map(|index| items[index].reply.as_ref()).map(|(_, returned)| *returned).min()
    else {
        return true;
    };
    (0..items.len()).any(|index| {
        if used[index] || items[index].invoked > limit {
            return false;
        }
        let Some(next) = world.after(&items[index]) else { return false };
        used[index] = true;
        let ordered = any_order(items, used, &next);
        used[index] = false;
        ordered
    })
}

impl World {
    fn after(&self, item: &Item) -> Option<Self> {
        let mut world = self.clone();
        let reply = item.reply.as_ref().map(|(reply, _)| reply);
        let possible = match (&item.operation, reply) {
            (Operation::Get, Some(Reply::Read(None))) => world.standing.is_none(),
            (Operation::Get, Some(Reply::Read(Some(found)))) => world.shows(found),
            (Operation::Create(_), Some(Reply::Rejected(_))) => world.standing.is_some(),
            (Operation::Replace(version, _) | Operation::DeleteIf(version), Some(Reply::Rejected(_))) => {
                world.is_not(*version)
            }
            (Operation::Put(value), reply) => world.put(value, reply),
            (Operation::Create(value), reply) => world.standing.is_none() && world.put(value, reply),
            (Operation::Replace(old, value), reply) => world.is(*old) && world.put(value, reply),
            (Operation::Delete, _) => world.delete(),
            (Operation::DeleteIf(old), _) => world.is(*old) && world.delete(),
            (Operation::Get, _) => false,
        };
        possible.then_some(world)
    }

    fn delete(&mut self) -> bool {
        self.standing = None;
        true
    }

    fn put(&mut self, value: &Bytes, reply: Option<&Reply>) -> bool {
        let fence = self.standing.as_ref().and_then(|standing| standing.fence);
        self.standing = Some(Standing { value: value.clone(), version: None, excluded: Vec::new(), fence });
        match reply {
            Some(Reply::Written(version, fence)) => {
                self.shows(&Found { value: value.clone(), version: *version, fence: *fence })
            }
            _ => true,
        }
    }

    fn shows(&mut self, found: &Found) -> bool {
        if !self.is(found.version) {
            return false;
        }
        let Some(standing) = &mut self.standing else { return false };
        let fits = match standing.fence {
            Some(fence) => fence == found.fence,
            None => Some(found.fence) > self.highest,
        };
        standing.fence = Some(found.fence);
        self.highest = self.highest.max(standing.fence);
        fits && standing.value == found.value
    }

    fn is(&mut self, version: Version) -> bool {
        let Some(standing) = &mut self.standing else { return false };
        if let Some(known) = standing.version {
            return known == version;
        }
        standing.version = Some(version);
        !standing.excluded.contains(&version) && self.bound.insert(version.raw())
    }

    fn is_not(&mut self, version: Version) -> bool {
        let Some(standing) = &mut self.standing else { return true };
        standing.excluded.push(version);
        standing.version != Some(version)
    }
}
