//! Tests of the text side: the contract's words, lines however the stream is cut, and lines without end.

use proptest::prelude::*;

use super::*;
use crate::wire::error::Code;

#[test]
fn texts_are_those_of_the_contract() {
    assert_eq!(answer([127, 0, 0, 2].into()), "127.0.0.2 , mensaje: recibido");
    assert_eq!(
        lleno(&Refusal::new(Code::Full, full_text(100))),
        "lleno: 100 clients are connected; try again later or raise --max-clients\n"
    );
    assert_eq!(error_line("a\nb", "c"), "error: a b; c");
    assert_eq!(refusal_line(&Refusal::new(Code::NoNodes, NO_NODES_TEXT)), format!("error: {NO_NODES_TEXT}"));
}

#[test]
fn an_endless_line_is_refused_within_its_bound() {
    let (mut lines, mut buffer) = (Lines::new(), BytesMut::new());
    while buffer.len() <= LINE_BYTES_MAX {
        assert_eq!(lines.next_line(&mut buffer), Ok(None));
        assert_eq!(lines.searched, buffer.len(), "no byte is searched twice");
        buffer.extend_from_slice(&[b'x'; 1024]);
    }
    assert_eq!(lines.next_line(&mut buffer), Err(LineTooLong));
    for (length, taken) in [(LINE_BYTES_MAX, true), (LINE_BYTES_MAX + 1, false)] {
        for end in ["\n", "\r\n"] {
            let line = "x".repeat(length) + end;
            let found = Lines::new().next_line(&mut BytesMut::from(line.as_str()));
            assert_eq!(found.is_ok_and(|line| line.is_some()), taken, "{length} {end:?}");
            let drained = Lines::new().drain(&mut BytesMut::from(line.as_str()), 9, |_| {});
            assert_eq!(drained.is_ok(), taken, "{length} {end:?}");
        }
    }
}

#[test]
fn a_carriage_return_ends_a_line_where_that_was_said() {
    let lines = |packets: &[&str]| {
        let (mut lines, mut buffer, mut got) = (Lines::ending_in_cr(), BytesMut::new(), vec![]);
        for packet in packets {
            buffer.extend_from_slice(packet.as_bytes());
            while lines.drain(&mut buffer, 2, |line| got.push(String::from_utf8(line.to_vec()).unwrap())).unwrap() == 2
            {
            }
        }
        (got, buffer.len())
    };
    let owned = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&["a\rb\rc"]), (owned(&["a", "b"]), 1));
    assert_eq!(lines(&["a\r", "\nb\r\nc\n", "\n"]), (owned(&["a", "b", "c", ""]), 0));
    assert_eq!(lines(&["\n", "a\r"]), (owned(&["a"]), 0));
    assert_eq!(lines(&["a\r\n", "\n"]), (owned(&["a", ""]), 0));
    assert_eq!(lines(&["\r\r\n", "x\r"]), (owned(&["", "", "x"]), 0));
    for cut in 0..12 {
        let (a, b) = "a\r\nbb\rc\n\rd\r".split_at(cut);
        assert_eq!(lines(&[a, b]), (owned(&["a", "bb", "c", "", "d"]), 0), "cut at {cut}");
    }
}

#[test]
fn lines_before_one_that_is_too_long_are_handed_over() {
    let mut buffer = BytesMut::from(("a\r\nb\n".to_owned() + &"x".repeat(LINE_BYTES_MAX + 2)).as_str());
    let mut got = vec![];
    assert_eq!(Lines::new().drain(&mut buffer, 9, |line| got.push(line.to_vec())), Err(LineTooLong));
    assert_eq!(got, [b"a", b"b"]);
}

proptest! {
    #[test]
    fn lines_are_the_same_wherever_the_stream_is_cut(text in "[ab\r\n]{0,60}", cut in 0..60_usize, max in 1..5_usize) {
        let whole: Vec<String> = text.split_inclusive('\n').filter_map(|line| {
            let line = line.strip_suffix('\n')?;
            Some(line.strip_suffix('\r').unwrap_or(line).to_owned())
        }).collect();
        let (a, b) = text.as_bytes().split_at(cut.min(text.len()));
        let (mut one, mut many) = (vec![], vec![]);
        let (mut lines, mut buffer) = (Lines::new(), BytesMut::new());
        let (mut drains, mut drained) = (Lines::new(), BytesMut::new());
        for part in [a, b] {
            buffer.extend_from_slice(part);
            while let Some(line) = lines.next_line(&mut buffer).unwrap() {
                one.push(String::from_utf8(line.to_vec()).unwrap());
            }
            drained.extend_from_slice(part);
            let mut each = |line: &[u8]| many.push(String::from_utf8(line.to_vec()).unwrap());
            while drains.drain(&mut drained, max, &mut each).unwrap() == max {}
        }
        prop_assert_eq!(&one, &whole);
        prop_assert_eq!(&many, &whole);
        prop_assert_eq!(buffer, drained);
    }
}
