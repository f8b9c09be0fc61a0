//! Where a live view gets its instances from.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::BoxStream;

use super::Instance;
use crate::kv::Result;

/// One thing a provider tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// All there are now; it replaces all that was told before.
    Reset(Vec<Instance>),
    /// An instance came, or changed.
    Upsert(Instance),
    /// The instance of this id has gone.
    Remove(String),
    /// Nothing has changed, and the source was asked just now.
    Confirm,
}

/// A source of instances: a store, a list, or one's own.
///
/// ```
/// use futures_util::StreamExt;
/// use futures_util::stream::{self, BoxStream};
/// use quorate::discovery::{Instance, Members, Provider, Update};
///
/// #[derive(Debug)]
/// struct Fixed;
///
/// impl Provider for Fixed {
///     fn updates(&self) -> BoxStream<'static, quorate::kv::Result<Update>> {
///         let all = Update::Reset(vec![Instance::new("db", "a", "10.0.0.1:5432")]);
///         stream::once(async { Ok(all) }).chain(stream::pending()).boxed()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let members = Members::new(Fixed)?;
/// assert_eq!(members.ready().await.instances().len(), 1);
/// # Ok(()) }
/// ```
pub trait Provider: fmt::Debug + Send + Sync + 'static {
    /// What there is, first of all a [`Reset`](Update::Reset), and every change from then on.
    ///
    /// An `Err` means that what was told may be stale, until the next `Reset`. The stream should go on for ever; if it
    /// ends, it is asked for again after a pause. Nothing happens before it is first polled; dropping it ends it.
    fn updates(&self) -> BoxStream<'static, Result<Update>>;
}

impl<P: Provider + ?Sized> Provider for Arc<P> {
    fn updates(&self) -> BoxStream<'static, Result<Update>> {
        (**self).updates()
    }
}

impl<P: Provider + ?Sized> Provider for Box<P> {
    fn updates(&self) -> BoxStream<'static, Result<Update>> {
        (**self).updates()
    }
}
