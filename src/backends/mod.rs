//! The stores: each a translation of one server into the [contract](crate::kv).

#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "zookeeper")]
mod zookeeper;

#[cfg(feature = "consul")]
pub use consul::{Consul, ConsulCatalog, ConsulOptions};
#[cfg(feature = "embedded")]
pub use embedded::Embedded;
#[cfg(feature = "etcd")]
pub use etcd::{Etcd, EtcdOptions};
pub use memory::Memory;
#[cfg(feature = "redis")]
pub use redis::{Redis, RedisOptions};
#[cfg(feature = "zookeeper")]
pub use zookeeper::{Zookeeper, ZookeeperOptions};
