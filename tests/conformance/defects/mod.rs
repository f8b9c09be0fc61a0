//! Stores that break one line of the contract each: the suite must find out every one.

mod broken;
mod keys;
mod numbers;
mod outcomes;
mod queues;
mod sessions;
mod sizes;
mod watches;
mod writes;

use std::collections::BTreeSet;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use quorate::kv::conformance::{self, Violation};

use crate::stores::{Time, runtime};
use broken::{Broken, Enter, Flaw, READ, Told};

/// A line of the contract, what breaks it, and how to make that.
type Defect = (u8, &'static str, fn() -> Arc<dyn Flaw>);

/// Lists flaws that have a default.
macro_rules! defects {
    ($($line:literal: $flaw:ident),* $(,)?) => {
        vec![$(($line, stringify!($flaw), || std::sync::Arc::new($flaw::default()))),*]
    };
}
use defects;

/// Nothing wrong.
struct Sound;

impl Flaw for Sound {}

fn all() -> Vec<Defect> {
    let groups = [
        writes::defects(),
        numbers::defects(),
        sessions::defects(),
        watches::defects(),
        keys::defects(),
        outcomes::defects(),
        sizes::defects(),
        queues::defects(),
    ];
    groups.into_iter().flatten().collect()
}

/// A trial for each defect, and those that ask whether there are enough.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let red = all().into_iter().map(|(line, name, flaw)| {
        Trial::test(format!("defects::line{line:02}_goes_red_{name}"), move || goes_red(line, &flaw()))
    });
    red.chain([
        Trial::test("defects::every_line_goes_red", every_line_goes_red),
        Trial::test("defects::every_case_goes_red", every_case_goes_red),
        Trial::test("defects::none_stays_green", stays_green),
    ])
}

/// What a store of this flaw is found guilty of by the cases of a line, or of all.
fn verdicts(line: Option<u8>, flaw: &Arc<dyn Flaw>) -> Result<Vec<Violation>, Failed> {
    let mut violations = Vec::new();
    for case in conformance::cases() {
        if line.is_none_or(|line| line == case.line) {
            let subject = Arc::new(Broken::new(Arc::clone(flaw)));
            violations.extend(runtime(Time::Paused)?.block_on(case.run(subject)).err());
        }
    }
    Ok(violations)
}

fn goes_red(line: u8, flaw: &Arc<dyn Flaw>) -> Result<(), Failed> {
    let violations = verdicts(Some(line), flaw)?;
    match violations.first() {
        Some(violation) if violation.line == line => Ok(()),
        Some(violation) => Err(format!("the violation names another line: {violation}").into()),
        None => Err(format!("no case of line {line} found out").into()),
    }
}

fn stays_green() -> Result<(), Failed> {
    let flaw: Arc<dyn Flaw> = Arc::new(Sound);
    let violations = verdicts(None, &flaw)?;
    violations.first().map_or(Ok(()), |violation| Err(violation.to_string().into()))
}

fn every_line_goes_red() -> Result<(), Failed> {
    let asked: BTreeSet<u8> = conformance::cases().iter().map(|case| case.line).collect();
    let broken: BTreeSet<u8> = all().iter().map(|(line, ..)| *line).collect();
    let lines: BTreeSet<u8> = (1..=13).collect();
    if asked == lines && broken == lines {
        return Ok(());
    }
    Err(format!("of the lines {lines:?}, {asked:?} are asked about and {broken:?} are broken").into())
}

/// A case that no defect makes fail may be one that cannot fail.
fn every_case_goes_red() -> Result<(), Failed> {
    let mut green: BTreeSet<&str> = conformance::cases().iter().map(|case| case.name).collect();
    for (line, _, flaw) in all() {
        for violation in verdicts(Some(line), &flaw())? {
            green.remove(violation.case);
        }
    }
    if green.is_empty() { Ok(()) } else { Err(format!("nothing makes these cases fail: {green:?}").into()) }
}
