//! What `lock`, `elect` and `register` have in common: a command that runs while something is held.

use std::path::{Path, PathBuf};

use quorate::kv::{Fence, LossReason};

use crate::arguments::RunArguments;
use crate::connection::Connection;
use crate::exit::{Failure, system};
use crate::output;
use crate::process::{Child, Claim, End, Environment, Prepared, Signals, accompany, supervise};

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
