//! The search for an order.

use std::collections::HashSet;

use super::Verdict;
use super::explanation::{Explanation, Way};
use super::history::{History, Id};
use super::model::{Condition, Effect, Model, Number, State};

/// How many of the orders that came furthest an explanation shows, and how many operations of each.
const WAYS: usize = 3;
const LAST: usize = 4;

/// A definite operation that comes next, right after the operations of unknown outcome that it needs.
#[derive(Debug)]
struct Move {
    doubts: Vec<usize>,
    step: usize,
    after: State,
}

/// The furthest that any order came: this step had to come next, and could not.
#[derive(Debug)]
struct Furthest {
    step: usize,
    beside: Vec<Id>,
    ways: Vec<(State, Vec<Id>)>,
}

/// A depth-first search over the orders of a history.
#[derive(Debug)]
pub(super) struct Search<'a> {
    model: &'a Model,
    history: &'a History,
    /// What is ordered: the steps, then the doubts.
    ordered: Bits,
    /// How many ordered operations needed each version: one that was needed and is gone never comes back.
    needed: Vec<usize>,
    /// How many definite operations still need each version, if the search looks ahead.
    owed: Option<Vec<usize>>,
    path: Vec<Move>,
    /// Lowe's memory. Only ever asked for members, so its own order does not matter.
    visited: HashSet<(Bits, State)>,
    furthest: Option<Furthest>,
}

impl<'a> Search<'a> {
    /// A search that looks ahead never overwrites what is still to be seen. It is much shorter where there is no
    /// order, but gives up too early to tell how far the history has one.
    pub(super) fn new(model: &'a Model, history: &'a History, looks_ahead: bool) -> Self {
        let ordered = Bits::new(model.steps.len() + model.doubts.len());
        let needed = vec![0; model.versions()];
        let owed = looks_ahead.then(|| {
            let mut owed = needed.clone();
            model.steps.iter().filter_map(|step| step.effect.matched()).for_each(|number| owed[number] += 1);
            owed
        });
        let (path, visited) = (Vec::new(), HashSet::new());
        Self { model, history, ordered, needed, owed, path, visited, furthest: None }
    }

    /// Looks at no more than `budget` states.
    pub(super) fn run(mut self, budget: usize) -> Verdict {
        let mut choices = vec![self.moves(State::default())];
        while let Some(moves) = choices.last_mut() {
            if self.path.len() == self.model.steps.len() {
                return Verdict::Linearizable;
            }
            if self.visited.len() >= budget {
                return Verdict::Unknown { states: self.visited.len() };
            }
            let Some(next) = moves.pop() else {
                choices.pop();
                self.step_back();
                continue;
            };
            let state = next.after;
            self.step_on(next);
            if self.visited.insert((self.ordered.clone(), state)) {
                choices.push(self.moves(state));
            } else {
                self.step_back();
            }
        }
        self.violation()
    }

    fn step_on(&mut self, next: Move) {
        for &doubt in &next.doubts {
            self.ordered.set(self.model.steps.len() + doubt, true);
        }
        self.ordered.set(next.step, true);
        for number in matched(self.model, &next) {
            self.needed[number] += 1;
        }
        if let (Some(owed), Some(number)) = (&mut self.owed, self.model.steps[next.step].effect.matched()) {
            owed[number] -= 1;
        }
        self.path.push(next);
    }

    fn step_back(&mut self) {
        let Some(last) = self.path.pop() else { return };
        for &doubt in &last.doubts {
            self.ordered.set(self.model.steps.len() + doubt, false);
        }
        self.ordered.set(last.step, false);
        for number in matched(self.model, &last) {
            self.needed[number] -= 1;
        }
        if let (Some(owed), Some(number)) = (&mut self.owed, self.model.steps[last.step].effect.matched()) {
            owed[number] += 1;
        }
    }

    /// What can come next, the most promising last.
    fn moves(&mut self, state: State) -> Vec<Move> {
        let (ready, first) = self.ready();
        let Some(first) = first else { return Vec::new() };
        self.note(first, state, &ready);
        let limit = self.model.steps[first].returned;
        let mut direct = Vec::new();
        let mut moves = Vec::new();
        for &step in &ready {
            match self.step(step, state) {
                Some(after) if self.model.steps[step].effect.is_idle() => {
                    return vec![Move { doubts: Vec::new(), step, after }];
                }
                Some(after) => direct.push(Move { doubts: Vec::new(), step, after }),
                None => self.helped(step, limit, &mut vec![state], &mut Vec::new(), &mut moves),
            }
        }
        direct.sort_by_key(|next| std::cmp::Reverse(self.model.steps[next.step].returned));
        moves.append(&mut direct);
        moves
    }

    /// The state after a step, if it is possible now.
    fn step(&self, step: usize, state: State) -> Option<State> {
        let effect = self.model.steps[step].effect;
        let own = usize::from(effect.matched().is_some());
        let possible = effect.is_idle() || !self.ends_too_early(state, own);
        possible.then(|| self.model.apply(effect, state)).flatten()
    }

    /// Whether more than `own` operations still need what stands there.
    fn ends_too_early(&self, state: State, own: usize) -> bool {
        let number = state.standing.and_then(|standing| standing.version);
        self.owed.as_ref().zip(number).is_some_and(|(owed, number)| owed[number] > own)
    }

    /// The steps that no unordered step precedes, and the first of them to return.
    fn ready(&self) -> (Vec<usize>, Option<usize>) {
        let steps = &self.model.steps;
        let mut ready = Vec::new();
        let mut first: Option<usize> = None;
        for step in self.ordered.first_clear()..steps.len() {
            if first.is_some_and(|first| steps[first].returned < steps[step].invoked) {
                break;
            }
            if !self.ordered.get(step) {
                ready.push(step);
                first = first.filter(|first| steps[*first].returned <= steps[step].returned).or(Some(step));
            }
        }
        (ready, first)
    }

    /// Finds the shortest chains of doubts that make `step` possible. None is longer than it must be: a doubt whose
    /// work the next one undoes or does alone is left out.
    fn helped(
        &self,
        step: usize,
        limit: usize,
        trail: &mut Vec<State>,
        chain: &mut Vec<usize>,
        moves: &mut Vec<Move>,
    ) {
        let state = trail[trail.len() - 1];
        for (doubt, effect) in self.help(step, limit, chain, state) {
            let Some(after) = self.model.apply(effect, state) else { continue };
            if self.ends_too_early(state, 0) || self.is_wasteful(effect, after, trail) {
                continue;
            }
            trail.push(after);
            chain.push(doubt);
            match self.step(step, after) {
                Some(after) => moves.push(Move { doubts: chain.clone(), step, after }),
                None => self.helped(step, limit, trail, chain, moves),
            }
            chain.pop();
            trail.pop();
        }
    }

    fn is_wasteful(&self, effect: Effect, after: State, trail: &[State]) -> bool {
        let alone = trail.iter().rev().nth(1).and_then(|before| self.model.apply(effect, *before));
        trail.iter().chain(&alone).any(|state| state.standing == after.standing)
    }

    /// The doubts that could take effect now to help `step`, each with the version it then put.
    fn help(&self, step: usize, limit: usize, chain: &[usize], state: State) -> Vec<(usize, Effect)> {
        let goal = self.model.steps[step].effect;
        let open: Vec<usize> = (0..self.model.doubts.len())
            .take_while(|doubt| self.model.doubts[*doubt].invoked < limit)
            .filter(|doubt| !self.is_ordered(*doubt) && !chain.contains(doubt))
            .collect();
        let links: Vec<Number> = open.iter().filter_map(|&doubt| self.doubt(doubt).matched()).collect();
        let wanted = |number: &Number| {
            let spent = self.needed[*number] > 0
                || chain.iter().any(|&doubt| self.doubt(doubt).matched() == Some(*number));
            let useful = matches!(goal, Effect::Refuse(_)) || goal.matched() == Some(*number);
            !spent && (useful || links.contains(number))
        };
        let mut help = Vec::new();
        let mut unseen: Vec<(usize, Condition)> = Vec::new();
        for &doubt in &open {
            let candidates = &self.model.doubts[doubt].candidates;
            let has_twin = self.model.doubts[doubt].twin.is_some_and(|twin| open.contains(&twin));
            if has_twin || self.model.apply(self.doubt(doubt), state).is_none() {
                continue;
            }
            let Effect::Write(condition, _) = self.doubt(doubt) else {
                help.push((doubt, self.doubt(doubt)));
                continue;
            };
            let numbers = candidates.iter().filter(|number| wanted(number));
            help.extend(numbers.map(|number| (doubt, Effect::Write(condition, Some(*number)))));
            unseen.push((doubt, condition));
        }
        // A put that nobody sees helps only to make a condition fail. One that nobody can see any more serves as well
        // as any other under its condition, and leaves those to be seen.
        unseen.retain(|_| matches!(goal, Effect::Refuse(_)));
        let is_spent =
            |doubt: usize| self.model.doubts[doubt].candidates.iter().all(|number| self.needed[*number] > 0);
        let best = |condition| unseen.iter().find(|(doubt, other)| *other == condition && is_spent(*doubt));
        let chosen =
            unseen.iter().filter(|(doubt, condition)| best(*condition).is_none_or(|(best, _)| best == doubt));
        help.extend(chosen.map(|&(doubt, condition)| (doubt, Effect::Write(condition, None))));
        help
    }

    fn doubt(&self, doubt: usize) -> Effect {
        self.model.doubts[doubt].effect
    }

    fn is_ordered(&self, doubt: usize) -> bool {
        self.ordered.get(self.model.steps.len() + doubt)
    }

    /// Remembers how far orders came. The reply that none gets past ends the smallest prefix that has no order.
    fn note(&mut self, first: usize, state: State, ready: &[usize]) {
        let returned = |step: usize| self.model.steps[step].returned;
        let past = self.furthest.as_ref().map(|furthest| returned(furthest.step));
        if past.is_none_or(|past| past < returned(first)) {
            let doubts = self.model.doubts.iter().filter(|doubt| doubt.invoked < returned(first));
            let own = self.model.steps[first].id;
            let mut beside: Vec<_> = ready.iter().map(|step| self.model.steps[*step].id).collect();
            beside.extend(doubts.map(|doubt| doubt.id));
            beside.retain(|id| *id != own);
            beside.dedup();
            self.furthest = Some(Furthest { step: first, beside, ways: Vec::new() });
        }
        let Some(furthest) = self.furthest.as_mut().filter(|furthest| furthest.step == first) else { return };
        if furthest.ways.len() < WAYS && furthest.ways.iter().all(|(other, _)| *other != state) {
            let last = &self.path[self.path.len().saturating_sub(LAST)..];
            let ids = last.iter().flat_map(|taken| {
                let doubts = taken.doubts.iter().map(|doubt| self.model.doubts[*doubt].id);
                doubts.chain([self.model.steps[taken.step].id])
            });
            furthest.ways.push((state, ids.collect()));
        }
    }

    fn violation(self) -> Verdict {
        // A history without steps passes at once, so that a step was noted.
        let Some(Furthest { step, beside, ways }) = self.furthest else { return Verdict::Linearizable };
        let ways: Vec<_> =
            ways.into_iter().map(|(state, last)| Way { state: self.model.describe(state), last }).collect();
        let operation = self.model.steps[step].id;
        Verdict::Violation(Explanation::stuck(self.history, operation, &beside, &ways))
    }
}

/// The versions that a move needed to stand there.
fn matched<'a>(model: &'a Model, taken: &'a Move) -> impl Iterator<Item = Number> + 'a {
    let doubts = taken.doubts.iter().map(|doubt| model.doubts[*doubt].effect);
    doubts.chain([model.steps[taken.step].effect]).filter_map(Effect::matched)
}

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bits(Box<[u64]>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)].into())
    }

    fn get(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn set(&mut self, index: usize, on: bool) {
        let bit = 1 << (index % 64);
        if on { self.0[index / 64] |= bit } else { self.0[index / 64] &= !bit }
    }

    /// The smallest number that is not in it, or one past its end.
    fn first_clear(&self) -> usize {
        let full = self.0.iter().take_while(|word| **word == u64::MAX).count();
        full * 64 + self.0.get(full).map_or(0, |word| word.trailing_ones() as usize)
    }
}
