//! One record, one line: `<id> <client> <seq>[+<node>,<node>] <crc> <payload>\n`.
//!
//! The payload comes last and is escaped, so that it can neither end its line nor upset a terminal: whatever bytes a
//! client sends, the line is valid UTF-8 and one line in every tool. The CRC-32C covers all of the line but its own
//! field and the newline. Pure: no I/O, no clock. `docs/data-log.md` is the contract of this format.

use crate::limits::{MESSAGE_BYTES_MAX, NODE_NAME_BYTES_MAX, RECORD_FIELDS_BYTES, REPLICAS_MAX, TEXT_BYTES_MAX};
use crate::wire::id::{self, CLIENT_CHARS, ClientId, ID_CHARS, RecordId};
use std::borrow::Cow;

/// Characters of the checksum in text.
pub const CRC_CHARS: usize = 6;

/// Greatest payload of a record, bytes: a message with the words that a head puts in front of text.
pub const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX + TEXT_BYTES_MAX;

/// Where the sequence number begins in a line.
const SEQ_AT: usize = ID_CHARS + 1 + CLIENT_CHARS + 1;

/// Longest sequence number, digits.
const SEQ_CHARS_MAX: usize = 10;

/// Why a record cannot be written: it could not be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The id does not fit its 20 characters.
    #[error("the id is out of range; a head gives times below 10^19 ns and incarnations below 2^30")]
    Id,
    /// The client id does not fit its ten characters.
    #[error("the client id is out of range; take one below 2^60")]
    Client,
    /// The sequence number does not fit ten characters.
    #[error("the sequence number is out of range; take one below 2^60")]
    Seq,
    /// The names of the nodes are not a list of names.
    #[error("the list of nodes is not up to {REPLICAS_MAX} names without spaces, parted by commas")]
    Copies,
    /// The payload is longer than a record may be.
    #[error("the payload is longer than {PAYLOAD_BYTES_MAX} bytes; send it in pieces")]
    TooLong,
}

/// Writes one record as a line, newline included, at the end of `out`. On an error `out` is as it was.
///
/// `copies` names the nodes that are to keep the record, parted by commas. Takes some 50 ns for 100 plain bytes and
/// allocates only if `out` has to grow.
pub fn encode(
    out: &mut Vec<u8>,
    id: RecordId,
    client: ClientId,
    seq: u64,
    copies: Option<&str>,
    payload: &[u8],
) -> Result<(), EncodeError> {
    check(id, client, seq, copies, payload)?;
    let start = out.len();
    out.reserve(RECORD_FIELDS_BYTES + SEQ_CHARS_MAX + payload.len());
    let mut fields = [b' '; SEQ_AT + SEQ_CHARS_MAX + 1 + CRC_CHARS + 1];
    let (id_field, rest) = fields.split_at_mut(ID_CHARS);
    let (client_field, seq_field) = rest.split_at_mut(1 + CLIENT_CHARS + 1);
    id_field.copy_from_slice(&id.to_text());
    if let Some(field) = client_field.get_mut(1..=CLIENT_CHARS) {
        field.copy_from_slice(&client.to_text());
    }
    let seq_end = id::digits(seq).min(SEQ_CHARS_MAX);
    id::put_fixed(seq_field.split_at_mut(seq_end).0, seq);
    let mut covered = SEQ_AT + seq_end + 1;
    if let Some(names) = copies {
        out.extend_from_slice(fields.get(..covered - 1).unwrap_or_default());
        out.push(b'+');
        out.extend_from_slice(names.as_bytes());
        covered += 1 + names.len();
        out.extend_from_slice(&[b' '; 2 + CRC_CHARS]);
    } else {
        out.extend_from_slice(fields.get(..covered + CRC_CHARS + 1).unwrap_or_default());
    }
    if is_plain(payload) {
        out.extend_from_slice(payload);
    } else {
        escape(out, payload);
    }
    if let Some((head, tail)) = out.get_mut(start..).and_then(|line| line.split_at_mut_checked(covered))
        && let Some((field, tail)) = tail.split_at_mut_checked(CRC_CHARS)
    {
        id::put_fixed(field, u64::from(checksum(head, tail.get(1..).unwrap_or_default())));
    }
    out.push(b'\n');
    Ok(())
}

fn check(id: RecordId, client: ClientId, seq: u64, copies: Option<&str>, payload: &[u8]) -> Result<(), EncodeError> {
    if !id.is_valid() {
        return Err(EncodeError::Id);
    }
    if !client.is_valid() {
        return Err(EncodeError::Client);
    }
    if seq >= 1 << 60 {
        return Err(EncodeError::Seq);
    }
    if copies.is_some_and(|names| !are_names(names.as_bytes())) {
        return Err(EncodeError::Copies);
    }
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(EncodeError::TooLong);
    }
    Ok(())
}

/// CRC-32C of a line: its fields with the space before the checksum, and its payload as written.
fn checksum(fields: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(fields), payload)
}

/// Whether a payload is stored as it is. Looks at every byte without a branch, so that it is done many bytes at once.
fn is_plain(payload: &[u8]) -> bool {
    payload.iter().fold(0_u8, |odd, &b| odd | u8::from(b.wrapping_sub(0x20) > 0x5e) | u8::from(b == b'\\')) == 0
}

fn are_names(text: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        !name.is_empty() && name.len() <= NODE_NAME_BYTES_MAX && name.iter().all(|b| b.is_ascii_graphic() && *b != b'+')
    };
    text.split(|&b| b == b',').all(is_name) && text.split(|&b| b == b',').count() <= REPLICAS_MAX
}

/// Writes `payload` with everything escaped that could end a line, move a cursor or not be read as UTF-8.
fn escape(out: &mut Vec<u8>, payload: &[u8]) {
    let mut buffer = [0; 4];
    for chunk in payload.utf8_chunks() {
        let valid = chunk.valid();
        let mut copied = 0;
        for (at, c) in valid.char_indices() {
            if c != '\\' && !c.is_control() && c != '\u{2028}' && c != '\u{2029}' {
                continue;
            }
            out.extend_from_slice(valid.as_bytes().get(copied..at).unwrap_or_default());
            copied = at + c.len_utf8();
            match c {
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0' => out.extend_from_slice(b"\\0"),
                _ => escape_bytes(out, c.encode_utf8(&mut buffer).as_bytes()),
            }
        }
        out.extend_from_slice(valid.as_bytes().get(copied..).unwrap_or_default());
        escape_bytes(out, chunk.invalid());
    }
}

fn escape_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let hex = |nibble: u8| {
        if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
    };
    for b in bytes {
        out.extend_from_slice(&[b'\\', b'x', hex(b >> 4), hex(b & 15)]);
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not end in a newline, so it was never written whole.
    #[error("unfinished: it has no newline")]
    Unfinished,
    /// It is longer than any record.
    #[error("longer than any record")]
    TooLong,
    /// There is nothing in it.
    #[error("empty line")]
    Empty,
    /// It has fewer than five fields.
    #[error("fewer than five fields")]
    Fields,
    /// The first field is not a record id.
    #[error("the first field is not a record id")]
    Id,
    /// The second field is not a client id.
    #[error("the second field is not a client id")]
    Client,
    /// The third field is not a sequence number.
    #[error("the third field is not a sequence number")]
    Seq,
    /// What follows the sequence number is not a list of names.
    #[error("the third field names no nodes after its +")]
    Copies,
    /// The fourth field is not a checksum.
    #[error("the fourth field is not a checksum")]
    Crc,
    /// The checksum is not that of this line.
    #[error("the checksum does not match: the line says {stored:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// What the line says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The checksum is right, but the payload is not UTF-8.
    #[error("the payload is not UTF-8")]
    Utf8,
    /// The checksum is right, but the payload holds a backslash that begins no escape.
    #[error("the payload holds a backslash that begins no escape")]
    Escape,
}

/// A record as it stands in its line; it borrows the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The record's id.
    pub id: RecordId,
    /// Who sent it.
    pub client: ClientId,
    /// The client's sequence number, below 2^60.
    pub seq: u64,
    /// The nodes that were to keep it, parted by commas, if the line says so.
    pub copies: Option<&'a str>,
    /// The payload as written, escapes and all.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// The payload as it was sent; borrowed if nothing in it is escaped.
    #[must_use]
    pub fn payload(&self) -> Cow<'a, [u8]> {
        if self.text.as_bytes().contains(&b'\\') {
            Cow::Owned(unescape(self.text.as_bytes()))
        } else {
            Cow::Borrowed(self.text.as_bytes())
        }
    }

    /// The names of the nodes that were to keep the record.
    pub fn copies(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.copies.into_iter().flat_map(|names| names.split(','))
    }
}

/// Reads a line without its newline. A line that passes has the right checksum and a payload that can be unescaped.
pub fn decode(line: &[u8]) -> Result<Line<'_>, LineError> {
    if line.is_empty() {
        return Err(LineError::Empty);
    }
    let (id, rest) = field(line, ID_CHARS).ok_or(LineError::Fields)?;
    let id = RecordId::from_text(id).ok_or(LineError::Id)?;
    let (client, rest) = field(rest, CLIENT_CHARS).ok_or(LineError::Fields)?;
    let client = ClientId::from_text(client).ok_or(LineError::Client)?;
    let seq_end = rest.iter().position(|&b| b == b' ').ok_or(LineError::Fields)?;
    let (seq_field, rest) = field(rest, seq_end).ok_or(LineError::Fields)?;
    let (seq, copies) = sequence(seq_field)?;
    let (crc, payload) = field(rest, CRC_CHARS).ok_or(LineError::Fields)?;
    let stored = id::number(crc).and_then(|crc| u32::try_from(crc).ok()).ok_or(LineError::Crc)?;
    let computed = checksum(line.get(..SEQ_AT + seq_end + 1).unwrap_or_default(), payload);
    if stored != computed {
        return Err(LineError::Checksum { stored, computed });
    }
    let text = std::str::from_utf8(payload).map_err(|_| LineError::Utf8)?;
    check_escapes(payload)?;
    Ok(Line { id, client, seq, copies, text })
}

/// Whether two lines are of the same record: whichever nodes they name to keep it, and so with whichever checksum.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let contents = |line| -> Option<_> {
        let (line, rest): (&[u8], &[u8]) = <[u8]>::split_at_checked(line, SEQ_AT)?;
        let seq_end = memchr::memchr(b' ', rest)?;
        let (seq, rest) = (rest.get(..seq_end)?, rest.get(seq_end + 1..)?);
        let seq = seq.split(|byte| *byte == b'+').next()?;
        Some((line, seq, rest.get(CRC_CHARS..)?))
    };
    one == other || contents(one).is_some_and(|one| Some(one) == contents(other))
}

/// The first `len` bytes of `line`, and what follows the space behind them.
fn field(line: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    // Not by way of `split_at`: its pair is put together in memory, and taken apart there at other places, four times a
    // line.
    (line.get(len) == Some(&b' ')).then_some(())?;
    Some((line.get(..len)?, line.get(len + 1..)?))
}

fn sequence(field: &[u8]) -> Result<(u64, Option<&str>), LineError> {
    let mut parts = field.splitn(2, |&b| b == b'+');
    let digits = parts.next().unwrap_or_default();
    let seq = id::number(digits).filter(|&seq| id::digits(seq) == digits.len()).ok_or(LineError::Seq)?;
    let copies = match parts.next() {
        None => None,
        Some(names) if are_names(names) => Some(std::str::from_utf8(names).map_err(|_| LineError::Copies)?),
        Some(_) => return Err(LineError::Copies),
    };
    Ok((seq, copies))
}

/// The byte that an escape stands for and the escape's length, given what follows the backslash.
fn escaped(rest: &[u8]) -> Option<(u8, usize)> {
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    match rest {
        [b'\\', ..] => Some((b'\\', 1)),
        [b'n', ..] => Some((b'\n', 1)),
        [b'r', ..] => Some((b'\r', 1)),
        [b't', ..] => Some((b'\t', 1)),
        [b'0', ..] => Some((0, 1)),
        [b'x', high, low, ..] => Some((nibble(*high)? << 4 | nibble(*low)?, 3)),
        _ => None,
    }
}

fn check_escapes(mut text: &[u8]) -> Result<(), LineError> {
    while let Some(at) = memchr::memchr(b'\\', text) {
        let rest = text.get(at + 1..).unwrap_or_default();
        let (_, len) = escaped(rest).ok_or(LineError::Escape)?;
        text = rest.get(len..).unwrap_or_default();
    }
    Ok(())
}

fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    while let Some(at) = memchr::memchr(b'\\', text) {
        let (plain, rest) = text.split_at(at);
        out.extend_from_slice(plain);
        let rest = rest.get(1..).unwrap_or_default();
        // `decode` let only whole escapes pass.
        let (byte, len) = escaped(rest).unwrap_or((b'\\', 0));
        out.push(byte);
        text = rest.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(seq: u64, copies: Option<&str>, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let id = RecordId { time_ns: 1_795_234_260_000_000_001, incarnation: 7 };
        encode(&mut out, id, ClientId(5), seq, copies, payload).unwrap();
        out
    }

    fn text(seq: u64, copies: Option<&str>, payload: &[u8]) -> String {
        String::from_utf8(line(seq, copies, payload)).unwrap()
    }

    #[test]
    fn a_record_is_the_line_that_the_contract_shows() {
        assert_eq!(
            text(1, None, b"mensaje: numero random: 42"),
            "1795234260----0----6 ---------4 0 0iMMWX mensaje: numero random: 42\n"
        );
        let named = text(1, Some("a,b"), b"");
        assert!(named.starts_with("1795234260----0----6 ---------4 0+a,b "), "{named}");
        assert_eq!(decode(named.trim_end_matches('\n').as_bytes()).unwrap().copies().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn the_fields_stay_within_their_budget() {
        for seq in [0, 1, 63, 64, (1 << 24) - 1] {
            assert!(line(seq, None, b"").len() <= RECORD_FIELDS_BYTES, "{seq}");
        }
        let names = vec!["n".repeat(NODE_NAME_BYTES_MAX); REPLICAS_MAX].join(",");
        let longest = line((1 << 60) - 1, Some(&names), &vec![0xff; PAYLOAD_BYTES_MAX]);
        assert!(longest.len() <= crate::limits::RECORD_LINE_BYTES_MAX);
        assert!(decode(&longest[..longest.len() - 1]).is_ok());
    }

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        let forged = text(0, None, "a\nb\r\t\0\\ \u{1b}[2J \u{85} \u{2028} ñ \u{7f}".as_bytes());
        assert!(forged.ends_with("a\\nb\\r\\t\\0\\\\ \\x1b[2J \\xc2\\x85 \\xe2\\x80\\xa8 ñ \\x7f\n"), "{forged}");
        assert!(text(0, None, b"\xff\xc3").ends_with(" \\xff\\xc3\n"));
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let mut out = b"before".to_vec();
        let id = RecordId { time_ns: 1, incarnation: 1 };
        let wide = RecordId { time_ns: 1, incarnation: 1 << 30 };
        let c = ClientId(1);
        assert_eq!(encode(&mut out, wide, c, 0, None, b""), Err(EncodeError::Id));
        assert_eq!(encode(&mut out, id, ClientId(1 << 60), 0, None, b""), Err(EncodeError::Client));
        assert_eq!(encode(&mut out, id, c, 1 << 60, None, b""), Err(EncodeError::Seq));
        for names in ["", "a b", "a,", "a\n", "+", "1,2,3,4,5,6,7,8,9"] {
            assert_eq!(encode(&mut out, id, c, 0, Some(names), b""), Err(EncodeError::Copies), "{names:?}");
        }
        assert_eq!(encode(&mut out, id, c, 0, None, &vec![0; PAYLOAD_BYTES_MAX + 1]), Err(EncodeError::TooLong));
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_bad_line_says_what_is_wrong() {
        let good = line(1, None, b"x\\y");
        let good = &good[..good.len() - 1];
        let wrong = |at: usize, byte: u8| {
            let mut line = good.to_vec();
            line[at] = byte;
            decode(&line).unwrap_err()
        };
        assert_eq!(decode(b""), Err(LineError::Empty));
        assert_eq!(decode(b"hola"), Err(LineError::Fields));
        assert_eq!(wrong(0, b'x'), LineError::Id);
        assert_eq!(wrong(25, b'.'), LineError::Client);
        assert_eq!(wrong(32, b'.'), LineError::Seq);
        assert_eq!(wrong(35, b'.'), LineError::Crc);
        assert_eq!(wrong(34, b'z'), LineError::Crc);
        assert!(matches!(wrong(good.len() - 1, b'z'), LineError::Checksum { .. }));
        for (payload, error) in
            [(&b"a\\q"[..], LineError::Escape), (b"\\x4", LineError::Escape), (b"\xff", LineError::Utf8)]
        {
            let fields = &b"1795234260----0----6 ---------4 0 "[..];
            let mut crc = [0; 6];
            id::put_fixed(&mut crc, u64::from(checksum(fields, payload)));
            assert_eq!(decode(&[fields, &crc[..], &b" "[..], payload].concat()), Err(error));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_the_round_trip(
            payload in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                ".{0,50}".prop_map(String::into_bytes),
                "[ -~\\\\\n]{0,100}".prop_map(String::into_bytes),
            ],
            time_ns in 0..10_u64.pow(19), incarnation in 0..1u32 << 30, client in 0..1u64 << 60, seq in 0..1u64 << 60,
            copies in prop::option::of("[a-z0-9._-]{1,20}(,[a-z]{1,9}){0,3}"),
        ) {
            let (id, client) = (RecordId { time_ns, incarnation }, ClientId(client));
            let mut out = Vec::new();
            encode(&mut out, id, client, seq, copies.as_deref(), &payload).unwrap();
            let (newline, line) = out.split_last().unwrap();
            prop_assert_eq!(*newline, b'\n');
            prop_assert!(!std::str::from_utf8(line).unwrap().chars().any(|c| c.is_control()));
            let read = decode(line).unwrap();
            prop_assert_eq!((read.id, read.client, read.seq, read.copies), (id, client, seq, copies.as_deref()));
            prop_assert_eq!(read.payload().into_owned(), payload);
        }

        #[test]
        fn random_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_changed_bit_never_passes(payload in prop::collection::vec(any::<u8>(), 0..100), bit in any::<usize>()) {
            let mut out = line(70, Some("uno,dos"), &payload);
            out.pop();
            let bit = bit % (out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&out).is_err());
        }

        #[test]
        fn a_shortened_line_never_passes(payload in prop::collection::vec(any::<u8>(), 0..100), cut in 1..200_usize) {
            let mut out = line(70, None, &payload);
            out.pop();
            let kept = out.len().saturating_sub(cut);
            prop_assert!(decode(&out[..kept]).is_err());
        }
    }
}
