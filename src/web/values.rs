//! The last values of the cluster, as they are listed: read from it once, then followed. What this web stores itself is
//! there at once; the same record is not listed twice when the follower brings it.
//!
//! Nothing here is on disk: a web that starts anew reads the same again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::dato::Value;
use crate::client::reader::Event;
use crate::wire::id::{ClientId, RecordId};

/// The last values, oldest first, and how current they are.
#[derive(Debug)]
pub(crate) struct Values {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listed: Listed,
    /// Everything that was kept when it began has been read.
    whole: bool,
    /// What keeps it from being current, if anything does.
    away: Option<String>,
}

/// Values by id, each record once though it may be kept under two ids.
#[derive(Debug, Default)]
struct Listed {
    by_id: BTreeMap<RecordId, Value>,
    by_number: BTreeMap<(ClientId, u64), RecordId>,
}

impl Listed {
    fn insert(&mut self, value: Value, most: usize) {
        if let Some(other) = self.by_number.insert(value.from, value.id)
            && other != value.id
        {
            self.by_id.remove(&other);
        }
        self.by_id.insert(value.id, value);
        while self.by_id.len() > most
            && let Some((id, oldest)) = self.by_id.pop_first()
        {
            // A text client's connection has numbers of its own, and so has everybody else.
            if self.by_number.get(&oldest.from) == Some(&id) {
                self.by_number.remove(&oldest.from);
            }
        }
    }
}

impl Values {
    /// A list of so many values at most.
    #[must_use]
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// The last `n` values, the newest last.
    #[must_use]
    pub(crate) fn last(&self, n: usize) -> Vec<Value> {
        let state = self.lock();
        let from = state.listed.by_id.len().saturating_sub(n);
        state.listed.by_id.values().skip(from).cloned().collect()
    }

    /// Takes in a value that is kept.
    pub(crate) fn insert(&self, value: Value) {
        self.lock().listed.insert(value, self.most);
    }

    /// Whether all that was kept when this began has been read; if not, why.
    ///
    /// # Errors
    /// What it waits for.
    pub(crate) fn whole(&self) -> Result<(), String> {
        let state = self.lock();
        if state.whole {
            return Ok(());
        }
        Err(match &state.away {
            Some(away) => format!("the values of the cluster are not read yet: {away}"),
            None => "the values of the cluster are being read; try again in a moment".to_owned(),
        })
    }

    /// What keeps the list from being current, if anything does.
    #[must_use]
    pub(crate) fn away(&self) -> Option<String> {
        self.lock().away.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are listed at most.
    #[must_use]
    pub(crate) fn most(&self) -> u64 {
        u64::try_from(self.most).unwrap_or(u64::MAX)
    }

    /// All that was kept when this began has been read.
    pub(crate) fn is_whole(&self) {
        let mut state = self.lock();
        (state.whole, state.away) = (true, None);
    }

    /// This keeps it from being current.
    pub(crate) fn is_away(&self, why: String) {
        self.lock().away = Some(why);
    }

    /// Takes in what a reader delivers.
    pub(crate) fn event(&self, event: Event) {
        match event {
            Event::Message(message) => {
                let value = Value::of(&message);
                let mut state = self.lock();
                state.away = None;
                if let Some(value) = value {
                    state.listed.insert(value, self.most);
                }
            }
            Event::Waiting { nodes } if nodes.is_empty() => self.lock().away = None,
            Event::Waiting { nodes } => {
                self.lock().away = Some(format!("dataNode {} is away; start it again", nodes.join(", ")));
            }
            Event::Lost { head, cause } => {
                tracing::warn!("head {head}: {cause}; the values are read from the next that answers");
            }
            Event::End { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dato::Dato;
    use super::*;

    fn value(ns: u64, client: u64, seq: u64) -> Value {
        let id = RecordId { time_ns: ns, incarnation: 0 };
        Value { id, from: (ClientId(client), seq), dato: Ok(Dato::new(ns as f64).unwrap()) }
    }

    fn listed(values: &Values, n: usize) -> Vec<u64> {
        values.last(n).iter().map(|value| value.id.time_ns).collect()
    }

    #[test]
    fn the_last_values_are_listed_in_the_order_of_ids() {
        let values = Values::new(3);
        for (ns, seq) in [(5, 1), (3, 1), (9, 2), (7, 3), (1, 4)] {
            values.insert(value(ns, ns, seq));
        }
        assert_eq!(listed(&values, 10), [5, 7, 9]);
        assert_eq!(listed(&values, 2), [7, 9]);
        assert_eq!(values.lock().listed.by_number.len(), 3, "what is not listed is forgotten");
    }

    #[test]
    fn a_value_that_was_sent_twice_is_listed_once() {
        let values = Values::new(3);
        values.insert(value(5, 1, 7));
        values.insert(value(5, 1, 7));
        values.insert(value(4, 1, 7));
        values.insert(value(6, 2, 7));
        assert_eq!(listed(&values, 10), [4, 6], "as a reader delivers it");
    }

    #[test]
    fn what_was_never_read_whole_says_why() {
        let values = Values::new(3);
        assert!(values.whole().unwrap_err().contains("are being read"));
        values.event(Event::Waiting { nodes: vec!["data2".to_owned()] });
        assert!(values.whole().unwrap_err().contains("dataNode data2 is away"));
        values.event(Event::Waiting { nodes: Vec::new() });
        assert_eq!(values.away(), None);
    }
}
