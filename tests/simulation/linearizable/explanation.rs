//! Why no order explains a history, for a person to read.

use std::fmt::{self, Write};

use super::history::{History, Id};

/// Why no order explains a history.
#[derive(Debug)]
pub(crate) struct Explanation {
    operation: Id,
    text: String,
}

impl Explanation {
    /// Two operations that contradict each other whatever the order is.
    pub(super) fn contradiction(history: &History, operation: Id, other: Option<Id>, why: &str) -> Self {
        let mut text = format!("{why}:\n{}", line(history, operation));
        if let Some(other) = other.filter(|other| *other != operation) {
            text.push_str(&line(history, other));
        }
        Self { operation, text }
    }

    /// The history cannot be ordered up to the reply of `operation`, though it can up to any earlier one: `beside`
    /// were not ordered yet when it had to be, and `ways` is how far some orders came.
    pub(super) fn stuck(history: &History, operation: Id, beside: &[Id], ways: &[Way]) -> Self {
        let mut text =
            format!("no order explains the history up to this reply:\n{}", line(history, operation));
        if !beside.is_empty() {
            text.push_str("while these were under way or of unknown outcome:\n");
            text.extend(beside.iter().map(|other| line(history, *other)));
        }
        for way in ways {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "an order that comes so far leaves {} and ends in:", way.state);
            text.extend(way.last.iter().map(|step| line(history, *step)));
        }
        Self { operation, text }
    }

    /// The operation whose reply makes the smallest prefix that cannot be ordered.
    pub(crate) fn operation(&self) -> Id {
        self.operation
    }
}

/// An order of all that had to be ordered before the operation that cannot be.
#[derive(Debug)]
pub(super) struct Way {
    /// The state it leaves the key in.
    pub(super) state: String,
    /// Its last operations.
    pub(super) last: Vec<Id>,
}

fn line(history: &History, id: Id) -> String {
    format!("  {id} {}\n", history.call(id))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}
