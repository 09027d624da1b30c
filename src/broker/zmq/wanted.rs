//! What a subscriber wants: prefixes of topics, as often as it has asked for each. Pure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::limits;

/// The prefixes of one subscriber.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    prefixes: HashMap<Bytes, u32>,
    /// How many of them have each length: so many looks a topic costs.
    lengths: BTreeMap<usize, usize>,
    bytes: usize,
}

/// There is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Wanted {
    /// One more.
    ///
    /// # Errors
    /// It is too long, or there are too many.
    pub(super) fn add(&mut self, prefix: &[u8]) -> Result<(), TooMany> {
        if let Some(times) = self.prefixes.get_mut(prefix) {
            *times = times.saturating_add(1);
            return Ok(());
        }
        let bytes = self.bytes + cost(prefix);
        if prefix.len() > limits::SUBSCRIPTION_BYTES_MAX || bytes > limits::SUBSCRIPTIONS_BYTES_MAX {
            return Err(TooMany);
        }
        self.bytes = bytes;
        *self.lengths.entry(prefix.len()).or_default() += 1;
        self.prefixes.insert(Bytes::copy_from_slice(prefix), 1);
        Ok(())
    }

    /// One less; nothing if there is none.
    pub(super) fn remove(&mut self, prefix: &[u8]) {
        let Some(times) = self.prefixes.get_mut(prefix) else { return };
        *times -= 1;
        if *times > 0 {
            return;
        }
        self.prefixes.remove(prefix);
        self.bytes -= cost(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// Whether a topic begins with one of them.
    pub(super) fn matches(&self, topic: &[u8]) -> bool {
        self.lengths
            .keys()
            .any(|&length| length == 0 || topic.get(..length).is_some_and(|start| self.prefixes.contains_key(start)))
    }
}

fn cost(prefix: &[u8]) -> usize {
    limits::TOPIC_FRAME_EXTRA_BYTES + prefix.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_begin_with_a_prefix_until_it_is_taken_back_as_often() {
        let mut wanted = Wanted::default();
        assert!(!wanted.matches(b"a.1"));
        for prefix in ["a.", "bc", "a."] {
            wanted.add(prefix.as_bytes()).unwrap();
        }
        assert!(wanted.matches(b"a.1") && wanted.matches(b"bc") && !wanted.matches(b"b") && !wanted.matches(b""));
        wanted.remove(b"a.");
        assert!(wanted.matches(b"a.1"), "it was asked for twice");
        wanted.remove(b"a.");
        wanted.remove(b"never asked for");
        assert!(!wanted.matches(b"a.1") && wanted.matches(b"bcd"));
        wanted.add(b"").unwrap();
        assert!(wanted.matches(b"") && wanted.matches(b"x"));
        wanted.remove(b"");
        wanted.remove(b"bc");
        assert_eq!((wanted.lengths.len(), wanted.bytes), (0, 0));
    }

    #[test]
    fn there_is_an_end_to_their_number_and_their_length() {
        let mut wanted = Wanted::default();
        assert_eq!(wanted.add(&vec![b'x'; limits::SUBSCRIPTION_BYTES_MAX + 1]), Err(TooMany));
        let refused = (0..limits::SUBSCRIPTIONS_BYTES_MAX).find(|k| wanted.add(&k.to_be_bytes()).is_err()).unwrap();
        assert_eq!(refused, limits::SUBSCRIPTIONS_BYTES_MAX / (limits::TOPIC_FRAME_EXTRA_BYTES + 8));
        wanted.remove(&0_usize.to_be_bytes());
        assert_eq!(wanted.add(&refused.to_be_bytes()), Ok(()));
    }
}
