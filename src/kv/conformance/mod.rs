//! The contract as a test suite, for every backend and every wrapper, and for those of third parties.
//!
//! A [`Case`] is one question about one line of [the contract](super#the-contract). What is asked is a
//! [`Subject`]: something that opens clients of one store. [`cases`] are for a store that offers everything;
//! [`watch_cases`] and [`store_cases`] for one that offers less. A case answers with a [`Violation`] instead of a
//! panic, so that a test can also assert that a broken store is found out.
//!
//! Cases keep below a prefix and in queues of their own, so many run side by side on one server. They wait for
//! conditions, not for a time, and take every amount from [`Limits`](super::Limits); they run in real time and in
//! tokio's paused time.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use quorate::backends::Memory;
//! use quorate::kv::conformance::{self, Subject};
//! use quorate::kv::{Coordinator, Key, Result};
//!
//! #[derive(Debug)]
//! struct Mine(Memory);
//!
//! #[async_trait]
//! impl Subject for Mine {
//!     async fn open(&self) -> Result<Arc<dyn Coordinator>> {
//!         Ok(Arc::new(self.0.client()))
//!     }
//!
//!     fn prefix(&self) -> Key {
//!         conformance::fresh_prefix()
//!     }
//! }
//!
//! # // The doc test needs paused time, which a plain `#[tokio::test(start_paused = true)]` gives.
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! let subject: Arc<dyn Subject> = Arc::new(Mine(Memory::new()));
//! for case in conformance::cases() {
//!     case.run(Arc::clone(&subject)).await?;
//! }
//! # Ok::<(), conformance::Violation>(())
//! # }).unwrap();
//! ```
//!
//! With a test harness that takes a list, such as `libtest-mimic`, each case becomes a test by its
//! [name](Case::name) and [line](Case::line).
//!
//! All this, [`chaos`](super::chaos) and [`counting`](super::counting) come with the feature `testing`, which belongs
//! among the dev-dependencies: `quorate = { version = "…", features = ["testing"] }`. A case that needs a hook which
//! the subject does not offer ([`restart`](Subject::restart), [`disturb`](Subject::disturb)), or a commit larger than
//! the store takes, passes unasked; so offer the hooks where a server can be handled so.

mod bench;
mod bindings;
mod case;
mod dropping;
mod expiry;
mod fences;
mod keys;
mod outcomes;
mod queue_order;
mod queues;
mod reads;
mod sessions;
mod tree;
mod values;
mod versions;
mod watch_order;
mod watcher;
mod watching;

use std::sync::Arc;

use async_trait::async_trait;

use super::{Coordinator, Key, Random, Result, Store, WatchStore};
use bench::Bench;
pub use case::{Case, Subject, Violation};

/// What every store is asked.
#[must_use]
pub fn store_cases() -> Vec<Case<dyn Store>> {
    let groups =
        [reads::cases(), versions::cases(), fences::cases(), keys::cases(), values::cases(), tree::cases()];
    groups.into_iter().flatten().chain(dropping::store_cases()).chain(outcomes::store_cases()).collect()
}

/// What every store that can be watched is asked, [`store_cases`] among it.
#[must_use]
pub fn watch_cases() -> Vec<Case<dyn WatchStore>> {
    let lifted = store_cases().into_iter().map(|case| case.lift(|subject| Arc::new(Part(subject))));
    lifted.chain(watching::cases()).chain(watch_order::cases()).collect()
}

/// What every store that carries locks and elections is asked: everything.
#[must_use]
pub fn cases() -> Vec<Case> {
    let lifted = watch_cases().into_iter().map(|case| case.lift(|subject| Arc::new(Part(subject))));
    let groups = [
        sessions::cases(),
        expiry::cases(),
        bindings::cases(),
        queues::cases(),
        queue_order::cases(),
        dropping::cases(),
        outcomes::cases(),
    ];
    lifted.chain(groups.into_iter().flatten()).collect()
}

/// A prefix that nobody else has, as a [`Subject`] may give it.
#[must_use]
pub fn fresh_prefix() -> Key {
    let name = format!("conformance-{:032x}", Random::from_os().nonce());
    Key::new(&name).unwrap_or_else(|_| Key::root())
}

/// A subject that offers more, asked about less.
#[derive(Debug)]
struct Part<S: ?Sized>(Arc<dyn Subject<S>>);

macro_rules! part {
    ($whole:ident, $part:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl Subject<dyn $part> for Part<dyn $whole> {
            async fn open(&self) -> Result<Arc<dyn $part>> {
                let whole = self.0.open().await?;
                Ok(whole)
            }

            fn prefix(&self) -> Key {
                self.0.prefix()
            }

            async fn restart(&self) -> Result<bool> {
                self.0.restart().await
            }

            async fn disturb(&self) -> Result<bool> {
                self.0.disturb().await
            }
        }
    };
}

part!(WatchStore, Store);
part!(Coordinator, WatchStore);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_more_asks_for_more() {
        let all: BTreeSet<_> = cases().iter().map(|case| case.name).collect();
        let watched: BTreeSet<_> = watch_cases().iter().map(|case| case.name).collect();
        let plain: BTreeSet<_> = store_cases().iter().map(|case| case.name).collect();
        assert_eq!(all.len(), cases().len());
        assert!(watched.is_subset(&all) && watched.len() < all.len());
        assert!(plain.is_subset(&watched) && plain.len() < watched.len());
    }
}
