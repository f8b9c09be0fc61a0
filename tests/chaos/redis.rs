//! Redis logs every effect of every script before it answers (`appendfsync always`), so the judge reads that log when all is
//! over: the strings that entries are, not the stream that our scripts tell of them.

use async_trait::async_trait;

use crate::history::{Change, Historian, Stands};
use crate::servers::redis::Redis;

/// What entries are called.
const ENTRY: &str = "{quorate}:e:";

#[async_trait(?Send)]
impl Historian for Redis {
    async fn history(&mut self) -> Vec<Change> {
        // It is never rewritten here, so the first piece is empty and the second is everything.
        let logs = self.log_directory();
        let names =
            std::fs::read_dir(&logs).expect("it keeps a log").map(|file| file.expect("a file").path());
        let log: Vec<_> = names.filter(|file| file.extension().is_some_and(|end| end == "aof")).collect();
        let [log] = &*log else { panic!("the log was rewritten: {log:?}") };
        let bytes = std::fs::read(log).expect("it is read");
        commands(&bytes).iter().flat_map(|command| changes(command)).collect()
    }
}

/// The commands of a log, each an array of strings in the protocol of Redis.
fn commands(mut bytes: &[u8]) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    while let Some(count) = number(&mut bytes, b'*') {
        let mut word = || {
            let length = number(&mut bytes, b'$').expect("a whole word");
            let (word, rest) = bytes.split_at(length);
            bytes = rest.strip_prefix(b"\r\n").expect("the end of a word");
            String::from_utf8_lossy(word).into_owned()
        };
        commands.push((0..count).map(|_| word()).collect());
    }
    assert!(bytes.is_empty(), "the log makes no sense from {:?}", String::from_utf8_lossy(bytes));
    commands
}

fn number(bytes: &mut &[u8], mark: u8) -> Option<usize> {
    let rest = bytes.strip_prefix(&[mark])?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    *bytes = &rest[end + 2..];
    Some(number)
}

/// What a command does to entries: scripts put them by `MSET`, each as its session, version and fence, a line break and the value.
fn changes(command: &[String]) -> Vec<Change> {
    let Some((name, words)) = command.split_first() else { return Vec::new() };
    let entry = |key: &String| key.strip_prefix(ENTRY).map(str::to_owned);
    let erased = |key| Some(Change { key: entry(key)?, now: None });
    let put = |pair: &[String]| Some(Change { key: entry(&pair[0])?, now: Some(stands(&pair[1])) });
    match name.to_ascii_uppercase().as_str() {
        "DEL" | "UNLINK" => words.iter().filter_map(erased).collect(),
        "MSET" => words.chunks(2).filter_map(put).collect(),
        _ => Vec::new(),
    }
}

fn stands(stored: &str) -> Stands {
    let (head, value) = stored.split_once('\n').expect("an entry");
    let fence = head.rsplit(' ').next().and_then(|fence| fence.parse().ok()).expect("it has a fence");
    Stands { fence, value: value.to_owned() }
}
