//! Whole deployments on paused time, and what judges their histories.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

mod linearizable;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let trials = linearizable::tests::trials().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
