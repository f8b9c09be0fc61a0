//! What was found out, for people and for programs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Findings, promises};
use crate::exit::Failure;
use crate::output;

/// How wide a text may be, in characters.
const WIDTH: usize = 90;

/// The time that a bound is worked out for.
fn slack(findings: &Findings) -> Duration {
    findings.limits.expiry_slack(findings.renewals.ttl)
}

pub(super) fn object(findings: &Findings) -> Value {
    let latencies: Map<String, Value> = findings
        .latencies
        .iter()
        .map(|latency| {
            let times = json!({
                "min_us": micros(latency.min),
                "median_us": micros(latency.median),
                "p99_us": micros(latency.p99),
            });
            (latency.operation.to_owned(), times)
        })
        .collect();
    let limits = &findings.limits;
    json!({
        "store": limits.backend,
        "server": limits.server.as_deref(),
        "url": findings.url,
        "namespace": findings.namespace,
        "connect_us": micros(findings.connected_in),
        "samples": findings.samples,
        "latency": latencies,
        "limits": {
            "max_key_bytes": limits.max_key,
            "max_value_bytes": limits.max_value,
            "max_commit_operations": limits.max_txn_ops,
            "max_commit_bytes": limits.max_txn_bytes,
            "min_ttl_ms": millis(*limits.ttl.start()),
            "max_ttl_ms": millis(*limits.ttl.end()),
        },
        "session": session(findings),
        "clocks": { "suspended_ms": findings.suspended.map(millis) },
        "promises": promised(),
        "particulars": particulars(findings),
        "not_promised": promises::not_promised(),
    })
}

fn session(findings: &Findings) -> Value {
    let renewals = &findings.renewals;
    json!({
        "ttl_ms": millis(renewals.ttl),
        "margin_ms": millis(renewals.margin),
        "slack_ms": millis(slack(findings)),
        "renewed_every_ms": millis(renewals.every()),
        "renewal_given_up_after_ms": millis(renewals.patience()),
        "renewal_p99_us": micros(renewals.slow),
        "renewals_in_time": renewals.are_in_time(),
    })
}

fn promised() -> Vec<Value> {
    let row = |row: Vec<String>| {
        let [name, promise, needs] = <[String; 3]>::try_from(row).ok()?;
        Some(json!({"name": name, "promise": promise, "needs": needs}))
    };
    promises::promised().into_iter().filter_map(row).collect()
}

fn particulars(findings: &Findings) -> Map<String, Value> {
    let all = promises::derived(&findings.limits).into_iter();
    let all = all.chain(promises::in_particular(findings.limits.backend));
    all.map(|[what, how]| (what.replace(' ', "_"), how.into())).collect()
}

pub(super) fn tables(findings: &Findings) -> Result<(), Failure> {
    let limits = &findings.limits;
    let server = limits.server.as_deref().map(|server| format!(" ({server})")).unwrap_or_default();
    let place = findings.namespace.as_ref().map(|place| format!(", below {place}")).unwrap_or_default();
    let connected = shown(findings.connected_in);
    output::line(&format!(
        "{}{server} at {}{place}, connected in {connected}",
        limits.backend, findings.url
    ))?;

    let mut rows = vec![strings(["LATENCY", "MIN", "MEDIAN", "P99"])];
    rows.extend(findings.latencies.iter().map(|latency| {
        let [min, median, p99] = [latency.min, latency.median, latency.p99].map(shown);
        vec![told(latency.operation).to_owned(), min, median, p99]
    }));
    section(&rows)?;
    section(&limit_rows(findings))?;
    section(&session_rows(findings))?;

    let mut rows = vec![strings(["THIS STORE", ""])];
    let particulars = promises::derived(limits).into_iter().chain(promises::in_particular(limits.backend));
    rows.extend(particulars.flat_map(|[what, how]| wrapped(&what, &how)));
    section(&rows)?;
    let mut rows = vec![strings(["PROMISED", ""])];
    for promise in promises::promised() {
        let [name, promise, needs] = &promise[..] else { continue };
        rows.extend(wrapped(name, promise));
        rows.extend(wrapped("", &format!("needs: {needs}")));
    }
    section(&rows)?;
    let mut rows = vec![strings(["NOT PROMISED", ""])];
    rows.extend(wrapped("", &promises::not_promised()));
    section(&rows)
}

/// A name, and a text beside it in as many lines as it takes.
fn wrapped(name: &str, text: &str) -> Vec<Vec<String>> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(lines).map(|(name, line)| vec![name.to_owned(), line]).collect()
}

fn limit_rows(findings: &Findings) -> Vec<Vec<String>> {
    let limits = &findings.limits;
    let (least, most) = (limits.ttl.start(), limits.ttl.end());
    vec![
        strings(["LIMIT", ""]),
        vec!["key".into(), format!("{} bytes", limits.max_key)],
        vec!["value".into(), format!("{} bytes", limits.max_value)],
        vec!["commit".into(), format!("{} operations, {} bytes", limits.max_txn_ops, limits.max_txn_bytes)],
        vec!["ttl".into(), format!("{least:?} to {most:?}")],
    ]
}

fn session_rows(findings: &Findings) -> Vec<Vec<String>> {
    let renewals = &findings.renewals;
    let (every, patience) = (renewals.every(), renewals.patience());
    let verdict = if renewals.are_in_time() { "well in time" } else { "TOO SLOW" };
    let suspended = match findings.suspended {
        Some(Duration::ZERO) => "not since it started".to_owned(),
        Some(suspended) => format!("for {suspended:?} since it started; deadlines count that"),
        None => "not known on this system".to_owned(),
    };
    vec![
        strings(["TIME", ""]),
        vec!["ttl".into(), format!("{:?}; believed for {:?} less", renewals.ttl, renewals.margin)],
        vec![
            "a crashed holder".into(),
            format!("is replaced after {:?} at most", renewals.ttl + slack(findings)),
        ],
        vec![
            "renewal".into(),
            format!(
                "every {every:?}, given up after {patience:?}; takes {} (p99): {verdict}",
                shown(renewals.slow)
            ),
        ],
        vec!["this machine slept".into(), suspended],
    ]
}

/// What an operation is called where there is room.
fn told(operation: &str) -> &str {
    match operation {
        "list" => "list (10 entries)",
        "commit" => "commit (1 check, 2 puts)",
        "event" => "put, until a watch tells",
        other => other,
    }
}

fn section(rows: &[Vec<String>]) -> Result<(), Failure> {
    output::line("")?;
    output::table(rows)
}

fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// To three digits or so, in the unit that suits it.
fn shown(time: Duration) -> String {
    if time < Duration::from_millis(1) { format!("{time:.0?}") } else { format!("{time:.2?}") }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_and_nothing_is_left_out() {
        let text = "a word after another ".repeat(20);
        let rows = wrapped("name", text.trim_end());
        assert!(rows.len() > 4 && rows[0][0] == "name" && rows[1][0].is_empty(), "{rows:?}");
        assert!(rows.iter().all(|row| row[1].len() <= WIDTH));
        let lines: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
        assert_eq!(lines.join(" "), text.trim_end());
    }
}
