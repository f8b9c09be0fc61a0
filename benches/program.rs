//! Other programs as contestants: peers, and this one as a process of its own.
//!
//! A program prints lines `peer backend metric value unit`, and what is in them counts; it ends by itself, or when its
//! input does.

use std::process::Stdio;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::contest::{Slice, Work};

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
