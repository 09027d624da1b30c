//! The cluster's key, what is derived from it, and proofs that somebody has it.
//!
//! Derivation and proofs are HMAC-SHA256 (RFC 2104, FIPS 198-1). A proof is challenge and response on both sides, the mutual
//! authentication of ISO/IEC 9798-4 in three passes: it covers both nonces, the cluster's name and the frame that is proved,
//! so what was heard once proves nothing later, and nothing else. Keys never travel, and have no `Display`; what their
//! `Debug` shows is no secret. Not here: who has to prove something (`head::gate`), and how frames pass (`net::proof`).

#[cfg(feature = "server")]
pub(crate) mod file;
pub mod record;

use std::fmt;
#[cfg(any(test, feature = "simulation"))]
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(any(test, feature = "simulation"))]
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use ring::hmac;

use crate::wire::proof::{Holder, KeyHint, Nonce, Proof};

/// Bytes of every key.
const KEY_BYTES: usize = 32;

/// What is derived for a data node: this, and its name.
const OF_NODE: &[u8] = b"acopio node key\0";

/// What is derived for who has the cluster's key itself: that one proves nothing but by this.
const OF_CLUSTER: &[u8] = b"acopio holder key\0";

/// What is derived to tell one key from another.
const OF_HINT: &[u8] = b"acopio key hint\0";

/// What is derived for tags of records: heads alone have it, and who checks records offline with the cluster's key.
const OF_RECORDS: &[u8] = b"acopio record key\0";

/// Who has it is the cluster's: its heads, and those who change it.
#[derive(Clone)]
pub struct ClusterKey([u8; KEY_BYTES]);

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(secret)")
    }
}

impl ClusterKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of the data node with this name, from which the cluster's can't be told.
    #[must_use]
    pub fn node(&self, name: &str) -> PeerKey {
        PeerKey { holder: Holder::Node, bytes: tag(&self.0, &[OF_NODE, name.as_bytes()]) }
    }

    /// With which heads mark the records that they take.
    #[must_use]
    pub fn records(&self) -> record::RecordKey {
        let mut key = [0; record::KEY_BYTES];
        key.iter_mut().zip(tag(&self.0, &[OF_RECORDS])).for_each(|(out, byte)| *out = byte);
        record::RecordKey::from_bytes(key)
    }

    /// By which this key is proved.
    #[must_use]
    pub fn holder(&self) -> PeerKey {
        PeerKey { holder: Holder::Cluster, bytes: tag(&self.0, &[OF_CLUSTER]) }
    }
}

/// What a peer proves its right with.
#[derive(Clone)]
pub struct PeerKey {
    holder: Holder,
    bytes: [u8; KEY_BYTES],
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({:?}, secret)", self.holder)
    }
}

impl PeerKey {
    /// A data node's key with these bytes.
    #[must_use]
    pub const fn of_node(bytes: [u8; 32]) -> Self {
        Self { holder: Holder::Node, bytes }
    }

    /// Whose it is.
    #[must_use]
    pub const fn of(&self) -> Holder {
        self.holder
    }

    /// Whether it is the same key. Takes as long for any that is another one.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn is(&self, other: &Self) -> bool {
        let said = Said { peer: Nonce([0; 32]), head: Nonce([0; 32]), cluster: "", frame: &[], channel: None };
        self.holder == other.holder && self.verifies(Side::Peer, &said, &other.prove(Side::Peer, &said))
    }

    /// The proof of this side.
    #[must_use]
    pub(crate) fn prove(&self, side: Side, said: &Said<'_>) -> Proof {
        Proof(tag(&self.bytes, &[&said.bytes(side)]))
    }

    /// Whether a proof of that side is right. Takes as long for any that is wrong.
    #[must_use]
    pub(crate) fn verifies(&self, side: Side, said: &Said<'_>, proof: &Proof) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.bytes);
        hmac::verify(&key, &said.bytes(side), &proof.0).is_ok()
    }

    /// What stands in a key file.
    /// By which a head that has several keys tells this one.
    #[must_use]
    pub fn hint(&self) -> KeyHint {
        let mut hint = [0; 8];
        hint.iter_mut().zip(tag(&self.bytes, &[OF_HINT])).for_each(|(out, byte)| *out = byte);
        KeyHint(hint)
    }

    #[cfg(feature = "server")]
    const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

/// Whose proof: each says something else, so that neither can be sent back as the other's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The head's.
    Head,
    /// The data node's, or the client's.
    Peer,
}

/// What both sides have said, and both proofs cover.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    /// Who knocked.
    pub(crate) peer: Nonce,
    /// The head.
    pub(crate) head: Nonce,
    /// Name of the head's cluster.
    pub(crate) cluster: &'a str,
    /// The frame that is proved, as it travels.
    pub(crate) frame: &'a [u8],
    /// What the connection alone has, over TLS: who stands between the two ends has another.
    pub(crate) channel: Option<[u8; 32]>,
}

impl Said<'_> {
    /// Of one form only: all but the last part have lengths that are known.
    fn bytes(&self, side: Side) -> Vec<u8> {
        let side: &[u8] = match (side, self.channel) {
            (Side::Head, None) => b"acopio/2 head\0",
            (Side::Peer, None) => b"acopio/2 peer\0",
            (Side::Head, Some(_)) => b"acopio/2 head tls\0",
            (Side::Peer, Some(_)) => b"acopio/2 peer tls\0",
        };
        let channel = self.channel.as_ref().map_or(&[][..], |channel| channel);
        let length = (self.cluster.len() as u64).to_be_bytes();
        [side, channel, &self.peer.0, &self.head.0, &length, self.cluster.as_bytes(), self.frame].concat()
    }
}

fn tag(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    // A tag of SHA-256 has as many.
    out.iter_mut().zip(context.sign().as_ref()).for_each(|(out, byte)| *out = *byte);
    out
}

/// Where nonces come from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Nonces {
    /// The generator of this thread, which the system seeds and nobody foretells.
    #[default]
    System,
    /// One that says the same each time, for simulations.
    #[cfg(any(test, feature = "simulation"))]
    Seeded(Arc<Mutex<SmallRng>>),
}

impl Nonces {
    /// Those of a simulation.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// Another one.
    pub(crate) fn draw(&self) -> Nonce {
        match self {
            Self::System => Nonce(rand::random()),
            #[cfg(any(test, feature = "simulation"))]
            Self::Seeded(rng) => Nonce(rng.lock().unwrap_or_else(PoisonError::into_inner).random()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] = b"\0\0\0\x01\x15";

    fn said(cluster: &str) -> Said<'_> {
        Said { peer: Nonce([1; 32]), head: Nonce([2; 32]), cluster, frame: FRAME, channel: None }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `docs/wire.md` shows the same.
    #[test]
    fn keys_and_proofs_are_those_of_the_contract() {
        let cluster = ClusterKey::from_bytes(std::array::from_fn(|k| k as u8));
        let (node, holder) = (cluster.node("data1"), cluster.holder());
        let document = include_str!("../../docs/wire.md");
        for (name, bytes) in [
            ("K1", node.bytes),
            ("K2", holder.bytes),
            ("P1", node.prove(Side::Head, &said("acopio")).0),
            ("P2", node.prove(Side::Peer, &said("acopio")).0),
            ("P3", node.prove(Side::Head, &Said { channel: Some([3; 32]), ..said("acopio") }).0),
            ("P4", node.prove(Side::Peer, &Said { channel: Some([3; 32]), ..said("acopio") }).0),
        ] {
            let line = format!("{name} = {}", hex(&bytes));
            assert!(document.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_proof_holds_for_its_side_its_key_and_all_that_was_said() {
        let cluster = ClusterKey::from_bytes([7; 32]);
        let key = cluster.node("data1");
        let said = said("acopio");
        let proof = key.prove(Side::Peer, &said);
        assert!(key.verifies(Side::Peer, &said, &proof));
        assert!(!key.verifies(Side::Head, &said, &proof), "a head's proof is no peer's");
        for other in [cluster.node("data2"), cluster.holder(), ClusterKey::from_bytes([8; 32]).node("data1")] {
            assert!(!other.verifies(Side::Peer, &said, &proof), "{other:?}");
        }
        let others = [
            Said { peer: Nonce([3; 32]), ..said },
            Said { head: Nonce([3; 32]), ..said },
            Said { cluster: "acopi", frame: b"o\0\0\0\x01\x15", ..said },
            Said { frame: b"\0\0\0\x01\x16", ..said },
            Said { channel: Some([0; 32]), ..said },
        ];
        for other in others {
            assert!(!key.verifies(Side::Peer, &other, &proof), "{other:?}");
        }
        assert!(!key.verifies(Side::Peer, &said, &Proof([0; 32])));
    }

    #[test]
    fn what_debug_shows_is_no_secret() {
        let cluster = ClusterKey::from_bytes([0xab; 32]);
        assert_eq!(format!("{cluster:?} {:?}", cluster.node("a")), "ClusterKey(secret) PeerKey(Node, secret)");
    }

    #[test]
    fn nonces_differ_and_those_of_a_seed_come_again() {
        let system = Nonces::System;
        assert_ne!(system.draw(), system.draw());
        let drawn = |seed| Nonces::seeded(seed).draw();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
