//! The server's own ordered queue, as all primitives see it.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::key::unescape;
use super::{Entry, Error, Fence, Key, Random, Result, SessionId, Txn};

/// A queue of places, ordered by fence; whoever stands first holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Queue {
    key: Key,
    native: bool,
}

impl Queue {
    /// The queue behind the lock of this name. `/` and all else may stand in the name; it becomes one segment.
    pub fn lock(name: &str) -> Result<Self> {
        Self::reserved("lock", name)
    }

    /// The queue behind the election of this name.
    pub fn election(name: &str) -> Result<Self> {
        Self::reserved("election", name)
    }

    fn reserved(kind: &str, name: &str) -> Result<Self> {
        let key = Key::reserved(kind, [name]).map_err(|error| error.at("", kind_name(kind)))?;
        Ok(Self { key, native: false })
    }

    /// A queue at a key of the user's, in the layout native clients of the server use, to share it with them.
    #[must_use]
    pub fn native(path: Key) -> Self {
        Self { key: path, native: true }
    }

    /// The prefix its places stand below.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether its layout is the server's own.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.native
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> String {
        if self.native { self.key.to_string() } else { unescape(self.key.name()) }
    }

    /// For backends: the same queue seen from another chroot.
    #[must_use]
    pub fn at(&self, key: Key) -> Self {
        Self { key, native: self.native }
    }

    /// For backends that name places themselves: where the place of this session and ticket stands, exactly one
    /// segment below the queue.
    pub fn place_key(&self, session: &SessionId, ticket: &Ticket) -> Result<Key> {
        let mut name = String::with_capacity(session.as_str().len() + "-x".len() + 32);
        // A text always takes what is written to it.
        let _ = write!(name, "{}-{ticket}", session.as_str());
        self.key.child(&name)
    }

    /// For backends that use [`place_key`](Self::place_key): reads an entry as a place of this queue, if it is one.
    #[must_use]
    pub fn read_place(&self, entry: &Entry) -> Option<PlaceRef> {
        let name = entry.key.strip(&self.key)?;
        let (session, ticket) = name.as_str().rsplit_once('-')?;
        let bound = entry.session.as_ref()?;
        if name.segments().count() != 1 || bound.as_str() != session {
            return None;
        }
        let ticket = ticket.parse().ok()?;
        Some(PlaceRef { key: entry.key.clone(), fence: entry.fence, ticket: Some(ticket) })
    }
}

fn kind_name(kind: &str) -> &'static str {
    if kind == "lock" { "lock" } else { "election" }
}

/// How a place gets along with the others in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Holds alone.
    Exclusive,
    /// Holds together with other shared places.
    Shared,
}

/// A name for one try to enter a queue, chosen by the caller, so that a try whose answer was lost can be found.
///
/// Once its place is gone, and every request that was sent for it answered, the same session may use it again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    mode: Mode,
    nonce: u128,
}

impl Ticket {
    /// A ticket nobody else has.
    #[must_use]
    pub fn new(mode: Mode, random: &Random) -> Self {
        Self { mode, nonce: random.nonce() }
    }

    /// The same name with this mode.
    pub(crate) fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// How its place gets along with others.
    #[must_use]
    pub fn mode(self) -> Mode {
        self.mode
    }
}

/// `x` or `s` for the mode, then 32 hexadecimal digits.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Exclusive => 'x',
            Mode::Shared => 's',
        };
        write!(f, "{mode}{:032x}", self.nonce)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({self})")
    }
}

impl FromStr for Ticket {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mode = match text.as_bytes().first() {
            Some(b'x') => Some(Mode::Exclusive),
            Some(b's') => Some(Mode::Shared),
            _ => None,
        };
        let nonce = text.get(1..).filter(|digits| digits.len() == 32);
        let nonce = nonce.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        mode.zip(nonce)
            .map(|(mode, nonce)| Self { mode, nonce })
            .ok_or_else(|| Error::invalid(format!("{text:?} is no ticket")))
    }
}

/// A place of ours in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The queue it stands in.
    pub queue: Queue,
    /// Where it stands.
    pub key: Key,
    /// Its fence; places are ordered by it.
    pub fence: Fence,
    /// The session it dies with.
    pub session: SessionId,
    /// The ticket it was entered with.
    pub ticket: Ticket,
}

impl Place {
    /// For backends: what leaving it is as a transaction.
    pub fn removal(&self) -> Txn {
        Txn::new().stands(&self.key, self.fence).delete(&self.key)
    }
}

/// A place in a queue, whoever's it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceRef {
    /// Where it stands.
    pub key: Key,
    /// Its fence; places are ordered by it.
    pub fence: Fence,
    /// The ticket it was entered with; `None` for a place of a native client.
    pub ticket: Option<Ticket>,
}

impl PlaceRef {
    /// How it gets along with others; native places exclude.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.ticket.map_or(Mode::Exclusive, Ticket::mode)
    }
}

/// A place, and what stood ahead of it when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The place.
    pub place: Place,
    /// What stands ahead, nearest first, no more than were asked for.
    pub ahead: Vec<PlaceRef>,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kv::Version;

    #[test]
    fn a_place_is_exactly_one_segment_below_its_queue() {
        let queue = Queue::lock("db/migrate").unwrap();
        assert_eq!(queue.key().as_str(), "_quorate/lock/db%2Fmigrate");
        assert_eq!(queue.name(), "db/migrate");
        let session = SessionId::new("s-1");
        let ticket = Ticket::new(Mode::Shared, &Random::seeded(7));
        let key = queue.place_key(&session, &ticket).unwrap();
        let entry =
            Entry::new(key.clone(), Bytes::new(), Version::new(1), Fence::new(1), Some(session.clone()));
        assert_eq!(queue.read_place(&entry).unwrap().ticket, Some(ticket));
        let unbound = Entry { session: None, ..entry.clone() };
        assert_eq!(queue.read_place(&unbound), None);
        let nested = Entry { key: key.child("x").unwrap(), ..entry };
        assert_eq!(queue.read_place(&nested), None);
    }

    #[test]
    fn a_bad_name_is_refused_by_name() {
        assert!(Queue::lock("").unwrap_err().to_string().contains("empty"));
    }
}
