//! Decides from the store's own history, and from what the workers said, whether anything went wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::contest::Contest;
use crate::history::Change;
use crate::record::{Hold, Moment};

/// For how long after a pause of a member the store may still end sessions early.
const AFTERMATH: Duration = Duration::from_secs(10);

/// What was found, of one contest or of all together.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Turns that were taken while another stood ahead in the record.
    pub(crate) overlaps: u64,
    /// Fences that are not larger than one granted before.
    pub(crate) fences: u64,
    /// Guarded writes with a smaller fence than the one before.
    pub(crate) writes: u64,
    /// Counts that are not one more than the one before, and acknowledged ones that are not there.
    pub(crate) increments: u64,
    /// Moments at which two believed that they hold, the longest such time, and how many of them nothing excuses.
    pub(crate) beliefs: u64,
    pub(crate) longest_belief: Duration,
    pub(crate) inexcusable: u64,
    /// All of the above that must not be, in words.
    pub(crate) problems: Vec<String>,
}

impl Verdict {
    pub(crate) fn add(&mut self, other: Self) {
        self.overlaps += other.overlaps;
        self.fences += other.fences;
        self.writes += other.writes;
        self.increments += other.increments;
        self.beliefs += other.beliefs;
        self.longest_belief = self.longest_belief.max(other.longest_belief);
        self.inexcusable += other.inexcusable;
        self.problems.extend(other.problems);
    }
}

/// Judges one contest. `pauses` are when members of the store stood still.
pub(crate) fn judge(
    contest: Contest,
    history: &[Change],
    holds: &[Hold],
    pauses: &[(Moment, Moment)],
) -> Verdict {
    let mut verdict = Verdict::default();
    let record = Record::read(contest, history, &mut verdict);
    for hold in holds {
        record.check(contest, hold, &mut verdict);
    }
    let mut holds: Vec<_> = holds.iter().collect();
    order_of_calls(&mut holds, &mut verdict);
    beliefs(&mut holds, pauses, &mut verdict);
    verdict
}

/// What the store says, without the workers.
#[derive(Default)]
struct Record {
    /// Every fence that was the smallest at some time.
    heads: BTreeSet<u64>,
    /// Every count that was written, with its fence.
    counts: BTreeSet<(u64, u64)>,
}

impl Record {
    fn read(contest: Contest, history: &[Change], verdict: &mut Verdict) -> Self {
        let mut record = Self::default();
        let queue = contest.queue().expect("a good name");
        let places = format!("{}/", queue.key());
        let mut standing: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut count, mut fence) = (0, 0);
        for Change { key, now } in history {
            let head = standing.values().min().copied();
            if key.starts_with(&places) {
                match now {
                    Some(stands) => standing.insert(key, stands.fence),
                    None => standing.remove(key.as_str()),
                };
                let next = standing.values().min().copied();
                if let Some(next) = next.filter(|_| next != head) {
                    record.lead(contest, next, verdict);
                }
            } else if key == contest.counter() {
                let value = now.as_ref().map(|stands| stands.value.as_str()).unwrap_or_default();
                let Some(written) = read_count(value) else {
                    verdict.increments += 1;
                    verdict.problems.push(format!("{contest:?}: the counter became {value:?}"));
                    continue;
                };
                check_write(contest, (count, fence), written, head, verdict);
                (count, fence) = (written.0, fence.max(written.1));
                record.counts.insert(written);
            }
        }
        record
    }

    /// Another place is the first.
    fn lead(&mut self, contest: Contest, fence: u64, verdict: &mut Verdict) {
        if let Some(last) = self.heads.last().filter(|last| **last >= fence) {
            verdict.fences += 1;
            verdict.problems.push(format!("{contest:?}: fence {fence} is the first after {last}"));
        }
        self.heads.insert(fence);
    }

    /// What a worker had must have been its by the record too.
    fn check(&self, contest: Contest, hold: &Hold, verdict: &mut Verdict) {
        let Hold { worker, fence, wrote, .. } = hold;
        if !self.heads.contains(fence) {
            verdict.overlaps += 1;
            verdict
                .problems
                .push(format!("{contest:?}: {worker} was granted {fence}, which was never first"));
        }
        for written in wrote.iter().filter(|written| !self.counts.contains(written)) {
            verdict.increments += 1;
            verdict.problems.push(format!("{contest:?}: {worker} was told that {written:?} is written"));
        }
    }
}

fn read_count(value: &str) -> Option<(u64, u64)> {
    let (count, fence) = value.split_once(' ')?;
    Some((count.parse().ok()?, fence.parse().ok()?))
}

fn check_write(
    contest: Contest,
    last: (u64, u64),
    (count, fence): (u64, u64),
    head: Option<u64>,
    verdict: &mut Verdict,
) {
    if head != Some(fence) {
        verdict.overlaps += 1;
        verdict.problems.push(format!("{contest:?}: {fence} wrote {count} while {head:?} was the first"));
    }
    if fence < last.1 {
        verdict.writes += 1;
        verdict.problems.push(format!("{contest:?}: {fence} wrote {count} after {} had written", last.1));
    }
    if count != last.0 + 1 {
        verdict.increments += 1;
        verdict.problems.push(format!("{contest:?}: {fence} wrote {count} after {}", last.0));
    }
}

/// Who asked after another had been granted its turn has the larger fence, and no two have the same.
fn order_of_calls(holds: &mut [&Hold], verdict: &mut Verdict) {
    let mut granted: Vec<_> = holds.iter().map(|hold| (hold.acquired, hold.fence)).collect();
    granted.sort_unstable();
    holds.sort_by_key(|hold| hold.called);
    let (mut before, mut seen, mut highest) = (0, BTreeSet::new(), 0);
    for hold in holds {
        while let Some((_, fence)) = granted.get(before).filter(|(at, _)| *at < hold.called) {
            highest = highest.max(*fence);
            before += 1;
        }
        if hold.fence <= highest || !seen.insert(hold.fence) {
            verdict.fences += 1;
            let (worker, fence) = (&hold.worker, hold.fence);
            verdict.problems.push(format!("{worker} was granted {fence}, and {highest} had been before"));
        }
    }
}

/// Counts the times at which one knew that it held when a later one was granted its turn already.
///
/// The store may cause that by ending a session early, and then either tells the holder so or was paused lately, which
/// is what makes it do so. Otherwise the holder counted on more time than it had.
fn beliefs(holds: &mut [&Hold], pauses: &[(Moment, Moment)], verdict: &mut Verdict) {
    holds.sort_by_key(|hold| hold.fence);
    let mut last: Option<&Hold> = None;
    for hold in holds {
        if let Some(last) = last.filter(|last| last.believed > hold.acquired) {
            let length = last.believed.abs_diff(hold.acquired);
            verdict.beliefs += 1;
            verdict.longest_belief = verdict.longest_belief.max(length);
            let told = last.end.as_ref().is_some_and(|end| end == "Revoked" || end == "Deleted");
            let lately =
                |(from, to): &(Moment, Moment)| *from <= last.believed && hold.acquired <= *to + AFTERMATH;
            if !told && !pauses.iter().any(lately) {
                verdict.inexcusable += 1;
                verdict.problems.push(format!(
                    "{} believed in {} for {length:?} after {} was granted {}, with {:?} to go; it ended: {:?}",
                    last.worker,
                    last.fence,
                    hold.worker,
                    hold.fence,
                    last.until.saturating_sub(last.believed),
                    last.end
                ));
            }
        }
        if last.is_none_or(|last| last.believed < hold.believed) {
            last = Some(hold);
        }
    }
}

/// The longest time in which nobody knew that it held.
pub(crate) fn longest_gap(holds: &[Hold]) -> Duration {
    let mut holds: Vec<_> = holds.iter().collect();
    holds.sort_by_key(|hold| hold.acquired);
    let mut gap = Duration::ZERO;
    let mut end = holds.first().map_or(Duration::ZERO, |hold| hold.acquired);
    for hold in holds {
        gap = gap.max(hold.acquired.saturating_sub(end));
        end = end.max(hold.believed);
    }
    gap
}
