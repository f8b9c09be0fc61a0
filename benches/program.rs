//! Other programs as contestants: peers, and this one as a process of its own.
//!
//! A program prints lines `peer backend metric value unit`, and what is in them counts. A peer is told the metric, the
//! backend and the server's address, measures once, and prints nothing of what it cannot do.

use std::path::Path;
use std::process::Stdio;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::arena::Arena;
use crate::contest::{Contestant, Role, Slice, Work};
use crate::metrics::Metric;

/// A program, run once for each slice.
pub(crate) struct Program<C> {
    pub(crate) command: C,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    /// What it does in one slice.
    pub(crate) operations: usize,
}

impl<C: FnMut() -> Command> Work for Program<C> {
    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let printed = run((self.command)()).await;
            let values = printed.lines().filter_map(|line| value(line, self.metric, self.unit)).collect();
            Slice { values, operations: self.operations }
        }
        .boxed_local()
    }
}

/// A peer.
pub(crate) fn peer(program: &Path, metric: &Metric, arena: &Arena) -> Option<Contestant> {
    let address = arena.address?.to_string();
    let name = program.file_name()?.to_string_lossy().into_owned();
    let (program, backend, of, tools) = (program.to_owned(), arena.backend, metric.name, arena.tools.clone());
    let command = move || {
        let mut command = Command::new(&program);
        command.args([of, backend, &address]).env("QUORATE_BENCH_TOOLS", &tools).kill_on_drop(true);
        command
    };
    let work = Program { command, metric: of, unit: metric.unit, operations: 1 };
    Some(Contestant::new(Role::Peer, &name, work))
}

/// All that it prints.
pub(crate) async fn run(mut command: Command) -> String {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut printed = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut printed).await.expect("it is text");
    assert!(child.wait().await.expect("it ends").success(), "{command:?} failed: {printed}");
    printed
}

/// What the line says of the metric.
pub(crate) fn value(line: &str, metric: &str, unit: &str) -> Option<f64> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words[..] {
        [_, _, of, value, said] if of == metric => {
            assert_eq!(said, unit, "{metric} is measured in {unit}");
            Some(value.parse().expect("a number"))
        }
        _ => None,
    }
}
