//! What this program does as a process of its own, where memory, processor time or the way between processes is
//! measured. It prints lines as [peers](crate::program) do.

use std::io::{BufRead as _, stdin};
use std::time::Duration;

use quorate::Client;
use quorate::kv::Key;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::metrics::{instance, registered};

/// How long each holder keeps the lock, so that the other waits for it by then.
const HELD: Duration = Duration::from_millis(3);

/// How many are registered at once: it is about what they weigh, and what each needs while it waits is needed no more once it
/// stands.
const FEW: usize = 256;

/// How long it takes until nothing more comes of their beginning.
const SETTLED: Duration = Duration::from_secs(3);

/// Does `what` at the store behind `url`.
pub(crate) async fn run(arguments: &[String]) {
    let [what, url, namespace, count] = arguments else { panic!("WHAT URL NAMESPACE COUNT: {arguments:?}") };
    let client = Client::builder(url).namespace(Key::new(namespace).expect("a key"));
    let client = client.connect().await.expect("it lets us in");
    let count = count.parse().expect("a number");
    match &**what {
        "hold" => hold(&client, count).await,
        "weigh" => weigh(&client, count).await,
        _ => panic!("there is no {what}"),
    }
    client.close().await;
}

/// Holds the lock so many times, and prints its fence, and when each turn began and its end began, in nanoseconds of the
/// clock that all processes share.
async fn hold(client: &Client, count: usize) {
    let mutex = client.mutex("shared").expect("a name");
    for _ in 0..count {
        let guard = mutex.lock().await.expect("the session lives");
        let (fence, began) = (guard.fence(), nanoseconds());
        sleep(HELD).await;
        println!("{fence} {began} {}", nanoseconds());
        guard.release().await;
    }
}

fn nanoseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Registers so many, and prints what they weigh. With each line of input, it then prints what processor time has been used
/// so far.
#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
async fn weigh(client: &Client, count: usize) {
    // The session is opened, and whatever is made once.
    let first = client.register(instance(count)).await.expect("it is registered");
    let resident = memory();
    let all = registered(client, count, FEW).await;
    // By then what looks after them has read them all.
    sleep(SETTLED).await;
    let each = memory().saturating_sub(resident) as f64 / count as f64;
    println!("quorate - memory-{count} {each} KiB");
    loop {
        let line = tokio::task::spawn_blocking(|| stdin().lock().lines().next());
        if line.await.expect("it does not panic").is_none() {
            break;
        }
        println!("quorate - keep-{count} {} ms", processor());
    }
    drop((all, first));
}

/// Resident memory in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is told");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

/// Processor time used so far, of all threads, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "it is not that long")]
fn processor() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 * 1e3 + used.tv_nsec as f64 / 1e6
}
