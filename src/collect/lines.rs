//! What an instrument says, cut into lines: at newlines, at carriage returns if it is told so, and where the instrument is
//! silent for a while. Pure: the time is handed in.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::limits::COLLECT_LINE_BYTES_MAX;

/// Where lines end, beside newlines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// A carriage return ends one.
    pub(crate) cr: bool,
    /// A silence of this length ends one.
    pub(crate) gap: Option<Duration>,
}

/// A line that was longer than one may be; it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Cuts what comes.
#[derive(Debug)]
pub(super) struct Lines {
    ends: Ends,
    /// The beginning of a line.
    held: Vec<u8>,
    /// It is too long already, and the rest of it is passed over.
    too_long: bool,
    /// When something came last.
    last: Option<Instant>,
}

impl Lines {
    pub(super) const fn new(ends: Ends) -> Self {
        Self { ends, held: Vec::new(), too_long: false, last: None }
    }

    /// Bytes of the beginning of a line.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// When a silence ends the line that has begun.
    pub(super) fn due(&self) -> Option<Instant> {
        let has_begun = self.too_long || !self.held.is_empty();
        self.ends.gap.filter(|_| has_begun).zip(self.last).and_then(|(gap, last)| last.checked_add(gap))
    }

    /// Takes what was read now; the lines that it ends go to `out`. Empty ones say nothing and are left out.
    pub(super) fn push(&mut self, mut bytes: &[u8], now: Instant, out: &mut Vec<Result<Bytes, TooLong>>) {
        if self.due().is_some_and(|due| due <= now) {
            self.end(out);
        }
        self.last = Some(now);
        let other = if self.ends.cr { b'\r' } else { b'\n' };
        while let Some((line, rest)) = memchr::memchr2(b'\n', other, bytes).and_then(|at| bytes.split_at_checked(at)) {
            self.hold(line);
            self.end(out);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.hold(bytes);
    }

    /// Ends the line that has begun.
    pub(super) fn end(&mut self, out: &mut Vec<Result<Bytes, TooLong>>) {
        let mut line = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.too_long) {
            return out.push(Err(TooLong));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if !line.is_empty() {
            out.push(Ok(line.into()));
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.too_long |= self.held.len() + bytes.len() > COLLECT_LINE_BYTES_MAX;
        if self.too_long {
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GAP: Duration = Duration::from_millis(50);

    fn cut(ends: Ends, pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::new(ends), Vec::new());
        let now = Instant::now();
        pieces.iter().for_each(|piece| lines.push(piece, now, &mut out));
        lines.end(&mut out);
        let shown = |line: Result<Bytes, TooLong>| {
            line.map_or("too long".to_owned(), |line| String::from_utf8(line.into()).unwrap())
        };
        out.into_iter().map(shown).collect()
    }

    #[test]
    fn lines_end_at_newlines_and_at_carriage_returns_if_they_are_told_to() {
        let plain = Ends::default();
        assert_eq!(cut(plain, &[b"a\r\n\r\n\nb", b"b\nc"]), ["a", "bb", "c"]);
        assert_eq!(cut(plain, &[b"1\r2\r3\n"]), ["1\r2\r3"]);
        let cr = Ends { cr: true, ..plain };
        assert_eq!(cut(cr, &[b"1\r2\r\n3\n4\r", b"\n"]), ["1", "2", "3", "4"]);
    }

    #[test]
    fn a_line_too_long_is_left_out_and_the_next_is_whole() {
        let long = vec![b'x'; COLLECT_LINE_BYTES_MAX];
        assert_eq!(cut(Ends::default(), &[&long, b"x", &long, b"\nnext\n"]), ["too long", "next"]);
        assert_eq!(cut(Ends::default(), &[&long, b"\nnext"])[1], "next");
    }

    #[test]
    fn a_silence_ends_a_line() {
        let (start, mut out) = (Instant::now(), Vec::new());
        let mut lines = Lines::new(Ends { gap: Some(GAP), ..Ends::default() });
        lines.push(b"21", start, &mut out);
        lines.push(b".4", start + GAP / 2, &mut out);
        assert_eq!((lines.due(), lines.held()), (Some(start + GAP / 2 + GAP), 4));
        lines.push(b"22.0", start + 2 * GAP, &mut out);
        assert_eq!(out, [Ok("21.4".into())]);
        lines.end(&mut out);
        assert_eq!((out.len(), lines.due()), (2, None));
        lines.push(b"", start + 9 * GAP, &mut out);
        assert_eq!(out.len(), 2);
    }

    proptest! {
        #[test]
        fn how_it_comes_in_pieces_does_not_matter(text in "[ab\r\n]{0,60}", at in 0..60_usize, cr: bool) {
            let ends = Ends { cr, gap: None };
            let (one, two) = text.as_bytes().split_at(at.min(text.len()));
            let whole = cut(ends, &[text.as_bytes()]);
            prop_assert_eq!(cut(ends, &[one, two]), whole.clone());
            let wanted = text.split(|c| c == '\n' || (cr && c == '\r'));
            let wanted = wanted.map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.is_empty());
            prop_assert_eq!(whole, wanted.collect::<Vec<_>>());
        }
    }
}
