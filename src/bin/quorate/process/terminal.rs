//! The terminal, lent to a command that runs in a process group of its own: only one group may read from it, and gets
//! what is typed to interrupt.

use std::io::{IsTerminal as _, stdin};

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{getpgid, getpgrp, getsid};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Whether stdin is a terminal, and ours to lend.
pub(super) fn is_ours() -> bool {
    stdin().is_terminal() && tcgetpgrp(stdin()).is_ok_and(|now| now == getpgrp())
}

/// Takes the terminal for the group of this process. Who does so without having it is stopped, unless the signal for
/// that is blocked.
pub(super) fn take() {
    let stop = SigSet::from(Signal::SIGTTOU);
    let blocked = stop.thread_block();
    if let Err(error) = tcsetpgrp(stdin(), getpgrp()) {
        tracing::debug!(%error, "the terminal could not be taken");
    }
    if blocked.is_ok() {
        let _ = stop.thread_unblock();
    }
}

/// Lends the terminal to a group.
pub(super) fn lend(group: rustix::process::Pid) {
    if let Err(error) = tcsetpgrp(stdin(), group) {
        tracing::debug!(%error, "the terminal could not be lent");
    }
}

/// Whether a shell with job control may be waiting for this process to stop, and would let it go on: such a shell has
/// its jobs in other groups than its own.
pub(super) fn has_job_control() -> bool {
    let leader = getsid(None).and_then(|leader| getpgid(Some(leader)));
    leader.is_ok_and(|group| group != getpgrp())
}
