//! The form of a message that is kept: `zmq 14,2 calc.request.1 12`.
//!
//! The word `zmq`, the lengths of the frames in bytes with commas between them, and the frames as they are, each with a
//! space in front. So whatever bytes are in them, the frames come back whole, and text stays text: the lines of `data.txt`
//! and of `acopio read` are read by people and found by `grep`. Pure.

use bytes::{BufMut, Bytes};

use crate::wire::source::SourceName;

/// The word a kept message begins with.
pub(crate) const WORD: &str = "zmq";

/// What a kept message takes, bytes.
#[must_use]
pub(crate) fn encoded_len<'a>(frames: impl Iterator<Item = &'a [u8]>) -> usize {
    // A comma or the space before the lengths, the digits, the space before the frame.
    WORD.len() + frames.map(|frame| 2 + digits(frame.len()) + frame.len()).sum::<usize>()
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Appends the form of these frames.
pub(crate) fn encode<'a>(out: &mut impl BufMut, frames: impl Iterator<Item = &'a [u8]> + Clone) {
    out.put_slice(WORD.as_bytes());
    let mut before = b' ';
    for frame in frames.clone() {
        out.put_u8(before);
        before = b',';
        let mut text = [0; 20];
        let mut at = text.len();
        let mut rest = frame.len();
        loop {
            at -= 1;
            if let Some(digit) = text.get_mut(at) {
                *digit = b'0' + (rest % 10) as u8;
            }
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        out.put_slice(text.get(at..).unwrap_or_default());
    }
    for frame in frames {
        out.put_u8(b' ');
        out.put_slice(frame);
    }
}

/// The source of a kept message: its topic, which is its first frame, where that is a name.
#[must_use]
pub(crate) fn source(payload: &[u8]) -> Option<SourceName> {
    let rest = payload.strip_prefix(WORD.as_bytes())?.strip_prefix(b" ")?;
    let lengths_end = memchr::memchr(b' ', rest)?;
    let first = rest.get(..lengths_end)?.split(|byte| *byte == b',').next()?;
    let length: usize = std::str::from_utf8(first).ok()?.parse().ok()?;
    let topic = rest.get(lengths_end + 1..)?.get(..length)?;
    SourceName::from_bytes(topic).ok().filter(|name| !name.is_of_notes())
}

/// The frames of a kept message; none if it is something else. They share its memory.
#[must_use]
pub(crate) fn decode(payload: &Bytes) -> Option<Vec<Bytes>> {
    let rest = payload.strip_prefix(WORD.as_bytes())?.strip_prefix(b" ")?;
    let lengths_end = memchr::memchr(b' ', rest)?;
    let lengths = std::str::from_utf8(rest.get(..lengths_end)?).ok()?;
    let mut at = payload.len() - rest.len() + lengths_end;
    let mut frames = Vec::new();
    for length in lengths.split(',') {
        if !length.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let length: usize = length.parse().ok()?;
        let end = at.checked_add(1)?.checked_add(length)?;
        if payload.get(at) != Some(&b' ') || end > payload.len() {
            return None;
        }
        frames.push(payload.slice(at + 1..end));
        at = end;
    }
    (at == payload.len()).then_some(frames)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(frames: &[&[u8]]) -> Bytes {
        let mut out = Vec::new();
        encode(&mut out, frames.iter().copied());
        assert_eq!(out.len(), encoded_len(frames.iter().copied()));
        out.into()
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(encoded(&[b"calc.request.1", b"12"]), "zmq 14,2 calc.request.1 12");
        assert_eq!(encoded(&[b"t", b"", b"two words"]), "zmq 1,0,9 t  two words");
        assert_eq!(encoded(&[b""]), "zmq 0 ");
    }

    #[test]
    fn a_topic_that_is_a_name_is_the_source() {
        let source_of = |frames: &[&[u8]]| source(&encoded(frames)).map(|name| name.to_string());
        assert_eq!(source_of(&[b"calc.request.1", b"12"]).as_deref(), Some("calc.request.1"));
        assert_eq!(source_of(&[b"taller/t"]).as_deref(), Some("taller/t"));
        for frames in [&[&b""[..], b"x"], &[b"two words", b"x"], &[&[b'x'; 33], b"x"], &[b"\xff", b"x"]] {
            assert_eq!(source_of(frames), None);
        }
        assert_eq!(source(b"zmq 99 a"), None);
    }

    #[test]
    fn what_is_something_else_is_none() {
        for text in
            ["", "zmq", "zmq ", "zmq 1", "zmq 1 ab", "zmq 2 a", "zmq 1,1 a", "zmq +1 a", "zmq ,1  a", "mensaje: x"]
        {
            assert_eq!(decode(&Bytes::from(text)), None, "{text}");
        }
        assert_eq!(decode(&Bytes::from(format!("zmq {} a", usize::MAX))), None);
    }

    proptest! {
        #[test]
        fn any_frames_come_back(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6)) {
            let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            let back = decode(&encoded(&slices)).unwrap();
            prop_assert_eq!(back, frames);
        }

        #[test]
        fn any_bytes_are_frames_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = Bytes::from([b"zmq ".as_slice(), &bytes].concat());
            if let Some(frames) = decode(&bytes) {
                // Another way to write the same numbers is the only one that does not come back to the letter.
                let slices: Vec<&[u8]> = frames.iter().map(AsRef::as_ref).collect();
                prop_assert_eq!(decode(&encoded(&slices)).unwrap(), frames);
            }
        }
    }
}
