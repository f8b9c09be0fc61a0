//! Runs seeds, and shows the first that breaks something.

use std::ops::Range;
use std::process::ExitCode;

use crate::families::{self, Family};
use crate::world::History;

/// One run of one seed.
pub(crate) fn run(family: Family, seed: u64) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime is built");
    runtime.block_on((family.run)(seed, family.climate))
}

/// A seed that breaks something.
pub(crate) struct Found {
    family: Family,
    seed: u64,
    what: String,
    history: History,
}

/// The first of these seeds that breaks something.
pub(crate) fn first(family: Family, seeds: Range<u64>) -> Option<Found> {
    first_of(family, seeds, "")
}

/// The first of these seeds that breaks a rule, as what it says shows.
fn first_of(family: Family, seeds: Range<u64>, rule: &str) -> Option<Found> {
    seeds.into_iter().find_map(|seed| {
        let history = run(family, seed);
        let found = history.found().filter(|what| what.contains(rule));
        found.map(|what| Found { family, seed, what, history })
    })
}

impl Found {
    /// The history up to what must not be, and how to see it again.
    pub(crate) fn report(&self) -> String {
        let lines = self.history.lines();
        let end = lines.iter().position(|line| line.contains("VIOLATION")).unwrap_or(lines.len() - 1);
        let shown = lines[end.saturating_sub(60)..=end].join("\n");
        let Self { family, seed, what, .. } = self;
        format!("{shown}\n{what}\nREPRODUCE WITH scripts/simulate --family {} --seed {seed}", family.name)
    }
}

/// `simulate [--family NAME] [--from K] [--seeds N] [--seed K] [--brief [--rule TEXT]]`
pub(crate) fn command(options: &[String]) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let option = |name: &str| {
        let at = options.iter().position(|option| option == name)?;
        options.get(at + 1).map(String::as_str)
    };
    let number = |name: &str| option(name).and_then(|text| text.parse::<u64>().ok());
    let wanted = option("--family");
    let (from, seeds) = (number("--from").unwrap_or(0), number("--seeds").unwrap_or(2_000));
    if options.iter().any(|option| option == "--brief") {
        return brief(from, seeds, option("--rule").unwrap_or_default());
    }
    let mut ok = true;
    for family in families::all().into_iter().filter(|family| wanted.is_none_or(|name| name == family.name)) {
        if let Some(seed) = number("--seed") {
            let history = run(family, seed);
            println!("{}", history.lines().join("\n"));
            ok &= history.found().is_none();
            continue;
        }
        match spread(family, from..from + seeds, "") {
            None => println!("{}: {seeds} seeds from {from}, no violation", family.name),
            Some(found) => {
                println!("{}: seed {}: {}", family.name, found.seed, found.what);
                eprintln!("{}", found.report());
                ok = false;
            }
        }
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the first breach of a rule found in any family, a few seeds of each at a time.
fn brief(from: u64, seeds: u64, rule: &str) -> ExitCode {
    let portion = 100;
    for start in (from..from + seeds).step_by(portion as usize) {
        for family in families::all() {
            if let Some(found) = spread(family, start..start + portion, rule) {
                println!("FOUND {} {}: {}", family.name, found.seed, found.what);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Runs the seeds on all processors, in portions, and reports the smallest that breaks the rule.
fn spread(family: Family, seeds: Range<u64>, rule: &str) -> Option<Found> {
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let portion = 50;
    let mut start = seeds.start;
    while start < seeds.end {
        let found = std::thread::scope(|scope| {
            let begin = |nth: u64| {
                let from = (start + nth * portion).min(seeds.end);
                let to = (from + portion).min(seeds.end);
                scope.spawn(move || first_of(family, from..to, rule))
            };
            let running: Vec<_> = (0..workers).map(begin).collect();
            running
                .into_iter()
                .filter_map(|thread| thread.join().ok().flatten())
                .min_by_key(|found| found.seed)
        });
        if found.is_some() {
            return found;
        }
        start += workers * portion;
    }
    None
}
