//! Blocks of messages: `count` times a `u32` length and so many bytes, validated once, never copied.

use bytes::{BufMut, Bytes, BytesMut};

use super::{BLOCK_BYTES_MAX, FrameError};
use crate::limits::{FRAME_MESSAGES_MAX, MESSAGE_BYTES_MAX};

/// Bytes of a message's length.
const LENGTH: usize = 4;

/// A validated block of messages. It shares the buffer it was decoded from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Messages {
    count: u16,
    block: Bytes,
}

impl Messages {
    /// Validates a block in one walk.
    ///
    /// # Errors
    /// A count outside 1 to [`FRAME_MESSAGES_MAX`], a message above [`MESSAGE_BYTES_MAX`], or lengths that do not add
    /// up to the block.
    pub fn new(count: u16, block: Bytes) -> Result<Self, FrameError> {
        let total = usize::from(count);
        if count == 0 || total > FRAME_MESSAGES_MAX {
            return Err(FrameError::Count(total));
        }
        if block.len() > BLOCK_BYTES_MAX {
            return Err(FrameError::BlockLong(block.len()));
        }
        let mut rest = block.as_ref();
        for at in 1..=total {
            let short = FrameError::BlockShort { count: total, at };
            let (length, tail) = rest.split_first_chunk::<LENGTH>().ok_or(short)?;
            let length = u32::from_be_bytes(*length) as usize;
            if length > MESSAGE_BYTES_MAX {
                return Err(FrameError::MessageLong(length));
            }
            rest = tail.get(length..).ok_or(short)?;
        }
        match rest.len() {
            0 => Ok(Self { count, block }),
            left => Err(FrameError::BlockTrailing { count: total, left }),
        }
    }

    /// How many messages.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// The same messages in memory of their own, so that the buffer they came in can go.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { count: self.count, block: Bytes::copy_from_slice(&self.block) }
    }

    /// Whether all were split off.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all payloads together.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.block.len().saturating_sub(usize::from(self.count) * LENGTH)
    }

    /// The block as it stands in a frame.
    #[must_use]
    pub const fn block(&self) -> &Bytes {
        &self.block
    }

    /// The payloads.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.block }
    }

    /// The payloads as shared slices.
    pub fn iter_bytes(&self) -> impl Iterator<Item = Bytes> {
        self.iter().map(|payload| self.block.slice_ref(payload))
    }

    /// Cuts off the front at most `messages` messages of together at most `bytes` payload bytes, but at least one
    /// message; `None` if none is left or `messages` is 0.
    pub fn split_to(&mut self, messages: usize, bytes: usize) -> Option<Self> {
        let (mut count, mut total, mut end) = (0_u16, 0, 0);
        for payload in self.iter().take(messages) {
            total += payload.len();
            if count > 0 && total > bytes {
                break;
            }
            count += 1;
            end += LENGTH + payload.len();
        }
        if count == 0 {
            return None;
        }
        self.count -= count;
        Some(Self { count, block: self.block.split_to(end) })
    }
}

impl<'a> IntoIterator for &'a Messages {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The payloads of a block.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, tail) = self.rest.split_first_chunk::<LENGTH>()?;
        let (payload, rest) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.rest = rest;
        Some(payload)
    }
}

/// Appends one message given in parts to a block that has `count` messages and `used` bytes.
pub(super) fn push(out: &mut BytesMut, count: usize, used: usize, parts: &[&[u8]]) -> Result<(), FrameError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > MESSAGE_BYTES_MAX {
        return Err(FrameError::MessageLong(length));
    }
    if count >= FRAME_MESSAGES_MAX {
        return Err(FrameError::Count(count + 1));
    }
    if used + LENGTH + length > BLOCK_BYTES_MAX {
        return Err(FrameError::BlockLong(used + LENGTH + length));
    }
    out.reserve(LENGTH + length);
    out.put_u32(length as u32);
    for part in parts {
        out.put_slice(part);
    }
    Ok(())
}

/// Builds blocks one message at a time, for messages that come as text. Its buffer is used again.
#[derive(Debug, Default)]
pub struct MessagesBuilder {
    count: u16,
    block: BytesMut,
}

impl MessagesBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Messages so far.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Payload bytes so far.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.block.len().saturating_sub(usize::from(self.count) * LENGTH)
    }

    /// Appends one message, its bytes given in parts (a prefix and a line, say).
    ///
    /// # Errors
    /// A message above its bound, or a block that is full; nothing is appended then.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), FrameError> {
        let used = self.block.len();
        push(&mut self.block, usize::from(self.count), used, parts)?;
        self.count += 1;
        Ok(())
    }

    /// Takes what was built; `None` if that is nothing.
    pub fn take(&mut self) -> Option<Messages> {
        let count = std::mem::take(&mut self.count);
        (count > 0).then(|| Messages { count, block: self.block.split().freeze() })
    }
}
