//! What is this backend's alone; the contract is tested by the conformance suite.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::kv::{Mode, StoreExt};

const TTL: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(100);

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
    let pace = Arc::downgrade(&store.0.pace.0);
    drop(store);
    until(|| pace.strong_count() == 0).await;
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

/// Opens what is at `path`, which must fail and leave every byte as it is.
async fn refused(path: &Path) -> Error {
    let before = fs::read(path).unwrap();
    let error = Embedded::open(path).await.unwrap_err();
    assert_eq!(fs::read(path).unwrap(), before, "{error}");
    assert_eq!((error.outcome(), error.operation()), (Outcome::NotApplied, "open"));
    assert!(error.to_string().starts_with("embedded: open "), "{error}");
    error
}

#[tokio::test]
async fn a_file_that_is_no_store_is_left_alone() {
    let (directory, path) = file();
    let foreign = |error: &Error| error.to_string().contains("not a quorate store; nothing was changed");
    for garbage in [&b"#!/bin/sh\n"[..], &[0; 5000], &[b'x'; 10_000]] {
        fs::write(&path, garbage).unwrap();
        let error = refused(&path).await;
        assert!(error.kind() == ErrorKind::InvalidInput && foreign(&error), "{error}");
    }
    fs::remove_file(&path).unwrap();
    for mode in ["WAL", "DELETE"] {
        let path = directory.path().join(mode);
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        let error = Embedded::open(&path).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && foreign(&error), "{error}");
        drop(connection);
        assert!(foreign(&refused(&path).await));
    }
    let beside = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(beside.count(), 2, "nothing was made beside the foreign files");
}

#[tokio::test]
async fn a_foreign_file_is_told_by_its_header_even_where_a_store_was() {
    let (directory, path) = file();
    drop(Embedded::open(&path).await.unwrap());
    let foreign = |error: &Error| error.to_string().contains("not a quorate store; nothing was changed");
    for name in ["", "-wal", "-shm"] {
        let _ =
            fs::remove_file(directory.path().join(format!("{}{name}", path.file_name().unwrap().display())));
    }
    fs::write(&path, [b'x'; 10_000]).unwrap();
    assert!(foreign(&refused(&path).await));
    fs::remove_file(&path).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    for application in [0, 7] {
        connection.pragma_update(None, "application_id", application).unwrap();
        assert!(foreign(&refused(&path).await), "{application}");
    }
}

#[tokio::test]
async fn a_damaged_or_newer_store_is_left_alone() {
    let (directory, path) = file();
    let store = open(&path).await;
    // Enough for the log to be copied into the file.
    store.put("a", vec![7; 600_000]).await.unwrap();
    ended(store).await;
    let bytes = fs::read(&path).unwrap();
    let short = directory.path().join("short");
    fs::write(&short, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(refused(&short).await.kind(), ErrorKind::Internal);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = refused(&path).await;
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("layout 2"), "{error}");
}

/// The log is copied into the file page by page, the header first, and whoever does that may be killed: found under the
/// command's counter test, where processes exit while they close.
#[tokio::test]
async fn a_file_whose_log_was_being_copied_when_its_process_died_is_whole() {
    let (directory, path) = file();
    let store = open(&path).await;
    store.put("a", "before").await.unwrap();
    ended(store).await;
    let store = open(&path).await;
    let last = store.put("b", vec![7; 50_000]).await.unwrap();
    let torn = directory.path().join("torn.db");
    for suffix in ["", "-wal", "-lock"] {
        fs::copy(format!("{}{suffix}", path.display()), format!("{}{suffix}", torn.display())).unwrap();
    }
    // As the header says after the copy: more pages than the file has yet.
    let mut bytes = fs::read(&torn).unwrap();
    let pages = u32::from_be_bytes(bytes[28..32].try_into().unwrap());
    bytes[28..32].copy_from_slice(&(pages + 13).to_be_bytes());
    fs::write(&torn, &bytes).unwrap();
    let mended = open(&torn).await;
    assert_eq!(mended.fetch("b").await.unwrap(), Some(last));
    assert_eq!(mended.fetch("a").await.unwrap().unwrap().value, "before");
    // Without its log it is damaged, and left alone.
    let logless = directory.path().join("logless.db");
    fs::write(&logless, &bytes).unwrap();
    assert_eq!(refused(&logless).await.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_path_that_cannot_be_a_store_is_refused_by_name() {
    let (directory, path) = file();
    let missing = directory.path().join("missing/store.db");
    let below = path.join("store.db");
    fs::write(&path, "").unwrap();
    for (path, why) in [
        (directory.path(), "directory"),
        (&missing, "there is no directory"),
        (&below, "not a directory"),
        (Path::new(""), "names no file"),
        (Path::new("/"), "names no file"),
    ] {
        let error = Embedded::open(path).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::InvalidInput && error.to_string().contains(why),
            "{path:?}: {error}"
        );
    }
    assert!(!directory.path().join("missing").exists());
}

#[tokio::test]
async fn an_empty_file_becomes_a_store_and_links_lead_to_it() {
    let (directory, path) = file();
    fs::write(&path, "").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (store, linked) = (open(&path).await, open(&link).await);
    let put = store.put("a", "1").await.unwrap();
    assert_eq!(linked.fetch("a").await.unwrap(), Some(put));
    assert!(!directory.path().join("link-lock").exists(), "both meet at one gate");
}

/// Closing any descriptor of a file takes away all of the process's locks on it.
#[tokio::test]
async fn opening_again_leaves_the_locks_that_are_held() {
    let (_directory, path) = file();
    let store = open(&path).await;
    store.put("a", "1").await.unwrap();
    let held = || {
        let inode = format!(":{} ", fs::metadata(&path).unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().filter(|lock| lock.contains("POSIX") && lock.contains(&inode)).count()
    };
    // The list is not read in one piece, and other tests lock and unlock: it may lack what is held.
    until(|| held() > 0).await;
    ended(open(&path).await).await;
    until(|| held() > 0).await;
}

#[tokio::test]
async fn sessions_do_not_outlive_the_boot() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let session = store.grant(TTL).await.unwrap().id;
    let bound = store.commit(Txn::new().put_bound(&key("bound"), "1", &session).put(&key("free"), "1"));
    let fence = bound.await.unwrap().applied().unwrap()[0].fence;
    ended(store).await;

    let store = open(&path).await;
    assert!(matches!(store.renew(&session).await.unwrap(), Renewal::Renewed { ttl: TTL }), "the same boot");
    ended(store).await;

    Connection::open(&path).unwrap().execute("UPDATE host SET boot = 'an earlier one'", []).unwrap();
    let store = open(&path).await;
    assert_eq!(store.renew(&session).await.unwrap(), Renewal::Lost);
    assert_eq!(store.renew(&SessionId::new("not one of ours")).await.unwrap(), Renewal::Lost);
    store.revoke(&session).await.unwrap();
    assert!(!store.exists("bound").await.unwrap() && store.exists("free").await.unwrap());
    assert!(store.put("bound", "2").await.unwrap().fence > fence);
    let refused = store.commit(Txn::new().put_bound(&key("x"), "", &session)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::SessionLost, Outcome::NotApplied));
}

#[tokio::test]
async fn a_watcher_sees_a_session_expire_though_nobody_asks() {
    let (_directory, path) = file();
    let (one, other) = (open(&path).await, open(&path).await);
    let session = one.grant(Duration::from_millis(300)).await.unwrap().id;
    let txn = Txn::new().put_bound(&key("a"), "1", &session);
    let entry = one.commit(txn).await.unwrap().applied().unwrap().remove(0);
    let mut watch = other.watch(Scope::Key(key("a")));
    assert_eq!(next(&mut watch).await.unwrap(), Event::Snapshot(vec![entry]));
    assert_eq!(next(&mut watch).await.unwrap(), Event::Delete(key("a")));
    assert_eq!(one.renew(&session).await.unwrap(), Renewal::Lost);
}

#[tokio::test]
async fn an_expired_session_is_gone_for_a_plain_read() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let session = store.grant(SHORT).await.unwrap().id;
    let _ = store.commit(Txn::new().put_bound(&key("a"), "1", &session)).await.unwrap();
    tokio::time::sleep(2 * SHORT).await;
    assert_eq!(store.fetch("a").await.unwrap(), None);
}

/// What a writer that died after its commit leaves: a change that no bell told of.
#[tokio::test]
async fn a_change_without_a_bell_is_found() {
    let (_directory, path) = file();
    let store = open(&path).await;
    store.grant(TTL).await.unwrap();
    store.put("a", "1").await.unwrap();
    let mut watch = store.watch(Scope::Prefix(Key::root()));
    assert!(matches!(next(&mut watch).await.unwrap(), Event::Snapshot(entries) if entries.len() == 1));
    let silent = Connection::open(&path).unwrap();
    silent
        .execute_batch(
            "BEGIN; DELETE FROM entry; INSERT INTO change (key, deleted) VALUES (x'61', 1); COMMIT",
        )
        .unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), Event::Delete(key("a")));
}

#[tokio::test]
async fn a_watcher_behind_the_kept_changes_gets_a_snapshot() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let entry = store.put("a", "1").await.unwrap();
    let mut watch = store.watch(Scope::Prefix(Key::root()));
    assert_eq!(next(&mut watch).await.unwrap(), Event::Snapshot(vec![entry.clone()]));
    let silent = Connection::open(&path).unwrap();
    silent.execute("INSERT INTO change VALUES (50000, x'61', 0)", []).unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), Event::Snapshot(vec![entry]));
    assert_eq!(store.put("b", "1").await.unwrap().fence.get(), 50_001);
    assert!(matches!(next(&mut watch).await.unwrap(), Event::Put(entry) if entry.key == key("b")));
}

#[tokio::test]
async fn changes_are_kept_in_a_bounded_number() {
    let (_directory, path) = file();
    let store = open(&path).await;
    for _ in 0..100 {
        let txn = (0..128).fold(Txn::new(), |txn, n| txn.put(&key(&format!("k{n}")), ""));
        assert!(store.commit(txn).await.unwrap().is_applied());
    }
    let rows = Connection::open(&path).unwrap();
    let rows: i64 = rows.query_row("SELECT count(*) FROM change", [], |row| row.get(0)).unwrap();
    assert!((tables::KEPT_CHANGES..tables::KEPT_CHANGES + 2_000).contains(&rows), "{rows}");
}

#[tokio::test]
async fn a_deleted_file_is_not_served() {
    let (_directory, path) = file();
    let store = open(&path).await;
    store.put("a", "1").await.unwrap();
    let mut watch = store.watch(Scope::Key(key("a")));
    assert!(next(&mut watch).await.is_ok());
    fs::remove_file(&path).unwrap();
    let gone = |error: &Error| {
        error.kind() == ErrorKind::Internal && error.to_string().contains("deleted or replaced")
    };
    let error = next(&mut watch).await.unwrap_err();
    assert!(gone(&error), "{error}");
    assert!(timeout(SOON, watch.next()).await.unwrap().is_none(), "the watch ends");
    assert!(gone(&store.put("a", "2").await.unwrap_err()));

    let second = open(&path).await;
    assert_eq!(second.fetch("a").await.unwrap(), None);
    assert!(gone(&store.fetch("a").await.unwrap_err()));
    assert!(gone(&store.grant(TTL).await.unwrap_err()));
}

#[tokio::test]
async fn an_older_copy_in_its_place_is_noticed() {
    let (_directory, path) = file();
    let store = open(&path).await;
    store.put("a", "1").await.unwrap();
    Connection::open(&path).unwrap().execute("DELETE FROM change", []).unwrap();
    assert_eq!(store.put("a", "2").await.unwrap_err().kind(), ErrorKind::FenceRegression);
}

/// Keeps all writers out, as a process does that was stopped while writing.
fn shut(path: &Path) -> File {
    let gate = File::open(format!("{}-lock", path.display())).unwrap();
    gate.lock().unwrap();
    gate
}

#[tokio::test]
async fn a_shut_gate_fails_writes_in_time_without_effect() {
    let (_directory, path) = file();
    let store = Embedded::open_within(&path, SHORT).await.unwrap();
    let gate = shut(&path);
    let error = store.put("a", "1").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(error.to_string().contains("stopped while writing") && error.key() == Some(&key("a")), "{error}");
    let error = Embedded::open_within(&path, SHORT).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    drop(gate);
    until_answered(&store).await;
    assert_eq!(store.fetch("a").await.unwrap(), None);
}

/// The engine answers again, and has thus seen all that was sent before.
async fn until_answered(store: &Embedded) {
    while store.put("probe", "").await.is_err() {}
}

#[tokio::test]
async fn a_dropped_request_that_waits_has_no_effect() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let gate = shut(&path);
    let (first, second) = (store.put("a", "1"), store.put("b", "1"));
    assert!(timeout(SHORT, async { tokio::join!(first, second) }).await.is_err());
    drop(gate);
    until_answered(&store).await;
    assert_eq!(store.list(&Key::root(), Consistency::Linearizable).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_started_request_that_is_late_is_of_unknown_outcome() {
    let (_directory, path) = file();
    let store = Embedded::open_within(&path, SHORT).await.unwrap();
    let (go_on, blocked) = sync_channel::<()>(0);
    let txn = Txn::new().put(&key("a"), "1");
    let late = store.0.call(Kind::Write, "commit", move |tables| {
        blocked.recv().unwrap();
        tables.commit(&txn)
    });
    let error = late.await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
    go_on.send(()).unwrap();
    until_answered(&store).await;
    assert!(store.exists("a").await.unwrap());
}

#[tokio::test]
async fn the_thread_ends_with_the_last_handle_or_watch() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let mut watch = store.clone().watch(Scope::Prefix(Key::root()));
    assert!(next(&mut watch).await.is_ok());
    let pace = Arc::downgrade(&store.0.pace.0);
    drop(store);
    assert!(pace.strong_count() > 0, "the watch is a handle too");
    drop(watch);
    until(|| pace.strong_count() == 0).await;
}

#[tokio::test]
async fn a_shut_gate_does_not_keep_the_thread() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let put = store.put("a", "1").await.unwrap();
    let gate = shut(&path);
    ended(store).await;
    drop(gate);
    assert_eq!(open(&path).await.fetch("a").await.unwrap(), Some(put));
}

#[tokio::test]
async fn a_watch_rides_out_a_shut_gate() {
    let (_directory, path) = file();
    let store = Embedded::open_within(&path, SHORT).await.unwrap();
    let gate = shut(&path);
    let mut watch = store.watch(Scope::Key(key("a")));
    assert_eq!(next(&mut watch).await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(gate);
    while next(&mut watch).await.is_err() {}
    // By another, who is not as short of patience.
    let put = open(&path).await.put("a", "1").await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), Event::Put(put));
}

#[tokio::test]
async fn a_refused_request_does_not_disturb_those_beside_it() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let gate = shut(&path);
    let nobody = SessionId::new("0000000000000000");
    let requests = async {
        tokio::join!(
            store.create("a", "1"),
            store.commit(Txn::new().put_bound(&key("b"), "", &nobody)),
            store.create("a", "2"),
            store.put("c", "1"),
        )
    };
    let open_later = async {
        tokio::time::sleep(SHORT).await;
        drop(gate);
    };
    let ((made, refused, late, put), ()) = tokio::join!(requests, open_later);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::SessionLost);
    let Write::Rejected(rejection) = late.unwrap() else { panic!("two were made") };
    assert_eq!(rejection.found, made.unwrap().applied());
    assert_eq!(store.fetch("c").await.unwrap(), Some(put.unwrap()));
    assert!(!store.exists("b").await.unwrap());
}

#[tokio::test]
async fn nobody_waits_for_a_thread_that_died() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let mut watch = store.watch(Scope::Key(key("a")));
    assert!(next(&mut watch).await.is_ok());
    let died = |error: Error| error.kind() == ErrorKind::Internal && error.to_string().contains("has died");
    let error = store.0.call::<(), _>(Kind::Write, "commit", |_| panic!("on purpose")).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(died(error));
    let error = store.put("a", "1").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(died(error));
    assert!(died(next(&mut watch).await.unwrap_err()));
    assert!(timeout(SOON, watch.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_queue_counts_places_only() {
    let (_directory, path) = file();
    let store = open(&path).await;
    let queue = Queue::native(key("jobs"));
    let random = Random::seeded(1);
    let session = store.grant(TTL).await.unwrap().id;
    let mut places = Vec::new();
    for n in 0..4 {
        let other = key(&format!("jobs/other{n}"));
        let txn = Txn::new().put(&key(&format!("jobs/free{n}")), "").put_bound(&other, "", &session);
        assert!(
            store.commit(txn.put_bound(&other.child("x").unwrap(), "", &session)).await.unwrap().is_applied()
        );
        let ticket = Ticket::new(Mode::Exclusive, &random);
        let entered = store.enter(&queue, &session, &ticket, Bytes::new(), 2).await.unwrap();
        let nearest: Vec<_> = places.iter().rev().take(2).map(|place: &Place| place.key.clone()).collect();
        assert_eq!(entered.ahead.into_iter().map(|place| place.key).collect::<Vec<_>>(), nearest);
        places.push(entered.place);
    }
    let [first, second, _, last] = &places[..] else { panic!("four places") };
    store.delete(&second.key).await.unwrap();
    assert_eq!(store.ahead(second, 1).await.unwrap(), None);
    assert_eq!(store.ahead(first, 1).await.unwrap(), Some(vec![]));
    assert_eq!(store.ahead(last, 9).await.unwrap().unwrap().len(), 2);
    let again = store.enter(&queue, &session, &last.ticket, Bytes::new(), 0).await.unwrap();
    assert_eq!(&again.place, last);
}
