//! Messages that data nodes fail at: how often a batch was lost with a node, and when it is given to no other.
//!
//! Pure. A message that ends every node that gets it must not go from one to the next; one that only happened to be on a
//! node that was lost must. Where it is certain that a node failed at this batch and no other it is refused soon, else
//! after more nodes, and then its client may send it again.

use std::rc::Rc;

use crate::limits;
use crate::wire::error::{Code, Refusal};

/// What a node's loss says of the messages it had not settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing: it left in order, its host fell silent, or it had been given nothing.
    None,
    /// It takes too long over them.
    Stalls,
    /// It closed its connection or broke a rule while it had them.
    Fails,
}

/// What is held against one batch.
#[derive(Clone, Default, Debug)]
pub(crate) struct Suspicion {
    /// Nodes that failed at this batch and no other.
    proven: usize,
    /// Nodes that were lost with this batch and others.
    shared: usize,
    /// What the last one did.
    last: Option<Rc<str>>,
}

impl Suspicion {
    /// A node was lost with the batch; `alone` if with no other.
    pub(crate) fn add(&mut self, alone: bool, cause: &Rc<str>) {
        if alone {
            self.proven += 1;
        } else {
            self.shared += 1;
        }
        self.last = Some(Rc::clone(cause));
    }

    /// Why the batch goes to no other node, of those that want `replicas` copies.
    #[must_use]
    pub(crate) fn refusal(&self, replicas: usize) -> Option<Refusal> {
        let proven = self.proven > replicas;
        let nodes = self.proven + self.shared;
        let last = self.last.as_ref().filter(|_| proven || nodes >= replicas + limits::NODES_LOST_MAX)?;
        let words = if proven { "failed at this message" } else { "were lost with this message in flight" };
        let text = format!("{nodes} dataNodes {words}, the last one so: {last}; it goes to no other, see their logs");
        Some(Refusal { retry: !proven, ..Refusal::new(Code::Storage, text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_to_one_other_node_at_most_where_it_is_to_blame() {
        let cause: Rc<str> = "127.0.0.2: it answered \"no\" in place of recibido".into();
        let mut batch = Suspicion::default();
        assert_eq!(batch.refusal(1), None);
        batch.add(true, &cause);
        assert_eq!(batch.refusal(1), None, "another may keep it");
        batch.add(true, &cause);
        let refusal = batch.refusal(1).unwrap();
        assert!(!refusal.retry && refusal.code == Code::Storage, "{refusal}");
        assert!(
            refusal.text.starts_with("2 dataNodes failed at this message, the last one so: 127.0.0.2: "),
            "{refusal}"
        );
        assert_eq!(batch.refusal(2), None, "two had it at first");
    }

    #[test]
    fn a_message_among_others_goes_further_and_not_for_ever() {
        let cause: Rc<str> = "its connection was closed".into();
        let mut batch = Suspicion::default();
        let lost = (1..100).find(|_| {
            batch.add(false, &cause);
            batch.refusal(1).is_some()
        });
        assert_eq!(lost, Some(1 + limits::NODES_LOST_MAX));
        assert!(batch.refusal(1).unwrap().retry);
    }
}
