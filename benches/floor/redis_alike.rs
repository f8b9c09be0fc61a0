//! Redis by hand again, with the scripts that the contract takes, under a tag of its own: they number every write, and tell
//! it in a stream.

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Script, ScriptInvocation, from_redis_value};

use super::redis::Redis;
use super::{Operations, VALUE};

pub(crate) struct Alike {
    link: MultiplexedConnection,
    get: Script,
    commit: Script,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("../../src/backends/redis/scripts/prelude.lua"),
            include_str!(concat!("../../src/backends/redis/scripts/", $name)),
        ))
    };
}

impl Alike {
    pub(crate) fn of(raw: &Redis) -> Self {
        Self { link: raw.link.clone(), get: script!("get.lua"), commit: script!("commit.lua") }
    }

    /// What every script is told first: no life of the store is known, and no revision.
    fn call(script: &Script) -> ScriptInvocation<'_> {
        let mut call = script.prepare_invoke();
        call.key("{floor}:meta").arg("").arg(0).arg("floor");
        call
    }

    async fn run<T: FromRedisValue>(&self, call: ScriptInvocation<'_>) -> T {
        call.invoke_async(&mut self.link.clone()).await.expect("it answers")
    }

    /// What stands there, as its key, value, version, fence and session.
    async fn read(&self, key: &str) -> Option<(String, Vec<u8>, i64, i64, String)> {
        let mut call = Self::call(&self.get);
        call.arg(key);
        let answer: Vec<redis::Value> = self.run(call).await;
        answer.into_iter().nth(3).map(|found| from_redis_value(found).expect("an entry"))
    }

    /// Puts or deletes, if the check holds; returns the revision.
    async fn write(
        &self,
        check: Option<(&str, &str, i64)>,
        put: Option<(&str, &[u8])>,
        delete: Option<&str>,
    ) -> i64 {
        let mut call = Self::call(&self.commit);
        let counts = [check.is_some(), put.is_some(), delete.is_some()];
        call.arg("").arg(&counts.map(u8::from));
        if let Some((kind, key, number)) = check {
            call.arg(kind).arg(key).arg(number);
        }
        if let Some((key, value)) = put {
            call.arg(key).arg(0).arg(value);
        }
        call.arg(delete);
        let answer: Vec<redis::Value> = self.run(call).await;
        assert_eq!(answer[2], redis::Value::BulkString(b"applied".to_vec()), "nobody else writes");
        from_redis_value(answer[1].clone()).expect("a revision")
    }
}

#[async_trait]
impl Operations for Alike {
    async fn put(&self, key: &str, value: Bytes) {
        self.write(None, Some((key, &value)), None).await;
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        self.read(key).await.map(|found| found.1.into())
    }

    async fn state(&self, key: &str) -> i64 {
        self.read(key).await.expect("it stands").2
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        self.write(Some(("version", key, state)), Some((key, &value)), None).await
    }

    /// Without a session, and not in a queue.
    async fn lock_pair(&self, key: &str) {
        self.write(Some(("absent", key, 0)), Some((key, &VALUE)), None).await;
        self.write(None, None, Some(key)).await;
    }
}
