//! Discovery.
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
