//! A command that must be dead before anybody else can hold what it runs under.

use std::time::Duration;

use async_trait::async_trait;
use quorate::election::Leadership;
use quorate::kv::LossReason;
use quorate::lock::Guard;
use rustix::process::Signal;

use super::child::{Change, Child};
use super::signals::{self, Signals};
use super::terminal;
use crate::exit::{Exit, Failure};

/// What a command runs under.
#[async_trait]
pub(crate) trait Claim: Sync {
    /// Whether it is held as far as this process can know, right now.
    fn is_held(&self) -> bool;
    /// Completes when it is lost.
    async fn lost(&self) -> LossReason;
    /// How long the command may still take to end, once it is lost.
    fn grace(&self) -> Duration;
}

#[async_trait]
impl Claim for Guard {
    fn is_held(&self) -> bool {
        Self::is_held(self)
    }

    async fn lost(&self) -> LossReason {
        Self::lost(self).await
    }

    fn grace(&self) -> Duration {
        Self::grace(self)
    }
}

#[async_trait]
impl Claim for Leadership {
    fn is_held(&self) -> bool {
        self.is_leading()
    }

    async fn lost(&self) -> LossReason {
        Self::lost(self).await
    }

    fn grace(&self) -> Duration {
        Self::grace(self)
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The command ended; if after a signal that told it to, this process is to end too.
    Exited {
        /// Its status.
        exit: Exit,
        /// Whether this process was told to end.
        told: bool,
    },
    /// What it ran under was lost, and the command is dead.
    Lost(LossReason),
}

/// Waits for the command to end, passing on signals, and puts it down when its claim is lost. Every step looks first
/// whether it still holds, so that nothing happens before that after this process was stopped and goes on.
///
/// Nothing is printed while it runs: whoever reads stderr slowly must not delay what is to be done in time.
pub(crate) async fn supervise(
    claim: &dyn Claim,
    mut child: Child,
    signals: &mut Signals,
) -> Result<End, Failure> {
    let mut told = false;
    loop {
        if !claim.is_held() {
            let grace = claim.grace();
            child.put_down(grace).await?;
            return Ok(End::Lost(claim.lost().await));
        }
        tokio::select! {
            biased;
            _ = claim.lost() => {}
            change = child.change() => match change? {
                Change::Ended => return Ok(End::Exited { exit: child.reap()?, told }),
                Change::Stopped(signal) => stop_along(&mut child, signal, || claim.is_held()),
            },
            signal = signals.next() => {
                told |= signals::ends(signal);
                pass(&mut child, signal, || claim.is_held());
            }
        }
    }
}

/// The same for a command under no claim: it is never put down.
pub(crate) async fn accompany(mut child: Child, signals: &mut Signals) -> Result<Exit, Failure> {
    loop {
        tokio::select! {
            biased;
            change = child.change() => match change? {
                Change::Ended => return child.reap(),
                Change::Stopped(signal) => stop_along(&mut child, signal, || true),
            },
            signal = signals.next() => pass(&mut child, signal, || true),
        }
    }
}

/// Passes a signal on. One that stops this process stops the command first: it must not run on under a claim that
/// nobody renews.
fn pass(child: &mut Child, signal: Signal, is_held: impl Fn() -> bool) {
    if signal == Signal::TSTP {
        child.signal(Signal::STOP);
        child.pause_along(is_held);
    } else if signal != Signal::CONT || is_held() {
        child.signal(signal);
    }
}

/// The command was stopped. If that was by somebody who knows its number, it is theirs to let it go on. If it was typed
/// at the terminal, or the command is in the background and wants to read, a shell must see its job stop; where there
/// is no such shell nobody would ever let it go on, and the system would not have stopped it.
fn stop_along(child: &mut Child, signal: Signal, is_held: impl Fn() -> bool) {
    if terminal::has_job_control() && (child.has_terminal() || signal != Signal::STOP) {
        child.pause_along(is_held);
    } else if signal != Signal::STOP {
        child.signal(Signal::CONT);
    }
}
