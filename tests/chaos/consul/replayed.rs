//! That the log of a real Consul, applied once more, tells all that happened.

use libtest_mimic::Trial;
use serde_json::json;

use crate::history::{Change, Historian as _};
use crate::servers::consul::{Consul, Version};
use crate::servers::{Cluster as _, Options, Release as _};

pub(crate) fn trial() -> Trial {
    Trial::test(format!("{}::its_log_tells_all_that_happened", Version::SERVER), || {
        crate::block_on(happened());
        Ok(())
    })
}

async fn session(consul: &Consul, behaviour: &str) -> String {
    let wanted = json!({ "TTL": "10s", "LockDelay": "0s", "Behavior": behaviour }).to_string();
    let made = consul.api("PUT", "/v1/session/create", &wanted).await;
    made["ID"].as_str().expect("an id").to_owned()
}

async fn happened() {
    let mut consul = Options::new(Version::V1_8).start().await;
    let put = async |path: &str, value: &str| {
        consul.api("PUT", &format!("/v1/kv/{path}"), value).await == json!(true)
    };
    let (deleting, releasing) = (session(&consul, "delete").await, session(&consul, "release").await);
    assert!(put("a", "1").await);
    assert!(put("a", "1").await, "which changes nothing");
    assert!(!put("a?cas=1", "2").await);
    assert!(put(&format!("a?acquire={releasing}"), "3").await);
    assert!(!put(&format!("a?acquire={deleting}"), "4").await);
    assert!(put(&format!("b?acquire={deleting}"), "5").await);
    assert!(put(&format!("b?release={deleting}"), "6").await);
    assert!(put(&format!("c?acquire={deleting}"), "7").await);
    // One that is refused after something was done, and one that is not.
    let set = |key: &str| json!({ "KV": { "Verb": "set", "Key": key, "Value": "OA==" } });
    let absent = |key: &str| json!({ "KV": { "Verb": "check-not-exists", "Key": key } });
    let first = consul.members().iter().next().expect("there is one");
    let refused = json!([set("d"), absent("a")]).to_string();
    assert_eq!(consul.ask(first, "PUT", "/v1/txn", &refused).await.expect("it answers").0, 409);
    consul.api("PUT", "/v1/txn", &json!([absent("d"), set("d"), set("d/e")]).to_string()).await;
    for ended in [&deleting, &releasing] {
        consul.api("PUT", &format!("/v1/session/destroy/{ended}"), "").await;
    }
    consul.api("DELETE", "/v1/kv/d?recurse", "").await;
    consul.restart(0).await;

    let told =
        |Change { key, now }: Change| format!("{key}={}", now.map_or("gone".to_owned(), |now| now.value));
    let history: Vec<_> = consul.history().await.into_iter().map(told).collect();
    let history: Vec<_> = history.iter().filter(|told| !told.starts_with("ready")).collect();
    let expected = ["a=1", "a=3", "b=5", "b=6", "c=7", "d=8", "d/e=8", "c=gone", "a=3", "d=gone", "d/e=gone"];
    assert_eq!(history, expected);
}
