//! The stores: each a translation of one server into the [contract](crate::kv).

#[cfg(feature = "embedded")]
mod embedded;
mod memory;

#[cfg(feature = "embedded")]
pub use embedded::Embedded;
pub use memory::Memory;
