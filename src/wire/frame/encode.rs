//! The encoder: appends a frame to a buffer, or refuses and leaves the buffer as it was.
//!
//! [`Frame::encode`] serves every kind; the functions are for those whose parts need not be made into a [`Frame`] first.

use bytes::{BufMut, BytesMut};

use super::field::{Field, Result, check_id, check_seqs, put_text};
use super::hand::{self, PutFields};
use super::table::kind;
use super::whole::{check_lines, frame, patch};
use super::{Frame, FrameError, PREFIX, SyncMode};
use crate::limits::REPLICAS_MAX;
use crate::wire::error::{Code, Refusal};
use crate::wire::id::RecordId;

/// Bytes of an id.
const ID_BYTES: usize = 8 + 4;

impl Frame {
    /// Appends this frame.
    ///
    /// # Errors
    /// Whatever [`decode`](Self::decode) would refuse; the buffer is then as before. Texts are cut to their bound instead.
    pub fn encode(&self, out: &mut BytesMut) -> Result {
        self.check()?;
        match self {
            Self::Store { source, first_seq, messages } => hand::store(out, source.as_ref(), *first_seq, messages),
            Self::Put { first, client, first_seq, place, members, source, tags, messages } => {
                let (first, client, first_seq, place) = (*first, *client, *first_seq, *place);
                hand::put(
                    out,
                    PutFields { first, client, first_seq, place, members, source: source.as_ref(), tags },
                    messages,
                )
            }
            Self::StatusQuery { clients, ledgers } => {
                frame(out, self.kind(), |out| hand::put_status_query(out, *clients, *ledgers))
            }
            _ => frame(out, self.kind(), |out| self.put_fields(out)),
        }
    }

    /// Appends a frame in which nothing can be refused: numbers, and texts that are cut.
    fn append(&self, out: &mut BytesMut) {
        let appended = self.encode(out);
        debug_assert_eq!(appended, Ok(()), "{self:?}");
    }
}

/// An Acked of `count` messages whose copies are at these ips.
///
/// # Errors
/// A range, an id, or the copies out of bounds.
pub fn acked<'a>(
    out: &mut BytesMut,
    first_seq: u64,
    count: u32,
    first: RecordId,
    sync: SyncMode,
    ips: impl IntoIterator<Item = &'a str>,
) -> Result {
    frame(out, kind::ACKED, |out| {
        check_seqs(first_seq, u64::from(count))?;
        first_seq.put(out)?;
        count.put(out)?;
        first.put(out)?;
        sync.put(out)?;
        let at = out.len();
        out.put_u8(0);
        let mut copies = 0_u8;
        for ip in ips {
            copies = copies.saturating_add(1);
            if usize::from(copies) > REPLICAS_MAX {
                return Err(FrameError::Copies(copies));
            }
            put_text(out, ip)?;
        }
        patch(out, at, &[copies]);
        Ok(())
    })
}

/// A Failure. A text beyond its bound is cut.
pub fn failure(out: &mut BytesMut, refusal: &Refusal) {
    Frame::Failure(refusal.clone()).append(out);
}

/// A PutAck.
pub fn put_ack(out: &mut BytesMut, up_to: u64, sync: SyncMode) {
    Frame::PutAck { up_to, sync }.append(out);
}

/// A PutRefused. A text beyond its bound is cut.
pub fn put_refused(out: &mut BytesMut, number: u64, code: Code, why: &str) {
    Frame::PutRefused { number, code, why: why.to_owned() }.append(out);
}

/// A Ping.
pub fn ping(out: &mut BytesMut, n: u64) {
    Frame::Ping(n).append(out);
}

/// A Pong.
pub fn pong(out: &mut BytesMut, n: u64) {
    Frame::Pong(n).append(out);
}

/// A Records of the lines that `take` appends, which says up to where they are complete. False, and nothing is written, if
/// it appends none, unless an `empty` one is wanted.
///
/// # Errors
/// An id out of bounds, lines that do not end in a newline or are too many.
pub fn records_of(out: &mut BytesMut, empty: bool, take: impl FnOnce(&mut BytesMut) -> RecordId) -> Result<bool> {
    let start = out.len();
    frame(out, kind::RECORDS, |out| {
        let at = out.len();
        RecordId::ZERO.put(out)?;
        let next = take(out);
        check_id(&next)?;
        patch(out, at, &next.time_ns.to_be_bytes());
        patch(out, at + 8, &next.incarnation.to_be_bytes());
        check_lines(kind::RECORDS, out.get(at + ID_BYTES..).unwrap_or_default())
    })?;
    let lines = out.len().saturating_sub(start + PREFIX + 1 + ID_BYTES);
    if lines == 0 && !empty {
        out.truncate(start);
        return Ok(false);
    }
    Ok(true)
}
