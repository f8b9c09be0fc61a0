//! What this client has seen of the store, and whether it still stands there.
//!
//! A server that failed over, or was restored, has forgotten what came last. The revisions of that are then given again, to
//! other writes. So each is stamped by whoever writes it: where the last that was seen bears another stamp, another life of the
//! store begins, and everybody is told.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{RedisError, Value};

use super::changes::Told;
use super::connection::Connection;
use super::error::{Cure, Fault};
use super::options::RedisOptions;
use super::reply::{Reply, State};
use super::scripts::{Script, VERIFY};
use crate::kv::{Error, ErrorKind, Outcome, Random, Result};

/// What all scripts are told, and what their answers say of the life of the store.
pub(super) struct History {
    /// The key that all others lie beside.
    meta: String,
    random: Random,
    /// The highest revision that we have seen, and in which life of the store.
    known: Mutex<Option<State>>,
}

impl History {
    pub(super) fn new(options: &RedisOptions) -> Self {
        Self { meta: options.meta(), random: Random::from_os(), known: Mutex::default() }
    }

    pub(super) fn meta(&self) -> &str {
        &self.meta
    }

    /// The stream of changes.
    pub(super) fn stream(&self) -> String {
        self.meta.replace("}:meta", "}:w")
    }

    /// A name that nobody else has.
    pub(super) fn nonce(&self) -> String {
        format!("{:032x}", self.random.nonce())
    }

    /// The highest revision that we have seen, and in which life of the store.
    pub(super) fn seen(&self) -> Option<State> {
        *self.known()
    }

    /// Asks whether what we know stands on this server too; if not, that and whatever we ask it next is told so.
    pub(super) async fn verify(&self, connection: &Connection) -> Result<Value, RedisError> {
        // One look: with the stamp of another revision than that which is asked about, everything would be taken for lost.
        let seen = self.seen();
        let stamp = seen.map_or(0, |seen| seen.stamp).to_string();
        self.ask(connection, &VERIFY, seen, &[stamp.as_bytes()]).await
    }

    /// Runs a script, which is told what we know.
    pub(super) async fn run(
        &self,
        connection: &Connection,
        script: &Script,
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        self.ask(connection, script, self.seen(), arguments).await
    }

    async fn ask(
        &self,
        connection: &Connection,
        script: &Script,
        seen: Option<State>,
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        // In one text: it lives as long as the request is under way.
        let mut known = String::with_capacity(3 * 20);
        if let Some(State { epoch, .. }) = seen {
            write_number(&mut known, epoch);
        }
        let highest = known.len();
        write_number(&mut known, seen.map_or(0, |known| known.revision));
        let stamp = known.len();
        write_number(&mut known, u64::try_from(self.random.nonce() >> 64).unwrap_or_default());
        let known = known.as_bytes();
        let mut all = Vec::with_capacity(3 + arguments.len());
        all.extend([&known[..highest], &known[highest..stamp], &known[stamp..]]);
        all.extend(arguments);
        connection.run(script, &self.meta, &all).await
    }

    /// Takes an answer into account. One from another life of the store than that we knew is told, once.
    pub(super) fn learn(&self, value: Value) -> Result<Reply, Fault> {
        let reply = Reply::read(value)?;
        self.see(reply.state);
        if reply.status == "regressed" {
            return Err(Fault { error: regressed(), cure: Cure::None });
        }
        Ok(reply)
    }

    /// Takes a plain command's answer into account, that was asked when we knew no more than `knew`. False where the scripts must
    /// say what it means: the store was emptied, or is another than the one we knew, or behind it.
    pub(super) fn trusts(&self, knew: Option<State>, state: Option<State>) -> bool {
        let (Some(knew), Some(state)) = (knew, state) else { return false };
        let same = knew.epoch == state.epoch && knew.revision <= state.revision;
        if same {
            self.see(state);
        }
        same
    }

    /// Takes into account what the stream told of this life of the store.
    pub(super) fn hear(&self, epoch: u64, told: &Told) {
        let mut known = self.known();
        if known.is_some_and(|known| known.epoch == epoch && known.revision < told.revision) {
            *known = Some(State { epoch, revision: told.revision, stamp: told.stamp });
        }
    }

    fn see(&self, state: State) {
        let mut known = self.known();
        // A late answer of a life that is over does not bring it back.
        if known.is_none_or(|known| known.revision <= state.revision) {
            *known = Some(state);
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<State>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_number(text: &mut String, number: u64) {
    // A text always takes what is written to it.
    let _ = write!(text, "{number}");
}

/// What stands in the store is not what stood there, although nobody removed it.
pub(super) fn regressed() -> Error {
    let why = "the server lost what it had acknowledged: it was restarted without its data, an older copy took its \
               place, or it failed over; every session of before is void";
    Error::new(ErrorKind::FenceRegression, Outcome::NotApplied, why)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::super::options::Credentials;
    use super::super::tls::Way;
    use super::*;

    const TIMES: u64 = 2000;

    /// What scripts on one connection are told, as a server hears it that answers all of them.
    async fn told(server: TcpListener) -> Vec<Vec<String>> {
        let (mut stream, _) = server.accept().await.unwrap();
        let (reader, mut writer) = stream.split();
        let mut reader = BufReader::new(reader);
        let mut told = Vec::new();
        for _ in 0..TIMES {
            let mut words = Vec::new();
            let mut line = String::new();
            reader.read_line(&mut line).await.unwrap();
            let count: usize = line[1..].trim_end().parse().unwrap();
            for _ in 0..count {
                line.clear();
                reader.read_line(&mut line).await.unwrap();
                let length: usize = line[1..].trim_end().parse().unwrap();
                let mut word = vec![0; length + 2];
                reader.read_exact(&mut word).await.unwrap();
                word.truncate(length);
                words.push(String::from_utf8(word).unwrap());
            }
            // The script's name, how many keys there are, and the key.
            told.push(words.split_off(4));
            writer.write_all(b"+OK\r\n").await.unwrap();
        }
        told
    }

    /// It once showed the stamp of one revision and asked for the next, and a server that had lost nothing was taken for one that
    /// had: all sessions of the store were void.
    #[tokio::test]
    async fn the_stamp_that_is_shown_is_of_the_revision_that_is_asked_for() {
        let history = Arc::new(History::new(&RedisOptions::new("localhost")));
        let see = |history: &History, revision| history.see(State { epoch: 1, revision, stamp: revision });
        see(&history, 1);
        let seen = Arc::downgrade(&history);
        let elsewhere = thread::spawn(move || {
            for nth in 2.. {
                let Some(history) = seen.upgrade() else { break };
                see(&history, nth);
            }
        });
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let told = tokio::spawn(told(server));
        let way = Way::new(None).unwrap();
        let connection = Connection::open(&way, address, &Credentials::default(), 0).await.unwrap();
        for _ in 0..TIMES {
            history.verify(&connection).await.unwrap();
        }
        drop(history);
        elsewhere.join().unwrap();
        let told = told.await.unwrap();
        for words in &told {
            assert_eq!((words.len(), &*words[0], &words[1]), (4, "1", &words[3]), "{words:?}");
        }
        assert!(told.windows(2).any(|pair| pair[0][1] != pair[1][1]), "what was seen changed meanwhile");
    }
}
