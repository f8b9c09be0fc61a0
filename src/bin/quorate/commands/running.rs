//! What `lock`, `elect` and `register` have in common: a command that runs while something is held.

use std::convert::Infallible;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use quorate::kv::{Clock as _, Fence, LossReason, SystemClock};

use crate::arguments::{HoldArguments, RunArguments, StoreArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure, system};
use crate::output;
use crate::process::{Child, Claim, End, Environment, Prepared, Signals, accompany, ended_by, supervise};

/// What a command finds in its environment.
pub(super) fn environment(connection: &Connection, name: &str, fence: Option<Fence>) -> Environment {
    let mut environment: Environment = vec![
        ("QUORATE_NAME", name.into()),
        ("QUORATE_ID", connection.client.id().into()),
        ("QUORATE_STORE", connection.url.clone().into()),
    ];
    environment.extend(connection.namespace.clone().map(|namespace| ("QUORATE_NAMESPACE", namespace.into())));
    environment.extend(connection.password_file.clone().map(|path| ("QUORATE_PASSWORD_FILE", path.into())));
    environment.extend(fence.map(|fence| ("QUORATE_FENCE", fence.to_string().into())));
    environment
}

/// How long this process looks for an answer, at most, before it sleeps.
const LOOK: Duration = Duration::from_millis(2);

/// Awaits what is likely to come at once, and does not sleep at first: where cores fall asleep, to be woken takes as long
/// as what is waited for. Everything else goes on meanwhile, on this core too. As cancel-safe as what is awaited.
pub(super) async fn awake<T>(soon: impl Future<Output = T>) -> T {
    let clock = SystemClock::new();
    let until = clock.now() + LOOK;
    let looking = async {
        while clock.now() < until {
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
        pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        answer = soon => answer,
        never = looking => match never {},
    }
}

/// Connects, and takes over the signals while the store is being reached. Gives how this process is to end if one of them
/// tells it to meanwhile. What is held at once may be opened meanwhile too.
pub(super) async fn connect(
    store: &StoreArguments,
    holding: &HoldArguments,
    at_once: bool,
) -> Result<Result<(Connection, Signals), Exit>, Failure> {
    let mut connecting = pin!(Connection::open_to_hold(store, holding, at_once));
    let begun = poll!(&mut connecting);
    let mut signals = Signals::take()?;
    let connected = match begun {
        Poll::Ready(connected) => connected,
        Poll::Pending => tokio::select! {
            biased;
            signal = signals.end() => return Ok(Err(ended_by(signal))),
            connected = awake(connecting) => connected,
        },
    };
    Ok(Ok((connected?, signals)))
}

/// Runs the command under a claim, and what is to be run after its loss.
pub(super) async fn run_under(
    prepared: Prepared,
    claim: &dyn Claim,
    fence: Fence,
    connection: &Connection,
    name: &str,
    arguments: &RunArguments,
    signals: &mut Signals,
) -> Result<End, Failure> {
    let mut environment = environment(connection, name, Some(fence));
    let child = prepared.start(&environment)?;
    let ready =
        arguments.holding.ready_file.as_deref().map(|path| Ready::write(path, Some(fence))).transpose()?;
    let end = supervise(claim, child, signals).await;
    drop(ready);
    if let Ok(End::Lost(reason)) = &end {
        output::note(&format!("{name} was lost ({reason}); the command was ended"));
        if let Some(command) = &arguments.on_loss {
            environment.push(("QUORATE_REASON", word(*reason).into()));
            let shell = ["/bin/sh", "-c", command].map(Into::into);
            accompany(Child::spawn(&shell, &environment)?, signals).await?;
        }
    }
    end
}

/// One word for a loss, for scripts.
fn word(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Expired => "expired",
        LossReason::Revoked => "revoked",
        LossReason::Deleted => "deleted",
        LossReason::StoreUnavailable => "store-unavailable",
        LossReason::FenceRegression => "fence-regression",
        LossReason::Closed => "closed",
        _ => "other",
    }
}

/// A file that is there while the command runs.
pub(super) struct Ready(PathBuf);

impl Ready {
    /// Makes the file, with the fence in it. Whoever finds it finds all of it.
    pub(super) fn write(path: &Path, fence: Option<Fence>) -> Result<Self, Failure> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}", std::process::id()));
        let text = fence.map(|fence| format!("{fence}\n")).unwrap_or_default();
        std::fs::write(&unfinished, text)
            .and_then(|()| std::fs::rename(&unfinished, path))
            .map_err(system)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the ready file cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_awaited_awake_is_looked_for_and_then_waited_for() {
        let clock = SystemClock::new();
        let late = clock.now() + LOOK * 3;
        awake(clock.sleep_until(late)).await;
        assert!(clock.now() >= late);
        // Nobody wakes who waits for this.
        let mut looks = 0;
        let unannounced = std::future::poll_fn(|_| {
            looks += 1;
            if looks > 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        let found = tokio::time::timeout(Duration::from_secs(10), awake(unannounced));
        assert!(found.await.is_ok(), "it was not looked for");
    }
}
