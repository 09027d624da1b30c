//! Tests of lines: what is written is read back, what was changed or cut never is.

use super::*;
use crate::wire::source::tests::{any_name, name};
use proptest::prelude::*;

const ID: RecordId = RecordId { time_ns: 1_795_234_260_000_000_001, incarnation: 7 };

fn fields(seq: u64, place: Option<Place>) -> Fields {
    Fields { id: ID, client: ClientId(5), seq, place, source: None }
}

fn line(seq: u64, place: Option<Place>, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, fields(seq, place), payload).unwrap();
    out
}

fn text(seq: u64, place: Option<Place>, payload: &[u8]) -> String {
    String::from_utf8(line(seq, place, payload)).unwrap()
}

const PLACE: Option<Place> = Some(Place { number: 2, entry: 64 });

/// A line with this third field and the checksum that it has then.
fn with_third(third: &str) -> Vec<u8> {
    let fields = format!("1795234260----0----6 ---------4 {third} ");
    let mut crc = [0; 6];
    id::put_fixed(&mut crc, u64::from(checksum(fields.as_bytes(), b"x")));
    [fields.as_bytes(), &crc, b" x"].concat()
}

#[test]
fn a_record_is_the_line_that_the_contract_shows() {
    assert_eq!(
        text(1, None, b"mensaje: numero random: 42"),
        "1795234260----0----6 ---------4 0 0iMMWX mensaje: numero random: 42\n"
    );
    let placed = text(1, PLACE, b"");
    assert!(placed.starts_with("1795234260----0----6 ---------4 0:1.0- "), "{placed}");
    let read = decode(placed.trim_end_matches('\n').as_bytes()).unwrap();
    assert_eq!((read.place, read.entry().unwrap().0.to_string().as_str()), (PLACE, "----6.1"));
}

#[test]
fn old_lines_and_later_ones_are_read() {
    for (third, place, source) in [
        ("0", None, None),
        ("0+a,b", None, None),
        ("0+data.1", None, None),
        ("0:1.0-", PLACE, None),
        ("0@horno/1:1.0-", PLACE, Some("horno/1")),
        ("0:1.0-~abc", PLACE, None),
        ("0@esp-7:1.0-~x-_", PLACE, Some("esp-7")),
        ("0@esp-7:1.0-~---------6", PLACE, Some("esp-7")),
    ] {
        let line = with_third(third);
        let source = source.map(name);
        assert_eq!(decode(&line).map(|line| (line.seq, line.place, line.source)), Ok((1, place, source)), "{third}");
    }
    for third in [
        "0:",
        "0:1",
        "0:1.",
        "0:.1",
        "0:-1.0",
        "0:zzzzzz.0",
        "0@:1.1",
        "0@a",
        "0:1.1~",
        "0+",
        "0:1.1@a",
        "0@a",
        "0@ñ:1.1",
        "0@a/:1.1",
        "0@/a:1.1",
        "0@a//b:1.1",
        "0@acopio/2:1.1",
        "0@a@b:1.1",
        "0@a+b",
    ] {
        assert_eq!(decode(&with_third(third)), Err(LineError::Place), "{third}");
    }
    assert_eq!(decode(&with_third("0~a")), Err(LineError::Seq));
}

#[test]
fn a_tag_stands_behind_the_entry_and_under_the_checksum() {
    let tagged = |tag: Option<Tag>, place| {
        let mut out = Vec::new();
        encode_tagged(&mut out, Fields { source: Some(name("esp7")), ..fields(1, place) }, tag, b"21.4").map(|()| out)
    };
    let line = String::from_utf8(tagged(Some(Tag::from_bits(7)), PLACE).unwrap()).unwrap();
    assert!(line.starts_with("1795234260----0----6 ---------4 0@esp7:1.0-~---------6 "), "{line}");
    let read = decode(line.trim_end().as_bytes()).unwrap();
    assert_eq!((read.tag, read.place, read.fields().seq), (Some(Tag::from_bits(7)), PLACE, 1));
    let changed = line.trim_end().replace("---6 ", "---7 ");
    assert!(matches!(decode(changed.as_bytes()), Err(LineError::Checksum { .. })));
    assert!(is_same(line.as_bytes(), &tagged(None, PLACE).unwrap()), "it is the same record");
    let alone = encode_tagged(&mut Vec::new(), fields(1, None), Some(Tag::from_bits(7)), b"");
    assert_eq!(alone, Err(EncodeError::Tag));
    for (word, tag) in
        [("~zzzzzzzzzz", Some((1 << 60) - 1)), ("~zzzzzzzzz", None), ("~zzzzzzzzzzz", None), ("~---------!", None)]
    {
        let line = with_third(&format!("0:1.0-{word}"));
        assert_eq!(decode(&line).unwrap().tag.map(Tag::bits), tag, "{word}");
    }
}

#[test]
fn the_name_of_a_source_stands_before_the_place_and_under_the_checksum() {
    let mut out = Vec::new();
    encode(&mut out, Fields { source: Some(name("taller/esp7")), ..fields(1, PLACE) }, b"21.4").unwrap();
    let line = String::from_utf8(out.clone()).unwrap();
    assert!(
        line.starts_with("1795234260----0----6 ---------4 0@taller/esp7:1.0- ") && line.ends_with(" 21.4\n"),
        "{line}"
    );
    let read = decode(line.trim_end().as_bytes()).unwrap();
    assert_eq!((read.source, read.place), (Some(name("taller/esp7")), PLACE));
    let forged = line.trim_end().replace("esp7", "esp8");
    assert!(matches!(decode(forged.as_bytes()), Err(LineError::Checksum { .. })));
    let payload = text(1, PLACE, b"x@esp8:1.0- y");
    assert_eq!(decode(payload.trim_end().as_bytes()).unwrap().source, None, "no payload makes a name");
}

#[test]
fn a_copy_of_a_record_has_its_source_in_whichever_ledger_it_stands() {
    let copy = |source: Option<SourceName>, place: Option<Place>| {
        let mut out = Vec::new();
        encode(&mut out, Fields { source, ..fields(1, place) }, b"21.4").unwrap();
        out
    };
    let (esp, other) = (Some(name("esp7")), Some(Place { number: 9, entry: 0 }));
    assert!(is_same(&copy(esp, PLACE), &copy(esp, other)) && is_same(&copy(None, PLACE), &copy(None, other)));
    assert!(!is_same(&copy(esp, PLACE), &copy(None, PLACE)));
    assert!(!is_same(&copy(esp, PLACE), &copy(Some(name("esp8")), other)));
}

#[test]
fn the_fields_stay_within_their_budget() {
    let place = Some(Place { number: 4095, entry: (1 << 18) - 1 });
    for seq in [0, 1, 63, 64, 4095] {
        let mut line = Vec::new();
        encode_tagged(&mut line, fields(seq, place), Some(Tag::from_bits(1)), b"").unwrap();
        assert!(line.len() <= RECORD_FIELDS_BYTES, "{seq}: {}", line.len());
    }
    let place = Some(Place { number: NUMBER_END - 1, entry: NUMBER_END - 1 });
    let mut longest = Vec::new();
    let source = Some(name(&"x".repeat(SOURCE_NAME_BYTES_MAX)));
    let (fields, payload) = (Fields { source, ..fields((1 << 60) - 1, place) }, vec![0xff; PAYLOAD_BYTES_MAX]);
    encode_tagged(&mut longest, fields, Some(Tag::from_bits(u64::MAX)), &payload).unwrap();
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
    let mut refused = |fields, payload: &[u8]| encode(&mut out, fields, payload).unwrap_err();
    let good = fields(0, None);
    let wide = RecordId { time_ns: 1, incarnation: 1 << 30 };
    assert_eq!(refused(Fields { id: wide, ..good }, b""), EncodeError::Id);
    assert_eq!(refused(Fields { client: ClientId(1 << 60), ..good }, b""), EncodeError::Client);
    assert_eq!(refused(Fields { seq: 1 << 60, ..good }, b""), EncodeError::Seq);
    for (number, entry) in [(NUMBER_END, 0), (0, NUMBER_END)] {
        assert_eq!(refused(Fields { place: Some(Place { number, entry }), ..good }, b""), EncodeError::Place);
    }
    assert_eq!(refused(Fields { source: Some(name("a")), ..good }, b""), EncodeError::Source);
    assert_eq!(refused(good, &vec![0; PAYLOAD_BYTES_MAX + 1]), EncodeError::TooLong);
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
        place in prop::option::of((0..NUMBER_END, 0..NUMBER_END)), source in prop::option::of(any_name()),
    ) {
        let (id, client) = (RecordId { time_ns, incarnation }, ClientId(client));
        let place = place.map(|(number, entry)| Place { number, entry });
        let fields = Fields { id, client, seq, place, source: source.filter(|_| place.is_some()) };
        let mut out = Vec::new();
        encode(&mut out, fields, &payload).unwrap();
        let (newline, line) = out.split_last().unwrap();
        prop_assert_eq!(*newline, b'\n');
        prop_assert!(!std::str::from_utf8(line).unwrap().chars().any(|c| c.is_control()));
        let read = decode(line).unwrap();
        prop_assert_eq!(read.fields(), fields);
        prop_assert!(read.is_escaped_as_written());
        prop_assert_eq!(read.payload().into_owned(), payload);
    }

    #[test]
    fn random_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn a_changed_bit_never_passes(payload in prop::collection::vec(any::<u8>(), 0..100), bit in any::<usize>()) {
        let mut out = line(70, PLACE, &payload);
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

#[test]
fn a_sync_mark_is_set_and_taken_away_and_no_flipped_bit_makes_one() {
    let plain = line(1, PLACE, b"hola");
    let mut marked = plain.clone();
    for _ in 0..2 {
        set_sync_mark(&mut marked, true);
        assert_ne!(marked, plain);
    }
    let body = |line: &[u8]| line[..line.len() - 1].to_vec();
    let (one, other) = (body(&plain), body(&marked));
    let (one, other) = (decode(&one).unwrap(), decode(&other).unwrap());
    assert_eq!((one.has_sync_mark, other.has_sync_mark), (false, true));
    assert_eq!(Line { has_sync_mark: false, ..other }, one);
    assert_eq!((without_sync_mark(&marked, &other), without_sync_mark(&plain, &one)), (Some(plain.clone()), None));
    for line in [&plain, &marked] {
        for bit in 0..8 * (line.len() - 1) {
            let mut bad = body(line);
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }
    set_sync_mark(&mut marked, false);
    assert_eq!(marked, plain);
    // What is no line stays as it is.
    for text in [&b""[..], b"x\n", &plain[..40]] {
        let mut same = text.to_vec();
        set_sync_mark(&mut same, true);
        assert_eq!(same, text);
    }
}
