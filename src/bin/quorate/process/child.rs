//! A command that runs, in a process group of its own.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::time::Duration;

use fork::ProcessFork;
use quorate::kv::{Clock, SystemClock};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, kill_process_group, setpgid, waitid,
    waitpid,
};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::shim::{self, Order};
use super::{signals, terminal};
use crate::exit::{Exit, Failure, system};

/// What a command finds in its environment besides what this one does.
pub(crate) type Environment = Vec<(&'static str, OsString)>;

/// A running command. Dropped, it is killed, with all of its process group, and waited for.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    /// One for every time that a child of this process may have changed.
    changes: Signals,
    /// Whether it was lent the terminal.
    has_terminal: bool,
}

/// A process that leads a group. Dropped, it is killed, with all of that, and waited for.
#[derive(Debug)]
struct Process {
    id: Pid,
    reaped: bool,
}

/// A command that only waits for the word. Dropped, it is not run, and nothing is left of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    process: Process,
    line: UnixStream,
}

/// Who goes on after a [fork](Prepared::fork).
#[derive(Debug)]
pub(crate) enum Forked {
    /// This process, and the other waits for the word.
    This(Prepared),
    /// The other.
    Other(Copied),
}

/// What a copy of a process knows of that.
#[derive(Debug)]
pub(crate) struct Copied {
    parent: Pid,
    line: UnixStream,
}

impl Copied {
    /// Waits for the word, and becomes the command. Returns how this process is to end if it did not.
    pub(crate) fn become_command(self, words: &[OsString]) -> ExitCode {
        shim::become_from_copy(self.parent, self.line, words)
    }
}

impl Prepared {
    /// Prepares a command in a copy of this process, which takes a tenth of a millisecond where a new one takes most of one.
    /// There must be no other thread: a copy has none of them, but all that they had locked. `None` if the system has
    /// no room for it. `fork(2)`.
    pub(crate) fn fork() -> Option<Forked> {
        let (ours, its) = UnixStream::pair().ok()?;
        let parent = getpid();
        match fork::fork_process().ok()? {
            ProcessFork::Child => Some(Forked::Other(Copied { parent, line: its })),
            ProcessFork::Parent(child) => {
                let id = Pid::from_raw(child.get())?;
                // Both do so, as either may be first.
                let _ = setpgid(Some(id), Some(id));
                Some(Forked::This(Self { process: Process { id, reaped: false }, line: ours }))
            }
        }
    }

    /// Prepares a command. Must be called on the main thread: the command dies with the thread that started it.
    pub(crate) fn new(words: &[OsString]) -> Result<Self, Failure> {
        let (mut command, line) = shim::command(words)?;
        let inner = command.process_group(0).spawn().map_err(system)?;
        let process = Process { id: Pid::from_child(&inner), reaped: false };
        Ok(Self { process, line })
    }

    /// Has it run.
    pub(crate) fn start(self, environment: &Environment) -> Result<Child, Failure> {
        let changes = signal(SignalKind::child()).map_err(system)?;
        let has_terminal = terminal::is_ours();
        let child = Child { process: self.process, changes, has_terminal };
        Order::new(has_terminal, environment).send(self.line).map_err(system)?;
        Ok(child)
    }
}

impl Process {
    /// Sends a signal to the whole group. One that is gone needs none.
    fn signal(&self, signal: Signal) {
        if !self.reaped
            && let Err(error) = kill_process_group(self.id, signal)
        {
            tracing::debug!(?signal, %error, "the signal was not delivered");
        }
    }

    /// Takes its end. It must have ended, or be about to.
    fn reap(&mut self) -> io::Result<WaitStatus> {
        loop {
            match waitpid(Some(self.id), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    self.reaped = true;
                    return Ok(status);
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends it, if it has not ended.
    fn kill(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            // Nothing may go on while it is alive; and it does not survive that signal.
            if let Err(error) = self.reap() {
                tracing::warn!(%error, "the command could not be waited for");
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What became of a command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// It has ended, and is still to be reaped.
    Ended,
    /// This signal has stopped it; it can go on.
    Stopped(Signal),
}

impl Child {
    /// Starts a command, without having [prepared](Prepared) it.
    pub(crate) fn spawn(words: &[OsString], environment: &Environment) -> Result<Self, Failure> {
        Prepared::new(words)?.start(environment)
    }

    /// Sends a signal to the whole group. One that is gone needs none.
    pub(super) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it ends or is stopped. Cancel-safe. It is left to be reaped, so that its number stays its own.
    pub(super) async fn change(&mut self) -> Result<Change, Failure> {
        let options =
            WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(self.process.id), options).map_err(|error| system(error.into()))? {
                Some(status) if status.stopped() => {
                    let taken = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
                    waitid(WaitId::Pid(self.process.id), taken).map_err(|error| system(error.into()))?;
                    let signal = status.stopping_signal().and_then(Signal::from_named_raw);
                    return Ok(Change::Stopped(signal.unwrap_or(Signal::STOP)));
                }
                Some(_) => return Ok(Change::Ended),
                None => {
                    self.changes.recv().await;
                }
            }
        }
    }

    /// Takes its end. It must have ended, or be about to.
    pub(super) fn reap(&mut self) -> Result<Exit, Failure> {
        let status = self.process.reap().map_err(system)?;
        self.ended();
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::status(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, Some(signal)) => Exit::signalled(signal),
            (None, None) => Exit::status(u8::MAX),
        })
    }

    /// Ends it: TERM to the whole group, and KILL once `grace` has passed or the command has ended, so that nothing of
    /// it is left. When there is no grace, KILL comes at once.
    pub(super) async fn put_down(&mut self, grace: Duration) -> Result<Exit, Failure> {
        let clock = SystemClock::new();
        let latest = clock.now() + grace;
        if !grace.is_zero() {
            self.signal(Signal::TERM);
            // One that is stopped hears TERM only when it goes on.
            self.signal(Signal::CONT);
            loop {
                tokio::select! {
                    biased;
                    () = clock.sleep_until(latest) => break,
                    change = self.change() => if matches!(change?, Change::Ended) { break },
                }
            }
        }
        self.signal(Signal::KILL);
        self.reap()
    }

    /// Whether it was lent the terminal.
    pub(super) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Stops this process too, so that a shell sees its job stop; both go on together, if `may_go_on` says so then.
    pub(super) fn pause_along(&mut self, may_go_on: impl Fn() -> bool) {
        if self.has_terminal {
            terminal::take();
        }
        signals::pause();
        if may_go_on() {
            self.has_terminal = terminal::is_ours();
            if self.has_terminal {
                terminal::lend(self.process.id);
            }
            self.signal(Signal::CONT);
        }
    }

    /// Takes back what it was lent.
    fn ended(&mut self) {
        if std::mem::take(&mut self.has_terminal) {
            terminal::take();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill();
        self.ended();
    }
}
