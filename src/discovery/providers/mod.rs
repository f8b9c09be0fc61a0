//! The providers that come with this crate.

mod nodes;
mod store;

pub use nodes::Nodes;
pub use store::StoreProvider;
