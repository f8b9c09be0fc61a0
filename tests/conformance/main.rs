//! Every case of the conformance suite over every store, and broken stores that it must find out.

mod defects;
#[cfg(feature = "embedded")]
mod embedded;
mod narrow;
#[path = "../kit/remote/mod.rs"]
mod remote;
mod stores;
mod workers;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [mode, url] = &*arguments
        && mode == "serve"
    {
        return workers::serve(url);
    }
    let trials =
        stores::trials().chain(narrow::trials()).chain(workers::trials()).chain(defects::trials()).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
