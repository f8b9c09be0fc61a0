//! Leader election, locks and service discovery on whatever store you already run.

pub mod backends;
pub mod discovery;
pub mod election;
pub mod kv;
pub mod lock;
