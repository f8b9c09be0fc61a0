//! Processes, and the store they meet in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use quorate::Client;
use quorate::kv::{Clock as _, ErrorKind, Queue, SystemClock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::link::Link;
use crate::servers::Cluster;
use crate::shared::Shared;

/// How long anything may take that is bound to happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What is tried on every store: its name, and how it goes.
pub(crate) type Trial = (&'static str, fn(&Store));

/// A fresh store, and a directory for whatever a trial leaves about.
pub(crate) struct Store {
    url: String,
    /// Where it is found during an outage too, if it can be.
    undisturbed_url: String,
    kind: Kind,
    /// How many times longer than elsewhere sessions last at least.
    pace: u32,
    directory: TempDir,
}

/// What an outage is made of.
enum Kind {
    Embedded,
    Served(Link),
}

impl Store {
    /// A file in the directory.
    pub(crate) fn embedded() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("embedded:{}", directory.path().join("store.db").display());
        Self { undisturbed_url: url.clone(), url, kind: Kind::Embedded, pace: 1, directory }
    }

    /// A namespace of a server that the trials share, and how many times longer than elsewhere sessions last there.
    #[allow(dead_code, reason = "without the feature of a server there is none")]
    pub(crate) fn served(server: &'static Shared<dyn Cluster>, pace: u32) -> Self {
        let link = Link::to(server);
        Self {
            url: link.url(),
            undisturbed_url: link.undisturbed_url(),
            kind: Kind::Served(link),
            pace,
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// So long or, where sessions last longer, so many times longer; from two seconds on a session may be that short.
    pub(crate) fn time(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) * self.pace
    }

    /// The same as a word of the command.
    pub(crate) fn ttl(&self, seconds: u64) -> String {
        format!("{}s", self.time(seconds).as_secs())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    /// The command with these words, in the directory of the trial.
    pub(crate) fn quorate(&self, words: &[&str]) -> Command {
        let mut command = heeding(env!("CARGO_BIN_EXE_quorate"));
        command.args(words).current_dir(self.directory.path()).env("QUORATE_STORE", &self.url);
        for other in
            ["QUORATE_NAMESPACE", "QUORATE_ID", "QUORATE_PASSWORD", "QUORATE_PASSWORD_FILE", "RUST_LOG"]
        {
            command.env_remove(other);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let output = self.quorate(words).output().expect("it runs");
        Ran(output)
    }

    /// Starts it.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        Running::of(self.quorate(words))
    }

    /// Starts it where an outage does not reach it, if there is such a place.
    pub(crate) fn start_undisturbed(&self, words: &[&str]) -> Running {
        let mut command = self.quorate(words);
        command.env("QUORATE_STORE", &self.undisturbed_url);
        Running::of(command)
    }

    /// Waits for a file, and for something in it.
    pub(crate) fn wait_for(&self, name: &str) -> String {
        eventually(&format!("the file {name}"), || self.read(name).filter(|text| text.ends_with('\n')))
    }

    /// Keeps the store from answering writes until what is returned is dropped.
    pub(crate) fn outage(&self) -> Outage {
        match &self.kind {
            Kind::Embedded => {
                let file = File::options()
                    .read(true)
                    .write(true)
                    .open(self.path("store.db-lock"))
                    .expect("the store is there");
                file.lock().expect("it can be locked");
                Box::new(file)
            }
            Kind::Served(link) => Box::new(link.freeze()),
        }
    }

    /// Ends the sessions of all who stand in a lock, as an operator would.
    pub(crate) fn revoke_holders_of(&self, lock: &str) {
        block_on(async {
            let client = self.client().await;
            for claim in client.mutex(lock).expect("a name").holders().await.expect("the store answers") {
                let session = claim.session.expect("it has one");
                match client.kv().revoke(&session).await {
                    // Where nobody can end the session of another, an operator can still delete the place.
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        let queue = Queue::lock(lock).expect("a name");
                        client.kv().delete_prefix(queue.key()).await.expect("the store answers");
                    }
                    revoked => revoked.expect("the store answers"),
                }
            }
        });
    }

    /// How many wait for a lock.
    pub(crate) fn waiters_of(&self, lock: &str) -> usize {
        block_on(async {
            let client = self.client().await;
            client.mutex(lock).expect("a name").waiters().await.expect("the store answers").len()
        })
    }

    pub(crate) async fn client(&self) -> Client {
        quorate::connect(&self.undisturbed_url).await.expect("the store is there")
    }
}

/// Whatever keeps a store from answering for as long as it is there.
pub(crate) type Outage = Box<dyn std::any::Any>;

/// What a process left.
pub(crate) struct Ran(Output);

impl Ran {
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.0.status.code(), Some(code), "stdout: {}\nstderr: {}", self.out(), self.err());
        self
    }

    pub(crate) fn is_ok(&self) -> Option<()> {
        self.0.status.success().then_some(())
    }

    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> &Self {
        assert!(self.err().contains(part), "{part:?} is not in {:?}", self.err());
        self
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}

/// A process that runs; killed when it is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn of(mut command: Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    /// Whether it does something of its own at this signal.
    pub(crate) fn catches(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        let mask = u64::from_str_radix(mask.trim(), 16).expect("a mask");
        mask >> (signal.as_raw() - 1) & 1 == 1
    }

    /// The processes that it has started and that are left.
    pub(crate) fn children(&self) -> Vec<String> {
        let pid = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.expect("the system tells").split_whitespace().map(str::to_owned).collect()
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("the system tells");
        let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm")).ok();
        threads.flatten().filter_map(name).map(|name| name.trim_end().to_owned()).collect()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        eventually("its end", || self.0.try_wait().expect("it is a child"));
        Ran(self.output())
    }

    fn output(&mut self) -> Output {
        use std::io::Read as _;
        let status = self.0.wait().expect("it is a child");
        let mut output = Output { status, stdout: Vec::new(), stderr: Vec::new() };
        // Both are short, so one after the other will do.
        self.0.stdout.take().map(|mut pipe| pipe.read_to_end(&mut output.stdout));
        self.0.stderr.take().map(|mut pipe| pipe.read_to_end(&mut output.stderr));
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::new();
    let began = clock.now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(clock.now().since(began) < PATIENCE, "{what}: not within {PATIENCE:?}");
        rest(Duration::from_millis(5));
    }
}

/// A program that ignores no signal, though whoever started the tests in the background may have them ignore some.
pub(crate) fn heeding(program: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", program]);
    command
}

/// Lets time pass.
#[expect(clippy::disallowed_methods, reason = "no runtime is blocked here")]
pub(crate) fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// The process of this number.
pub(crate) fn number(pid: &str) -> Pid {
    pid.trim().parse().ok().and_then(Pid::from_raw).expect("a process")
}

/// Whether a process is there, and no zombie.
pub(crate) fn is_alive(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    status.is_ok_and(|status| status.rsplit(')').next().is_some_and(|rest| !rest.starts_with(" Z")))
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
