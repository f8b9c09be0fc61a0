//! How an instance is written in the catalog, and how a service there is read as one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::discovery::{Health, Instance, State};

/// How long a service counts as well of which nothing is heard.
pub(super) const TTL: &str = "15s";

/// How long a service that is not well stays there: the shortest time that the server takes.
const FORGOTTEN: &str = "1m";

/// In which pieces of metadata the catalog carries what it has no other place for.
const ID: &str = "quorate-id";
const ZONE: &str = "quorate-zone";

/// A service as an agent takes it.
#[derive(Serialize)]
pub(super) struct Announced<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "Address")]
    address: &'a str,
    #[serde(rename = "Port")]
    port: u16,
    #[serde(rename = "Tags")]
    tags: &'a BTreeSet<String>,
    #[serde(rename = "Meta")]
    meta: BTreeMap<&'a str, &'a str>,
    #[serde(rename = "Weights")]
    weights: Weights,
    #[serde(rename = "Check")]
    check: Check<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check<'a> {
    #[serde(rename = "CheckID")]
    id: &'a str,
    #[serde(rename = "TTL")]
    ttl: &'static str,
    status: &'static str,
    deregister_critical_service_after: &'static str,
}

impl<'a> Announced<'a> {
    /// The same name serves the service and its check, which are of different kinds.
    pub(super) fn new(id: &'a str, instance: &'a Instance) -> Self {
        let (address, port) = split(&instance.address);
        let own = [(ID, Some(instance.id.as_str())), (ZONE, instance.zone.as_deref())];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let theirs = instance.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Self {
            id,
            name: &instance.service,
            address,
            port,
            tags: &instance.tags,
            meta: theirs.chain(own).collect(),
            // The server takes no 0.
            weights: Weights { passing: instance.weight.max(1), warning: 1 },
            check: Check {
                id,
                ttl: TTL,
                status: status(instance),
                deregister_critical_service_after: FORGOTTEN,
            },
        }
    }
}

/// What its check says of it. One that is draining is well, and not to be given new work: whoever asks for what is
/// passing does not get it.
pub(super) fn status(instance: &Instance) -> &'static str {
    match (instance.health, instance.state) {
        (Health::Critical, _) => "critical",
        (Health::Passing, State::Ready) => "passing",
        _ => "warning",
    }
}

/// An address and its port, 0 if it has none.
fn split(address: &str) -> (&str, u16) {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.unwrap_or((address, 0));
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

/// A service as the catalog tells it, with the node it is on and its checks.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Told {
    node: Node,
    service: Service,
    checks: Vec<Checked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Service")]
    name: String,
    address: String,
    port: u16,
    tags: Option<BTreeSet<String>>,
    meta: Option<BTreeMap<String, String>>,
    weights: Option<Weights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checked {
    status: String,
}

impl Told {
    /// What it is to us. One that we put there has its own id again; others have that of their node before theirs, as it
    /// is unique only there.
    pub(super) fn instance(self) -> Instance {
        let Self { node, service, checks } = self;
        let mut metadata = service.meta.unwrap_or_default();
        let id = metadata.remove(ID).unwrap_or_else(|| format!("{}/{}", node.node, service.id));
        let host = if service.address.is_empty() { node.address } else { service.address };
        let address = match (service.port, host.contains(':')) {
            (0, _) => host,
            (port, true) => format!("[{host}]:{port}"),
            (port, false) => format!("{host}:{port}"),
        };
        let mut instance = Instance::new(service.name, id, address);
        instance.zone = metadata.remove(ZONE);
        instance.metadata = metadata;
        instance.tags = service.tags.unwrap_or_default();
        instance.weight = service.weights.map_or(1, |weights| weights.passing);
        instance.health = checks.iter().map(|check| health(&check.status)).max().unwrap_or_default();
        instance
    }
}

fn health(status: &str) -> Health {
    match status {
        "passing" => Health::Passing,
        "warning" => Health::Warning,
        _ => Health::Critical,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_instance_comes_back_from_the_catalog() {
        let plain = Instance::new("api", "a/1", "10.0.0.1:80");
        let full = Instance::new("api", "b", "[::1]:80").tag("t").zone("z").metadata("rack", "4").weight(7);
        for instance in [plain, full] {
            let announced = serde_json::to_value(Announced::new("x", &instance)).unwrap();
            let told = json!({
                "Node": { "Node": "n", "Address": "10.9.9.9" },
                "Service": {
                    "ID": "x", "Service": announced["Name"], "Address": announced["Address"],
                    "Port": announced["Port"], "Tags": announced["Tags"], "Meta": announced["Meta"],
                    "Weights": announced["Weights"],
                },
                "Checks": [{ "Status": announced["Check"]["Status"] }],
            });
            assert_eq!(serde_json::from_value::<Told>(told).unwrap().instance(), instance);
        }
    }

    #[test]
    fn a_service_of_others_is_an_instance() {
        let told = json!({
            "Node": { "Node": "n", "Address": "10.9.9.9" },
            "Service": { "ID": "web1", "Service": "web", "Address": "", "Port": 0, "Tags": null, "Meta": null },
            "Checks": [{ "Status": "passing" }, { "Status": "maintenance" }, { "Status": "warning" }],
        });
        let instance = serde_json::from_value::<Told>(told).unwrap().instance();
        let expected = Instance::new("web", "n/web1", "10.9.9.9").health(Health::Critical);
        assert_eq!(instance, expected);
    }

    #[test]
    fn addresses_are_taken_apart() {
        for (address, parts) in
            [("h:80", ("h", 80)), ("[::1]:80", ("::1", 80)), ("h", ("h", 0)), ("unix:/x", ("unix:/x", 0))]
        {
            assert_eq!(split(address), parts);
        }
    }
}
