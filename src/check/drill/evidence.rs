//! What a drill believes: the lines that heads wrote to their registros before they told a client, and what comes back
//! when everything is read.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::client::reader::{self, Event, Query};
use crate::cluster::tail::Tail;
use crate::limits;
use crate::wire::id::RecordId;
use crate::wire::registro::{self, Said};

/// The ids that heads acknowledged since the drill began.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    registros: Vec<Tail>,
    ids: BTreeSet<RecordId>,
}

/// What came of reading everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    /// Ids that were acknowledged before the read began.
    pub(crate) acknowledged: usize,
    /// Those that did not come back.
    pub(crate) lost: usize,
}

impl Read {
    /// On a line.
    pub(crate) fn words(self) -> String {
        let Self { acknowledged, lost } = self;
        format!("{} of {acknowledged} read back, {lost} lost", acknowledged - lost)
    }
}

impl Acknowledged {
    /// Begins behind what these registros have.
    pub(crate) fn new(registros: impl Iterator<Item = PathBuf>) -> Self {
        Self { registros: registros.map(Tail::at_end).collect(), ids: BTreeSet::new() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.ids.len()
    }

    /// Takes in what the registros have by now.
    ///
    /// # Errors
    /// One can't be read, or there are more than a drill looks at.
    pub(crate) fn update(&mut self) -> Result<(), String> {
        for tail in &mut self.registros {
            loop {
                let lines = tail.lines().map_err(|error| format!("a registro can't be read: {error}"))?;
                if lines.is_empty() {
                    break;
                }
                for line in lines {
                    take(&line, &mut self.ids);
                }
            }
        }
        if self.ids.len() > limits::SCRIPT_MESSAGES_MAX {
            return Err(format!("more than {} messages; send fewer, with --every", limits::SCRIPT_MESSAGES_MAX));
        }
        Ok(())
    }

    /// Reads through these heads from the first id on, and compares. A message whose head was killed before it answered is
    /// sent again, and has two ids: both are records that have to be there.
    ///
    /// # Errors
    /// The read did not come to its end: data nodes are missing from it, for example.
    pub(crate) async fn read(&self, heads: Vec<String>) -> Result<Read, String> {
        let Some(&from) = self.ids.first() else { return Err("nothing was acknowledged yet".to_owned()) };
        let config = reader::Config { retry_for: limits::SCRIPT_STEP_TIME_MAX, ..heads.into() };
        let mut reader = reader::read_records(config, Query { from, ..Query::default() });
        let mut missing = self.ids.clone();
        while let Some(event) = reader.next().await {
            if let Event::Message(message) = event.map_err(|error| error.to_string())? {
                missing.remove(&message.id);
            }
        }
        Ok(Read { acknowledged: self.ids.len(), lost: missing.len() })
    }
}

fn take(line: &str, ids: &mut BTreeSet<RecordId>) {
    if let Said::Kept(kept) = registro::read(line.as_bytes()) {
        for (first, count) in kept.ranges() {
            ids.extend((0..u64::from(count)).map(|n| first.plus(n)));
        }
    }
}

/// Why a node was evicted, in a line of a heartbeat log.
pub(crate) fn cause(line: &str) -> Option<&str> {
    line.split_once("cause=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(cause, _)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_from_both_heads_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["1", "2"].map(|name| dir.path().join(name));
        let mut acknowledged = Acknowledged::new(paths.clone().into_iter());
        let line = |node: &str, ids: &str| {
            format!("2026-11-21T07:34:21.000000Z recibido en dataNode 127.0.0.2 {node} {ids}\n")
        };
        let both = line("data1", "1795234260----0----6..+2") + &line("data2", "1795234260----0----6..+2");
        std::fs::write(&paths[0], both).unwrap();
        std::fs::write(&paths[1], line("data1", "1795234261----0----6")).unwrap();
        acknowledged.update().unwrap();
        assert_eq!(acknowledged.count(), 4);
        acknowledged.update().unwrap();
        assert_eq!(acknowledged.count(), 4);
    }

    #[test]
    fn a_line_tells_why_a_node_was_evicted() {
        let line = "2026-11-21T11:08:07Z 127.0.0.3 no disponible, eliminado name=data2 cause=\"no answer to the ping\" in_flight=1";
        assert_eq!(cause(line), Some("no answer to the ping"));
        assert_eq!(cause("127.0.0.3 disponible"), None);
    }

    #[test]
    fn a_read_is_told_in_numbers() {
        let read = Read { acknowledged: 10, lost: 3 };
        assert_eq!(read.words(), "7 of 10 read back, 3 lost");
    }
}
