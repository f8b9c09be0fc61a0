//! A whole run: start, trouble, peace, verdict.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate::Client;
use quorate::kv::Random;
use tokio::time::{Instant, sleep};

use crate::contest::Contest;
use crate::crew::Crew;
use crate::history::Historian;
use crate::judge::{Verdict, judge};
use crate::options::Options;
use crate::record::{Hold, Moment, now};
use crate::report::Report;
use crate::servers::{Cluster, Release};
use crate::trouble::{self, Journal};

/// Within this time, and three ttls, of the end of all trouble everybody has had its turn again.
const PEACE: Duration = Duration::from_secs(10);

/// How long everybody may take to get its first turn.
const START: Duration = Duration::from_mins(1);

/// What all but the trouble itself may take.
const REST: Duration = Duration::from_mins(4);

/// Runs as the options say, prints what came of it, and tells whether it was good.
pub(crate) async fn run<V: Release<Cluster: Historian>>(options: &Options<V>) -> bool {
    println!("{options}");
    let limit = options.length + REST;
    let ended = tokio::time::timeout(limit, torment(options)).await;
    if ended.is_err() {
        println!("it did not come to its end within {limit:?}; seed {}", options.seed);
    }
    ended.unwrap_or(false)
}

async fn torment<V: Release<Cluster: Historian>>(options: &Options<V>) -> bool {
    let mut cluster = options.servers.clone().start().await;
    cluster.record().await;
    let (url, ttl) = (cluster.url(""), V::Cluster::TTL);
    let observer = Client::builder(url).connect().await.expect("the store is there");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/chaos/{}", options.seed));
    let mut crew = Crew::start(&cluster, options.seed, options.guarded, &kept).await;
    let journal = Arc::new(Journal::default());
    let mut idle = starved(&crew, Duration::ZERO, START).await;
    let began = now();

    let end = Instant::now() + options.length;
    let chances = [Random::seeded(options.seed), Random::seeded(options.seed.wrapping_add(1))];
    let [servers, clients] = chances;
    tokio::join!(
        trouble::members(&mut cluster, servers, &journal, V::Cluster::REST, end),
        trouble::workers(&crew, &observer, clients, &journal, ttl, end),
    );

    let healed = now();
    let peace = PEACE + 3 * ttl;
    let (again, leads) = tokio::join!(starved(&crew, healed, peace), leader_stands(&observer, peace));
    idle.extend(again);
    let recovered = now().saturating_sub(healed);
    crew.end().await;
    let history = cluster.history().await;

    let mut verdict = Verdict::default();
    let mut turns = Vec::new();
    for contest in Contest::ALL {
        let holds: Vec<Hold> = crew.turns(contest).into_iter().flat_map(|(_, holds)| holds).collect();
        verdict.add(judge(contest, &history, &holds, &journal.pauses()));
        turns.push((contest, holds));
    }
    verdict.problems.extend(idle.into_iter().map(|id| format!("{id} did not get its turn in time")));
    if !leads {
        verdict.problems.push("nobody led when all was well again".to_owned());
    }
    let length = healed.saturating_sub(began);
    if cluster.lines().is_some() && !journal.has(trouble::DESERTED) {
        verdict.problems.push(format!("no {}", trouble::DESERTED));
    }
    let report =
        Report { servers: options.servers(), seed: options.seed, length, recovered, turns, verdict, journal };
    print!("{report}");
    let good = report.verdict.problems.is_empty();
    if good {
        crew.forget();
    } else {
        keep(&kept, &cluster, &report);
    }
    good
}

/// Waits until everybody got a turn after it asked for one, or had one, `since` then. Returns those that did not.
async fn starved(crew: &Crew, since: Moment, patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    loop {
        let turns = Contest::ALL.into_iter().flat_map(|contest| crew.turns(contest));
        let without = turns.filter(|(_, holds)| !holds.iter().any(|hold| hold.acquired > since));
        let without: Vec<_> = without.map(|(id, _)| id.to_owned()).collect();
        if without.is_empty() || Instant::now() > deadline {
            return without;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Whether somebody leads soon.
async fn leader_stands(observer: &Client, patience: Duration) -> bool {
    let follower = observer.follower(Contest::Election.name()).expect("a good name");
    let look = async {
        while !matches!(follower.leader().await, Ok(Some(_))) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(patience, look).await.is_ok()
}

/// Writes what the logs of the workers do not tell to where these go.
fn keep(kept: &Path, cluster: &dyn Cluster, report: &Report) {
    std::fs::create_dir_all(kept).expect("the directory is made");
    let write = |name: &str, text: String| std::fs::write(kept.join(name), text).expect("it is written");
    for member in 0..cluster.addresses().len() {
        write(&format!("member-{member}.log"), cluster.log(member));
    }
    let lines = report.journal.faults().into_iter().map(|fault| {
        let (from, to) = (fault.from.as_nanos(), fault.to.as_nanos());
        format!("{from} {to} {} ({})\n", fault.kind, fault.whose)
    });
    write("faults.log", lines.collect());
    write("report.txt", report.to_string());
}
