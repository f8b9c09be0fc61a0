//! Directories and counters, which are made when they are needed and then remembered.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use zookeeper_client::{Acls, Client, CreateMode, Error as Zk, MultiWriteError};

use super::connection::Kind;
use super::facts::COUNTERS;
use super::{Via, keys};
use crate::kv::Result;

/// How many nodes are remembered: half of them in each of two tables of 2048, which have room for no more.
const REMEMBERED: usize = 3584;

/// So many are made one by one at least: that one of them stands would cost more than is spared.
const FEW: usize = 4;

/// How many are made by one request.
const MANY: usize = 256;

/// Something that must stand for a request to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Make<P = String> {
    /// A container, which the server deletes some time after it has become empty.
    Directory(P),
    /// A counter of [generations](super::facts), which stays.
    Counter(P),
}

impl Make<&str> {
    fn to_owned(self) -> Make {
        match self {
            Self::Directory(path) => Make::Directory(path.to_owned()),
            Self::Counter(path) => Make::Counter(path.to_owned()),
        }
    }
}

impl Make {
    fn borrowed(&self) -> Make<&str> {
        match self {
            Self::Directory(path) => Make::Directory(path),
            Self::Counter(path) => Make::Counter(path),
        }
    }
}

impl<P: AsRef<str>> Make<P> {
    pub(super) fn path(&self) -> &str {
        let (Self::Directory(path) | Self::Counter(path)) = self;
        path.as_ref()
    }

    fn mode(&self) -> CreateMode {
        match self {
            Self::Directory(_) => CreateMode::Container,
            Self::Counter(_) => CreateMode::Persistent,
        }
    }
}

/// Names that were needed not long ago: those that were not are forgotten, some time after there are many.
#[derive(Debug, Default)]
pub(super) struct Recent {
    young: HashSet<String>,
    old: HashSet<String>,
}

impl Recent {
    pub(super) fn contains(&mut self, name: &str) -> bool {
        if self.young.contains(name) {
            return true;
        }
        let Some(name) = self.old.take(name) else { return false };
        self.insert(name);
        true
    }

    pub(super) fn insert(&mut self, name: String) {
        if self.young.len() >= REMEMBERED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.young.remove(name);
        self.old.remove(name);
    }
}

/// The nodes that stood when they were last needed.
#[derive(Debug, Default)]
pub(super) struct Nodes(Mutex<Recent>);

impl Nodes {
    fn with<T>(&self, work: impl FnOnce(&mut Recent) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What of this is not known to stand, with all that is above it, the highest first.
    pub(super) fn missing<'a>(&self, wanted: impl IntoIterator<Item = Make<&'a str>>) -> Vec<Make> {
        let mut missing = BTreeSet::new();
        self.with(|known| {
            for want in wanted {
                if known.contains(want.path()) {
                    continue;
                }
                let above = keys::above(want.path()).filter(|path| !known.contains(path));
                missing.extend(above.map(|path| Make::Directory(path.to_owned())));
                missing.insert(want.to_owned());
            }
        });
        let mut missing: Vec<_> = missing.into_iter().collect();
        missing.sort_by_key(|make| make.path().len());
        missing
    }

    pub(super) fn remember(&self, makes: impl IntoIterator<Item = Make>) {
        self.with(|known| {
            for make in makes {
                let (Make::Directory(path) | Make::Counter(path)) = make;
                known.insert(path);
            }
        });
    }

    /// Something was missing: these, or what is above them, may have been deleted.
    pub(super) fn forget<'a>(&self, paths: impl IntoIterator<Item = &'a str>) {
        self.with(|known| {
            for path in paths {
                known.remove(path);
                for above in keys::above(path) {
                    known.remove(above);
                }
            }
        });
    }
}

/// How those that are missing are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Each by a request of its own, so that it does not matter which of them stand already.
    OneByOne,
    /// Many by one request, which fails if one of them stands. Those that others are made in may well do.
    Together,
}

/// Sends what makes these, in front of what needs them and in the same flight.
pub(super) fn make<'f>(
    client: &'f Client,
    acls: Acls<'static>,
    makes: &'f [Make],
    how: How,
) -> Result<Vec<BoxFuture<'f, Result<bool, Zk>>>, Zk> {
    let above: HashSet<_> = match how {
        How::Together if makes.len() > FEW => {
            makes.iter().flat_map(|make| keys::above(make.path())).collect()
        }
        _ => makes.iter().map(Make::path).collect(),
    };
    let (singles, many): (Vec<_>, Vec<_>) = makes.iter().partition(|make| above.contains(make.path()));
    let mut making = Vec::new();
    for make in singles {
        let created = client.create(make.path(), b"", &make.mode().with_acls(acls));
        making.push(async move { created.await.map(|_| true) }.boxed());
    }
    for some in many.chunks(MANY) {
        let mut writer = client.new_multi_writer();
        for make in some {
            writer.add_create(make.path(), b"", &make.mode().with_acls(acls))?;
        }
        let created = writer.commit();
        let all = async move {
            match created.await {
                Ok(_) => Ok(true),
                Err(MultiWriteError::OperationFailed { .. }) => Ok(false),
                Err(MultiWriteError::RequestFailed { source }) => Err(source),
            }
        };
        making.push(all.boxed());
    }
    Ok(making)
}

/// Waits until they stand. What stood already is as good; what may not be made may stand: whether it does shows by what
/// needs it, and if not, this is why.
pub(super) async fn made(making: Vec<BoxFuture<'_, Result<bool, Zk>>>) -> Result<Missing, Zk> {
    let mut missing = Missing { why: Zk::NoNode, refused: false };
    for one in making {
        match one.await {
            Ok(all) => missing.refused |= !all,
            Err(Zk::NodeExists | Zk::NoNode) => {}
            Err(Zk::NoAuth) => missing.why = Zk::NoAuth,
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// Why something is missing, if it is.
pub(super) struct Missing {
    why: Zk,
    /// Some were not made, as one of those that were to be made with them could not.
    pub(super) refused: bool,
}

impl Missing {
    /// The same error, or the one that it comes from.
    pub(super) fn explain(self, error: Zk) -> Zk {
        if error == Zk::NoNode { self.why } else { error }
    }

    /// Whether another try may make it.
    pub(super) fn is_curable(&self) -> bool {
        self.why == Zk::NoNode
    }
}

/// Leaves out the counters that stand, if there are many that we do not know: one look tells of all.
pub(super) async fn survey(nodes: &Nodes, via: &Via<'_>, makes: Vec<Make>) -> Result<Vec<Make>> {
    if makes.iter().filter(|make| matches!(make, Make::Counter(_))).count() <= FEW {
        return Ok(makes);
    }
    let names = via.call(Kind::Repeatable, "commit", |client: Arc<Client>| async move {
        match client.list_children(COUNTERS).await {
            Err(Zk::NoNode) => Ok(Vec::new()),
            names => names,
        }
    });
    let names = names.await?;
    nodes.remember(names.iter().take(MANY * 2).map(|name| Make::Counter(keys::below(COUNTERS, name))));
    Ok(nodes.missing(makes.iter().map(Make::borrowed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_from_the_top() {
        let nodes = Nodes::default();
        let missing = nodes.missing(["/a/b", "/a/b/c"].map(Make::Directory));
        let paths: Vec<_> = missing.iter().map(Make::path).collect();
        assert_eq!(paths, ["/a", "/a/b", "/a/b/c"]);
        nodes.remember(missing);
        assert_eq!(nodes.missing([Make::Directory("/a/b/c")]), []);
        nodes.forget(["/a/b/c"]);
        assert_eq!(nodes.missing([Make::Directory("/a/b"), Make::Counter("/a/b/d")]).len(), 3);
    }

    #[test]
    fn they_do_not_pile_up() {
        let nodes = Nodes::default();
        for index in 0..3 * REMEMBERED {
            nodes.remember([Make::Directory(index.to_string())]);
            nodes.remember([Make::Directory("needed".to_owned())]);
        }
        assert!(nodes.with(|known| known.young.len() + known.old.len()) <= REMEMBERED);
        assert_eq!(nodes.missing([Make::Directory("needed")]), []);
    }
}
