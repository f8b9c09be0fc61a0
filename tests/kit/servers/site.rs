//! A directory, the processes that run in it, and the end of both.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Waits for the end of the test, however that comes, then ends what runs in the directory and removes it.
const JANITOR: &str = r#"
    cat >/dev/null
    for pid in "$1"/*.pid; do
        [ ! -e "$pid" ] || kill -KILL "$(cat "$pid")"
    done 2>/dev/null
    rm -rf "$1" 2>/dev/null || { sleep 1; rm -rf "$1"; }
"#;

/// Becomes the server once it is on record, so that there is never one that the janitor does not know.
const RECORDED: &str = r#"echo $$ >"$0" && exec "$@""#;

/// A directory that only we may read, and the servers in it. Both go when it is dropped, and also when the test is
/// killed: a process of its own, which nobody signals, waits for the end of a pipe that only this one holds.
#[derive(Debug)]
pub(crate) struct Site {
    directory: PathBuf,
    janitor: Child,
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("quorate-{name}-"))
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .expect("a directory")
            .keep();
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        Self { directory, janitor }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts `program` with nothing of our environment. What it prints goes to `NAME.log`, after what is there.
    pub(crate) fn start(&self, name: &str, program: &Path, arguments: &[String]) -> Server {
        let log = self.directory.join(format!("{name}.log"));
        let record = self.directory.join(format!("{name}.pid"));
        let output = OpenOptions::new().create(true).append(true).open(&log).expect("the log opens");
        let child = Command::new("sh")
            .args(["-c", RECORDED])
            .arg(&record)
            .arg(program)
            .args(arguments)
            .env_clear()
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("one more handle"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        Server { child, log, record }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        // It ends by itself; that it has ended means that the directory is gone.
        let _ = self.janitor.wait();
    }
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    record: PathBuf,
}

impl Server {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it was not waited for yet");
    }

    /// How it ended and the end of its log, if it is not running any more.
    pub(crate) fn obituary(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("it is our child")?;
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        Some(format!("it ended with {status}; its last words:\n{last}"))
    }

    /// What it and those before it of this name printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("it is read")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        // Off the record before its number is free for others.
        let _ = std::fs::remove_file(&self.record);
        let _ = self.child.wait();
    }
}
