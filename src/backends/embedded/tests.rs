//! What is this backend's alone; the contract is tested by the conformance suite.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::kv::StoreExt;

/// What must happen happens in this time, on the slowest machine.
const SOON: Duration = Duration::from_secs(20);

fn file() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.db");
    (directory, path)
}

async fn open(path: &Path) -> Embedded {
    Embedded::open(path).await.unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Waits until nothing is left of a store whose last handle was dropped, so that its file can be looked at.
async fn ended(store: Embedded) {
    let wake = Arc::downgrade(&store.0.wake.0);
    drop(store);
    until(|| wake.strong_count() == 0).await;
}

async fn until(condition: impl Fn() -> bool + Send + Sync) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, met).await.expect("the condition is met soon");
}

async fn next(watch: &mut BoxStream<'static, Result<Event>>) -> Result<Event> {
    timeout(SOON, watch.next()).await.expect("an event soon").expect("the watch goes on")
}

#[tokio::test]
async fn keeps_everything_over_a_restart_and_fences_grow() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let first = store.put("a/b", vec![0, 159, 146, 150]).await.unwrap();
    store.delete("a/b").await.unwrap();
    let second = store.put("a/b", "").await.unwrap();
    ended(store).await;
    let store = open(&path).await;
    assert_eq!(store.fetch("a/b").await.unwrap().unwrap(), second);
    store.delete("a/b").await.unwrap();
    let third = store.put("a/b", "x").await.unwrap();
    assert!(first.fence < second.fence && second.fence < third.fence);
    assert!(!store.replace("a/b", first.version, "y").await.unwrap().is_applied());
}

#[tokio::test]
async fn what_one_handle_does_another_sees_and_hears() {
    let (_directory, path) = file();
    let (one, other) = (open(&path).await, open(&path).await);
    let mut watch = other.watch(Scope::Prefix(key("a")));
    assert_eq!(next(&mut watch).await.unwrap(), Event::Snapshot(vec![]));
    let put = one.put("a/b", "1").await.unwrap();
    assert_eq!(other.fetch("a/b").await.unwrap(), Some(put.clone()));
    assert_eq!(next(&mut watch).await.unwrap(), Event::Put(put));
    one.put("unwatched", "1").await.unwrap();
    one.delete("a/b").await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), Event::Delete(key("a/b")));
}
