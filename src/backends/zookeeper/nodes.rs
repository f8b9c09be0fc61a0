//! Directories and counters, which are made when they are needed and then remembered.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use zookeeper_client::{Acls, Client, CreateMode, Error as Zk};

use super::keys;

/// How many nodes are remembered.
const REMEMBERED: usize = 4096;

/// Something that must stand for a request to be taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Make {
    /// A container, which the server deletes some time after it has become empty.
    Directory(String),
    /// A counter of [generations](super::facts), which stays.
    Counter(String),
}

impl Make {
    pub(super) fn path(&self) -> &str {
        let (Self::Directory(path) | Self::Counter(path)) = self;
        path
    }
}

/// The nodes that stood when they were last needed.
#[derive(Debug, Default)]
pub(super) struct Nodes(Mutex<HashSet<String>>);

impl Nodes {
    fn with<T>(&self, work: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What of this is not known to stand, with all that is above it, the highest first.
    pub(super) fn missing(&self, wanted: impl IntoIterator<Item = Make>) -> Vec<Make> {
        let mut missing = BTreeSet::new();
        self.with(|known| {
            for want in wanted {
                if known.contains(want.path()) {
                    continue;
                }
                let above = keys::above(want.path()).filter(|path| !known.contains(*path));
                missing.extend(above.map(|path| Make::Directory(path.to_owned())));
                missing.insert(want);
            }
        });
        let mut missing: Vec<_> = missing.into_iter().collect();
        missing.sort_by_key(|make| make.path().len());
        missing
    }

    /// The directories above these nodes that are not known to stand.
    pub(super) fn missing_above<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Vec<Make> {
        let directories = nodes.into_iter().filter_map(|node| keys::above(node).last());
        self.missing(directories.map(|path| Make::Directory(path.to_owned())))
    }

    pub(super) fn remember(&self, makes: Vec<Make>) {
        self.with(|known| {
            if known.len() + makes.len() >= REMEMBERED {
                known.clear();
            }
            known.extend(makes.into_iter().map(|make| match make {
                Make::Directory(path) | Make::Counter(path) => path,
            }));
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

/// Sends what makes these, in front of what needs them and in the same flight.
pub(super) fn make<'f>(
    client: &'f Client,
    acls: Acls<'static>,
    makes: &'f [Make],
) -> Vec<impl Future<Output = Result<(), Zk>> + Send + 'f> {
    let sent = makes.iter().map(|make| {
        let mode = match make {
            Make::Directory(_) => CreateMode::Container,
            Make::Counter(_) => CreateMode::Persistent,
        };
        let created = client.create(make.path(), b"", &mode.with_acls(acls));
        async move { created.await.map(drop) }
    });
    sent.collect()
}

/// Waits until they stand. What stood already is as good; what may not be made may stand: whether it does shows by what
/// needs it, and if not, this is why.
pub(super) async fn made(making: Vec<impl Future<Output = Result<(), Zk>> + Send>) -> Result<Missing, Zk> {
    let mut missing = Missing(Zk::NoNode);
    for one in making {
        match one.await {
            Ok(()) | Err(Zk::NodeExists | Zk::NoNode) => {}
            Err(Zk::NoAuth) => missing = Missing(Zk::NoAuth),
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// Why something is missing, if it is.
pub(super) struct Missing(Zk);

impl Missing {
    /// The same error, or the one that it comes from.
    pub(super) fn explain(self, error: Zk) -> Zk {
        if error == Zk::NoNode { self.0 } else { error }
    }

    /// Whether another try may make it.
    pub(super) fn is_curable(&self) -> bool {
        self.0 == Zk::NoNode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_from_the_top() {
        let nodes = Nodes::default();
        let missing = nodes.missing_above(["/a/b/=", "/a/b/c/="]);
        let paths: Vec<_> = missing.iter().map(Make::path).collect();
        assert_eq!(paths, ["/a", "/a/b", "/a/b/c"]);
        nodes.remember(missing);
        assert_eq!(nodes.missing_above(["/a/b/c/=", "/top"]), []);
        nodes.forget(["/a/b/c"]);
        assert_eq!(nodes.missing_above(["/a/b/="]).len(), 2);
    }

    #[test]
    fn they_do_not_pile_up() {
        let nodes = Nodes::default();
        for index in 0..3 * REMEMBERED {
            nodes.remember(vec![Make::Directory(index.to_string())]);
        }
        assert!(nodes.with(|known| known.len()) <= REMEMBERED);
    }
}
