//! The leader example as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

/// A running replica, and the lines it printed so far. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) id: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Replica {
    pub(crate) fn start(id: &str, url: &str, ttl: &str) -> Self {
        let mut child = Command::new(binary())
            .args(["--id", id, "--store", url, "--ttl", ttl])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let reader = std::thread::spawn({
            let lines = Arc::clone(&lines);
            move || {
                for line in stdout.lines().map_while(Result::ok) {
                    lines.lock().expect("no reader panics").push(line);
                }
            }
        });
        Self { id: id.to_owned(), child, lines, reader: Some(reader) }
    }

    /// The lines it printed so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panics").clone()
    }

    /// The fences it led with so far.
    pub(crate) fn terms(&self) -> Vec<u64> {
        let fence = |line: &String| line.strip_prefix("leader fence=")?.parse().ok();
        self.lines().iter().filter_map(fence).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// Whether all of it stands still, which is so a moment after SIGSTOP.
    pub(crate) fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let mut states = threads.map(|thread| {
            let stat = std::fs::read_to_string(thread.expect("a thread").path().join("stat"));
            stat.unwrap_or_default().rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
        });
        states.all(|stopped| stopped)
    }

    /// Kills it with no chance to say goodbye, and returns all it ever printed.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it runs");
        self.wait();
        self.lines()
    }

    /// Waits for its end, and whether it went well.
    pub(crate) fn wait(&mut self) -> bool {
        let ended = self.child.wait().expect("it is our child");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader ends with the pipe");
        }
        ended.success()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where Cargo puts examples, from where it puts tests.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let binary = profile.join("examples").join("leader");
    assert!(binary.exists(), "{} is missing: cargo build --example leader", binary.display());
    binary
}
