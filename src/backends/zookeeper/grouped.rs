//! Overwrites that set off while others are under way: those of one turn are one request, as a group commit is. Whoever is
//! alone waits for nobody.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::task::yield_now;
use zookeeper_client::{Client, Error as Zk, MultiWriteError, MultiWriteResult, MultiWriter};

use super::flight::Flights;
use super::txn::Sent;

/// How many operations are one request, and how many bytes of values: servers take 1 MiB by default, and whoever is among the
/// first waits for the last.
const MOST: (usize, usize) = (256, 64 * 1024);

/// One operation of an overwrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The node was written so many times.
    Check(String, i32),
    Set(String, Bytes),
}

/// An overwrite that is to go with others.
struct Overwrite {
    parts: Vec<Part>,
    /// Gone with who wanted it: what is given up before it is sent is not written.
    wanted: Weak<()>,
}

/// What became of all that went together, and which operations were whose.
type Answer = Arc<(Result<Vec<MultiWriteResult>, MultiWriteError>, Vec<Range<usize>>)>;

/// The overwrites of a store.
#[derive(Default)]
pub(super) struct Grouped {
    under_way: AtomicUsize,
    flights: Flights<Overwrite, Answer>,
}

/// A write under way.
pub(super) struct UnderWay<'g> {
    grouped: &'g Grouped,
    /// Whether another was when it set off.
    pub(super) among_others: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.grouped.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Grouped {
    /// Counts a write for as long as what is returned lives.
    pub(super) fn set_off(&self) -> UnderWay<'_> {
        let among_others = self.under_way.fetch_add(1, Ordering::Relaxed) > 0;
        UnderWay { grouped: self, among_others }
    }

    /// Writes along with whoever else is about to; `None` when nothing was applied as what somebody else wrote was refused.
    pub(super) async fn write(&self, client: &Arc<Client>, parts: Vec<Part>) -> Result<Option<Sent>, Zk> {
        let wanted = Arc::new(());
        let overwrite = Overwrite { parts, wanted: Arc::downgrade(&wanted) };
        let (flight, seat) = self.flights.seat(client, vec![overwrite], has_room, send);
        // Whoever else is about to write has joined by then. Each waits for himself: it is sent when the first looks.
        yield_now().await;
        let answer = flight.await;
        drop(wanted);
        let (written, whose) = &*answer;
        let own = whose.get(seat).cloned().unwrap_or_default();
        match written {
            Ok(results) => Ok(Some(Sent::applied(results.get(own).unwrap_or_default()))),
            Err(MultiWriteError::OperationFailed { index, source }) if own.contains(index) => {
                Ok(Some(Sent::Refused(index - own.start, source.clone())))
            }
            Err(MultiWriteError::OperationFailed { .. }) => Ok(None),
            Err(MultiWriteError::RequestFailed { source }) => Err(source.clone()),
        }
    }
}

fn has_room(aboard: &[Overwrite], more: &[Overwrite]) -> bool {
    let (most, bytes) = MOST;
    let parts = || aboard.iter().chain(more).flat_map(|overwrite| &overwrite.parts);
    parts().count() <= most && parts().map(Part::bytes).sum::<usize>() <= bytes
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Self::Check(..) => 0,
            Self::Set(_, value) => value.len(),
        }
    }

    fn add(&self, writer: &mut MultiWriter<'_>) -> Result<(), Zk> {
        match self {
            Self::Check(node, written) => writer.add_check_version(node, *written),
            Self::Set(node, value) => writer.add_set_data(node, value, None),
        }
    }
}

async fn send(client: Arc<Client>, overwrites: Vec<Overwrite>) -> Answer {
    let (mut writer, mut whose, mut count) = (client.new_multi_writer(), Vec::new(), 0);
    for overwrite in &overwrites {
        let first = count;
        let wanted = if overwrite.wanted.strong_count() > 0 { &*overwrite.parts } else { &[] };
        for part in wanted {
            if let Err(source) = part.add(&mut writer) {
                whose.push(first..count + 1);
                return Arc::new((Err(MultiWriteError::OperationFailed { index: count, source }), whose));
            }
            count += 1;
        }
        whose.push(first..count);
    }
    drop(overwrites);
    Arc::new((writer.commit().await, whose))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overwrite(parts: Vec<Part>) -> [Overwrite; 1] {
        [Overwrite { parts, wanted: Weak::new() }]
    }

    #[test]
    fn what_is_too_much_together_goes_apart() {
        let set = |length| Part::Set("/k/=".to_owned(), Bytes::from(vec![0; length]));
        let check = || Part::Check("/c".to_owned(), 0);
        assert!(has_room(&overwrite(vec![check(), set(MOST.1 - 1)]), &overwrite(vec![check(), set(1)])));
        assert!(!has_room(&overwrite(vec![check(), set(MOST.1)]), &overwrite(vec![check(), set(1)])));
        let many = overwrite(std::iter::repeat_with(check).take(MOST.0 - 1).collect());
        assert!(has_room(&many, &overwrite(vec![check()])));
        assert!(!has_room(&many, &overwrite(vec![check(), set(1)])));
    }
}
