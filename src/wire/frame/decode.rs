//! The decoder of the framed dialect: bytes become frames, or one named error.
//!
//! It copies no payload and reserves room only for lengths within the bound of the frame's kind.

use bytes::{Buf, BytesMut};

use super::field::{Fields, Result, check_seqs, check_span};
use super::table::kind;
use super::whole::{bytes_max, check_lines, has_lines};
use super::{Frame, FrameError, PREFIX, hand};
use crate::limits::{LINES_FRAME_BYTES_MAX, STATUS_BYTES_MAX, TOKEN_BYTES_MAX};

impl Frame {
    /// The kind of the frame that begins here, if it is one that no client says, or that `may_store` forbids. One of an
    /// unknown kind is for [`decode`](Self::decode) to refuse.
    #[must_use]
    pub fn not_from_client(buffer: &[u8], may_store: bool) -> Option<u8> {
        let kind = *buffer.get(PREFIX)?;
        let fits = match kind {
            kind::STORE | kind::STORE_AS => may_store,
            kind::HELLO
            | kind::STATUS_QUERY
            | kind::PING
            | kind::PONG
            | kind::READ
            | kind::DRAIN
            | kind::COPIES
            | kind::DEVICES_QUERY
            | kind::KNOCK
            | kind::PROOF => true,
            _ => !kind::is_known(kind),
        };
        (!fits).then_some(kind)
    }

    /// Takes the next whole frame off `buffer`; `None` if it has not all arrived (room for the rest is then reserved).
    ///
    /// # Errors
    /// When the bytes are no frame of acopio/2. The stream cannot go on; what is left in `buffer` means nothing.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>> {
        let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length == 0 || length > LINES_FRAME_BYTES_MAX {
            return Err(FrameError::Length(length));
        }
        let Some(&kind) = buffer.get(PREFIX) else {
            return Ok(None);
        };
        if !kind::is_known(kind) {
            return Err(FrameError::Kind(kind));
        }
        if length > bytes_max(kind) {
            return Err(FrameError::Length(length));
        }
        let missing = (PREFIX + length).saturating_sub(buffer.len());
        if missing > 0 {
            buffer.reserve(missing);
            return Ok(None);
        }
        buffer.advance(PREFIX + 1);
        if keeps_buffer(kind) {
            let body = buffer.split_to(length - 1).freeze();
            return Self::of_body(&mut Fields { kind, rest: &body, shared: Some(&body) }).map(Some);
        }
        let rest = buffer.get(..length - 1).unwrap_or_default();
        let frame = Self::of_body(&mut Fields { kind, rest, shared: None })?;
        buffer.advance(length - 1);
        Ok(Some(frame))
    }

    fn of_body(fields: &mut Fields<'_>) -> Result<Self> {
        let frame = match fields.kind {
            kind::STORE => hand::take_store(None, fields),
            kind::STORE_AS => hand::take_store_as(fields),
            kind::PUT => hand::take_put(fields),
            kind::STATUS_QUERY => hand::take_status_query(fields),
            _ => Self::take_fields(fields),
        }?;
        fields.end()?;
        frame.check()?;
        Ok(frame)
    }

    /// The bounds that a field's type does not have by itself, for both directions.
    pub(super) fn check(&self) -> Result {
        match self {
            Self::Store { first_seq, messages, .. } | Self::Put { first_seq, messages, .. } => {
                check_seqs(*first_seq, messages.count().into())
            }
            Self::Acked { first_seq, count, .. } | Self::Refused { first_seq, count, .. } => {
                check_seqs(*first_seq, u64::from(*count))
            }
            Self::Close { end, .. } => check_span(0, *end),
            Self::StatusReport(json) if json.len() > STATUS_BYTES_MAX => Err(FrameError::StatusLong(json.len())),
            Self::Token(token) | Self::Read { token, .. } if token.len() > TOKEN_BYTES_MAX => {
                Err(FrameError::Entries { count: token.len(), most: TOKEN_BYTES_MAX })
            }
            Self::Records { lines, .. }
            | Self::Page { lines, .. }
            | Self::Fetched { lines, .. }
            | Self::Pushed { lines, .. } => check_lines(self.kind(), lines),
            _ => Ok(()),
        }
    }
}

/// Whether frames of this kind keep a part of the buffer; others are small, and are copied out of it.
const fn keeps_buffer(kind: u8) -> bool {
    matches!(kind, kind::STORE | kind::STORE_AS | kind::PUT | kind::ACKED | kind::STATUS_REPORT) || has_lines(kind)
}
