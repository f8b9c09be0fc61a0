//! The figures of a run, as one table.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::contest::Contest;
use crate::judge::{Verdict, longest_gap};
use crate::record::Hold;
use crate::trouble::Journal;

/// How many of the problems are shown.
const SHOWN: usize = 20;

pub(crate) struct Report {
    pub(crate) servers: String,
    pub(crate) seed: u64,
    /// How long there was trouble, and how long until everybody had its turn again.
    pub(crate) length: Duration,
    pub(crate) recovered: Duration,
    pub(crate) turns: Vec<(Contest, Vec<Hold>)>,
    pub(crate) verdict: Verdict,
    pub(crate) journal: Arc<Journal>,
}

impl Report {
    fn rows(&self) -> Vec<(String, String)> {
        let Self { verdict, .. } = self;
        let mut rows = vec![
            ("servers".to_owned(), self.servers.clone()),
            ("seed".to_owned(), self.seed.to_string()),
            ("trouble for".to_owned(), format!("{} s", self.length.as_secs())),
        ];
        for (kind, count) in self.journal.by_kind() {
            rows.push((format!("faults: {kind}"), count.to_string()));
        }
        for (contest, holds) in &self.turns {
            let (turns, lost, gap) = match contest {
                Contest::Lock => ("locks granted", "locks lost", "longest time nobody held"),
                Contest::Election => ("terms", "terms lost", "longest time nobody led"),
            };
            // What a killed process had is not counted as lost: nobody was there to lose it.
            let ends = holds.iter().filter_map(|hold| hold.end.as_deref());
            rows.push((turns.to_owned(), holds.len().to_string()));
            rows.push((lost.to_owned(), ends.filter(|end| *end != "released").count().to_string()));
            rows.push((gap.to_owned(), shown(longest_gap(holds))));
        }
        let writes: usize = self.turns.iter().flat_map(|(_, holds)| holds).map(|hold| hold.wrote.len()).sum();
        rows.extend([
            ("guarded writes acknowledged".to_owned(), writes.to_string()),
            ("overlaps in the record".to_owned(), verdict.overlaps.to_string()),
            ("fences out of order".to_owned(), verdict.fences.to_string()),
            ("guarded writes out of order".to_owned(), verdict.writes.to_string()),
            ("increments lost".to_owned(), verdict.increments.to_string()),
            ("beliefs overlapping".to_owned(), verdict.beliefs.to_string()),
            ("the longest of them".to_owned(), shown(verdict.longest_belief)),
            ("those the store did not cause".to_owned(), verdict.inexcusable.to_string()),
            ("everybody's turn again after".to_owned(), shown(self.recovered)),
        ]);
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | figure |\n| --- | --- |")?;
        for (what, figure) in self.rows() {
            writeln!(f, "| {what} | {figure} |")?;
        }
        let problems = &self.verdict.problems;
        if problems.is_empty() {
            return writeln!(f, "\nNothing went wrong.");
        }
        writeln!(f, "\n{} things went wrong, with seed {}:", problems.len(), self.seed)?;
        problems.iter().take(SHOWN).try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}

fn shown(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
