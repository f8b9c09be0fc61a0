//! A command that runs, in a process group of its own.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use quorate::kv::{Clock, SystemClock};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::shim::{self, Order};
use super::{signals, terminal};
use crate::exit::{Exit, Failure, system};

/// What a command finds in its environment besides what this one does.
pub(crate) type Environment = Vec<(&'static str, OsString)>;

/// A running command. Dropped, it is killed, with all of its process group, and waited for.
#[derive(Debug)]
pub(crate) struct Child {
    inner: std::process::Child,
    /// One for every time that a child of this process may have changed.
    changes: Signals,
    group: Pid,
    /// Whether it was lent the terminal.
    has_terminal: bool,
    reaped: bool,
}

/// A command that only waits for the word. Dropped, it is not run, and nothing is left of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    child: Child,
    line: UnixStream,
}

impl Prepared {
    /// Prepares a command. Must be called on the main thread: the command dies with the thread that started it.
    pub(crate) fn new(words: &[OsString]) -> Result<Self, Failure> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(Failure::usage("there is no command to run"));
        };
        let changes = signal(SignalKind::child()).map_err(system)?;
        let (mut command, line) = shim::command(program, arguments).map_err(system)?;
        let inner = command.process_group(0).spawn().map_err(system)?;
        let group = Pid::from_child(&inner);
        Ok(Self { child: Child { inner, changes, group, has_terminal: false, reaped: false }, line })
    }

    /// Has it run.
    pub(crate) fn start(mut self, environment: &Environment) -> Result<Child, Failure> {
        self.child.has_terminal = terminal::is_ours();
        Order::new(self.child.has_terminal, environment).send(self.line).map_err(system)?;
        Ok(self.child)
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
        if !self.reaped
            && let Err(error) = kill_process_group(self.group, signal)
        {
            tracing::debug!(?signal, %error, "the signal was not delivered");
        }
    }

    /// Waits until it ends or is stopped. Cancel-safe. It is left to be reaped, so that its number stays its own.
    pub(super) async fn change(&mut self) -> Result<Change, Failure> {
        let options =
            WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(self.group), options).map_err(|error| system(error.into()))? {
                Some(status) if status.stopped() => {
                    let taken = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
                    waitid(WaitId::Pid(self.group), taken).map_err(|error| system(error.into()))?;
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
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.inner.wait().map_err(system)?;
        self.ended();
        Ok(match (status.code(), status.signal()) {
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
                terminal::lend(self.group);
            }
            self.signal(Signal::CONT);
        }
    }

    fn ended(&mut self) {
        self.reaped = true;
        if self.has_terminal {
            terminal::take();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            // Nothing may go on while it is alive; and it does not survive that signal.
            if let Err(error) = self.inner.wait() {
                tracing::warn!(%error, "the command could not be waited for");
            }
            self.ended();
        }
    }
}
