//! What a listener is told of by the server.
//!
//! Scripts publish each change where all are told, and once more where only those are who watch its key. So whoever watches but
//! single keys, as those who wait for a lock do, costs others nothing: a client that hears of all that others do takes some 8 µs of
//! each change, half of it the server's.

use std::collections::{HashSet, VecDeque};

use crate::kv::{Key, Scope};

/// For how many single keys a connection begins with a channel of each.
const MOST: usize = 256;

/// How many more it may come to, of which most are not watched any more. Then another begins.
const STALE: usize = 1024;

pub(super) enum Hearing {
    /// Of every change; the revision that was told last, once that is known.
    All(Option<u64>),
    /// Of changes of single keys, and of whatever concerns more than one.
    Keys(Keys),
}

#[derive(Default)]
pub(super) struct Keys {
    heard: HashSet<Key>,
    /// Those that the server was asked for and has not confirmed yet, in the order of asking.
    asked: VecDeque<Key>,
}

impl Hearing {
    /// What has to be heard for these.
    pub(super) fn of(scopes: &[Scope]) -> Self {
        let many = scopes.len() > MOST || scopes.iter().any(|scope| matches!(scope, Scope::Prefix(_)));
        if many { Self::All(None) } else { Self::Keys(Keys::default()) }
    }
}

impl Keys {
    /// Notes that this key will be asked for; false if it was before.
    pub(super) fn ask(&mut self, key: &Key) -> bool {
        let new = !self.heard.contains(key) && !self.asked.contains(key);
        if new {
            self.asked.push_back(key.clone());
        }
        new
    }

    /// The server confirms the first that it was asked for.
    pub(super) fn confirmed(&mut self) -> Option<Key> {
        let key = self.asked.pop_front()?;
        self.heard.insert(key.clone());
        Some(key)
    }

    pub(super) fn hears(&self, key: &Key) -> bool {
        self.heard.contains(key)
    }

    /// Whether all that was asked for was confirmed.
    pub(super) fn is_settled(&self) -> bool {
        self.asked.is_empty()
    }

    /// Those that are watched still.
    pub(super) fn live(&self, is_watched: impl Fn(&Scope) -> bool) -> Vec<Key> {
        self.heard.iter().filter(|key| is_watched(&Scope::Key(Key::clone(key)))).cloned().collect()
    }

    /// Whether these can be heard as well. No channel is taken back, for which not every user has the right, so that there are too
    /// many some day.
    pub(super) fn can_take(&self, wanted: &[Scope]) -> bool {
        let all = self.heard.len() + self.asked.len() + wanted.len();
        all <= MOST + STALE && wanted.iter().all(|scope| matches!(scope, Scope::Key(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(count: usize) -> Vec<Scope> {
        (0..count).map(|nth| Scope::Key(Key::new(&format!("k/{nth}")).unwrap())).collect()
    }

    #[test]
    fn single_keys_have_channels_while_they_are_few() {
        assert!(matches!(Hearing::of(&scopes(MOST)), Hearing::Keys(_)));
        assert!(matches!(Hearing::of(&scopes(MOST + 1)), Hearing::All(None)));
        let mixed = [scopes(1), vec![Scope::Prefix(Key::root())]].concat();
        assert!(matches!(Hearing::of(&mixed), Hearing::All(None)));
        let mut keys = Keys::default();
        assert!(!keys.can_take(&mixed));
        let many = scopes(MOST + STALE);
        assert!(keys.can_take(&many));
        for scope in &many[1..] {
            assert!(keys.ask(scope.key()));
        }
        while keys.confirmed().is_some() {}
        assert!(keys.can_take(&many[..1]));
        assert!(!keys.can_take(&many[..2]));
    }

    #[test]
    fn a_key_is_asked_for_once_and_heard_when_that_is_confirmed() {
        let [a, b] = ["a", "b"].map(|key| Key::new(key).unwrap());
        let mut keys = Keys::default();
        assert!(keys.ask(&a) && keys.ask(&b) && !keys.ask(&a));
        assert!(!keys.hears(&a) && !keys.is_settled());
        assert_eq!(keys.confirmed(), Some(a.clone()));
        assert!(keys.hears(&a) && !keys.hears(&b) && !keys.ask(&a));
        assert_eq!(keys.confirmed(), Some(b.clone()));
        assert!(keys.is_settled());
        assert_eq!(keys.confirmed(), None);
        assert_eq!(keys.live(|scope| scope.key() == &b), [b]);
    }
}
