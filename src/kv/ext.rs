//! The everyday verbs, for every store.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Consistency, Entry, Error, ErrorKind, Key, Outcome, Result, Session, SessionId, SessionStore, Store, Txn,
    Version, Write,
};

/// What the verbs take as a key: a [`Key`], or text that is read as one.
pub trait IntoKey: Send {
    /// The key, or why it is none.
    fn into_key(self) -> Result<Key>;
}

impl<T> IntoKey for T
where
    T: TryInto<Key> + Send,
    T::Error: Into<Error>,
{
    fn into_key(self) -> Result<Key> {
        self.try_into().map_err(Into::into)
    }
}

/// The everyday verbs, written once over [`Store::commit`] and [`Store::get`]; implemented for every store.
///
/// All reads are linearizable. One round trip each, but where it says so.
///
/// ```
/// use quorate::backends::Memory;
/// use quorate::kv::{StoreExt, Write};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let kv = Memory::new();
/// assert!(kv.create("motd", "hello").await?.is_applied());
/// assert!(!kv.create("motd", "too late").await?.is_applied());
///
/// let seen = kv.fetch("motd").await?.expect("it was just made");
/// assert!(kv.replace("motd", seen.version, "hi").await?.is_applied());
/// assert!(!kv.delete_if("motd", seen.version).await?.is_applied(), "that version is gone");
///
/// let count = kv.update("visits", |now| {
///     let n: u64 = now.map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse().unwrap_or(0));
///     Some((n + 1).to_string().into())
/// });
/// assert_eq!(count.await?.expect("it was put").value, "1");
/// # Ok(()) }
/// ```
#[async_trait]
pub trait StoreExt: Store {
    /// What stands at `key`.
    async fn fetch<K: IntoKey>(&self, key: K) -> Result<Option<Entry>> {
        self.get(&key.into_key()?, Consistency::Linearizable).await
    }

    /// Whether anything stands at `key`.
    async fn exists<K: IntoKey>(&self, key: K) -> Result<bool> {
        Ok(self.fetch(key).await?.is_some())
    }

    /// Puts `value`, whatever stands there; the entry then dies with nobody.
    async fn put<K: IntoKey, V: Into<Bytes> + Send>(&self, key: K, value: V) -> Result<Entry> {
        let key = key.into_key()?;
        let txn = Txn::new().put(&key, value);
        unconditional(self, "put", &key, self.commit(txn).await?)
    }

    /// Puts `value` if nothing stands there: of many racers exactly one is applied.
    async fn create<K: IntoKey, V: Into<Bytes> + Send>(&self, key: K, value: V) -> Result<Write<Entry>> {
        let key = key.into_key()?;
        let txn = Txn::new().absent(&key).put(&key, value);
        one(self, "create", &key, self.commit(txn).await?)
    }

    /// Puts `value` if the entry is still in the state `version`.
    async fn replace<K: IntoKey, V: Into<Bytes> + Send>(
        &self,
        key: K,
        version: Version,
        value: V,
    ) -> Result<Write<Entry>> {
        let key = key.into_key()?;
        let txn = Txn::new().version(&key, version).put(&key, value);
        one(self, "replace", &key, self.commit(txn).await?)
    }

    /// Deletes what stands at `key`, if anything does.
    async fn delete<K: IntoKey>(&self, key: K) -> Result<()> {
        let key = key.into_key()?;
        match self.commit(Txn::new().delete(&key)).await? {
            Write::Applied(_) => Ok(()),
            Write::Rejected(_) => Err(odd(self, "delete", &key)),
        }
    }

    /// Deletes the entry if it is still in the state `version`.
    async fn delete_if<K: IntoKey>(&self, key: K, version: Version) -> Result<Write<()>> {
        let key = key.into_key()?;
        Ok(self.commit(Txn::new().version(&key, version).delete(&key)).await?.map(drop))
    }

    /// Puts `value` so that it dies with `session`.
    async fn put_ephemeral<K: IntoKey, V: Into<Bytes> + Send>(
        &self,
        key: K,
        value: V,
        session: &Session,
    ) -> Result<Entry>
    where
        Self: SessionStore,
    {
        put_bound(self, &key.into_key()?, value.into(), session.id()).await
    }

    /// Puts `value` so that it is gone after `ttl` (and the store's slack). Two round trips: it is bound to a session
    /// that nobody renews. If the put fails, that session is left to expire.
    async fn put_with_ttl<K: IntoKey, V: Into<Bytes> + Send>(
        &self,
        key: K,
        value: V,
        ttl: Duration,
    ) -> Result<Entry>
    where
        Self: SessionStore,
    {
        let (key, value) = (key.into_key()?, value.into());
        self.limits().check_ttl(ttl)?;
        let probe = Txn::new().put(&key, value.clone());
        probe.validate(&self.limits())?;
        let grant = self.grant(ttl).await?;
        put_bound(self, &key, value, &grant.id).await
    }

    /// Changes what stands at `key` by a function of it, optimistically: reads, asks `change`, writes if nobody was
    /// faster, and starts over if somebody was. `change` sees `None` where nothing stands, and answers `None` to
    /// leave all as it is; then this returns what stands there.
    ///
    /// At least two round trips. Dropping it leaves no effect or the full effect. An unknown outcome is returned,
    /// not retried: only `change` knows whether to apply it twice does harm.
    async fn update<K, F>(&self, key: K, mut change: F) -> Result<Option<Entry>>
    where
        K: IntoKey,
        F: FnMut(Option<&Entry>) -> Option<Bytes> + Send,
    {
        let key = key.into_key()?;
        let mut found = self.get(&key, Consistency::Linearizable).await?;
        loop {
            let Some(value) = change(found.as_ref()) else { return Ok(found) };
            let txn = match &found {
                Some(entry) => Txn::new().version(&key, entry.version),
                None => Txn::new().absent(&key),
            };
            // The binding stays as it was: an update must not make a mortal entry immortal.
            let session = found.as_ref().and_then(|entry| entry.session.clone());
            let txn = txn.entry(super::Put { key: key.clone(), value, session });
            match one(self, "update", &key, self.commit(txn).await?)? {
                Write::Applied(entry) => return Ok(Some(entry)),
                Write::Rejected(_) => found = self.get(&key, Consistency::Linearizable).await?,
            }
        }
    }

    /// What stands at `key`, read as JSON.
    async fn get_json<K: IntoKey, T: DeserializeOwned>(&self, key: K) -> Result<Option<T>> {
        let key = key.into_key()?;
        let Some(entry) = self.get(&key, Consistency::Linearizable).await? else { return Ok(None) };
        serde_json::from_slice(&entry.value).map(Some).map_err(|error| {
            Error::invalid("the value is not the JSON that was expected").on(&key).because(error)
        })
    }

    /// Puts `value` as JSON.
    async fn put_json<K: IntoKey, T: Serialize + Sync>(&self, key: K, value: &T) -> Result<Entry> {
        let key = key.into_key()?;
        let json = serde_json::to_vec(value)
            .map_err(|error| Error::invalid("the value cannot be written as JSON").on(&key).because(error))?;
        self.put(key, json).await
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

async fn put_bound<S: Store + ?Sized>(
    store: &S,
    key: &Key,
    value: Bytes,
    session: &SessionId,
) -> Result<Entry> {
    let txn = Txn::new().put_bound(key, value, session);
    unconditional(store, "put", key, store.commit(txn).await?)
}

/// The one entry of a commit that put one.
pub(crate) fn one<S: Store + ?Sized>(
    store: &S,
    operation: &'static str,
    key: &Key,
    write: Write,
) -> Result<Write<Entry>> {
    match write {
        Write::Applied(entries) => {
            entries.into_iter().next().map(Write::Applied).ok_or_else(|| odd(store, operation, key))
        }
        Write::Rejected(rejection) => Ok(Write::Rejected(rejection)),
    }
}

fn unconditional<S: Store + ?Sized>(
    store: &S,
    operation: &'static str,
    key: &Key,
    write: Write,
) -> Result<Entry> {
    one(store, operation, key, write)?.applied().ok_or_else(|| odd(store, operation, key))
}

fn odd<S: Store + ?Sized>(store: &S, operation: &'static str, key: &Key) -> Error {
    Error::new(ErrorKind::Internal, Outcome::Unknown, "the store's answer does not fit the request")
        .at(store.limits().backend, operation)
        .on(key)
}
