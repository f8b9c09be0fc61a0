//! The table, as Markdown.

use std::fmt::{self, Display, Write as _};

use super::{Row, Spread};
use crate::contest::{Reached, Role};
use crate::metrics::Bar;

pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| metric | store | quorate | floor | same requests | peers | requests | to the floor | to the same | bar | met |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        writeln!(table, "{}", line(row)).expect("a string grows");
    }
    table
}

fn line(row: &Row) -> String {
    let cells = |role| row.of(role).map(cell).collect::<Vec<_>>().join("; ");
    let named = |role| row.of(role).map(named).collect::<Vec<_>>().join("; ");
    let trips = |role| row.of(role).find_map(|reached| reached.trips);
    let requests = match (trips(Role::Quorate), trips(Role::Floor)) {
        (None, None) => String::new(),
        (ours, floor) => format!("{} / {}", count(ours), count(floor)),
    };
    let ratio = |to| row.ratio(to).map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    let peers: String = row.ahead().flat_map(|peer| [", for ", &peer.name]).collect();
    [
        row.metric.to_owned(),
        row.backend.to_owned(),
        format!("{} {}", cells(Role::Quorate), row.unit),
        named(Role::Floor),
        cells(Role::Alike),
        named(Role::Peer),
        requests,
        ratio(Role::Floor),
        ratio(Role::Alike),
        row.bar.to_string(),
        row.verdict().map(|verdict| verdict.to_string()).unwrap_or_default() + &peers,
    ]
    .iter()
    .fold(String::from("|"), |line, cell| line + " " + cell + " |")
}

fn named(reached: &Reached) -> String {
    format!("{} {}", reached.name, cell(reached))
}

fn cell(reached: &Reached) -> String {
    reached.spread().map(|spread| spread.to_string()).unwrap_or_default()
}

fn count(trips: Option<f64>) -> String {
    trips.map_or_else(|| "–".to_owned(), |trips| format!("{trips:.2}"))
}

/// Three digits that say something.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}–{}]", digits(self.median), digits(self.least), digits(self.most))
    }
}

impl Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most:.2} ×"),
            Self::AtLeast(least) => write!(f, "≥ {least:.2} ×"),
            Self::Below(most) => write!(f, "≤ {}", digits(*most)),
            Self::None => Ok(()),
        }
    }
}
