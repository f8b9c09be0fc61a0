//! Leader election, locks and service discovery on whatever store you already run.

pub mod backends;
mod client;
pub mod connect;
pub mod discovery;
pub mod docs;
pub mod election;
pub mod kv;
pub mod lock;

pub use client::{Client, ClientBuilder, Health, connect};
