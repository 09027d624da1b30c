//! What travels when a peer and a head prove to each other that they have the cluster's key: numbers and names, no secrets.
//!
//! How a proof is made and checked is the business of `key`.

/// Drawn anew for each connection, by each side: so nothing that was said before proves anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonce(pub [u8; 32]);

/// That who sends it has a key: an HMAC-SHA256 under it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proof(pub [u8; 32]);

/// Which key somebody has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Holder {
    /// The one of the data node whose name it says.
    Node = 0,
    /// The cluster's.
    Cluster = 1,
}

/// What a peer says before a frame that needs a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Knock {
    /// Which key it has.
    pub holder: Holder,
    /// Which of several keys, where a head has more than one while they are changed.
    pub hint: KeyHint,
    /// Its nonce.
    pub nonce: Nonce,
}

/// Tells one key from another, and nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyHint(pub [u8; 8]);
