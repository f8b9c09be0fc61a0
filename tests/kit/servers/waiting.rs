//! Asking until there is an answer.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Asks until there is an answer, for at most `patience`; fails with the last reason why there was none.
pub(crate) async fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let mut waiting = Waiting::new(what, patience);
    loop {
        if let Some(answer) = waiting.ask(ask()).await {
            return answer;
        }
        waiting.rest().await;
    }
}

/// The same for who has to do something in between.
pub(crate) struct Waiting<'a> {
    what: &'a str,
    patience: Duration,
    deadline: Instant,
    /// Why there was no answer so far.
    reason: String,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(what: &'a str, patience: Duration) -> Self {
        let reason = String::from("it was not asked to the end");
        Self { what, patience, deadline: Instant::now() + patience, reason }
    }

    /// What comes of it, unless that is a reason why there is no answer. Fails if it takes too long.
    pub(crate) async fn ask<T>(&mut self, asked: impl Future<Output = Result<T, String>>) -> Option<T> {
        match timeout_at(self.deadline, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(reason)) => {
                self.reason = reason;
                None
            }
            Err(_) => self.give_up(),
        }
    }

    /// Lets a moment pass. Fails if there were too many.
    pub(crate) async fn rest(&mut self) {
        if Instant::now() >= self.deadline {
            self.give_up();
        }
        sleep(Duration::from_millis(20)).await;
    }

    fn give_up(&self) -> ! {
        panic!("{}: not within {:?}: {}", self.what, self.patience, self.reason)
    }
}
