//! Codes and refusals: what an error looks like between processes. Decoding errors live beside their decoders.

use std::fmt;

use thiserror::Error;

/// Why something was refused; the number that travels in frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Code {
    /// The peer broke the protocol.
    Protocol = 1,
    /// A message, line or frame above its bound.
    TooLong = 2,
    /// As many clients as the head takes are connected.
    Full = 3,
    /// No data node is registered.
    NoNodes = 4,
    /// The node's disk is full.
    DiskFull = 5,
    /// The node's storage failed; it is poisoned.
    Storage = 6,
    /// A node of this name is registered.
    NameTaken = 7,
    /// A node of this id is registered.
    IdTaken = 8,
    /// The peer took too long.
    Timeout = 9,
    /// The peer is shutting down.
    Stopping = 10,
    /// The peer speaks another version.
    Version = 11,
    /// The head cannot write its registro for now.
    Registro = 12,
    /// The peer does not take connections of this role.
    Role = 13,
    /// The peer has no room for now.
    Busy = 14,
    /// The ledger is over at this node.
    LedgerOver = 15,
    /// The node knows a ledger of this name already: two heads drew the same incarnation.
    LedgerKnown = 16,
    /// The peer did not prove that it has the cluster's key.
    Unproven = 17,
    /// The peer has no token for what it wants, where the head asks for tokens.
    Denied = 18,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 18] = [
        Self::Protocol,
        Self::TooLong,
        Self::Full,
        Self::NoNodes,
        Self::DiskFull,
        Self::Storage,
        Self::NameTaken,
        Self::IdTaken,
        Self::Timeout,
        Self::Stopping,
        Self::Version,
        Self::Registro,
        Self::Role,
        Self::Busy,
        Self::LedgerOver,
        Self::LedgerKnown,
        Self::Unproven,
        Self::Denied,
    ];

    /// The word for it, as metrics have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::TooLong => "too_long",
            Self::Full => "full",
            Self::NoNodes => "no_nodes",
            Self::DiskFull => "disk_full",
            Self::Storage => "storage",
            Self::NameTaken => "name_taken",
            Self::IdTaken => "id_taken",
            Self::Timeout => "timeout",
            Self::Stopping => "stopping",
            Self::Version => "version",
            Self::Registro => "registro",
            Self::Role => "role",
            Self::Busy => "busy",
            Self::LedgerOver => "ledger_over",
            Self::LedgerKnown => "ledger_known",
            Self::Unproven => "unproven",
            Self::Denied => "denied",
        }
    }

    /// Whether the same request may succeed later or at another head.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Full
            | Self::NoNodes
            | Self::DiskFull
            | Self::Storage
            | Self::NameTaken
            | Self::IdTaken
            | Self::Timeout
            | Self::Stopping
            | Self::Registro
            | Self::Busy
            | Self::LedgerOver
            | Self::LedgerKnown => true,
            Self::Protocol | Self::TooLong | Self::Version | Self::Role | Self::Unproven | Self::Denied => false,
        }
    }
}

impl From<Code> for u16 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

/// A number that is no code of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{0} is no error code of acopio/2; use the same version on both sides")]
pub struct UnknownCode(pub u16);

impl TryFrom<u16> for Code {
    type Error = UnknownCode;

    fn try_from(number: u16) -> Result<Self, UnknownCode> {
        Self::ALL.into_iter().find(|&code| u16::from(code) == number).ok_or(UnknownCode(number))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A refusal: its code, its text ("cause; remedy") and whether to try again.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{text}")]
pub struct Refusal {
    /// The kind of refusal.
    pub code: Code,
    /// Cause and remedy, at most [`TEXT_BYTES_MAX`](crate::limits::TEXT_BYTES_MAX) bytes on the wire.
    pub text: String,
    /// Whether the same request may succeed later or at another head.
    pub retry: bool,
}

impl Refusal {
    /// A refusal whose `retry` follows from its code.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), retry: code.is_retryable() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_others_are_refused() {
        for (i, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(u16::from(code)), i + 1);
            assert_eq!(Code::try_from(u16::from(code)), Ok(code));
        }
        assert_eq!(Code::try_from(0), Err(UnknownCode(0)));
        assert_eq!(Code::try_from(19), Err(UnknownCode(19)));
    }

    #[test]
    fn what_may_pass_later_is_retryable() {
        assert!(Refusal::new(Code::NoNodes, "x").retry);
        assert!(!Refusal::new(Code::TooLong, "x").retry);
    }
}
