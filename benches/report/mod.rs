//! What came of it: a table for people, a file for programs, and a plot for each metric.

mod plot;
mod table;

use std::path::Path;

use serde_json::{Value, json};

use crate::contest::{Reached, Role, median};
use crate::metrics::{Bar, lead};

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

    /// Of quorate to what counts as the floor.
    pub(crate) fn ratio(&self) -> Option<f64> {
        Some(self.median(Role::Quorate)? / self.median(Role::Floor)?)
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
    pub(crate) fn is_met(&self) -> Option<bool> {
        if self.ahead().next().is_some() {
            return Some(false);
        }
        match self.bar {
            Bar::AtMost(most) => Some(self.ratio()? <= most),
            Bar::AtLeast(least) => Some(self.ratio()? >= least),
            Bar::Below(most) => Some(self.median(Role::Quorate)? <= most),
            Bar::None => None,
        }
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
            "ratio": self.ratio(),
            "met": self.is_met(),
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
