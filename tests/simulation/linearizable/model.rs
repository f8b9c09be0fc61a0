//! One key as the search sees it: versions by number, and what each operation does to the state.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::kv::{Fence, Version};

use super::explanation::Explanation;
use super::history::{Call, Found, History, Id, Operation, Outcome, Reply};

/// A version by its place in [`Model::versions`].
pub(super) type Number = usize;

/// What must hold for a write to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    Absent,
    Version(Number),
}

/// What an operation does, or demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It saw this version, or nothing.
    See(Option<Number>),
    /// It put this version, or one that is never seen.
    Write(Condition, Option<Number>),
    /// It deleted what stood there.
    Remove(Condition),
    /// Its condition did not hold.
    Refuse(Condition),
}

/// An operation with a definite reply. What a rejection found is one more, in the same interval.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) id: Id,
    pub(super) invoked: usize,
    pub(super) returned: usize,
    pub(super) effect: Effect,
}

/// A write of unknown outcome.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) id: Id,
    pub(super) invoked: usize,
    /// Its effect when nobody ever sees what it put.
    pub(super) effect: Effect,
    /// The versions that were seen and could be what it put.
    pub(super) candidates: Vec<Number>,
    /// An earlier one that could do exactly the same, so that this one need not be tried while that one is left.
    pub(super) twin: Option<usize>,
}

/// What stands at the key. A value is known by its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Standing {
    /// `None` when nobody ever sees it.
    pub(super) version: Option<Number>,
    /// `None` as long as no reply has told it.
    fence: Option<Fence>,
}

/// The state of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) standing: Option<Standing>,
    /// The largest fence so far; what is made anew must have a larger one.
    highest: Option<Fence>,
}

/// What all replies together tell of one version.
#[derive(Debug)]
struct Facts {
    version: Version,
    /// Who mentioned it first, or told its value.
    source: Id,
    /// Who was told to have put it.
    writer: Option<Id>,
    value: Option<Bytes>,
    fence: Option<Fence>,
}

/// A history, ready to be searched.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// By invocation.
    pub(super) steps: Vec<Step>,
    /// By invocation.
    pub(super) doubts: Vec<Doubt>,
    versions: Vec<Facts>,
    numbers: BTreeMap<u128, Number>,
}

impl Model {
    /// Reads a history, unless replies contradict each other whatever their order.
    pub(super) fn learn(history: &History) -> Result<Self, Explanation> {
        let mut model = Self::default();
        for (id, call) in history.calls() {
            match &call.outcome {
                Outcome::NotApplied => {}
                Outcome::Unknown => model.doubt(id, call),
                Outcome::Replied(reply, returned) => {
                    let (effect, found) = model.effect(history, id, &call.operation, reply)?;
                    let (invoked, returned) = (call.invoked.order, returned.order);
                    for effect in [Some(effect), found].into_iter().flatten() {
                        model.steps.push(Step { id, invoked, returned, effect });
                    }
                }
            }
        }
        model.find_candidates(history);
        Ok(model)
    }

    /// How many versions there are.
    pub(super) fn versions(&self) -> usize {
        self.versions.len()
    }

    /// The state after an effect, if it is possible.
    pub(super) fn apply(&self, effect: Effect, state: State) -> Option<State> {
        match effect {
            Effect::See(seen) => {
                (state.standing.map(|standing| standing.version) == seen.map(Some)).then_some(state)
            }
            Effect::Refuse(condition) => (!condition.holds(state)).then_some(state),
            Effect::Remove(condition) => condition.holds(state).then_some(State { standing: None, ..state }),
            Effect::Write(condition, version) => {
                condition.holds(state).then(|| self.write(version, state)).flatten()
            }
        }
    }

    fn write(&self, version: Option<Number>, state: State) -> Option<State> {
        let told = version.and_then(|number| self.versions[number].fence);
        let kept = state.standing.and_then(|standing| standing.fence);
        let possible = match (kept, told) {
            (Some(kept), Some(told)) => kept == told,
            (None, Some(told)) => Some(told) > state.highest,
            (_, None) => true,
        };
        let fence = kept.or(told);
        let standing = Some(Standing { version, fence });
        possible.then(|| State { standing, highest: state.highest.max(fence) })
    }

    fn doubt(&mut self, id: Id, call: &Call) {
        let effect = match &call.operation {
            Operation::Get => return,
            Operation::Put(_) => Effect::Write(Condition::Always, None),
            Operation::Create(_) => Effect::Write(Condition::Absent, None),
            Operation::Replace(version, _) => Effect::Write(self.is(id, *version), None),
            Operation::Delete => Effect::Remove(Condition::Always),
            Operation::DeleteIf(version) => Effect::Remove(self.is(id, *version)),
        };
        let doubt = Doubt { id, invoked: call.invoked.order, effect, candidates: Vec::new(), twin: None };
        self.doubts.push(doubt);
    }

    /// What an answered operation does, and what its rejection found.
    fn effect(
        &mut self,
        history: &History,
        id: Id,
        operation: &Operation,
        reply: &Reply,
    ) -> Result<(Effect, Option<Effect>), Explanation> {
        let effect = match (operation, reply) {
            (Operation::Get, Reply::Read(found)) => self.see(history, id, found.as_ref())?,
            (Operation::Delete, Reply::Deleted) => Effect::Remove(Condition::Always),
            (Operation::DeleteIf(version), Reply::Deleted) => Effect::Remove(self.is(id, *version)),
            (Operation::Put(value), Reply::Written(version, fence)) => {
                Effect::Write(Condition::Always, Some(self.put(history, id, value, *version, *fence)?))
            }
            (Operation::Create(value), Reply::Written(version, fence)) => {
                Effect::Write(Condition::Absent, Some(self.put(history, id, value, *version, *fence)?))
            }
            (Operation::Replace(old, value), Reply::Written(version, fence)) => {
                let condition = self.is(id, *old);
                // An overwrite keeps the fence.
                self.fact(history, id, *old, None, Some(*fence))?;
                Effect::Write(condition, Some(self.put(history, id, value, *version, *fence)?))
            }
            (Operation::Create(_), Reply::Rejected(_)) => Effect::Refuse(Condition::Absent),
            (Operation::Replace(version, _) | Operation::DeleteIf(version), Reply::Rejected(_)) => {
                Effect::Refuse(self.is(id, *version))
            }
            _ => {
                let why = "the reply does not fit the operation";
                return Err(Explanation::contradiction(history, id, None, why));
            }
        };
        let found = match reply {
            Reply::Rejected(found) => Some(self.see(history, id, found.as_ref())?),
            _ => None,
        };
        Ok((effect, found))
    }

    fn see(&mut self, history: &History, id: Id, found: Option<&Found>) -> Result<Effect, Explanation> {
        let Some(found) = found else { return Ok(Effect::See(None)) };
        let number = self.fact(history, id, found.version, Some(&found.value), Some(found.fence))?;
        Ok(Effect::See(Some(number)))
    }

    fn put(
        &mut self,
        history: &History,
        id: Id,
        value: &Bytes,
        version: Version,
        fence: Fence,
    ) -> Result<Number, Explanation> {
        let number = self.fact(history, id, version, Some(value), Some(fence))?;
        if let Some(other) = self.versions[number].writer.replace(id) {
            let why = "two puts were given the same version";
            return Err(Explanation::contradiction(history, id, Some(other), why));
        }
        Ok(number)
    }

    fn is(&mut self, id: Id, version: Version) -> Condition {
        Condition::Version(self.number(id, version))
    }

    fn number(&mut self, id: Id, version: Version) -> Number {
        *self.numbers.entry(version.raw()).or_insert_with(|| {
            self.versions.push(Facts { version, source: id, writer: None, value: None, fence: None });
            self.versions.len() - 1
        })
    }

    /// Adds to what is known of a version, which may not contradict what was.
    fn fact(
        &mut self,
        history: &History,
        id: Id,
        version: Version,
        value: Option<&Bytes>,
        fence: Option<Fence>,
    ) -> Result<Number, Explanation> {
        let number = self.number(id, version);
        let facts = &mut self.versions[number];
        let differs = |what| {
            let why = format!("one version was told with two {what}");
            Err(Explanation::contradiction(history, id, Some(facts.source), &why))
        };
        if let (Some(old), Some(new)) = (&facts.value, value)
            && old != new
        {
            return differs("values");
        }
        if let (Some(old), Some(new)) = (facts.fence, fence)
            && old != new
        {
            return differs("fences");
        }
        if facts.value.is_none() && value.is_some() {
            (facts.value, facts.source) = (value.cloned(), id);
        }
        facts.fence = facts.fence.or(fence);
        Ok(number)
    }

    /// Finds for each write of unknown outcome the versions that may be its own: those that were seen or relied on,
    /// with its value or none, and that no reply gave to another.
    fn find_candidates(&mut self, history: &History) {
        let mut matched = vec![false; self.versions.len()];
        let effects = self.steps.iter().map(|step| step.effect);
        for number in effects.chain(self.doubts.iter().map(|doubt| doubt.effect)).filter_map(Effect::matched)
        {
            matched[number] = true;
        }
        for index in 0..self.doubts.len() {
            let Doubt { id, effect, .. } = self.doubts[index];
            let value = match &history.call(id).operation {
                Operation::Put(value) | Operation::Create(value) | Operation::Replace(_, value) => {
                    Some(value)
                }
                _ => None,
            };
            let candidates: Vec<_> = (0..self.versions.len())
                .filter(|number| {
                    let facts = &self.versions[*number];
                    let fits = facts.value.as_ref().is_none_or(|known| Some(known) == value);
                    value.is_some() && matched[*number] && facts.writer.is_none() && fits
                })
                .collect();
            let twin = self.doubts[..index]
                .iter()
                .rposition(|other| other.effect == effect && other.candidates == candidates);
            let doubt = &mut self.doubts[index];
            (doubt.candidates, doubt.twin) = (candidates, twin);
        }
    }

    /// A state in words.
    pub(super) fn describe(&self, state: State) -> String {
        let Some(standing) = state.standing else { return "nothing".into() };
        let Some(number) = standing.version else { return "an entry that no reply shows".into() };
        let Facts { version, value, fence, .. } = &self.versions[number];
        let value = value.as_ref().map_or("an unknown value".into(), |value| format!("{value:?}"));
        let fence = fence.or(standing.fence).map_or("unknown".into(), |fence| fence.to_string());
        format!("{value} (version {version}, fence {fence})")
    }
}

impl Condition {
    fn holds(self, state: State) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => state.standing.is_none(),
            Self::Version(number) => state.standing.is_some_and(|standing| standing.version == Some(number)),
        }
    }
}

impl Effect {
    /// The version that must stand there, for it to be possible.
    pub(super) fn matched(self) -> Option<Number> {
        match self {
            Self::See(seen) => seen,
            Self::Write(Condition::Version(number), _) | Self::Remove(Condition::Version(number)) => {
                Some(number)
            }
            Self::Write(..) | Self::Remove(_) | Self::Refuse(_) => None,
        }
    }

    /// Whether it leaves the state as it is.
    pub(super) fn is_idle(self) -> bool {
        matches!(self, Self::See(_) | Self::Refuse(_))
    }
}
