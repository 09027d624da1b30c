//! Why bytes are no frame, or a frame cannot be written.

use thiserror::Error;

use super::super::error::{Code, Refusal, UnknownCode};
use super::super::source::{Flaw, RULE};
use super::{BLOCK_BYTES_MAX, SEQ_END};
use crate::limits::{
    FRAME_BYTES_MAX, FRAME_MESSAGES_MAX, MESSAGE_BYTES_MAX, REPLICAS_MAX, STATUS_BYTES_MAX, TEXT_BYTES_MAX,
};

/// Why bytes are no frame of acopio/2; encoders give the same errors for what the decoder would refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// A length outside the bounds.
    #[error("a frame says it is {0} bytes long; a frame has 1 to {FRAME_BYTES_MAX}, so send smaller ones")]
    Length(usize),
    /// An unknown kind.
    #[error("a frame is of kind {0:#04x}, which acopio/2 does not have; use the same version on both sides")]
    Kind(u8),
    /// A body that ends within a field.
    #[error("a frame of kind {kind:#04x} ends early, {wanted} bytes wanted and {left} left; send its whole body")]
    Short {
        /// The frame's kind.
        kind: u8,
        /// Bytes of the field.
        wanted: usize,
        /// Bytes there are.
        left: usize,
    },
    /// Bytes after the last field.
    #[error("a frame of kind {kind:#04x} has {left} bytes too many; leave them out")]
    Trailing {
        /// The frame's kind.
        kind: u8,
        /// Bytes left over.
        left: usize,
    },
    /// A count outside the bounds.
    #[error("a frame says it holds {0} messages; a frame holds 1 to {FRAME_MESSAGES_MAX}, so send several")]
    Count(usize),
    /// A range of no messages.
    #[error("a range says it covers 0 messages; it covers at least 1")]
    Empty,
    /// A message that is too long.
    #[error("a message is {0} bytes long; at most {MESSAGE_BYTES_MAX} are taken, so send it in parts")]
    MessageLong(usize),
    /// A block of messages that is too long.
    #[error("a block of messages is {0} bytes long; at most {BLOCK_BYTES_MAX} are taken, so send several frames")]
    BlockLong(usize),
    /// A block that ends within a message.
    #[error("a frame says it holds {count} messages but ends within number {at}; make count and lengths agree")]
    BlockShort {
        /// The count the frame gives.
        count: usize,
        /// The message that is not whole, from 1.
        at: usize,
    },
    /// Bytes after the last message.
    #[error("a frame has {left} bytes after its {count} messages; make count and lengths agree")]
    BlockTrailing {
        /// The count the frame gives.
        count: usize,
        /// Bytes left over.
        left: usize,
    },
    /// A text that is too long.
    #[error("a text is {0} bytes long; at most {TEXT_BYTES_MAX} are taken, so shorten it")]
    TextLong(usize),
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8 from byte {0} on; send UTF-8")]
    Utf8(usize),
    /// A text that is no name of a source.
    #[error("what stands for a source's name is none: {0}; {RULE}")]
    Source(Flaw),
    /// Unknown flags, or a truth value that is neither 0 nor 1.
    #[error("a flags byte is {0:#04x}; only bit 0 is defined, so leave the others 0")]
    Flags(u8),
    /// Lines that do not end in a newline.
    #[error("a frame of kind {kind:#04x} does not end in a whole line; send whole lines of data.txt")]
    Lines {
        /// The frame's kind.
        kind: u8,
    },
    /// A list that is too long.
    #[error("a list has {count} entries; at most {most} are taken")]
    Entries {
        /// Entries there are.
        count: usize,
        /// Entries there may be.
        most: usize,
    },
    /// No name of a ledger.
    #[error("incarnation {0} and number {1} name no ledger; keep both below 2^30")]
    Ledger(u32, u32),
    /// No range of numbers.
    #[error("{0} to {1} is no range of numbers; keep them in order and at most 2^30")]
    Range(u32, u32),
    /// A tag with more bits than tags have.
    #[error("a tag of a Put has more than 60 bits")]
    Tag,
    /// Messages that were changed on their way.
    #[error("the checksum of a Put is {stored:08x} and its bytes give {computed:08x}: they were changed on the way")]
    Checksum {
        /// What it says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// An unknown sync setting.
    #[error("a sync byte is {0}; it is 0 (always), 1 (interval) or 2 (never)")]
    Sync(u8),
    /// An unknown holder of a key.
    #[error("the holder byte of a Knock is {0}; it is 0 (a dataNode's key) or 1 (the cluster's key)")]
    Holder(u8),
    /// Too many copies.
    #[error("{0} copies are named; at most {REPLICAS_MAX} are")]
    Copies(u8),
    /// An unknown code.
    #[error(transparent)]
    Code(UnknownCode),
    /// A client or node id that is too great.
    #[error("{0} is no client or node id; draw one below 2^60")]
    Identity(u64),
    /// A record id out of bounds.
    #[error("time {time_ns} and incarnation {incarnation} are no record id; keep them below 10^19 and 2^30")]
    Id {
        /// The time.
        time_ns: u64,
        /// The incarnation.
        incarnation: u32,
    },
    /// Sequence numbers out of bounds.
    #[error("{count} messages from sequence number {first} on pass {SEQ_END}; connect with a new client id")]
    Sequence {
        /// First sequence number.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A status report that is too long.
    #[error("a status report is {0} bytes long; at most {STATUS_BYTES_MAX} are taken")]
    StatusLong(usize),
}

impl FrameError {
    /// What to tell the peer before closing.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal::new(self.code(), self.to_string())
    }

    /// The code to send to the peer.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Length(length) if *length > 0 => Code::TooLong,
            Self::MessageLong(_) | Self::BlockLong(_) | Self::TextLong(_) | Self::StatusLong(_) => Code::TooLong,
            _ => Code::Protocol,
        }
    }
}
