//! The stores: each a translation of one server into the [contract](crate::kv).

mod memory;

pub use memory::Memory;
