//! Looking at ten thousand members and picking one: no store takes part.

use futures_util::FutureExt as _;
use quorate::discovery::providers::Nodes;
use quorate::discovery::{Members, RoundRobin};

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role, Work};
use crate::work::many;

pub(super) fn metrics() -> Vec<Metric> {
    vec![
        Metric {
            name: "members-pick",
            unit: "ns",
            bar: |_| Bar::Below(100.0),
            rounds: 9,
            contestants: |arena, scale| alone(arena, scale, pick).boxed_local(),
        },
        Metric {
            name: "members-lookup",
            unit: "ns",
            bar: |_| Bar::None,
            rounds: 9,
            contestants: |arena, scale| alone(arena, scale, lookup).boxed_local(),
        },
    ]
}

/// Once, where there is no server.
async fn alone<W: Work + 'static>(
    arena: &Arena,
    scale: Scale,
    work: impl FnOnce(Members, usize) -> W,
) -> Vec<Contestant> {
    if arena.backend != "embedded" {
        return Vec::new();
    }
    let members = Nodes::new("web", "10.0.[0:39].[1:250]:80").expect("a list");
    let members = Members::new(members).expect("there is a runtime");
    assert_eq!(members.ready().await.instances().len(), 10_000);
    vec![Contestant::new(Role::Quorate, "quorate", work(members, scale.of(100_000)))]
}

fn pick(members: Members, operations: usize) -> impl Work + use<> {
    let turns = RoundRobin::new();
    many(operations, move || {
        std::hint::black_box(members.pick(&turns).expect("there are some"));
    })
}

fn lookup(members: Members, operations: usize) -> impl Work + use<> {
    many(operations, move || {
        let found = members.snapshot().get(std::hint::black_box("10.0.20.125:80")).is_some();
        assert!(found, "it is one of them");
    })
}
