//! Which identity each peer's name has had. Kept in `peers.txt`, one line an identity: `<name> <id> <since>`.
//!
//! A name that comes back with another identity is another node: what the old one held is not there. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::limits;
use crate::wire::id::ClientId;

/// The file of the peers.
pub(crate) const PEERS: &str = "peers.txt";

/// One identity of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    id: u64,
    /// Unix seconds when it was seen first; for people.
    since: u64,
}

/// Names and identities that were seen, oldest identity first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peers(BTreeMap<String, Vec<Peer>>);

/// What a name and an identity mean together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// It is the one that was there.
    Known,
    /// The name was not known.
    New,
    /// The name belongs to another node from now on.
    Replaced,
}

impl Peers {
    /// Reads `peers.txt`; lines that make no sense are left out.
    #[must_use]
    pub(crate) fn parse(text: &[u8]) -> Self {
        let mut peers = Self::default();
        for line in String::from_utf8_lossy(text).lines() {
            let mut fields = line.split(' ');
            if let (Some(name), Some(id), Some(since)) = (fields.next(), fields.next(), fields.next())
                && let Some(id) = ClientId::from_text(id.as_bytes())
                && let Ok(since) = humantime::parse_rfc3339(since)
            {
                let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                peers.0.entry(name.to_owned()).or_default().push(Peer { id: id.0, since });
            }
        }
        peers
    }

    /// The text of `peers.txt`.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, ids) in &self.0 {
            for peer in ids {
                let since = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(peer.since));
                // A String takes whatever is written to it.
                writeln!(text, "{name} {} {since}", ClientId(peer.id)).unwrap_or_default();
            }
        }
        text
    }

    /// Whether this is the node that had the name last.
    #[must_use]
    pub(crate) fn meet(&self, name: &str, id: u64) -> Meeting {
        match self.0.get(name).and_then(|ids| ids.last()) {
            Some(peer) if peer.id == id => Meeting::Known,
            Some(_) => Meeting::Replaced,
            None => Meeting::New,
        }
    }

    /// The name has had this identity before all that are known.
    pub(crate) fn remember_older(&mut self, name: &str, id: u64, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.0.entry(name.to_owned()).or_default().insert(0, Peer { id, since });
    }

    /// Whether the name is known, this identity of it is not, and there is room for it.
    #[must_use]
    pub(crate) fn lacks(&self, name: &str, id: u64) -> bool {
        let known = self.0.get(name);
        known.is_some_and(|ids| ids.len() < limits::PEER_IDENTITIES_MAX && ids.iter().all(|peer| peer.id != id))
    }

    /// The name has this identity from now on. Of many identities the oldest is forgotten.
    pub(crate) fn remember(&mut self, name: &str, id: u64, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ids = self.0.entry(name.to_owned()).or_default();
        ids.push(Peer { id, since });
        if ids.len() > limits::PEER_IDENTITIES_MAX {
            ids.remove(0);
        }
    }

    /// Forgets a name that is not `wanted`; false if all are.
    pub(crate) fn forget_one(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let name = self.names().find(|name| !wanted(name)).map(str::to_owned);
        name.is_some_and(|name| self.0.remove(&name).is_some())
    }

    /// How many names are known.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The names that are known.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The names that more than one node has had.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, ids)| ids.len() > 1).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_another_identity_is_another_node() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_234_260);
        let mut peers = Peers::default();
        assert_eq!(peers.meet("data2", 7), Meeting::New);
        peers.remember("data2", 7, now);
        peers.remember("data1", 1, now);
        assert_eq!((peers.meet("data2", 7), peers.meet("data2", 8)), (Meeting::Known, Meeting::Replaced));
        peers.remember("data2", 8, now);
        assert_eq!(peers.meet("data2", 7), Meeting::Replaced, "the old one is back, and is not what it was");
        assert_eq!(peers.replaced().collect::<Vec<_>>(), ["data2"]);
        assert!(peers.lacks("data2", 9) && !peers.lacks("data2", 7) && !peers.lacks("data2", 8));
        assert!(!peers.lacks("data3", 9), "nothing is known of what that held");
        peers.remember_older("data2", 6, now);
        assert!(!peers.lacks("data2", 6));
        assert_eq!((peers.meet("data2", 8), peers.meet("data2", 6)), (Meeting::Known, Meeting::Replaced));
        let text = peers.to_text();
        assert!(text.starts_with("data1 ---------0 2026-11-21T"), "{text}");
        assert_eq!(Peers::parse(format!("{text}garbled\n").as_bytes()), peers);
        for id in 0..100 {
            peers.remember("data2", id, now);
        }
        assert_eq!(peers.to_text().lines().count(), 1 + limits::PEER_IDENTITIES_MAX);
        assert!(!peers.lacks("data2", 7), "it is forgotten, and must not come up again and again");
        assert!(peers.forget_one(|name| name != "data1") && !peers.forget_one(|_| true));
        assert_eq!(peers.names().collect::<Vec<_>>(), ["data2"]);
    }
}
