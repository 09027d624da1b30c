//! Who has to prove that it has the cluster's key, and whether it does: data nodes that register, and clients that drain a
//! node or change how many copies there are. Pure but for the nonces.
//!
//! A key that a person gave is asked of everybody. One that the head made itself is asked of peers off loopback alone, so
//! that nothing has to be configured on one machine. Who knocks proves it in any case, and hears the head's proof.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::BytesMut;

use crate::key::{ClusterKey, Nonces, PeerKey, Said, Side};
use crate::net::Channel;
use crate::net::network::Network;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{Frame, FrameError};
use crate::wire::proof::{Holder, Knock, Nonce, Proof};

/// Whom a head lets in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// The cluster's key, and others that count while keys are changed; none if this head has no key.
    pub(crate) keys: Rc<RefCell<Vec<ClusterKey>>>,
    /// It is asked of peers on loopback, too.
    pub(crate) everybody: bool,
    /// Where data nodes that speak text may come from, which can prove nothing.
    pub(crate) text_nodes: Vec<Network>,
    /// Where its nonces come from.
    pub(crate) nonces: Nonces,
}

/// What is to be proved.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Claim<'a> {
    /// To be the data node with this name.
    Node(&'a str),
    /// That the cluster may be changed.
    Change,
}

/// A proof that is on its way.
#[derive(Debug)]
pub(crate) struct Awaited {
    key: PeerKey,
    peer: Nonce,
    head: Nonce,
    cluster: String,
    /// The frame that is proved.
    frame: BytesMut,
    channel: Option<Channel>,
}

impl Gate {
    /// Whether a peer from there has to prove that it has the key.
    #[must_use]
    pub(crate) fn asks(&self, peer: IpAddr) -> bool {
        !self.keys.borrow().is_empty() && (self.everybody || !is_loopback(peer))
    }

    /// Whether a data node that speaks text may come from there.
    ///
    /// # Errors
    /// It may not: tell it.
    pub(crate) fn admit_text_node(&self, peer: IpAddr) -> Result<(), Refusal> {
        let ip = peer.to_canonical();
        if !self.asks(ip) || self.text_nodes.iter().any(|network| network.has(ip)) {
            return Ok(());
        }
        let text = format!(
            "a dataNode that speaks text can't prove that it has the cluster's key; start this head with --text-nodes {ip}, \
             or start 'acopio data' there with --key"
        );
        Err(Refusal::new(Code::Unproven, text))
    }

    /// What this peer has to prove before this frame of it counts; none if nothing.
    ///
    /// # Errors
    /// It may not say it: tell it.
    pub(crate) fn challenge(
        &self,
        peer: IpAddr,
        knock: Option<Knock>,
        claim: Claim<'_>,
        cluster: &str,
        frame: &Frame,
        channel: Option<Channel>,
    ) -> Result<Option<Awaited>, Refusal> {
        let Some(Knock { holder, hint, nonce }) = knock else {
            return if self.asks(peer) { Err(unproven(asked(claim))) } else { Ok(None) };
        };
        let of = |key: &ClusterKey| match (holder, claim) {
            (Holder::Cluster, _) => Some(key.holder()),
            (Holder::Node, Claim::Node(name)) => Some(key.node(name)),
            (Holder::Node, Claim::Change) => None,
        };
        let keys = self.keys.borrow();
        let Some(first) = keys.first() else {
            let text =
                "this head has no key of its cluster and proves nothing; start it with --key, or leave out --key here";
            return Err(unproven(text.to_owned()));
        };
        // Who has none of them hears the proof of the first, and that it is another.
        let meant = keys.iter().find(|key| of(key).is_some_and(|key| key.hint() == hint)).unwrap_or(first);
        let Some(key) = of(meant) else {
            let text = "a dataNode's key does not change a cluster; give the cluster's key with --key";
            return Err(unproven(text.to_owned()));
        };
        let mut proved = BytesMut::new();
        frame.encode(&mut proved).map_err(|error: FrameError| error.refusal())?;
        let head = self.nonces.draw();
        Ok(Some(Awaited { key, peer: nonce, head, cluster: cluster.to_owned(), frame: proved, channel }))
    }
}

impl Awaited {
    fn said(&self) -> Said<'_> {
        Said { peer: self.peer, head: self.head, cluster: &self.cluster, frame: &self.frame, channel: self.channel }
    }

    /// The head's own proof, for the peer.
    #[must_use]
    pub(crate) fn challenge(&self) -> Frame {
        let proof = self.key.prove(Side::Head, &self.said());
        Frame::Challenge { nonce: self.head, proof, cluster: self.cluster.clone() }
    }

    /// Which key it is to be.
    #[must_use]
    pub(crate) const fn holder(&self) -> Holder {
        self.key.of()
    }

    /// Looks at the peer's proof.
    ///
    /// # Errors
    /// It is none: tell the peer, and let it go.
    pub(crate) fn check(&self, proof: &Proof) -> Result<(), Refusal> {
        if self.key.verifies(Side::Peer, &self.said(), proof) {
            return Ok(());
        }
        Err(unproven("the proof is wrong: this is not the key of this cluster; give its key with --key".to_owned()))
    }
}

/// Why a peer that did not prove what it had to is let go.
#[must_use]
pub(crate) fn unproven(text: String) -> Refusal {
    Refusal::new(Code::Unproven, text)
}

fn asked(claim: Claim<'_>) -> String {
    let whose = "the key is in cluster.key beside the head's logs, or where the head's own --key says";
    match claim {
        Claim::Node(name) => format!(
            "this head asks for the cluster's key, and dataNode {name} has none; start it with --key FILE: {whose}, and \
             'acopio key node {name} --key FILE' makes one of it for this node alone"
        ),
        Claim::Change => format!(
            "this head asks for the cluster's key of who changes the cluster; add --key FILE: {whose}; without --key there, \
             it asks nobody who comes from its own machine over 127.0.0.1"
        ),
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::NodeReport;
    use crate::wire::frame::SyncMode;
    use crate::wire::ledger::NodeId;

    const LOOPBACK: [&str; 3] = ["127.0.0.1", "127.0.0.9", "::ffff:127.0.0.1"];

    fn gate(everybody: bool) -> Gate {
        let keys = Rc::new(RefCell::new(vec![ClusterKey::from_bytes([7; 32])]));
        Gate { keys, everybody, text_nodes: Vec::new(), nonces: Nonces::seeded(1) }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn register(node: u64) -> Frame {
        let report = NodeReport {
            writable: true,
            records: 0,
            bytes: 0,
            syncs: 0,
            written: 0,
            free: None,
            reason: String::new(),
        };
        let (name, cluster) = ("data1".to_owned(), "acopio".to_owned());
        Frame::Register {
            node: NodeId(node),
            replaces: None,
            old: false,
            name,
            cluster,
            sync: SyncMode::Always,
            report,
        }
    }

    fn knock(key: &PeerKey) -> Option<Knock> {
        Some(Knock { holder: key.of(), hint: key.hint(), nonce: Nonce([3; 32]) })
    }

    /// The answer of who has this key to what the head says.
    fn answer(key: &PeerKey, awaited: &Awaited, frame: &Frame) -> Option<Proof> {
        let Frame::Challenge { nonce, proof, cluster } = awaited.challenge() else { return None };
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes).unwrap();
        let said =
            Said { peer: Nonce([3; 32]), head: nonce, cluster: &cluster, frame: &bytes, channel: awaited.channel };
        key.verifies(Side::Head, &said, &proof).then(|| key.prove(Side::Peer, &said))
    }

    #[test]
    fn a_key_that_the_head_made_is_asked_of_peers_off_loopback_alone() {
        let (own, given, none) = (gate(false), gate(true), Gate::default());
        for here in LOOPBACK {
            assert!(!own.asks(ip(here)) && given.asks(ip(here)) && !none.asks(ip(here)), "{here}");
        }
        assert!(!own.asks(ip("::1")));
        for away in ["10.0.0.7", "192.168.1.1", "::ffff:10.0.0.7", "fe80::1"] {
            assert!(own.asks(ip(away)) && given.asks(ip(away)) && !none.asks(ip(away)), "{away}");
        }
    }

    #[test]
    fn nodes_that_speak_text_come_from_loopback_or_from_where_they_may() {
        let networks = vec!["10.0.7.0/24".parse().unwrap(), "127.0.0.9".parse().unwrap()];
        let (own, given) = (gate(false), Gate { text_nodes: networks, ..gate(true) });
        assert!(own.admit_text_node(ip("127.0.0.1")).is_ok());
        let refused = own.admit_text_node(ip("::ffff:10.0.7.3")).unwrap_err();
        assert!(refused.code == Code::Unproven && refused.text.contains("--text-nodes 10.0.7.3"), "{refused}");
        assert!(given.admit_text_node(ip("::ffff:10.0.7.3")).is_ok() && given.admit_text_node(ip("127.0.0.9")).is_ok());
        assert!(given.admit_text_node(ip("127.0.0.1")).is_err() && given.admit_text_node(ip("10.0.8.1")).is_err());
    }

    #[test]
    fn who_has_no_key_is_told_what_to_do_where_it_is_asked() {
        let ask = |gate: &Gate, from: &str, claim| gate.challenge(ip(from), None, claim, "acopio", &register(1), None);
        assert!(ask(&gate(false), "127.0.0.1", Claim::Node("data1")).unwrap().is_none());
        assert!(ask(&gate(false), "127.0.0.1", Claim::Change).unwrap().is_none());
        let longest = "n".repeat(crate::limits::NODE_NAME_BYTES_MAX);
        for (gate, from) in [(gate(false), "10.0.0.7"), (gate(true), "127.0.0.1")] {
            for (claim, wanted) in [(Claim::Node(&longest), "'acopio key node n"), (Claim::Change, "add --key FILE")] {
                let refusal = ask(&gate, from, claim).unwrap_err();
                assert!(refusal.code == Code::Unproven && refusal.text.contains(wanted), "{refusal}");
                assert!(refusal.text.len() <= crate::limits::TEXT_BYTES_MAX, "it is told whole");
            }
        }
    }

    #[test]
    fn a_proof_is_of_the_key_of_who_knocked_and_of_the_frame() {
        let (gate, cluster) = (gate(false), ClusterKey::from_bytes([7; 32]));
        let ask = |key: &PeerKey, claim| {
            gate.challenge(ip("127.0.0.1"), knock(key), claim, "acopio", &register(1), Some([9; 32]))
        };
        for key in [cluster.node("data1"), cluster.holder()] {
            let awaited = ask(&key, Claim::Node("data1")).unwrap().unwrap();
            assert_eq!(awaited.holder(), key.of());
            let proof = answer(&key, &awaited, &register(1)).unwrap();
            assert!(awaited.check(&proof).is_ok());
            // The same again is for another nonce.
            assert!(ask(&key, Claim::Node("data1")).unwrap().unwrap().check(&proof).is_err());
            assert!(answer(&key, &awaited, &register(2)).is_none(), "the head proves what was said");
        }
        let other = ClusterKey::from_bytes([8; 32]);
        for key in [cluster.node("data2"), other.node("data1"), other.holder()] {
            let awaited = ask(&key, Claim::Node("data1")).unwrap().unwrap();
            assert!(answer(&key, &awaited, &register(1)).is_none(), "a false head is noticed");
            let said = awaited.said();
            assert!(awaited.check(&key.prove(Side::Peer, &said)).is_err(), "and so is a false node");
        }
        let refused = ask(&cluster.node("data1"), Claim::Change).unwrap_err();
        assert!(refused.text.contains("give the cluster's key"), "{refused}");
        let none = Gate::default().challenge(
            ip("127.0.0.1"),
            knock(&cluster.holder()),
            Claim::Change,
            "c",
            &register(1),
            None,
        );
        assert!(none.unwrap_err().text.contains("has no key"));
    }
}
