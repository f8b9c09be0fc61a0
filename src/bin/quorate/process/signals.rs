//! The signals that this process gets, to be passed on.

use std::task::Poll;

use futures_util::future::poll_fn;
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::exit::{Exit, Failure, system};

/// What is passed on.
const PASSED: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::TSTP,
    Signal::CONT,
];

/// Signals to pass on, from the moment this is made.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, Stream)>);

impl Signals {
    /// Takes over all that this process does not ignore: who started it with `nohup` means the command too.
    pub(crate) fn take() -> Result<Self, Failure> {
        let ignored = ignored();
        let heard = PASSED.into_iter().filter(|signal| ignored >> (signal.as_raw() - 1) & 1 == 0);
        let stream = |wanted: Signal| Ok((wanted, signal(SignalKind::from_raw(wanted.as_raw()))?));
        heard.map(stream).collect::<std::io::Result<_>>().map(Self).map_err(system)
    }

    /// The next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next signal that tells this process to end. Cancel-safe.
    pub(crate) async fn end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if ends(signal) {
                return signal;
            }
            if signal == Signal::TSTP {
                pause();
            }
        }
    }
}

/// Whether a signal tells a process to end.
pub(super) fn ends(signal: Signal) -> bool {
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].contains(&signal)
}

/// How a process ends that a signal has ended.
pub(crate) fn ended_by(signal: Signal) -> Exit {
    Exit::signalled(signal.as_raw())
}

/// Stops this process until it is told to go on.
pub(super) fn pause() {
    if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP) {
        tracing::debug!(%error, "this process cannot stop itself");
    }
}

/// The signals that this process ignores, as bits.
#[cfg(target_os = "linux")]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn ignored() -> u64 {
    0
}
