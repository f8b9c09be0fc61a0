//! What came of it: a table for people, a file for programs, and a plot for each metric.

mod plot;
mod table;

use std::fmt::{self, Display};
use std::path::Path;

use serde_json::{Value, json};

use crate::contest::{Reached, Role, median};
use crate::metrics::{Bar, is_hand_over, lead};

pub(crate) use table::table;

/// What all reached in one metric at one place.
pub(crate) struct Row {
    pub(crate) metric: &'static str,
    pub(crate) backend: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
    pub(crate) reached: Vec<Reached>,
}

/// The median of the rounds, the least and the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Whether quorate is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// It is beside the same requests by hand, which take the server longer than the floor's.
    MetByRequests,
    Missed,
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "yes",
            Self::MetByRequests => "to the same requests",
            Self::Missed => "**no**",
        })
    }
}

impl Reached {
    pub(crate) fn spread(&self) -> Option<Spread> {
        let mut rounds = self.rounds.clone();
        let median = median(&mut rounds)?;
        Some(Spread { median, least: *rounds.first()?, most: *rounds.last()? })
    }
}

impl Row {
    fn of(&self, role: Role) -> impl Iterator<Item = &Reached> {
        self.reached.iter().filter(move |reached| reached.role == role)
    }

    fn median(&self, role: Role) -> Option<f64> {
        Some(self.of(role).next()?.spread()?.median)
    }

    /// Of quorate to the floor, or to the same requests by hand.
    pub(crate) fn ratio(&self, to: Role) -> Option<f64> {
        Some(self.median(Role::Quorate)? / self.median(to)?)
    }

    /// The peers that are too close.
    pub(crate) fn ahead(&self) -> impl Iterator<Item = &Reached> {
        let ours = self.median(Role::Quorate).unwrap_or(0.0);
        let close = move |spread: Spread| match self.bar {
            Bar::AtLeast(_) => spread.median * lead(self.metric) >= ours,
            _ => spread.median <= ours * lead(self.metric),
        };
        self.of(Role::Peer).filter(move |peer| peer.spread().is_some_and(close))
    }

    /// Whether the bar is met; nothing where there is none, or nothing to compare with.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let within = |ratio: f64| match self.bar {
            Bar::AtMost(most) => ratio <= most,
            Bar::AtLeast(least) => ratio >= least,
            Bar::Below(_) | Bar::None => false,
        };
        let is_met = match self.bar {
            Bar::AtMost(_) | Bar::AtLeast(_) => within(self.ratio(Role::Floor)?),
            Bar::Below(most) => self.median(Role::Quorate)? <= most,
            Bar::None => self.ahead().next().map(|_| false)?,
        };
        Some(if self.ahead().next().is_some() {
            Verdict::Missed
        } else if is_met {
            Verdict::Met
        } else if self.ratio(Role::Alike).is_some_and(within) && !self.is_within_reach(within) {
            Verdict::MetByRequests
        } else {
            Verdict::Missed
        })
    }

    /// Whether the contract's requests by hand meet the bar of a hand-over, so that ours might. Of single operations it counts
    /// what the same requests take in any case.
    fn is_within_reach(&self, within: impl Fn(f64) -> bool) -> bool {
        let by_hand = self.median(Role::Alike).zip(self.median(Role::Floor));
        is_hand_over(self.metric) && by_hand.is_some_and(|(alike, floor)| within(alike / floor))
    }

    fn json(&self) -> Value {
        let reached = |reached: &Reached| {
            json!({
                "name": reached.name,
                "median": reached.spread().map(|spread| spread.median),
                "rounds": reached.rounds,
                "requests": reached.trips,
            })
        };
        json!({
            "metric": self.metric,
            "backend": self.backend,
            "unit": self.unit,
            "bar": self.bar.to_string(),
            "ratio": self.ratio(Role::Floor),
            "ratio to the same requests": self.ratio(Role::Alike),
            "met": self.verdict().map(|verdict| verdict.to_string()),
            "reached": self.reached.iter().map(reached).collect::<Vec<_>>(),
        })
    }
}

/// Writes `results.json`, `table.md` and a plot for each metric.
pub(crate) fn write(directory: &Path, rows: &[Row]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let all = Value::from(rows.iter().map(Row::json).collect::<Vec<_>>());
    std::fs::write(directory.join("results.json"), format!("{all:#}\n"))?;
    std::fs::write(directory.join("table.md"), table(rows))?;
    let mut metrics: Vec<_> = rows.iter().map(|row| row.metric).collect();
    metrics.dedup();
    for metric in metrics {
        let of_it: Vec<_> = rows.iter().filter(|row| row.metric == metric).collect();
        std::fs::write(directory.join(format!("{metric}.svg")), plot::plot(metric, &of_it))?;
    }
    Ok(())
}
