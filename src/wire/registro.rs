//! A line of a head's registro: which node acknowledged which ids.
//!
//! A head that is killed in a write leaves a line without its end, and the next one goes on right behind it. Nothing of
//! the broken line was told to a client; what follows it on the same line counts. Pure: no files.

use crate::limits::{NODE_NAME_BYTES_MAX, REGISTRO_RANGE_IDS_MAX};
use crate::wire::id::{ID_CHARS, RecordId, number};
use crate::wire::text::{DE_CLIENTE, PROBLEMA, RECIBIDO_EN_DATANODE, VECES};

/// What a whole line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A data node keeps these ids.
    Kept(Kept<'a>),
    /// Messages were refused: how often.
    Refused(u64),
    /// The beginning of a line of a head, that was never written whole: a disk was full, or the head was killed. What it
    /// was about was told to nobody.
    Torn,
    /// Nothing that a head writes.
    Unreadable,
}

/// An acknowledgement of a data node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept<'a> {
    /// The node's name.
    pub(crate) node: &'a str,
    /// Whether the end of another line, that was never written whole, precedes it.
    pub(crate) behind_torn: bool,
    ranges: &'a str,
}

impl<'a> Kept<'a> {
    /// The ranges of ids: the first, and how many there are, at least 1.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (RecordId, u32)> + use<'a> {
        self.ranges.split(' ').filter_map(range)
    }
}

/// A line's time with the space behind it; a zero stands for any digit.
const TIME_SHAPE: &str = "0000-00-00T00:00:00.000000Z ";

/// Its characters.
const TIME_CHARS: usize = TIME_SHAPE.len();

/// Reads a line without its newline.
#[must_use]
pub(crate) fn read(line: &[u8]) -> Said<'_> {
    let Ok(text) = std::str::from_utf8(line) else { return read_rest(line) };
    if let Some(said) = text.get(TIME_CHARS..).filter(|_| is_time(text)) {
        if let Some(times) = said.strip_prefix(PROBLEMA).and_then(refusals) {
            return Said::Refused(times);
        }
        if let Some(kept) = kept(said) {
            return Said::Kept(kept);
        }
    }
    match read_rest(line) {
        Said::Unreadable if is_beginning(text) => Said::Torn,
        said => said,
    }
}

/// How many refusals a line stands for that has its end, ` cliente=<id> seq=<first>..<last>` and perhaps ` veces=<n>`, and
/// nothing behind it.
fn refusals(rest: &str) -> Option<u64> {
    let (_, numbers) = rest.rsplit_once(" seq=").filter(|(rest, _)| rest.contains(DE_CLIENTE))?;
    let (numbers, times) = match numbers.split_once(VECES) {
        Some((numbers, times)) => (numbers, times.parse().ok().filter(|times| *times > 0)?),
        None => (numbers, 1),
    };
    let (first, last) = numbers.split_once("..")?;
    (number(first.as_bytes()).is_some() && number(last.as_bytes()).is_some()).then_some(times)
}

/// Whether this is how a line of a head begins, as far as it goes.
fn is_beginning(text: &str) -> bool {
    let Some((time, said)) = text.split_at_checked(TIME_CHARS) else {
        return !text.is_empty() && is_time(&format!("{text}{}", TIME_SHAPE.get(text.len()..).unwrap_or_default()));
    };
    let begins = |with: &str| said.starts_with(with) || with.starts_with(said);
    is_time(time) && (begins(PROBLEMA) || begins(RECIBIDO_EN_DATANODE))
}

/// Looks for a whole acknowledgement behind the broken beginning of a line.
fn read_rest(line: &[u8]) -> Said<'_> {
    let whole = memchr::memmem::rfind(line, RECIBIDO_EN_DATANODE.as_bytes()).and_then(|at| {
        let start = at.checked_sub(TIME_CHARS)?;
        let text = std::str::from_utf8(line.get(start..)?).ok().filter(|text| is_time(text))?;
        kept(text.get(TIME_CHARS..)?)
    });
    whole.map_or(Said::Unreadable, |kept| Said::Kept(Kept { behind_torn: true, ..kept }))
}

/// Whether a line begins with a time and a space, by its shape.
fn is_time(text: &str) -> bool {
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    text.len() >= TIME_CHARS && text.bytes().zip(TIME_SHAPE.bytes()).all(fits)
}

fn kept(said: &str) -> Option<Kept<'_>> {
    let mut words = said.strip_prefix(RECIBIDO_EN_DATANODE)?.strip_prefix(' ')?.splitn(3, ' ');
    let (_ip, node, ranges) = (words.next()?, words.next()?, words.next()?);
    let fits = !node.is_empty() && node.len() <= NODE_NAME_BYTES_MAX + RAW_NAME_EXTRA;
    (fits && ranges.split(' ').all(|word| range(word).is_some())).then_some(Kept { node, behind_torn: false, ranges })
}

/// A raw node's name is its dialect and address, which may be longer than a name that was chosen.
const RAW_NAME_EXTRA: usize = 64;

/// `<id>` or `<id>..+<more>`.
fn range(word: &str) -> Option<(RecordId, u32)> {
    let (first, more) = word.split_at_checked(ID_CHARS)?;
    let first = RecordId::from_text(first.as_bytes())?;
    let more = match more.strip_prefix("..+") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None if more.is_empty() => 0_u32,
        None => return None,
    };
    let fits = u64::from(more) < REGISTRO_RANGE_IDS_MAX && first.plus(u64::from(more)).is_valid();
    fits.then_some((first, more + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: &str = "2026-11-21T07:34:21.000000Z ";
    const ID: &str = "1795234260----0----6";

    fn line(ranges: &str) -> String {
        format!("{TIME}{RECIBIDO_EN_DATANODE} 127.0.0.2 data1 {ranges}")
    }

    fn ranges(text: &str) -> Option<(Vec<(u64, u32)>, bool)> {
        let Said::Kept(kept) = read(text.as_bytes()) else { return None };
        assert_eq!(kept.node, "data1");
        let from_first = |(id, count): (RecordId, u32)| (id.time_ns - ID.parse::<RecordId>().unwrap().time_ns, count);
        Some((kept.ranges().map(from_first).collect(), kept.behind_torn))
    }

    #[test]
    fn ids_and_ranges_are_read() {
        assert_eq!(ranges(&line(ID)), Some((vec![(0, 1)], false)));
        let more = format!("{ID}..+17 1795234260----9----6");
        assert_eq!(ranges(&line(&more)), Some((vec![(0, 18), (9, 1)], false)));
    }

    #[test]
    fn refusals_are_read_and_other_text_is_not() {
        let refused = format!("{TIME}{PROBLEMA}: no hay dataNodes cliente=---------- seq=6..7");
        assert_eq!(read(refused.as_bytes()), Said::Refused(1));
        assert_eq!(read(format!("{refused} veces=12").as_bytes()), Said::Refused(12));
        for torn in [format!("{refused} veces="), refused[..60].to_owned(), line(&ID[..9]), TIME[..9].to_owned()] {
            assert_eq!(read(torn.as_bytes()), Said::Torn, "{torn}");
        }
        let bad = [
            "".to_owned(),
            "hola".to_owned(),
            format!("{TIME}hola"),
            format!("{ID} ---------4 0 0iMMWX mensaje: {RECIBIDO_EN_DATANODE} 127.0.0.2 data1 {ID}"),
        ];
        for text in bad {
            assert_eq!(read(text.as_bytes()), Said::Unreadable, "{text}");
        }
        let ranges = ["x", "..+", "..+x", "..++1", "..+1048576", "  ", " ", "9999999999zzzzz----6"];
        for text in ranges.map(|more| line(&if more.len() < 12 { format!("{ID}{more}") } else { more.to_owned() })) {
            assert_eq!(read(text.as_bytes()), Said::Torn, "{text}");
        }
    }

    /// The lines that docs/logs.md shows are read as what it says of them.
    #[test]
    fn the_lines_of_the_document_are_read() {
        let document = include_str!("../../docs/logs.md");
        let shown = document.split("## `registro.log`").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap();
        let count = |line: &str| match read(line.as_bytes()) {
            Said::Kept(kept) => format!("{} keeps {}", kept.node, kept.ranges().map(|(_, count)| count).sum::<u32>()),
            Said::Refused(times) => format!("{times} refused"),
            other => panic!("{line}: {other:?}"),
        };
        let read: Vec<String> = shown.lines().skip(1).map(count).collect();
        assert_eq!(read, ["data1 keeps 1", "data2 keeps 17", "1 refused", "812 refused"]);
    }

    #[test]
    fn zeros_before_a_line_hide_nothing() {
        let text = [b"\0\0\xff".to_vec(), line(ID).into_bytes()].concat();
        assert!(matches!(read(&text), Said::Kept(kept) if kept.behind_torn));
    }

    proptest! {
        /// Wherever a line is cut, the one behind it is read, and of the cut one nothing.
        #[test]
        fn a_line_behind_a_torn_one_counts(cut in 1..160_usize, refusal in any::<bool>()) {
            let first = if refusal {
                format!("{TIME}{PROBLEMA}: no hay dataNodes cliente=---------- seq=6..7")
            } else {
                line(&format!("{ID}..+17 1795234261----9----6"))
            };
            let cut = cut.min(first.len() - 1);
            let text = format!("{}{}", &first[..cut], line("1795234260----9----6"));
            prop_assert_eq!(ranges(&text), Some((vec![(9, 1)], true)));
        }
    }
}
