//! What a live view shows at one moment, and what changed between two.

use std::sync::Arc;

use super::Instance;

/// The instances of a service at one moment. It never changes; the view makes another.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: u64,
    instances: Arc<[Arc<Instance>]>,
    pickable: Arc<[Arc<Instance>]>,
}

impl Snapshot {
    pub(super) fn new(revision: u64, instances: Arc<[Arc<Instance>]>) -> Self {
        let pickable = if instances.iter().all(|instance| instance.is_pickable()) {
            Arc::clone(&instances)
        } else {
            instances.iter().filter(|instance| instance.is_pickable()).cloned().collect()
        };
        Self { revision, instances, pickable }
    }

    /// How many times the view has changed; 0 while nothing is known yet.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All instances, sorted by id.
    #[must_use]
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    /// Those that should be given new work, sorted by id: neither draining nor critical.
    #[must_use]
    pub fn pickable(&self) -> &[Arc<Instance>] {
        &self.pickable
    }

    /// The instance of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Instance>> {
        let at = self.instances.binary_search_by(|instance| instance.id.as_str().cmp(id)).ok()?;
        self.instances.get(at)
    }

    /// The same moment, of the instances that `keep` keeps.
    pub(super) fn filtered(&self, keep: &dyn Fn(&Instance) -> bool) -> Self {
        let kept = self.instances.iter().filter(|instance| keep(instance)).cloned().collect();
        Self::new(self.revision, kept)
    }
}

/// What changed from one snapshot to a later one.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Changes {
    /// Instances that are new.
    pub added: Vec<Arc<Instance>>,
    /// Instances that are gone, as they were last seen.
    pub removed: Vec<Arc<Instance>>,
    /// Instances that changed, as they are now.
    pub updated: Vec<Arc<Instance>>,
    /// All there is after these changes.
    pub snapshot: Arc<Snapshot>,
}

impl Changes {
    /// One walk along both, which are sorted by id.
    pub(super) fn between(old: &Snapshot, new: &Arc<Snapshot>) -> Self {
        let mut changes = Self { snapshot: Arc::clone(new), ..Self::default() };
        let mut before = old.instances.iter().peekable();
        for now in new.instances() {
            while let Some(gone) = before.next_if(|instance| instance.id < now.id) {
                changes.removed.push(Arc::clone(gone));
            }
            match before.next_if(|instance| instance.id == now.id) {
                None => changes.added.push(Arc::clone(now)),
                Some(was) if Arc::ptr_eq(was, now) || was == now => {}
                Some(_) => changes.updated.push(Arc::clone(now)),
            }
        }
        changes.removed.extend(before.cloned());
        changes
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.updated.is_empty()
    }
}
