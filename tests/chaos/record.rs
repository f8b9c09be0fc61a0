//! What a worker says of itself, line by line on its standard output, which goes to a log that outlives it.
//!
//! A line is a moment in nanoseconds of the boot clock, which all processes of a host share, a word, and numbers.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment, as the time since the host was started.
pub(crate) type Moment = Duration;

/// The moment now, the same for every process of this host.
pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(time.tv_sec.unsigned_abs(), nanos)
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It lives; what an earlier life of it held is held no longer.
    Started,
    /// It asks for its turn.
    Called,
    /// It has its turn, with this fence.
    Acquired { fence: u64 },
    /// At this moment it held, and would by its own clock until then if nothing renewed its session.
    Held { until: Moment },
    /// The store acknowledged this write.
    Wrote { count: u64, fence: u64 },
    /// Its turn ended: released, or lost for this reason.
    Ended { how: String },
}

/// Something said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) at: Moment,
    pub(crate) what: What,
}

impl Said {
    /// One line, in one write, so that a killed process leaves no half of it.
    pub(crate) fn line(&self) -> String {
        let at = self.at.as_nanos();
        match &self.what {
            What::Started => format!("{at} started"),
            What::Called => format!("{at} called"),
            What::Acquired { fence } => format!("{at} acquired {fence}"),
            What::Held { until } => format!("{at} held {}", until.as_nanos()),
            What::Wrote { count, fence } => format!("{at} wrote {count} {fence}"),
            What::Ended { how } => format!("{at} ended {how}"),
        }
    }

    /// Reads a line; `None` if it is something else, such as a warning.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let at = moment(words.first()?)?;
        let what = match words[1..] {
            ["started"] => What::Started,
            ["called"] => What::Called,
            ["acquired", fence] => What::Acquired { fence: fence.parse().ok()? },
            ["held", until] => What::Held { until: moment(until)? },
            ["wrote", count, fence] => What::Wrote { count: count.parse().ok()?, fence: fence.parse().ok()? },
            ["ended", how] => What::Ended { how: how.to_owned() },
            _ => return None,
        };
        Some(Self { at, what })
    }
}

fn moment(nanos: &str) -> Option<Moment> {
    nanos.parse().ok().map(Duration::from_nanos)
}

/// A turn of a worker, as it told it.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) worker: String,
    pub(crate) fence: u64,
    pub(crate) called: Moment,
    pub(crate) acquired: Moment,
    /// The last moment at which it knew that it held.
    pub(crate) believed: Moment,
    /// Until when it would have believed so at that moment.
    pub(crate) until: Moment,
    /// What it wrote and the store acknowledged: counts and fences.
    pub(crate) wrote: Vec<(u64, u64)>,
    /// How it ended, unless it was killed.
    pub(crate) end: Option<String>,
}

/// The turns that a worker's log tells of.
pub(crate) fn holds(worker: &str, log: &str) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    let mut called = Duration::ZERO;
    // Whether the last one still goes on.
    let mut open = false;
    for Said { at, what } in log.lines().filter_map(Said::read) {
        match (what, holds.last_mut().filter(|_| open)) {
            (What::Started, _) => open = false,
            (What::Called, _) => (called, open) = (at, false),
            (What::Acquired { fence }, _) => {
                let worker = worker.to_owned();
                // It may have been stopped before it said so: what it knew at a moment, it says as `Held`.
                let (believed, until, wrote) = (called, called, Vec::new());
                holds.push(Hold { worker, fence, called, acquired: at, believed, until, wrote, end: None });
                open = true;
            }
            (What::Held { until }, Some(hold)) => (hold.believed, hold.until) = (at, until),
            (What::Wrote { count, fence }, Some(hold)) => hold.wrote.push((count, fence)),
            (What::Ended { how }, Some(hold)) => {
                hold.end = Some(how);
                open = false;
            }
            (what, None) => panic!("{worker} says {what:?} and holds nothing"),
        }
    }
    holds
}
