//! The primitives in a simulated world: seeded, on paused time, with faults of all kinds, judged by an oracle.
//!
//! ```text
//! cargo test --test simulation                                      # what CI runs
//! scripts/simulate --seeds 200000 --from 0 [--family locks_mild]    # as many as you like
//! scripts/simulate --seed 4711 --family locks_mild                  # one, with its history
//! scripts/simulate --bad                                            # the known-bad variants, each of which is caught
//! ```
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "numbers here are small, or chance"
)]
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

mod families;
mod hunt;
mod linearizable;
mod switches;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// How many seeds of each family CI runs, in so many trials.
const SEEDS: u64 = 2_000;
const TRIALS: u64 = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["simulate", ..] => return hunt::command(&arguments[1..]),
        ["hunt"] => return switches::hunt(SEEDS),
        _ => {}
    }
    libtest_mimic::run(&Arguments::from_args(), trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for family in families::all() {
        for nth in 0..TRIALS {
            let (from, to) = (nth * SEEDS / TRIALS, (nth + 1) * SEEDS / TRIALS);
            let name = format!("{}::seeds_{from:04}_to_{:04}", family.name, to - 1);
            trials.push(Trial::test(name, move || match hunt::first(family, from..to) {
                None => Ok(()),
                Some(found) => Err(found.report().into()),
            }));
        }
        trials.push(Trial::test(
            format!("{}::the_same_seed_makes_the_same_history", family.name),
            move || {
                for seed in [1, 2, 3] {
                    let (once, again) = (hunt::run(family, seed), hunt::run(family, seed));
                    assert_eq!(once.lines(), again.lines(), "seed {seed}");
                }
                Ok(())
            },
        ));
    }
    trials.extend(families::registers::trials());
    trials.extend(linearizable::tests::trials());
    trials
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
