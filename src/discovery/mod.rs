//! Discovery: register nodes, see who is there, pick one.
//!
//! A [`Registration`] is a desired state. As long as it lives the [`Instance`] stands in the store, bound to the session
//! of its process, and comes back by itself after any loss: of the session, of its entry, of the whole store. When the
//! process dies the entry goes with its session; when the registration is dropped, at once. If another process registers
//! the same instance, that one has it: [`Status::Displaced`] says so, and nobody fights.
//!
//! [`Members`] are the other side: who is there, kept up to date in the background from any [`Provider`], read without a
//! lock. When the provider fails the last known set stays and says [how old](Members::age) it is: a registry that is
//! down is no reason to stop calling services that are up.
//!
//! ```
//! use std::sync::Arc;
//! use futures_util::StreamExt;
//! use quorate::backends::Memory;
//! use quorate::discovery::{Instance, Members, Registrar, RoundRobin};
//! use quorate::kv::{SessionOptions, Sessions};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> quorate::kv::Result<()> {
//! let store = Arc::new(Memory::new());
//! let sessions = Sessions::new(&store, SessionOptions::default())?;
//! let registrar = Registrar::new(&store, &sessions);
//!
//! // Two nodes of a service …
//! let first = registrar.register(Instance::new("billing", "1", "10.0.0.1:8080").zone("eu-1")).await?;
//! let second = registrar.register(Instance::new("billing", "2", "10.0.0.2:8080")).await?;
//!
//! // … and a caller, who asks for the next one before every call.
//! let billing = Members::of(&store, "billing")?;
//! let mut changes = billing.changes();
//! assert_eq!(changes.next().await.expect("it never ends").added.len(), 2);
//! let turns = RoundRobin::new();
//! let call = || billing.pick(&turns).map(|instance| instance.address.clone());
//! assert_eq!(call().as_deref(), Some("10.0.0.1:8080"));
//! assert_eq!(call().as_deref(), Some("10.0.0.2:8080"));
//!
//! // The first takes no new work, then it goes.
//! first.set_draining(true).await?;
//! assert_eq!(changes.next().await.expect("it never ends").updated.len(), 1);
//! assert_eq!((call(), call()), (Some("10.0.0.2:8080".into()), Some("10.0.0.2:8080".into())));
//! first.deregister().await;
//!
//! // The second loses its session, and is back before anybody had to do anything.
//! let lost = sessions.peek().expect("it is open");
//! store.end_session(lost.id());
//! tokio::time::sleep(std::time::Duration::from_secs(1)).await;
//! assert!(!lost.is_live() && billing.snapshot().get("2").is_some());
//! # drop(second);
//! # Ok(()) }
//! ```

mod actor;
mod books;
mod instance;
mod members;
mod pause;
mod pick;
mod provider;
pub mod providers;
mod record;
mod registrar;
mod registration;
mod snapshot;
mod watches;

pub use instance::{Health, Instance, State};
pub use members::Members;
pub use pick::{Random, RoundRobin, Strategy};
pub use provider::{Provider, Update};
pub use registrar::Registrar;
pub use registration::{Registration, Status};
pub use snapshot::{Changes, Snapshot};

#[cfg(test)]
mod tests;
