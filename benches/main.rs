//! How fast it is, beside the raw clients of the same servers; `scripts/bench` runs it, and `src/docs/performance.md` says
//! what it means.
#![expect(clippy::expect_used, clippy::panic, reason = "as in tests, whatever fails ends the run")]
#![expect(clippy::future_not_send, reason = "all runs on one thread")]

mod arena;
mod child;
mod contest;
mod floor;
mod metrics;
mod options;
mod program;
#[path = "../tests/kit/proxy.rs"]
#[allow(dead_code, reason = "the kit needs it")]
mod proxy;
mod report;
#[path = "../tests/kit/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests need more of it")]
mod servers;
mod work;

use std::path::Path;
use std::process::ExitCode;

use arena::Arena;
use contest::contest;
use options::Options;
use report::Row;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some(("--child", what)) = arguments.split_first().map(|(first, rest)| (&**first, rest)) {
        runtime.block_on(child::run(what));
        return ExitCode::SUCCESS;
    }
    let options = match Options::read(arguments) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    place_data(&options, &directory);
    let rows = runtime.block_on(measure(&options, &directory));
    print!("{}", report::table(&rows));
    eprintln!("results and plots are in {}", directory.display());
    ExitCode::SUCCESS
}

/// Where the servers keep their data: in memory, where syncing is free, or where the build is.
fn place_data(options: &Options, directory: &Path) {
    let data = if options.disk { directory.join("data") } else { "/dev/shm".into() };
    std::fs::create_dir_all(&data).expect("the directory is made");
    tempfile::env::override_temp_dir(&data).expect("nobody asked before");
}

/// Measures all, and writes down what there is after each: a run that fails keeps what came before.
async fn measure(options: &Options, directory: &Path) -> Vec<Row> {
    let order = metrics::all();
    let mut rows = Vec::new();
    for backend in &options.backends {
        let arena = Arena::open(backend).await;
        for metric in metrics::all().into_iter().filter(|metric| options.wants(metric.name)) {
            let mut contestants = (metric.contestants)(&arena, options.scale).await;
            if contestants.is_empty() {
                continue;
            }
            eprintln!("{backend}: {}", metric.name);
            contestants.extend(options.peers.iter().filter_map(|peer| program::peer(peer, &metric, &arena)));
            let rounds =
                metric.rounds.min(if options.scale == metrics::Scale::Quick { 3 } else { usize::MAX });
            let reached = contest(&arena, contestants, rounds).await;
            let bar = (metric.bar)(backend);
            rows.push(Row { metric: metric.name, backend: arena.backend, unit: metric.unit, bar, reached });
            // By metric, and each in the order of the stores.
            rows.sort_by_key(|row: &Row| order.iter().position(|metric| metric.name == row.metric));
            report::write(directory, &rows).expect("the results are written");
        }
    }
    rows
}
