//! Stores in other processes: a worker serves one over its stdin and stdout, and [`Process`] opens clients of it.
//!
//! Frames are a length in four bytes and so many bytes of JSON. Requests carry an id and are answered in any order.
//! A watch is told event by event, each asked for, so whoever does not ask is served no faster than he reads.

mod client;
mod serve;
mod wire;

pub(crate) use client::Process;
pub(crate) use serve::serve;
