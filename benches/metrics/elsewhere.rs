//! From a holder to the next one in another process of the host, over the embedded store.

use std::future::ready;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tokio::process::Command;

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role, Slice, Work};
use crate::program::run;

pub(super) fn metrics() -> Vec<Metric> {
    vec![Metric {
        name: "hand-over-process",
        unit: "µs",
        bar: |_| Bar::Below(1000.0),
        rounds: 5,
        contestants: |arena, scale| ready(processes(arena, scale)).boxed_local(),
    }]
}

fn processes(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    if arena.backend != "embedded" {
        return Vec::new();
    }
    let make = arena.child("hold", scale.of(100));
    let namespace = arena.namespace();
    let two = Two { command: Box::new(move || make(namespace.as_str())) };
    vec![Contestant::new(Role::Quorate, "quorate", two)]
}

/// Two processes that want the same lock all the time.
struct Two {
    command: Box<dyn FnMut() -> Command>,
}

/// One turn of a holder.
struct Turn {
    fence: u64,
    process: usize,
    began: f64,
    ended: f64,
}

impl Work for Two {
    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let (one, other) = tokio::join!(run((self.command)()), run((self.command)()));
            let printed = [one, other];
            let turns = printed
                .iter()
                .enumerate()
                .flat_map(|(process, printed)| printed.lines().map(move |line| turn(process, line)));
            let mut turns: Vec<_> = turns.collect();
            turns.sort_by_key(|turn| turn.fence);
            let across = turns.windows(2).filter(|turns| turns[0].process != turns[1].process);
            let values: Vec<_> = across.map(|turns| (turns[1].began - turns[0].ended) / 1e3).collect();
            let operations = values.len();
            Slice { values, operations }
        }
        .boxed_local()
    }
}

fn turn(process: usize, line: &str) -> Turn {
    let words: Vec<_> = line.split(' ').collect();
    let [fence, began, ended] = words[..] else { panic!("it printed {line:?}") };
    let number = |word: &str| word.parse().expect("a number");
    Turn { fence: fence.parse().expect("a number"), process, began: number(began), ended: number(ended) }
}
