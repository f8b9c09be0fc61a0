//! A file that several processes add to, with nothing but the lock between them.

use std::process::{Command, ExitCode};

use quorate::Client;

use crate::block_on;
use crate::place::Place;

const WORKERS: u32 = 4;
const TIMES: u32 = 50;

pub(crate) fn loses_nothing(place: &Place) {
    let file = place.path("counter");
    std::fs::write(&file, "0 0").expect("the file is written");
    let worker = || {
        Command::new(std::env::current_exe().expect("a path"))
            .args(["work", "increment", &place.url])
            .arg(&file)
            .arg(TIMES.to_string())
            .spawn()
            .expect("it starts")
    };
    let workers: Vec<_> = (0..WORKERS).map(|_| worker()).collect();
    for mut worker in workers {
        assert!(worker.wait().expect("it is our child").success());
    }
    let (count, _) = read(&file);
    assert_eq!(count, u64::from(WORKERS * TIMES));
    // What the workers held is gone with them.
    let held = block_on(async {
        let client = Client::builder(&place.url).connect().await.expect("the store is there");
        client.mutex("counter").expect("a good name").holders().await.expect("the store answers")
    });
    assert_eq!(held, []);
}

/// Reads, adds one, writes, with time for others to interfere; and checks that fences grow.
pub(crate) async fn increment(url: &str, file: &str, times: &str) -> ExitCode {
    let client = Client::builder(url).connect().await.expect("the store is there");
    let mutex = client.mutex("counter").expect("a good name");
    for _ in 0..times.parse::<u32>().expect("a number") {
        let guard = mutex.lock().await.expect("it is acquired");
        let (count, fence) = read(file.as_ref());
        assert!(fence < guard.fence().get(), "fence {} after {fence}", guard.fence());
        tokio::task::yield_now().await;
        std::fs::write(file, format!("{} {}", count + 1, guard.fence())).expect("the file is written");
        guard.release().await;
    }
    client.close().await;
    ExitCode::SUCCESS
}

fn read(file: &std::path::Path) -> (u64, u64) {
    let text = std::fs::read_to_string(file).expect("the file is read");
    let (count, fence) = text.split_once(' ').expect("two numbers");
    (count.parse().expect("a number"), fence.parse().expect("a number"))
}
