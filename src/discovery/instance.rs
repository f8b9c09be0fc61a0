//! What is registered: one instance of a service.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kv::key::unescape;
use crate::kv::{Error, ErrorKind, Key, Limits, Outcome, Result};

/// The longest name of a service, id of an instance, tag or zone, in bytes.
const MAX_NAME: usize = 255;
/// The longest address, in bytes.
const MAX_ADDRESS: usize = 1024;

/// Whether an instance wants work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It takes new work.
    #[default]
    Ready,
    /// It finishes what it has and takes nothing new. A state that a later version may write is read as this one.
    #[serde(other)]
    Draining,
}

/// How an instance is, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Health {
    /// All is well.
    #[default]
    Passing,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work. A health that a later version may write is read as this one.
    #[serde(other)]
    Critical,
}

/// One instance of a service: where it is, and what is worth knowing of it.
///
/// Stored as JSON, without what is as by default. Unknown fields are ignored and missing ones have their defaults, so versions
/// can be mixed.
///
/// ```
/// use quorate::discovery::Instance;
///
/// let instance = Instance::new("billing", "billing-1", "10.0.0.7:8080").tag("blue").zone("eu-1").metadata("rack", "4");
/// assert!(instance.is_pickable() && instance.tags.contains("blue"));
/// assert!(!instance.draining(true).is_pickable());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// What it is an instance of.
    pub service: String,
    /// Its name among the instances of the service.
    pub id: String,
    /// Where it is reached; whatever its clients understand.
    pub address: String,
    /// Whether it wants work.
    #[serde(default, skip_serializing_if = "is_default")]
    pub state: State,
    /// How it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Health,
    /// Its share of the work, relative to the others; 1 unless said otherwise.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Where it runs: a zone, a rack, a region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Words to choose it by.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Whatever else is worth knowing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_one(weight: &u32) -> bool {
    *weight == one()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Instance {
    /// An instance that is ready and passing. What does not do is refused when it is registered.
    pub fn new(service: impl Into<String>, id: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            id: id.into(),
            address: address.into(),
            state: State::Ready,
            health: Health::Passing,
            weight: one(),
            zone: None,
            tags: BTreeSet::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// The same with one more piece of metadata.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// The same with one more tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// The same with this share of the work.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The same in this zone.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// The same at this address.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// The same, draining or ready.
    #[must_use]
    pub fn draining(mut self, draining: bool) -> Self {
        self.state = if draining { State::Draining } else { State::Ready };
        self
    }

    /// The same in this health.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// Whether it should be given new work: it is ready, and not critical.
    #[must_use]
    pub fn is_pickable(&self) -> bool {
        self.state == State::Ready && self.health != Health::Critical
    }

    /// The prefix below which the instances of a service stand.
    pub(super) fn prefix(service: &str) -> Result<Key> {
        check_name("service", service)?;
        Key::reserved("service", [service])
    }

    /// Its key and value, if a store of these limits takes them; refused by the name of what is wrong otherwise.
    pub(super) fn encode(&self, limits: &Limits) -> Result<(Key, Box<[u8]>)> {
        check_name("service", &self.service)?;
        check_name("id", &self.id)?;
        check_text("address", &self.address, MAX_ADDRESS)?;
        self.zone.iter().try_for_each(|zone| check_name("zone", zone))?;
        self.tags.iter().try_for_each(|tag| check_name("tag", tag))?;
        self.metadata.keys().try_for_each(|name| check_name("metadata name", name))?;
        let key = Key::reserved("service", [&*self.service, &*self.id])?;
        let json = serde_json::to_vec(self).map_err(|error| {
            let why = "the instance cannot be written as JSON";
            Error::new(ErrorKind::Internal, Outcome::NotApplied, why).on(&key).because(error)
        })?;
        limits.check_put(&key, json.len()).map_err(|error| error.at(limits.backend, "register"))?;
        // Kept for as long as it is registered, and so without room to grow.
        Ok((key, json.into_boxed_slice()))
    }

    /// Reads back what [`encode`](Self::encode) wrote for this key.
    pub(super) fn decode(key: &Key, value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(|error| {
            let why = "the instance cannot be read from its JSON";
            Error::new(ErrorKind::Internal, Outcome::NotApplied, why).on(key).because(error)
        })
    }

    /// As much as the key of an instance tells of it.
    pub(super) fn named_by(key: &Key) -> Self {
        let service = key.parent().map(|prefix| unescape(prefix.name())).unwrap_or_default();
        Self::new(service, unescape(key.name()), "")
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    check_text(what, name, MAX_NAME)
}

fn check_text(what: &str, text: &str, max: usize) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(format!("the {what} of an instance is empty")));
    }
    if text.contains('\0') {
        return Err(Error::invalid(format!("the {what} {text:?} of an instance contains a NUL")));
    }
    if text.len() > max {
        let len = text.len();
        return Err(Error::invalid(format!(
            "the {what} of an instance has {len} bytes, over the limit of {max}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new("test")
    }

    #[test]
    fn the_stored_form_is_stable() {
        let plain = Instance::new("s", "i", "a:1");
        let (key, value) = plain.encode(&limits()).unwrap();
        assert_eq!(key.as_str(), "_quorate/service/s/i");
        assert_eq!(*value, *br#"{"service":"s","id":"i","address":"a:1"}"#, "without what is as by default");
        let full = plain
            .tag("b")
            .tag("a")
            .zone("z")
            .metadata("k", "v")
            .weight(7)
            .draining(true)
            .health(Health::Critical);
        let (_, value) = full.encode(&limits()).unwrap();
        assert!(
            value.ends_with(
                br#""state":"draining","health":"critical","weight":7,"zone":"z","tags":["a","b"],"metadata":{"k":"v"}}"#
            ),
            "{value:?}"
        );
        assert_eq!(Instance::decode(&key, &value).unwrap(), full);
        assert!(Instance::decode(&key, b"{}").is_err());
        assert_eq!(Instance::named_by(&key), Instance::new("s", "i", ""));
    }

    #[test]
    fn other_versions_are_understood() {
        let older =
            r#"{"service":"s","id":"i","address":"a:1","state":"ready","health":"passing","weight":1}"#;
        assert_eq!(serde_json::from_str::<Instance>(older).unwrap(), Instance::new("s", "i", "a:1"));
        let newer = r#"{"service":"s","id":"i","address":"a:1","state":"asleep","health":"odd","more":[1]}"#;
        let read = serde_json::from_str::<Instance>(newer).unwrap();
        assert_eq!((read.state, read.health), (State::Draining, Health::Critical));
    }

    #[test]
    fn what_does_not_do_is_refused_by_name() {
        let good = Instance::new("s", "i", "a:1");
        let long = "x".repeat(2000);
        let cases = [
            (Instance::new("", "i", "a"), "service"),
            (Instance::new("s", "", "a"), "id"),
            (Instance::new("s", "i", ""), "address"),
            (Instance::new("s", "i\0", "a"), "NUL"),
            (good.clone().address(&*long), "address"),
            (Instance::new(&*long, "i", "a"), "service"),
            (good.clone().tag(""), "tag"),
            (good.clone().zone(""), "zone"),
            (good.clone().metadata("", "v"), "metadata name"),
            (good.clone().metadata("k", "v".repeat(limits().max_value)), "value"),
        ];
        for (instance, name) in cases {
            let error = instance.encode(&limits()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(name), "{error} does not name {name}");
        }
        assert!(good.encode(&limits()).is_ok());
        // One that no commit has room for.
        let narrow = Limits { max_txn_bytes: 40, ..limits() };
        let error = good.encode(&narrow).unwrap_err();
        assert!(
            error.kind() == ErrorKind::InvalidInput && error.to_string().contains("over the limit of 40")
        );
    }

    #[test]
    fn names_become_one_segment_each() {
        let (key, _) = Instance::new("a/b", "_quorate", "x").encode(&limits()).unwrap();
        assert_eq!(key.as_str(), "_quorate/service/a%2Fb/%5Fquorate");
        assert!(Instance::prefix("a/b").unwrap().covers(&key));
    }
}
