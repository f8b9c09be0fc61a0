//! A value that can be waited on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A value, and those who wait for it to change, who are woken in the order they came.
///
/// `tokio::sync::watch` wakes them in an order drawn by chance, and a simulated history could not be repeated.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Watched<T> {
    /// A value that nobody waits on yet.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    /// The value now.
    pub fn get(&self) -> T {
        *self.lock()
    }

    /// Sets the value and wakes those who wait.
    pub fn set(&self, value: T) {
        *self.lock() = value;
        self.changed.notify_waiters();
    }

    /// Changes the value in place, and wakes those who wait if `change` says so; returns what it says.
    pub fn modify(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let changed = change(&mut self.lock());
        if changed {
            self.changed.notify_waiters();
        }
        changed
    }

    /// Completes with what `find` makes of the value, once it makes something of it. Asked now and whenever those who
    /// wait are woken. Cancel-safe.
    pub async fn find<U>(&self, mut find: impl FnMut(T) -> Option<U>) -> U {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = find(self.get()) {
                return found;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn no_change_is_missed() {
        let watched = Arc::new(Watched::new(0));
        let waiting = tokio::spawn({
            let watched = Arc::clone(&watched);
            async move { watched.find(|value| (value >= 3).then_some(value)).await }
        });
        for value in 1..=3 {
            tokio::task::yield_now().await;
            assert!(watched.modify(|now| {
                *now = value;
                true
            }));
        }
        assert_eq!(waiting.await.unwrap(), 3);
        assert_eq!(watched.find(Some).await, 3);
    }
}
