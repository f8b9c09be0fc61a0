//! One replica: it stands for election, follows while it does not lead, and works while it does.

use std::io::Write as _;
use std::time::Duration;

use futures_util::StreamExt;
use quorate::Client;
use quorate::discovery::Instance;
use quorate::election::{Candidate, Term};
use quorate::kv::{BoxError, ErrorKind};
use tokio_util::sync::CancellationToken;

/// The election they stand in, and the service the leader registers as.
pub(crate) const NAME: &str = "leader-example";

/// Stands and follows until `stop`, then hands over.
pub(crate) async fn serve(client: &Client, stop: CancellationToken) -> Result<(), BoxError> {
    let candidate = client.candidate(NAME)?.data(format!("pid {}", std::process::id()));
    let standing = candidate.run(stop, |term| lead(client.clone(), term));
    tokio::select! {
        biased;
        stood = standing => stood?,
        () = follow(client, &candidate) => {}
    }
    Ok(())
}

/// Says whom this replica follows, whenever that changes.
async fn follow(client: &Client, candidate: &Candidate) {
    let Ok(follower) = client.follower(NAME) else { return };
    let mut leaders = follower.leaders();
    let mut following = None;
    while let Some(leader) = leaders.next().await {
        let leader = leader.filter(|leader| leader.id != candidate.id());
        let term = leader.as_ref().map(|leader| leader.fence);
        if term != following
            && let Some(leader) = leader
        {
            say(&format!("following {} fence={}", leader.id, leader.fence));
        }
        following = term;
    }
}

/// What the leader does: it registers itself, and writes under its guard, which no former leader can.
async fn lead(client: Client, term: Term) -> Result<(), BoxError> {
    say(&format!("leader fence={}", term.fence()));
    let instance =
        Instance::new(NAME, term.id(), format!("127.0.0.1:{}", std::process::id() % 50_000 + 10_000));
    let registration = client.register(instance).await?;
    let mut beats = tokio::time::interval(Duration::from_millis(100));
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = term.stopped() => break,
            _ = beats.tick() => {}
        }
        let record = format!("leader-example/terms/{:020}", term.fence().get());
        match term.put(record, term.id().to_owned()).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::SessionLost => break,
            Err(error) => eprintln!("{}: {error}", term.id()),
        }
    }
    registration.deregister().await;
    Ok(())
}

/// One line on stdout, at once.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        // Whoever read the lines is gone, and so is the reason to go on.
        std::process::exit(0);
    }
}
