//! Connections that have said too little to be a client, a reader or a data node. Where a head has as many connections as it
//! takes, one of these makes way for the next: who opens many and says nothing shuts the door for nobody.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::state::Head;
use crate::net::network;

/// All of them, in the order in which they came. There are no more than there are connections.
#[derive(Debug, Default)]
pub(crate) struct Knocks {
    next: u64,
    there: BTreeMap<u64, (SocketAddr, CancellationToken)>,
}

impl Knocks {
    fn begin(&mut self, peer: SocketAddr, cut: CancellationToken) -> u64 {
        self.next += 1;
        self.there.insert(self.next, (peer, cut));
        self.next
    }

    /// The one that makes way: of the address that has most of them the one that came first.
    fn first_of_most(&self) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
        for (serial, (peer, _)) in &self.there {
            counts.entry(network::place(peer.ip())).or_insert((0, *serial)).0 += 1;
        }
        counts.into_values().max_by_key(|(count, first)| (*count, u64::MAX - first)).map(|(_, first)| first)
    }
}

/// A connection that is one of them until it is let in or ends.
pub(super) struct Knock {
    head: Rc<Head>,
    serial: u64,
    /// Told when it has to make way.
    pub(super) cut: CancellationToken,
}

impl Drop for Knock {
    fn drop(&mut self) {
        self.head.knocks.borrow_mut().there.remove(&self.serial);
    }
}

impl Head {
    /// A connection has come from there.
    pub(super) fn knock(self: &Rc<Self>, peer: SocketAddr) -> Knock {
        let cut = CancellationToken::new();
        let serial = self.knocks.borrow_mut().begin(peer, cut.clone());
        Knock { head: Rc::clone(self), serial, cut }
    }

    /// The connection from there is a client's, a reader's or a data node's from now on.
    pub(super) fn is_in(&self, peer: SocketAddr) {
        self.knocks.borrow_mut().there.retain(|_, (from, _)| *from != peer);
    }

    /// Has one of them end, if there is one.
    pub(super) fn make_way(&self) {
        let mut knocks = self.knocks.borrow_mut();
        let chosen = knocks.first_of_most();
        if let Some((_, cut)) = chosen.and_then(|serial| knocks.there.remove(&serial)) {
            cut.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_address_that_has_most_the_first_makes_way() {
        let mut knocks = Knocks::default();
        assert_eq!(knocks.first_of_most(), None);
        let from = |text: &str| text.parse::<SocketAddr>().unwrap();
        for peer in ["10.0.0.9:1", "10.0.0.7:1", "10.0.0.7:2", "[::ffff:10.0.0.7]:3", "10.0.0.8:1", "10.0.0.8:2"] {
            knocks.begin(from(peer), CancellationToken::new());
        }
        let mut ended = Vec::new();
        while let Some(serial) = knocks.first_of_most() {
            ended.push(serial);
            knocks.there.remove(&serial);
        }
        assert_eq!(ended, [2, 3, 5, 1, 4, 6]);
    }
}
