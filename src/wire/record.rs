//! One record, one line: `<id> <client> <seq>[@<name>]:<number>.<entry>[~<tag>] <crc> <payload>\n`.
//!
//! The third field says which entry of which ledger the record is (see [`super::ledger`]), so that what is lacking can be
//! counted. A source's name stands before that, if the sender said one; behind it stands the head's [`Tag`] (`…~<tag>`), which
//! who has no key reads over: it is made and checked in `key`. Lines of format 1 have names of nodes in that place
//! (`<seq>+<node>,<node>`), or nothing: they are read and stand in no ledger.
//! The payload comes last and is escaped, so that it can neither end its line nor upset a terminal: whatever bytes a
//! client sends, the line is valid UTF-8 and one line in every tool. The CRC-32C covers all of the line but its own
//! field and the newline. In a node's file, the first line that was written after a sync has a sync mark in its checksum:
//! all before it was synced. It tells rot from a torn end, as Alagappan et al. show that a log has to ("Protocol-Aware
//! Recovery for Consensus-Based Storage", FAST 2018). It stays in that file.
//! Pure: no I/O, no clock. `docs/data-log.md` is the contract of this format.

use crate::limits::{
    MESSAGE_BYTES_MAX, NODE_NAME_BYTES_MAX, RECORD_FIELDS_BYTES, REPLICAS_MAX, SOURCE_NAME_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::wire::id::{self, CLIENT_CHARS, ClientId, ID_CHARS, RecordId};
use crate::wire::ledger::{LedgerId, NUMBER_END, Place, parse_number};
use crate::wire::source::SourceName;
use std::borrow::Cow;

/// Characters of the checksum in text.
pub const CRC_CHARS: usize = 6;

/// Greatest payload of a record, bytes: a message with the words that a head puts in front of text.
pub const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX + TEXT_BYTES_MAX;

/// What a checksum of 32 bits has beside it in a line with a sync mark; the 32 bits are inverted then, so that no flipped bit
/// makes a mark or takes one away.
const SYNC_MARK: u64 = 1 << 32;

/// Where the sequence number begins in a line.
const SEQ_AT: usize = ID_CHARS + 1 + CLIENT_CHARS + 1;

/// Longest sequence number, digits.
const SEQ_CHARS_MAX: usize = 10;

/// Longest name of a source with its sign.
const SOURCE_CHARS_MAX: usize = 1 + SOURCE_NAME_BYTES_MAX;

/// Longest place with its colon and its dot.
const PLACE_CHARS_MAX: usize = 1 + 5 + 1 + 5;

/// Characters of a tag in text.
const TAG_CHARS: usize = 10;

/// By which heads tell a record that one of them took from one that somebody else made: 60 bits that only who has the
/// cluster's key can make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(u64);

impl Tag {
    const BITS: u32 = 60;

    /// The tag of these bits; those above the sixtieth are left out.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

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
    /// The ledger's number or the entry do not fit five characters.
    #[error("the ledger's number or the entry is out of range; take ones below 2^30")]
    Place,
    /// A name without a place: lines of format 1 have none.
    #[error("a source's name stands before an entry of a ledger; give it one")]
    Source,
    /// A tag without a place.
    #[error("a tag stands behind an entry of a ledger; give it one")]
    Tag,
    /// The payload is longer than a record may be.
    #[error("the payload is longer than {PAYLOAD_BYTES_MAX} bytes; send it in pieces")]
    TooLong,
}

/// What stands before a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// Its id.
    pub id: RecordId,
    /// Who sent it.
    pub client: ClientId,
    /// The client's sequence number, below 2^60.
    pub seq: u64,
    /// Its entry in a ledger; none for records of format 1.
    pub place: Option<Place>,
    /// The name of its source, if its sender said one.
    pub source: Option<SourceName>,
}

impl Fields {
    /// The fields of the record `n` behind this one in its batch: ids, numbers and entries are consecutive.
    #[must_use]
    pub const fn plus(self, n: u32) -> Self {
        let place = match self.place {
            Some(place) => Some(Place { number: place.number, entry: place.entry.saturating_add(n) }),
            None => None,
        };
        Self {
            id: self.id.plus(n as u64),
            client: self.client,
            seq: self.seq.saturating_add(n as u64),
            place,
            source: self.source,
        }
    }
}

/// Writes one record without a tag as a line, newline included, at the end of `out`. On an error `out` is as it was.
///
/// Takes some 50 ns for 100 plain bytes and allocates only if `out` has to grow.
///
/// # Errors
/// A field or a payload out of its bounds.
pub fn encode(out: &mut Vec<u8>, fields: Fields, payload: &[u8]) -> Result<(), EncodeError> {
    encode_tagged(out, fields, None, payload)
}

/// The same with the tag that a head made, which stands behind the entry.
///
/// # Errors
/// A field or a payload out of its bounds, or a tag without an entry.
pub fn encode_tagged(out: &mut Vec<u8>, fields: Fields, tag: Option<Tag>, payload: &[u8]) -> Result<(), EncodeError> {
    check(&fields, payload)?;
    if tag.is_some() && fields.place.is_none() {
        return Err(EncodeError::Tag);
    }
    let start = out.len();
    out.reserve(RECORD_FIELDS_BYTES + SEQ_CHARS_MAX + payload.len());
    let mut text =
        [b' '; SEQ_AT + SEQ_CHARS_MAX + SOURCE_CHARS_MAX + PLACE_CHARS_MAX + 1 + TAG_CHARS + 1 + CRC_CHARS + 1];
    let (id_field, rest) = text.split_at_mut(ID_CHARS);
    let (client_field, third) = rest.split_at_mut(1 + CLIENT_CHARS + 1);
    id_field.copy_from_slice(&fields.id.to_text());
    if let Some(field) = client_field.get_mut(1..=CLIENT_CHARS) {
        field.copy_from_slice(&fields.client.to_text());
    }
    let mut len = put_number(third, 0, fields.seq);
    if let Some(source) = &fields.source {
        len = put_byte(third, len, b'@');
        len = put_bytes(third, len, source.as_bytes());
    }
    if let Some(place) = fields.place {
        len = put_byte(third, len, b':');
        len = put_number(third, len, place.number.into());
        len = put_byte(third, len, b'.');
        len = put_number(third, len, place.entry.into());
    }
    if let Some(Tag(bits)) = tag {
        len = put_byte(third, len, b'~');
        if let Some(field) = third.get_mut(len..len + TAG_CHARS) {
            id::put_fixed(field, bits);
        }
        len += TAG_CHARS;
    }
    let covered = SEQ_AT + len + 1;
    out.extend_from_slice(text.get(..covered + CRC_CHARS + 1).unwrap_or_default());
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

/// Writes the digits of a number at this place; answers where they end.
fn put_number(out: &mut [u8], at: usize, value: u64) -> usize {
    let end = at + id::digits(value).min(SEQ_CHARS_MAX);
    if let Some(field) = out.get_mut(at..end) {
        id::put_fixed(field, value);
    }
    end
}

fn put_byte(out: &mut [u8], at: usize, byte: u8) -> usize {
    if let Some(slot) = out.get_mut(at) {
        *slot = byte;
    }
    at + 1
}

fn put_bytes(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    if let Some(field) = out.get_mut(at..end) {
        field.copy_from_slice(bytes);
    }
    end
}

fn check(fields: &Fields, payload: &[u8]) -> Result<(), EncodeError> {
    if !fields.id.is_valid() {
        return Err(EncodeError::Id);
    }
    if !fields.client.is_valid() {
        return Err(EncodeError::Client);
    }
    if fields.seq >= 1 << 60 {
        return Err(EncodeError::Seq);
    }
    if fields.place.is_some_and(|place| place.number.max(place.entry) >= NUMBER_END) {
        return Err(EncodeError::Place);
    }
    if fields.source.is_some() && fields.place.is_none() {
        return Err(EncodeError::Source);
    }
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(EncodeError::TooLong);
    }
    Ok(())
}

/// Gives the first of these lines the sync mark (all before it in its file was synced when it was written), or takes it away.
pub(crate) fn set_sync_mark(lines: &mut [u8], marked: bool) {
    let seq_end = lines.get(SEQ_AT..).and_then(|rest| memchr::memchr(b' ', rest));
    let field = seq_end.and_then(|end| lines.get_mut(SEQ_AT + end + 1..)?.get_mut(..CRC_CHARS));
    if let Some((field, crc)) = field.and_then(|field| id::number(field).map(|crc| (field, crc)))
        && (crc >= SYNC_MARK) != marked
    {
        id::put_fixed(field, crc ^ (SYNC_MARK | u64::from(u32::MAX)));
    }
}

/// A line as nodes, heads and readers send it: without a sync mark.
pub(crate) fn without_sync_mark(line: &[u8], decoded: &Line<'_>) -> Option<Vec<u8>> {
    decoded.has_sync_mark.then(|| {
        let mut plain = line.to_vec();
        set_sync_mark(&mut plain, false);
        plain
    })
}

/// CRC-32C of a line: its fields with the space before the checksum, and its payload as written.
fn checksum(fields: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(fields), payload)
}

/// CRC-32C of a text, in the six characters that records use.
pub(crate) fn text_checksum(text: &str) -> String {
    let mut digits = [0; CRC_CHARS];
    id::put_fixed(&mut digits, u64::from(crc32c::crc32c(text.as_bytes())));
    digits.iter().copied().map(char::from).collect()
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
    /// What follows the sequence number is neither a source's name and an entry of a ledger nor, as in format 1, a list of
    /// names.
    #[error("the third field says no entry of a ledger after its sequence number")]
    Place,
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
    /// Its entry in a ledger; none in lines of format 1.
    pub place: Option<Place>,
    /// The name of its source, if it has one.
    pub source: Option<SourceName>,
    /// By which the head that took it marked it; none in lines of format 1, and of heads without a key.
    pub tag: Option<Tag>,
    /// The payload as written, escapes and all.
    pub text: &'a str,
    /// Whether all that stands before it in its node's file was synced when it was written.
    pub has_sync_mark: bool,
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

    /// Whether the payload stands there as [`encode`] writes it: other escapes may stand for the same bytes.
    #[must_use]
    pub fn is_escaped_as_written(&self) -> bool {
        if !self.text.contains('\\') {
            return true;
        }
        let mut text = Vec::with_capacity(self.text.len());
        escape(&mut text, &self.payload());
        text == self.text.as_bytes()
    }

    /// What stands before the payload.
    #[must_use]
    pub const fn fields(&self) -> Fields {
        Fields { id: self.id, client: self.client, seq: self.seq, place: self.place, source: self.source }
    }

    /// The ledger and the entry of it that this record is; none in lines of format 1.
    #[must_use]
    pub fn entry(&self) -> Option<(LedgerId, u32)> {
        self.place.map(|place| (place.ledger(self.id), place.entry))
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
    let Third { seq, source, place, tag } = third_field(seq_field)?;
    let (crc, payload) = field(rest, CRC_CHARS).ok_or(LineError::Fields)?;
    let field = id::number(crc).filter(|field| *field < 2 * SYNC_MARK).ok_or(LineError::Crc)?;
    let has_sync_mark = field >= SYNC_MARK;
    let stored = u32::try_from(field % SYNC_MARK).map_err(|_| LineError::Crc)?;
    let stored = if has_sync_mark { !stored } else { stored };
    let computed = checksum(line.get(..SEQ_AT + seq_end + 1).unwrap_or_default(), payload);
    if stored != computed {
        return Err(LineError::Checksum { stored, computed });
    }
    let text = std::str::from_utf8(payload).map_err(|_| LineError::Utf8)?;
    check_escapes(payload)?;
    Ok(Line { id, client, seq, place, source, tag, text, has_sync_mark })
}

/// Whether two lines are of the same record, source and all: in whichever ledger it stands, and so with whichever checksum.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let contents = |line| -> Option<_> {
        let (line, rest): (&[u8], &[u8]) = <[u8]>::split_at_checked(line, SEQ_AT)?;
        let seq_end = memchr::memchr(b' ', rest)?;
        let (seq, rest) = (rest.get(..seq_end)?, rest.get(seq_end + 1..)?);
        let seq = seq.split(|byte| matches!(byte, b':' | b'+')).next()?;
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

/// What the third field says.
struct Third {
    seq: u64,
    source: Option<SourceName>,
    place: Option<Place>,
    tag: Option<Tag>,
}

/// `<seq>[@<name>]:<number>.<entry>[~<tag>]`, or `<seq>[+<node>,<node>…]` in format 1.
fn third_field(field: &[u8]) -> Result<Third, LineError> {
    let end = field.iter().position(|b| matches!(b, b'@' | b':' | b'+')).unwrap_or(field.len());
    let (digits, rest) = field.split_at_checked(end).ok_or(LineError::Seq)?;
    let seq = id::number(digits).filter(|&seq| id::digits(seq) == digits.len()).ok_or(LineError::Seq)?;
    let placed = |source, text| {
        let (place, tag) = parse_place(text)?;
        Ok(Third { seq, source, place: Some(place), tag })
    };
    match rest.split_first() {
        None => Ok(Third { seq, source: None, place: None, tag: None }),
        Some((b'+', names)) if are_names(names) => Ok(Third { seq, source: None, place: None, tag: None }),
        Some((b':', place)) => placed(None, place),
        Some((b'@', rest)) => {
            let (name, place) = split_at_byte(rest, b':').ok_or(LineError::Place)?;
            placed(Some(SourceName::from_bytes(name).map_err(|_| LineError::Place)?), place)
        }
        Some(_) => Err(LineError::Place),
    }
}

fn parse_place(text: &[u8]) -> Result<(Place, Option<Tag>), LineError> {
    let parsed = || {
        let (text, word) = split_at_byte(text, b'~').map_or((text, None), |(text, word)| (text, Some(word)));
        let (number, entry) = split_at_byte(text, b'.')?;
        let place = Place { number: parse_number(number)?, entry: parse_number(entry)? };
        word.is_none_or(is_word).then(|| (place, word.and_then(parse_tag)))
    };
    parsed().ok_or(LineError::Place)
}

/// A word that is no tag proves nothing, and is read over.
fn parse_tag(word: &[u8]) -> Option<Tag> {
    (word.len() == TAG_CHARS).then(|| id::number(word).map(Tag)).flatten()
}

/// What stands before and behind the first of these bytes.
fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Whether it may stand behind an entry: printable, without the signs that part the field.
fn is_word(text: &[u8]) -> bool {
    let fits = !text.is_empty() && text.len() <= NODE_NAME_BYTES_MAX;
    fits && text.iter().all(|b| !b.is_ascii_whitespace() && !b.is_ascii_control() && !b"@:~+".contains(b))
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
#[path = "record_tests.rs"]
mod tests;
