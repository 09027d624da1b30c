//! What all frames have: a length in front, a kind, and bounds.

use bytes::{BufMut, BytesMut};

use super::field::Result;
use super::table::kind;
use super::{FrameError, PREFIX};
use crate::limits::{FRAME_BYTES_MAX, LINES_FRAME_BYTES_MAX};

/// Writes a frame of this kind: the body, then its length into the prefix; on an error the buffer is as before.
pub(super) fn frame(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut) -> Result) -> Result {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    let result = body(out).and_then(|()| patch_length(out, start, bytes_max(kind)));
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn patch_length(out: &mut BytesMut, start: usize, bytes_max: usize) -> Result {
    let length = out.len().saturating_sub(start + PREFIX);
    if length == 0 || length > bytes_max {
        return Err(FrameError::Length(length));
    }
    patch(out, start, &(length as u32).to_be_bytes());
    Ok(())
}

pub(super) fn patch(out: &mut BytesMut, at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Lines are whole.
pub(super) fn check_lines(kind: u8, lines: &[u8]) -> Result {
    if matches!(lines.last(), None | Some(b'\n')) { Ok(()) } else { Err(FrameError::Lines { kind }) }
}

/// Whether frames of this kind end in lines of `data.txt`.
pub(super) const fn has_lines(kind: u8) -> bool {
    matches!(kind, kind::RECORDS | kind::PAGE | kind::FETCHED | kind::PUSHED)
}

/// Greatest frame of this kind: those that carry lines have to hold the longest one.
pub(super) const fn bytes_max(kind: u8) -> usize {
    if has_lines(kind) { LINES_FRAME_BYTES_MAX } else { FRAME_BYTES_MAX }
}
