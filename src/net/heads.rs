//! The heads that somebody talks to: a list that stays, or one that whoever made it keeps up to date.
//!
//! Not here: where the list comes from. Nothing waits here in an order that a simulation could not replay.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Net;
use crate::limits;
use crate::wire::secret::Secret;

/// How heads are reached, and what clients say to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// The secret of a token, for heads that ask clients for one.
    pub(crate) token: Option<Secret>,
    /// How they are dialled.
    pub(crate) net: Net,
}

/// The heads, `host:port` each; clones share the list.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    state: Arc<State>,
    access: Access,
}

#[derive(Debug)]
struct State {
    list: Mutex<Arc<[String]>>,
    changed: Notify,
    follows: bool,
}

impl From<Vec<String>> for Heads {
    /// A list that stays.
    fn from(heads: Vec<String>) -> Self {
        Self::new(heads, false)
    }
}

impl Heads {
    /// A list that [`Self::set`] changes.
    #[must_use]
    pub(crate) fn following(heads: Vec<String>) -> Self {
        Self::new(heads, true)
    }

    fn new(heads: Vec<String>, follows: bool) -> Self {
        let state = State { list: Mutex::new(heads.into()), changed: Notify::new(), follows };
        Self { state: Arc::new(state), access: Access::default() }
    }

    /// The same, reached like this.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// How they are reached.
    #[must_use]
    pub(crate) const fn access(&self) -> &Access {
        &self.access
    }

    /// The list as it is.
    #[must_use]
    pub(crate) fn now(&self) -> Arc<[String]> {
        Arc::clone(&self.state.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the list may change.
    #[must_use]
    pub(crate) fn follows(&self) -> bool {
        self.state.follows
    }

    /// Whether this head is in the list.
    #[must_use]
    pub(crate) fn lists(&self, head: &str) -> bool {
        self.now().iter().any(|listed| listed == head)
    }

    /// Makes this the list, up to [`limits::HEADS_MAX`]; true if it was another. An empty one is no news: heads that are
    /// not announced any more may serve all the same, and the last known ones are all there is.
    pub(crate) fn set(&self, mut heads: Vec<String>) -> bool {
        heads.sort_unstable();
        heads.dedup();
        heads.truncate(limits::HEADS_MAX);
        {
            let mut list = self.state.list.lock().unwrap_or_else(PoisonError::into_inner);
            if heads.is_empty() || **list == *heads {
                return false;
            }
            *list = heads.into();
        }
        self.state.changed.notify_waiters();
        true
    }

    /// The list, once it is not this one.
    pub(crate) async fn other_than(&self, seen: &Arc<[String]>) -> Arc<[String]> {
        loop {
            // Before the look: what changes in between is not missed.
            let changed = self.state.changed.notified();
            let now = self.now();
            if !Arc::ptr_eq(&now, seen) {
                return now;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_list_that_follows_tells_what_is_new_and_keeps_the_last_known() {
        let heads = Heads::following(names(&["a:1"]));
        let seen = heads.now();
        assert!(!heads.set(names(&["a:1"])));
        assert!(!heads.set(Vec::new()));
        assert!(Arc::ptr_eq(&heads.now(), &seen));
        let told = async { heads.other_than(&seen).await };
        let (told, set) = tokio::join!(told, async { heads.set(names(&["b:1", "a:1", "b:1"])) });
        assert!(set);
        assert_eq!(*told, names(&["a:1", "b:1"])[..]);
        assert!(heads.lists("b:1") && !heads.lists("c:1"));
        assert!(heads.set((0..100).map(|n| format!("h{n}:1")).collect()));
        assert_eq!(heads.now().len(), limits::HEADS_MAX);
    }
}
