//! Every case of the conformance suite over every store, and broken stores that it must find out.

mod defects;
#[cfg(feature = "embedded")]
mod embedded;
mod stores;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let trials = stores::trials().chain(defects::trials()).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
