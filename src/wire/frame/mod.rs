//! The framed dialect: what a frame is. All frames stand in `table`, how fields are written in `field`, blocks of messages
//! in `messages`.
//!
//! A frame is `u32 length | u8 kind | body`, big endian. Decoding copies no payload and allocates nothing for frames
//! with messages; a length is checked before room is made for it. Payload slices keep the read buffer alive.

mod decode;
mod encode;
mod error;
mod field;
mod hand;
mod ledgers;
mod messages;
mod sources;
mod table;
mod tags;
mod whole;

use bytes::Bytes;

pub use self::encode::{acked, failure, ping, pong, put_ack, put_refused, records_of};
pub use self::error::FrameError;
pub use self::hand::{PutFields, StoreBuilder, put, store};
pub use self::ledgers::{Copies as CopiesWanted, Cursor, Founding, Held, HoldState, Member, Numbers, Roster};
pub use self::messages::{Messages, MessagesBuilder};
pub use self::sources::SourceCount;
pub use self::table::Frame;
pub use self::tags::{Tags, TagsBuilder};
use crate::limits::{BATCH_MESSAGES_MAX, FRAME_BYTES_MAX, REPLICAS_MAX, SOURCE_NAME_BYTES_MAX};

/// Bytes of the length prefix.
const PREFIX: usize = 4;

/// Bytes of a [`Frame::Put`] before its block, kind included: the most of the frames that carry one.
const PUT_FIELDS: usize =
    1 + 4 + 12 + 8 + 8 + 4 + 4 + 1 + 8 * REPLICAS_MAX + (2 + SOURCE_NAME_BYTES_MAX) + (1 + 8 * BATCH_MESSAGES_MAX) + 2;

/// Greatest block of messages, bytes: what is stored fits the frame it is put with.
pub const BLOCK_BYTES_MAX: usize = FRAME_BYTES_MAX - PUT_FIELDS;

/// First sequence number that does not exist: ten digits of text.
pub const SEQ_END: u64 = 1 << 60;

/// Under which sync setting something is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum SyncMode {
    /// Synced before the acknowledgement.
    Always = 0,
    /// Synced at an interval.
    Interval = 1,
    /// Left to the operating system.
    Never = 2,
}

/// The names of the copies in an [`Frame::Acked`]: at most [`REPLICAS_MAX`] texts, undecoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copies {
    count: u8,
    block: Bytes,
}

impl Copies {
    /// How many copies.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether no copy is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The ip of each copy's node.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.block.as_ref();
        (0..self.count).map_while(move |_| {
            let (len, tail) = rest.split_first_chunk::<2>()?;
            let (text, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = tail;
            std::str::from_utf8(text).ok()
        })
    }
}

/// What a data node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReport {
    /// Whether it takes messages.
    pub writable: bool,
    /// Records it keeps.
    pub records: u64,
    /// Bytes of its log.
    pub bytes: u64,
    /// Syncs of its files since it started.
    pub syncs: u64,
    /// Bytes it wrote to its disk since it started.
    pub written: u64,
    /// Bytes that may still be written to its disk, if the disk tells.
    pub free: Option<u64>,
    /// Why it is not writable, or empty.
    pub reason: String,
}

/// How a [`Frame::Token`] begins that is sent before what is there: who goes on with it wants that, too.
pub(crate) const TOKEN_OF_BEGINNING: u8 = b'+';

#[cfg(test)]
mod tests;
