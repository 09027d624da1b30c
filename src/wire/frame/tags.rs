//! The tags of a Put's records, as they stand in it: eight bytes each, in the order of its messages.

use bytes::{BufMut, Bytes, BytesMut};

use super::FrameError;
use super::field::{Fields, Result};
use crate::limits::BATCH_MESSAGES_MAX;
use crate::wire::record::Tag;

/// Bytes of a tag.
const TAG: usize = 8;

/// Tags, one for each message of a Put. They share the buffer that they were decoded from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tags(Bytes);

impl Tags {
    /// Those of a head without a key.
    #[must_use]
    pub const fn none() -> Self {
        Self(Bytes::new())
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len() / TAG
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// They, in the order of the messages.
    pub fn iter(&self) -> impl Iterator<Item = Tag> {
        self.0.as_chunks::<TAG>().0.iter().map(|bytes| Tag::from_bits(u64::from_be_bytes(*bytes)))
    }

    pub(super) fn put(&self, out: &mut BytesMut) -> Result {
        check(self.len())?;
        out.put_slice(&self.0);
        Ok(())
    }

    /// Takes so many.
    pub(super) fn take(fields: &mut Fields<'_>, count: usize) -> Result<Self> {
        check(count)?;
        let wanted = count * TAG;
        let short = FrameError::Short { kind: fields.kind, wanted, left: fields.rest.len() };
        let (tags, rest) = fields.rest.split_at_checked(wanted).ok_or(short)?;
        fields.rest = rest;
        if tags
            .as_chunks::<TAG>()
            .0
            .iter()
            .any(|bytes| Tag::from_bits(u64::from_be_bytes(*bytes)).bits().to_be_bytes() != *bytes)
        {
            return Err(FrameError::Tag);
        }
        Ok(Self(fields.shared.map_or_else(|| Bytes::copy_from_slice(tags), |shared| shared.slice_ref(tags))))
    }
}

/// A Put that has tags is one batch.
const fn check(count: usize) -> Result {
    if count > BATCH_MESSAGES_MAX { Err(FrameError::Entries { count, most: BATCH_MESSAGES_MAX }) } else { Ok(()) }
}

/// Batches whose tags share a buffer.
const BATCHES: usize = 32;

/// Puts tags together, those of several batches in one buffer.
#[derive(Debug, Default)]
pub struct TagsBuilder(BytesMut);

impl TagsBuilder {
    /// Those of this iterator.
    pub fn collect(&mut self, tags: impl Iterator<Item = Tag>) -> Tags {
        if self.0.capacity() < TAG * BATCH_MESSAGES_MAX {
            self.0.reserve(BATCHES * TAG * BATCH_MESSAGES_MAX);
        }
        tags.for_each(|tag| self.0.put_u64(tag.bits()));
        Tags(self.0.split().freeze())
    }
}
