//! How the types of frames' fields stand on the wire: each is written and read in one place.
//!
//! What is written is checked as what is read, so that no encoder writes what a decoder refuses. Big endian throughout.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Copies, FrameError, Messages, NodeReport, SEQ_END, SyncMode};
use crate::limits::{FILTER_NAMES_MAX, REPLICAS_MAX, TEXT_BYTES_MAX};
use crate::wire::error::{Code, Refusal};
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{Incarnation, LedgerId, NUMBER_END, NodeId};
use crate::wire::proof::{Holder, KeyHint, Knock, Nonce, Proof};
use crate::wire::said::Who;
use crate::wire::source::SourceName;

pub(super) type Result<T = (), E = FrameError> = std::result::Result<T, E>;

/// Stands for no identity, and for a number that nobody knows.
const NOBODY: u64 = u64::MAX;

/// A value as it stands in a frame.
pub(super) trait Field: Sized {
    /// Appends it.
    fn put(&self, out: &mut BytesMut) -> Result;

    /// Takes it off the front of what is left of a body.
    fn take(fields: &mut Fields<'_>) -> Result<Self>;
}

/// What is left of a frame's body.
pub(super) struct Fields<'a> {
    /// The frame's kind.
    pub(super) kind: u8,
    /// What is left.
    pub(super) rest: &'a [u8],
    /// What it is a part of, for frames that keep a part of the buffer.
    pub(super) shared: Option<&'a Bytes>,
}

impl<'a> Fields<'a> {
    pub(super) fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let short = FrameError::Short { kind: self.kind, wanted: N, left: self.rest.len() };
        let (chunk, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*chunk)
    }

    /// A text, not copied.
    pub(super) fn text(&mut self) -> Result<&'a str> {
        let len = usize::from(u16::take(self)?);
        if len > TEXT_BYTES_MAX {
            return Err(FrameError::TextLong(len));
        }
        let short = FrameError::Short { kind: self.kind, wanted: len, left: self.rest.len() };
        let (text, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|error| FrameError::Utf8(error.valid_up_to()))
    }

    /// So many values of one type.
    pub(super) fn list<T: Field>(&mut self, count: usize, most: usize) -> Result<Vec<T>> {
        check_count(count, most)?;
        (0..count).map(|_| T::take(self)).collect()
    }

    /// Values of one type up to the end of the frame.
    pub(super) fn list_to_end<T: Field>(&mut self, most: usize) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while !self.rest.is_empty() {
            check_count(all.len() + 1, most)?;
            all.push(T::take(self)?);
        }
        Ok(all)
    }

    pub(super) fn end(&self) -> Result {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(FrameError::Trailing { kind: self.kind, left }),
        }
    }
}

/// Writes and reads a struct field by field.
macro_rules! sequence {
    ($name:ident { $($field:ident),* } $(, $check:path)?) => {
        impl Field for $name {
            fn put(&self, out: &mut BytesMut) -> Result {
                $($check(self)?;)?
                $(self.$field.put(out)?;)*
                Ok(())
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self> {
                let taken = Self { $($field: Field::take(fields)?),* };
                $($check(&taken)?;)?
                Ok(taken)
            }
        }
    };
}

/// Writes and reads a list: counted in so many bytes, or up to the end of the frame.
macro_rules! list {
    ($type:ty, $most:ident, to the end) => {
        impl Field for Vec<$type> {
            fn put(&self, out: &mut BytesMut) -> Result {
                check_count(self.len(), $most)?;
                self.iter().try_for_each(|each| each.put(out))
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self> {
                fields.list_to_end($most)
            }
        }
    };
    ($type:ty, $most:ident, counted in $count:ty) => {
        impl Field for Vec<$type> {
            fn put(&self, out: &mut BytesMut) -> Result {
                check_count(self.len(), $most)?;
                (self.len() as $count).put(out)?;
                self.iter().try_for_each(|each| each.put(out))
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self> {
                let count = <$count>::take(fields)?;
                fields.list(count.into(), $most)
            }
        }
    };
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn put(&self, out: &mut BytesMut) -> Result {
                out.put_slice(&self.to_be_bytes());
                Ok(())
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self> {
                fields.chunk().map(Self::from_be_bytes)
            }
        }
    )*};
}

/// A choice in a byte: the value of each.
macro_rules! choice {
    ($name:ident { $($value:ident),* }, $error:path) => {
        impl Field for $name {
            fn put(&self, out: &mut BytesMut) -> Result {
                (*self as u8).put(out)
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self> {
                match u8::take(fields)? {
                    $(byte if byte == Self::$value as u8 => Ok(Self::$value),)*
                    other => Err($error(other)),
                }
            }
        }
    };
}

pub(super) use {choice, list, sequence};

/// So many bytes, as they are.
macro_rules! bytes {
    ($($name:ident),*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut BytesMut) -> Result {
                out.put_slice(&self.0);
                Ok(())
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self> {
                fields.chunk().map(Self)
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64);
bytes!(KeyHint, Nonce, Proof);
choice!(Holder { Node, Cluster }, FrameError::Holder);
sequence!(Knock { holder, hint, nonce });
list!(NodeId, REPLICAS_MAX, counted in u8);
choice!(SyncMode { Always, Interval, Never }, FrameError::Sync);
sequence!(NodeReport { writable, records, bytes, syncs, written, free, reason });
sequence!(Refusal { code, retry, text });
sequence!(RecordId { time_ns, incarnation }, check_id);
sequence!(LedgerId { incarnation, number }, check_ledger);

impl Field for bool {
    fn put(&self, out: &mut BytesMut) -> Result {
        u8::from(*self).put(out)
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        match u8::take(fields)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(FrameError::Flags(other)),
        }
    }
}

/// A text beyond its bound is cut at a character: an explanation is better short than missing, and no name is as long.
impl Field for String {
    fn put(&self, out: &mut BytesMut) -> Result {
        let end = self.floor_char_boundary(TEXT_BYTES_MAX);
        put_text(out, self.get(..end).unwrap_or_default())
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        fields.text().map(str::to_owned)
    }
}

/// What is left of the frame.
impl Field for Bytes {
    fn put(&self, out: &mut BytesMut) -> Result {
        out.put_slice(self);
        Ok(())
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        let rest = std::mem::take(&mut fields.rest);
        Ok(fields.shared.map_or_else(|| Self::copy_from_slice(rest), |shared| shared.slice_ref(rest)))
    }
}

impl Field for Code {
    fn put(&self, out: &mut BytesMut) -> Result {
        u16::from(*self).put(out)
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        u16::take(fields)?.try_into().map_err(FrameError::Code)
    }
}

impl Field for Incarnation {
    fn put(&self, out: &mut BytesMut) -> Result {
        self.0.put(out)
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        u32::take(fields).map(Self)
    }
}

/// An identity, and one that may be missing.
macro_rules! identities {
    ($($name:ident),*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut BytesMut) -> Result {
                check_identity(self.0, self.is_valid())?;
                self.0.put(out)
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self> {
                let taken = Self(u64::take(fields)?);
                check_identity(taken.0, taken.is_valid()).map(|()| taken)
            }
        }

        impl Field for Option<$name> {
            fn put(&self, out: &mut BytesMut) -> Result {
                let Some(identity) = self else { return NOBODY.put(out) };
                identity.put(out)
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self> {
                if fields.rest.starts_with(&NOBODY.to_be_bytes()) {
                    return u64::take(fields).map(|_| None);
                }
                $name::take(fields).map(Some)
            }
        }
    )*};
}

identities!(ClientId, NodeId);

/// A number that may not be known.
impl Field for Option<u64> {
    fn put(&self, out: &mut BytesMut) -> Result {
        self.unwrap_or(NOBODY).put(out)
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        u64::take(fields).map(|number| (number != NOBODY).then_some(number))
    }
}

impl Field for SourceName {
    fn put(&self, out: &mut BytesMut) -> Result {
        put_text(out, self.as_str())
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        Self::from_bytes(fields.text()?.as_bytes()).map_err(FrameError::Source)
    }
}

/// An empty text stands for none.
impl Field for Option<SourceName> {
    fn put(&self, out: &mut BytesMut) -> Result {
        put_text(out, self.as_ref().map_or("", SourceName::as_str))
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        if fields.rest.starts_with(&[0; 2]) {
            return u16::take(fields).map(|_| None);
        }
        SourceName::take(fields).map(Some)
    }
}

/// How many names, none for everything, and the names.
impl Field for SourceFilter {
    fn put(&self, out: &mut BytesMut) -> Result {
        (self.iter().len() as u16).put(out)?;
        self.iter().try_for_each(|who| put_text(out, &who.to_string()))
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        let count = usize::from(u16::take(fields)?);
        check_count(count, FILTER_NAMES_MAX)?;
        let mut names = Vec::new();
        for _ in 0..count {
            let name = fields.text()?;
            names.push(Who::from_bytes(name.as_bytes()).map_err(|error| FrameError::Source(error.flaw))?);
        }
        Self::new(names).map_err(|_| FrameError::Entries { count, most: FILTER_NAMES_MAX })
    }
}

/// A range of entries, which may be empty.
impl Field for Range<u32> {
    fn put(&self, out: &mut BytesMut) -> Result {
        check_span(self.start, self.end)?;
        self.start.put(out)?;
        self.end.put(out)
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        let (start, end) = (u32::take(fields)?, u32::take(fields)?);
        check_span(start, end).map(|()| start..end)
    }
}

impl Field for Messages {
    fn put(&self, out: &mut BytesMut) -> Result {
        if self.is_empty() {
            return Err(FrameError::Count(0));
        }
        self.count().put(out)?;
        out.put_slice(self.block());
        Ok(())
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        Self::new(u16::take(fields)?, Bytes::take(fields)?)
    }
}

impl Field for Copies {
    fn put(&self, out: &mut BytesMut) -> Result {
        self.count.put(out)?;
        self.block.put(out)
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        let count = u8::take(fields)?;
        if usize::from(count) > REPLICAS_MAX {
            return Err(FrameError::Copies(count));
        }
        let block = fields.rest;
        for _ in 0..count {
            fields.text()?;
        }
        fields.end()?;
        fields.rest = block;
        Ok(Self { count, block: Bytes::take(fields)? })
    }
}

/// A text that is not cut.
pub(super) fn put_text(out: &mut BytesMut, text: &str) -> Result {
    if text.len() > TEXT_BYTES_MAX {
        return Err(FrameError::TextLong(text.len()));
    }
    (text.len() as u16).put(out)?;
    out.put_slice(text.as_bytes());
    Ok(())
}

pub(super) fn check_seqs(first: u64, count: u64) -> Result {
    if count == 0 {
        return Err(FrameError::Empty);
    }
    match first.checked_add(count) {
        Some(end) if end <= SEQ_END => Ok(()),
        _ => Err(FrameError::Sequence { first, count }),
    }
}

pub(super) fn check_id(id: &RecordId) -> Result {
    if id.is_valid() { Ok(()) } else { Err(FrameError::Id { time_ns: id.time_ns, incarnation: id.incarnation }) }
}

fn check_identity(identity: u64, valid: bool) -> Result {
    if valid { Ok(()) } else { Err(FrameError::Identity(identity)) }
}

fn check_ledger(ledger: &LedgerId) -> Result {
    if ledger.is_valid() { Ok(()) } else { Err(FrameError::Ledger(ledger.incarnation.0, ledger.number)) }
}

pub(super) fn check_span(from: u32, end: u32) -> Result {
    if from <= end && end <= NUMBER_END { Ok(()) } else { Err(FrameError::Range(from, end)) }
}

pub(super) fn check_count(count: usize, most: usize) -> Result {
    if count <= most { Ok(()) } else { Err(FrameError::Entries { count, most }) }
}
