//! Consul's own catalog: our registrations in it, and services of others seen.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::backends::{Consul, ConsulOptions};
use quorate::discovery::{Health, Instance, Members, Registrar};
use quorate::kv::Coordinator;
use serde_json::{Value, json};

use super::{PATIENCE, connect, sessions, trial};
use crate::servers::Cluster as _;
use crate::servers::consul::{Consul as Server, Options, Version};
use crate::servers::until;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "registrations_are_services_of_the_catalog_when_asked", announced),
        trial(version, "what_dies_is_critical_in_the_catalog", critical),
        trial(version, "an_agent_that_forgot_is_told_again", forgotten),
        trial(version, "what_another_took_over_is_theirs_to_announce", displaced),
        trial(version, "members_of_the_catalog_are_seen_with_their_health", seen),
    ]
}

/// How long what is said of a service lasts, and whatever may come late.
const CRITICAL: Duration = Duration::from_secs(30);

async fn native(consul: &Server) -> Arc<dyn Coordinator> {
    let url = consul.url("");
    connect(&format!("{url}{}native=true", if url.contains('?') { "&" } else { "?" })).await
}

/// What the catalog says of a service: the id of each, and how it is.
async fn services(consul: &Server, name: &str) -> Vec<(String, String)> {
    let told = consul.api("GET", &format!("/v1/health/service/{name}"), "").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = |entry: &Value| {
        let checks = entry["Checks"].as_array().cloned().unwrap_or_default();
        let own = checks.iter().find(|check| check["ServiceName"] == json!(name)).cloned();
        own.map(|check| text(&check["Status"])).unwrap_or_default()
    };
    let entries = told.as_array().cloned().unwrap_or_default();
    let mut found: Vec<_> =
        entries.iter().map(|entry| (text(&entry["Service"]["Meta"]["quorate-id"]), status(entry))).collect();
    found.sort();
    found
}

async fn become_so(consul: &Server, name: &str, patience: Duration, wanted: &[(&str, &str)]) {
    let wanted: Vec<_> = wanted.iter().map(|(id, status)| ((*id).to_owned(), (*status).to_owned())).collect();
    until("the catalog says so", patience, async || match services(consul, name).await {
        found if found == wanted => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;
}

async fn announced(version: Version) {
    let consul = Options::new(version).auth().start().await;
    let store = native(&consul).await;
    let registrar = Registrar::new(&store, &sessions(&store));
    let instance = Instance::new("api", "a/1", "10.0.0.7:8080").tag("blue").metadata("rack", "4").weight(3);
    let first = registrar.register(instance).await.expect("it is new");
    let second = registrar.register(Instance::new("api", "b", "10.0.0.8:8080")).await.expect("it is new");
    // The agent knows by now; the servers are told by the agent.
    become_so(&consul, "api", PATIENCE, &[("a/1", "passing"), ("b", "passing")]).await;
    let told = consul.api("GET", "/v1/catalog/service/api?filter=ServicePort==8080", "").await;
    let of_first =
        told.as_array().expect("a list").iter().find(|entry| entry["ServiceAddress"] == json!("10.0.0.7"));
    let of_first = of_first.expect("it is there");
    assert_eq!(of_first["ServiceTags"], json!(["blue"]));
    assert_eq!(of_first["ServiceMeta"]["rack"], json!("4"));
    assert_eq!(of_first["ServiceWeights"]["Passing"], json!(3));

    second.set_draining(true).await.expect("it is told");
    become_so(&consul, "api", PATIENCE, &[("a/1", "passing"), ("b", "warning")]).await;
    first.deregister().await;
    become_so(&consul, "api", PATIENCE, &[("b", "warning")]).await;

    // It is there for as long as it is registered, and longer than one word of it lasts.
    tokio::time::sleep(Duration::from_secs(17)).await;
    assert_eq!(services(&consul, "api").await, [("b".to_owned(), "warning".to_owned())]);
    drop(second);
    become_so(&consul, "api", PATIENCE, &[]).await;
}

async fn critical(version: Version) {
    let consul = Options::new(version).start().await;
    let url = consul.url("");
    // A runtime that ends takes the process's part: nobody can say goodbye.
    let dying = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let registration = runtime.block_on(async {
            let store = connect(&format!("{url}?native=true")).await;
            let registrar = Registrar::new(&store, &sessions(&store));
            registrar.register(Instance::new("api", "a", "10.0.0.7:8080")).await.expect("it is new")
        });
        runtime.shutdown_background();
        registration
    });
    let _registration = dying.await.expect("it does not panic");
    become_so(&consul, "api", CRITICAL, &[("a", "critical")]).await;
}

async fn forgotten(version: Version) {
    let consul = Options::new(version).start().await;
    let store = native(&consul).await;
    let registrar = Registrar::new(&store, &sessions(&store));
    let instance = Instance::new("api", "a", "10.0.0.7:8080");
    let _registration = registrar.register(instance).await.expect("it is new");
    become_so(&consul, "api", PATIENCE, &[("a", "passing")]).await;
    let known = consul.api("GET", "/v1/agent/services", "").await;
    let id = known.as_object().and_then(|known| known.keys().next()).expect("one is known").clone();
    let first = consul.members().iter().next().expect("there is one");
    consul.ask(first, "PUT", &format!("/v1/agent/service/deregister/{id}"), "").await.expect("it answers");
    become_so(&consul, "api", PATIENCE, &[]).await;
    become_so(&consul, "api", PATIENCE, &[("a", "passing")]).await;
}

async fn displaced(version: Version) {
    let consul = Options::new(version).start().await;
    let (first, second) = (native(&consul).await, native(&consul).await);
    let (ours, theirs) =
        (Registrar::new(&first, &sessions(&first)), Registrar::new(&second, &sessions(&second)));
    let _ours = ours.register(Instance::new("api", "a", "10.0.0.7:8080")).await.expect("it is new");
    become_so(&consul, "api", PATIENCE, &[("a", "passing")]).await;
    let theirs = theirs.register(Instance::new("api", "a", "10.0.0.8:8080")).await.expect("it is taken over");
    // Both say how their services are three times in the meantime.
    tokio::time::sleep(Duration::from_secs(16)).await;
    let told = consul.api("GET", "/v1/catalog/service/api", "").await;
    let told = told.as_array().expect("a list");
    assert!(told.len() == 1 && told[0]["ServiceAddress"] == json!("10.0.0.8"), "{told:?}");
    theirs.deregister().await;
    become_so(&consul, "api", PATIENCE, &[]).await;
}

async fn seen(version: Version) {
    let consul = Options::new(version).start().await;
    let host = consul.addresses()[0].to_string();
    let client = Consul::connect(ConsulOptions::new([host])).await.expect("it lets us in");
    let web = Members::new(client.catalog("web")).expect("a runtime");
    assert!(web.ready().await.instances().is_empty());
    let first = consul.members().iter().next().expect("there is one");
    let tell = async |path: &str, body: Value| {
        let answer = consul.ask(first, "PUT", path, &body.to_string()).await.expect("it answers");
        assert_eq!(answer.0, 200, "{answer:?}");
    };
    let service = json!({
        "ID": "web1", "Name": "web", "Address": "10.0.0.1", "Port": 80, "Tags": ["t"], "Meta": { "rack": "4" },
        "Check": { "CheckID": "web1", "TTL": "1m", "Status": "passing" },
    });
    tell("/v1/agent/service/register", service).await;
    let becomes = async |wanted: &[(&str, Health)]| {
        until("it is seen", PATIENCE, async || {
            let snapshot = web.snapshot();
            let seen = snapshot.instances().iter().map(|seen| (seen.address.as_str(), seen.health));
            let seen: Vec<_> = seen.collect();
            if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    };
    becomes(&[("10.0.0.1:80", Health::Passing)]).await;
    let snapshot = web.snapshot();
    let instance = &snapshot.instances()[0];
    assert!(instance.id.ends_with("/web1") && instance.tags.contains("t"), "{instance:?}");
    assert_eq!(instance.metadata.get("rack").map(String::as_str), Some("4"));
    tell("/v1/agent/check/update/web1", json!({ "Status": "critical" })).await;
    becomes(&[("10.0.0.1:80", Health::Critical)]).await;
    tell("/v1/agent/check/update/web1", json!({ "Status": "warning" })).await;
    becomes(&[("10.0.0.1:80", Health::Warning)]).await;
    tell("/v1/agent/service/deregister/web1", json!({})).await;
    becomes(&[]).await;
}
