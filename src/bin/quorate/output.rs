//! What is printed: data on stdout, everything else on stderr.

use std::io::{IsTerminal, Write as _};

use serde_json::Value;

use crate::exit::{Exit, Failure};

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One object a line.
    Json,
}

/// Prints a line of data. Whoever closed the other end wants no more: that ends this process, as a signal would.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())?;
    bytes(b"\n")
}

/// Prints bytes as they are.
pub(crate) fn bytes(data: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(128 + 13),
        Err(error) => Err(Failure::command(74, format!("stdout cannot be written: {error}"))),
    }
}

/// Prints one object on a line of its own.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// Prints rows in aligned columns, the first of them being the head.
pub(crate) fn table(rows: &[Vec<String>]) -> Result<(), Failure> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for (nth, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let text = cells.join("  ");
        let text = text.trim_end();
        line(&if nth == 0 { styled(text, "1", std::io::stdout().is_terminal()) } else { text.to_owned() })?;
    }
    Ok(())
}

/// Says something on stderr. What cannot be said is not said: nothing depends on it.
pub(crate) fn note(text: &str) {
    let mut err = std::io::stderr().lock();
    let name = styled("quorate:", "2", err.is_terminal());
    let _ = writeln!(err, "{name} {text}");
}

fn styled(text: &str, style: &str, terminal: bool) -> String {
    let wanted = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    if wanted { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Starts the log on stderr, of what `RUST_LOG` names: a level such as `debug`, or `quorate=debug`.
pub(crate) fn log() {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let Ok(wanted) = std::env::var("RUST_LOG") else { return };
    let targets: Targets = wanted.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::WARN));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(targets).with(layer).init();
}

/// An answer that is no, and what is said about it.
pub(crate) fn no(text: &str) -> Exit {
    note(text);
    Exit::NO
}
