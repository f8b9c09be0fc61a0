//! What processes print, as it comes and as JSON.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::kit::{PATIENCE, Store, eventually};

/// What the command prints, which is one object.
#[track_caller]
pub(crate) fn object(store: &Store, words: &[&str]) -> Value {
    let mut objects = objects(store, words);
    assert_eq!(objects.len(), 1, "{words:?}: {objects:?}");
    objects.remove(0)
}

/// What the command prints, one object a line.
#[track_caller]
pub(crate) fn objects(store: &Store, words: &[&str]) -> Vec<Value> {
    parsed(&store.run(words).exits(0).out())
}

/// Objects, one a line.
#[track_caller]
pub(crate) fn parsed(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A process that prints lines, read as they come; killed when it is dropped.
pub(crate) struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = sync_channel(100);
        // It ends with the process, or with whoever reads the lines.
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { child, lines }
    }

    #[track_caller]
    pub(crate) fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line")
    }

    #[track_caller]
    pub(crate) fn next_object(&self) -> Value {
        serde_json::from_str(&self.next()).expect("JSON")
    }

    #[track_caller]
    pub(crate) fn expect(&self, line: &str) {
        assert_eq!(self.next(), line);
    }

    /// Ends it by a signal that it does not take for itself.
    #[track_caller]
    pub(crate) fn ends_by(self, signal: Signal) {
        assert_eq!(self.end(signal).signal(), Some(signal.as_raw()));
    }

    /// Ends it by a signal, which it may take as it likes.
    #[track_caller]
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        eventually("its end", || self.child.try_wait().expect("it is a child"))
    }

    /// Ends what it reads, if that is a pipe.
    #[cfg(feature = "zookeeper")]
    pub(crate) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Whether there is nothing to read now.
    #[cfg(any(feature = "etcd", feature = "zookeeper"))]
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.lines.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
