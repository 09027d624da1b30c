//! What a node is to its cluster, shared by its sessions: the cluster's name, at how many heads it is
//! registered; and when a head's "that one is here already" means that there are two of it.
//!
//! Nothing here knows a socket.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::time::Instant;

use crate::limits;

/// Why a head's cluster is not this node's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotJoined {
    /// It has another name.
    #[error(
        "this dataNode's records belong to cluster {ours} and the head to cluster {theirs}; give it the heads of \
         {ours} with --head, or a folder of its own with --dir"
    )]
    Other {
        /// The cluster of the folder.
        ours: String,
        /// The cluster of the head.
        theirs: String,
    },
}

/// What writes a cluster's name down, before anything that is kept for it.
type Keep = Box<dyn Fn(&str)>;

/// What a node is to its cluster.
pub(crate) struct Membership {
    cluster: RefCell<String>,
    keep: Keep,
    heads: Cell<usize>,
}

impl Membership {
    /// A node of this cluster, which is empty if it is in none yet; `keep` writes its name down.
    pub(crate) fn new(cluster: &str, keep: impl Fn(&str) + 'static) -> Self {
        Self { cluster: RefCell::new(cluster.to_owned()), keep: Box::new(keep), heads: Cell::new(0) }
    }

    /// Name of the cluster; empty until the first head named it.
    #[must_use]
    pub(crate) fn cluster(&self) -> String {
        self.cluster.borrow().clone()
    }

    /// A head of this cluster took the node in. The first one's name is the node's from then on, and is written down before
    /// anything that is kept for it. A head without a name says nothing.
    ///
    /// # Errors
    /// [`NotJoined`]: take nothing from that head.
    pub(crate) fn join(&self, theirs: &str) -> Result<(), NotJoined> {
        let mut ours = self.cluster.borrow_mut();
        if theirs.is_empty() || *ours == theirs {
            return Ok(());
        }
        if !ours.is_empty() {
            return Err(NotJoined::Other { ours: ours.clone(), theirs: theirs.to_owned() });
        }
        (self.keep)(theirs);
        theirs.clone_into(&mut ours);
        Ok(())
    }

    /// The node is registered with one more head, until what this returns is dropped.
    #[must_use]
    pub(crate) fn enter(self: &Rc<Self>) -> Registered {
        self.heads.set(self.heads.get() + 1);
        Registered(Rc::clone(self))
    }

    /// With how many heads it is registered now.
    #[must_use]
    pub(crate) const fn heads(&self) -> usize {
        self.heads.get()
    }
}

/// A registration with one head, while it lasts.
pub(crate) struct Registered(Rc<Membership>);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.heads.set(self.0.heads.get().saturating_sub(1));
    }
}

/// Whether one head's refusals because of a taken identity or name mean that there are two nodes. They need not: a head
/// may not have noticed yet that the connection before this one is lost.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    was_here: bool,
    since: Option<Instant>,
    said: bool,
}

impl Doubt {
    /// The head took this node in.
    pub(crate) const fn registered(&mut self) {
        (self.was_here, self.since, self.said) = (true, None, false);
    }

    /// The head refused it as taken, `now`, while it is registered `elsewhere` with so many heads: true once, when it
    /// is sure that another node is registered in its place.
    pub(crate) fn taken(&mut self, now: Instant, elsewhere: usize) -> bool {
        let since = *self.since.get_or_insert(now);
        let patience = if self.was_here { limits::TAKEN_DOUBT_TIME } else { limits::TAKEN_NEW_DOUBT_TIME };
        let sure = elsewhere > 0 && now.duration_since(since) >= patience;
        sure && !std::mem::replace(&mut self.said, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn membership(cluster: &str) -> (Membership, Rc<RefCell<Vec<String>>>) {
        let written = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&written);
        let keep = move |name: &str| {
            kept.borrow_mut().push(name.to_owned());
        };
        (Membership::new(cluster, keep), written)
    }

    #[test]
    fn the_first_head_names_the_cluster_and_others_are_left() {
        let (member, written) = membership("");
        member.join("").unwrap();
        for _ in 0..2 {
            member.join("casa").unwrap();
        }
        let error = member.join("lab").unwrap_err().to_string();
        assert!(error.contains("belong to cluster casa and the head to cluster lab; give it"), "{error}");
        member.join("").unwrap();
        assert_eq!(*written.borrow(), ["casa"], "each name is written once");
    }

    #[test]
    fn registrations_are_counted_while_they_last() {
        let member = Rc::new(membership("casa").0);
        let (one, two) = (member.enter(), member.enter());
        assert_eq!(member.heads(), 2);
        drop(one);
        assert_eq!(member.heads(), 1);
        drop(two);
        assert_eq!(member.heads(), 0);
    }

    #[test]
    fn a_stranger_in_its_place_is_told_once_and_its_own_shadow_is_not() {
        let now = Instant::now();
        let mut never_here = Doubt::default();
        assert!(!never_here.taken(now, 0), "nobody else serves it: it is merely refused");
        assert!(!never_here.taken(now, 1), "the head may serve the process before this one");
        let soon = now + limits::TAKEN_NEW_DOUBT_TIME;
        assert!(never_here.taken(soon, 1) && !never_here.taken(soon, 1));
        let mut was_here = Doubt::default();
        was_here.registered();
        assert!(!was_here.taken(now, 1), "the head may not have noticed the loss");
        let later = now + limits::TAKEN_DOUBT_TIME;
        assert!(!was_here.taken(later - Duration::from_millis(1), 1));
        assert!(was_here.taken(later, 1) && !was_here.taken(later, 1));
        was_here.registered();
        assert!(!was_here.taken(later, 1), "it begins anew");
    }
}
