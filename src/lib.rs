//! Leader election, locks and service discovery, on whatever store you already run.
//!
//! ```
//! use quorate::Client;
//! use quorate::kv::StoreExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), quorate::kv::BoxError> {
//! // A store, by URL. `embedded:PATH` is one file for all processes of a host; `memory:` is this process.
//! let client = Client::builder("memory:").id("replica-1").connect().await?;
//!
//! // A lock. It is released when the guard is dropped, and lost with the session.
//! let guard = client.mutex("migration")?.lock().await?;
//! guard.put("migration/version", "7").await?; // applied only while we hold
//! guard.release().await;
//!
//! // An election: one term of work as leader. `Candidate::run` stands again and again.
//! let candidate = client.candidate("scheduler")?;
//! let led = candidate.lead(|term| async move { term.fence() }).await?;
//! println!("led: {led:?}");
//!
//! // Who leads?
//! assert!(client.follower("scheduler")?.leader().await?.is_none(), "the term is over");
//!
//! // The plain store below it all.
//! assert_eq!(client.kv().fetch("migration/version").await?.expect("it was put").value, "7");
//!
//! client.close().await; // hands over whatever is still held
//! # Ok(()) }
//! ```
//!
//! # Where to go on
//!
//! | to … | see |
//! | --- | --- |
//! | guard a critical section | [`lock`], and the recipe for a [periodic job](docs::cookbook::periodic_job) |
//! | have one replica do it | [`election`], and the recipe for a [leader-only job](docs::cookbook::leader_only_job) |
//! | find and be found | [`discovery`], and the recipe to [register and call](docs::cookbook::register_and_call) |
//! | use the store itself | [`kv::StoreExt`], [`kv::Txn`] |
//! | know what is promised | [guarantees and limits](docs::guarantees) |
//! | understand how it works | [architecture](docs::architecture), [the contract](kv#the-contract) |
//! | use it from a shell, or another language | [the command](docs::command) |
//! | know what it costs | [performance](docs::performance) |
//! | test your own code | [test your election in milliseconds](docs::cookbook::test_your_election) |
//!
//! # Features
//!
//! - `embedded` (default): the [embedded store](docs::layouts#embedded). Compiles SQLite, so it needs a C compiler.
//! - `consul`: the [Consul store](docs::layouts#consul), `consul://…`.
//! - `etcd`: the [etcd store](docs::layouts#etcd), `etcd://…`. Needs `protoc` to build (`protobuf-compiler` in Debian).
//! - `redis`: the [Redis store](docs::layouts#redis), `redis://…`, for Redis and Valkey.
//! - `zookeeper`: the [ZooKeeper store](docs::layouts#zookeeper), `zookeeper://…`. Needs a C compiler.
//! - `testing`: the conformance suite, fault injection and the counting wrapper, for stores of one's own.
//! - `cli`: the [command](docs::command) `quorate`.
//! - `full`: the command and every store there is.
//!
//! Public in this crate's API are types of `bytes`, `futures` (`Stream`), `serde` and `tokio` / `tokio-util` (`watch`,
//! `CancellationToken`). A type of a store's client is public only where that client is handed in:
//! `etcd_client::Client`.

pub mod backends;
mod client;
pub mod connect;
pub mod discovery;
pub mod docs;
pub mod election;
pub mod kv;
pub mod lock;

pub use client::{Client, ClientBuilder, Health, connect};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
