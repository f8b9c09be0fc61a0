//! That small logs are read as they are meant.

use libtest_mimic::Trial;

use super::{CLOSE_SESSION, CREATE, DELETE, Log, MULTI, Replay, SET, agreed};
use crate::history::Change;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("zookeeper::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("what_a_majority_wrote_down_was_agreed_to", agreed_to),
        trial("what_no_log_has_is_missed", missed),
        trial("a_log_tells_all_that_happened", told),
    ]
}

/// A log of changes that say nothing.
fn written(zxids: &[u64]) -> Log {
    zxids.iter().map(|zxid| (*zxid, (0, Vec::new()))).collect()
}

fn agreed_to() {
    const NEXT: u64 = 1 << 32;
    // The first led, and was alone with its last; the second was sent a copy of all data then.
    let logs = [
        written(&[1, 2, 3, 4, NEXT + 2, NEXT + 3]),
        written(&[1, 2, NEXT + 1, NEXT + 2, NEXT + 3]),
        written(&[1, 2, 3, NEXT + 1]),
    ];
    let agreed: Vec<_> = agreed(&logs).expect("nothing is missing").into_keys().collect();
    assert_eq!(agreed, [1, 2, 3, NEXT + 1, NEXT + 2, NEXT + 3]);
}

fn missed() {
    for missing in [&[1, 3][..], &[2, 3], &[1, 1 << 32 | 2]] {
        let logs = [written(missing), written(missing)];
        assert!(agreed(&logs).is_err(), "{missing:?}");
    }
}

fn told() {
    let string = |text: &str| {
        let length = u32::try_from(text.len()).expect("it is short");
        [&length.to_be_bytes()[..], text.as_bytes()].concat()
    };
    let create = |path: &str| (CREATE, [string(path), string("1")].concat());
    let set = (SET, [string("/a/="), string("2")].concat());
    let delete = [&1_u32.to_be_bytes()[..], &DELETE.to_be_bytes(), &[0, 0, 0, 8], &string("/a/=")].concat();
    let closed = [&1_u32.to_be_bytes()[..], &string("/q/x-lock-0000000001")].concat();
    let log = [
        create("/a/="),
        // Nobody's key.
        create("/a"),
        create("/q/x-lock-0000000001"),
        set,
        (MULTI, delete),
        (CLOSE_SESSION, closed),
    ];
    let mut replay = Replay::default();
    for (zxid, record) in (1..).zip(&log) {
        replay.apply(zxid, record);
    }
    assert!(replay.nodes.is_empty(), "{replay:?}");
    let told = |Change { key, now }: &Change| {
        let now = now.as_ref().map_or("gone".to_owned(), |now| format!("{} by {}", now.value, now.fence));
        format!("{key} {now}")
    };
    let told: Vec<_> = replay.history.iter().map(told).collect();
    let place = "q/x-lock-0000000001";
    let expected = ["a 1 by 1", &format!("{place} 1 by 3"), "a 2 by 1", "a gone", &format!("{place} gone")];
    assert_eq!(told, expected);
}
