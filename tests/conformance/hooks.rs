//! Cases that show nothing without a hook, and subjects that have none: such trials are ignored, and say why.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use quorate::kv::conformance::Subject;
use quorate::kv::{Key, Result};

/// What a subject can be asked besides for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Restart,
    Disturb,
}

impl Hook {
    /// What a case of this name asks for, and shows nothing without.
    pub(crate) fn of(case: &str) -> Option<Self> {
        match case {
            "a_watch_survives_a_restart"
            | "a_version_does_not_survive_a_restart_and_a_delete"
            | "fences_grow_over_a_restart" => Some(Self::Restart),
            "a_watch_survives_trouble"
            | "an_acknowledged_write_lasts_through_trouble"
            | "an_enter_that_says_it_was_not_applied_was_not"
            | "what_says_it_was_not_applied_was_not" => Some(Self::Disturb),
            _ => None,
        }
    }

    /// How a trial is marked whose subject lacks this.
    pub(crate) fn lacking(self) -> &'static str {
        match self {
            Self::Restart => "asks for a restart",
            Self::Disturb => "asks for trouble",
        }
    }
}

/// A subject that remembers whether it was asked for something it does not offer.
pub(crate) struct Honest<S: ?Sized> {
    subject: Arc<dyn Subject<S>>,
    refused: AtomicBool,
}

impl<S: ?Sized + Send + Sync + 'static> Honest<S> {
    pub(crate) fn new(subject: Arc<dyn Subject<S>>) -> Arc<Self> {
        Arc::new(Self { subject, refused: AtomicBool::new(false) })
    }

    /// Whether a case passed, perhaps, without having asked its question.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn note(&self, offered: bool) -> bool {
        self.refused.fetch_or(!offered, Ordering::Relaxed);
        offered
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ?Sized + Send + Sync + 'static> Subject<S> for Honest<S> {
    async fn open(&self) -> Result<Arc<S>> {
        self.subject.open().await
    }

    fn prefix(&self) -> Key {
        self.subject.prefix()
    }

    async fn restart(&self) -> Result<bool> {
        Ok(self.note(self.subject.restart().await?))
    }

    async fn disturb(&self) -> Result<bool> {
        Ok(self.note(self.subject.disturb().await?))
    }
}

impl<S: ?Sized> fmt::Debug for Honest<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.subject)
    }
}
