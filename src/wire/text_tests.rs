//! Tests of the text side: every opening, however it is cut into packets, and lines without end.

use proptest::prelude::*;

use super::*;

/// Feeds packets one by one, as a head does; returns all answers, the end, and what is left in the buffer.
fn shake(packets: &[&[u8]]) -> (String, Result<Option<Opening>, HandshakeError>, Vec<u8>) {
    let (mut handshake, mut buffer, mut sent) = (Handshake::new(), BytesMut::new(), vec![]);
    let mut done = Ok(None);
    for packet in packets {
        buffer.extend_from_slice(packet);
        while let Ok(None) = done {
            match handshake.feed(&mut buffer) {
                Ok(Step::More) => break,
                Ok(Step::Send(bytes)) => sent.extend_from_slice(bytes),
                Ok(Step::Done(opening)) => done = Ok(Some(opening)),
                Err(error) => done = Err(error),
            }
        }
    }
    (String::from_utf8(sent).unwrap(), done, buffer.to_vec())
}

fn opened(packets: &[&[u8]], dialect: Dialect, role: Role, answer: &str, left: &[u8]) {
    let (sent, done, rest) = shake(packets);
    assert_eq!((sent.as_str(), done, rest.as_slice()), (answer, Ok(Some(Opening { dialect, role })), left));
}

fn failed(packets: &[&[u8]]) -> String {
    shake(packets).1.unwrap_err().line()
}

#[test]
fn a_raw_client_is_confirmed_without_newline_and_its_first_read_is_its_message() {
    opened(&[b"peticion", b"hola"], Dialect::Raw, Role::Client, "confirmacion", b"hola");
    opened(&[b"petic", b"ion", b"hola"], Dialect::Raw, Role::Client, "confirmacion", b"hola");
    opened(&[b"peticion", b" hola"], Dialect::Raw, Role::Client, "confirmacion", b" hola");
    opened(&[b"peticion", b"data"], Dialect::Raw, Role::Client, "confirmacion", b"data");
    opened(&[b"peticion", b"\rx"], Dialect::Raw, Role::Client, "confirmacion", b"\rx");
    opened(&[b"peticion", b"dataNode"], Dialect::Raw, Role::DataNode, "confirmacion", b"");
}

#[test]
fn a_line_client_may_say_all_at_once_or_its_newline_late() {
    opened(&[b"peticion\nhola\nadios\n"], Dialect::Line, Role::Client, "confirmacion\n", b"hola\nadios\n");
    opened(&[b"peticion\r\n", b"h"], Dialect::Line, Role::Client, "confirmacion\n", b"h");
    opened(&[b"peticion\r", b"\nx"], Dialect::Line, Role::Client, "confirmacion\n", b"x");
    opened(&[b"peticion", b"\nhola\n"], Dialect::Line, Role::Client, "confirmacion\n", b"hola\n");
    opened(&[b"peticion", b"\r", b"\nhola\n"], Dialect::Line, Role::Client, "confirmacion\n", b"hola\n");
    opened(&[b"peticion\n", b"dataNo", b"de\n"], Dialect::Line, Role::DataNode, "confirmacion\n", b"");
    opened(&[b"peticion\ndataNode\r\n"], Dialect::Line, Role::DataNode, "confirmacion\n", b"");
    opened(&[b"peticion\ndataNodes\n"], Dialect::Line, Role::Client, "confirmacion\n", b"dataNodes\n");
}

#[test]
fn a_framed_opening_is_one_wherever_it_is_cut() {
    for (opening, role) in [(FRAMED_CLIENT_OPENING, Role::Client), (FRAMED_NODE_OPENING, Role::DataNode)] {
        let stream = [opening, b"\0\0\0\x01"].concat();
        for at in 0..=stream.len() {
            let (a, b) = stream.split_at(at);
            let (sent, done, _) = shake(&[a, b]);
            assert_eq!(sent.as_bytes(), FRAMED_CONFIRMATION, "cut at {at}");
            assert_eq!(done, Ok(Some(Opening { dialect: Dialect::Framed, role })), "cut at {at}");
        }
        let single: Vec<&[u8]> = opening.chunks(1).collect();
        opened(&single, Dialect::Framed, role, "confirmacion acopio/2\n", b"");
    }
}

#[test]
fn what_is_no_handshake_is_refused_as_soon_as_that_is_certain() {
    assert_eq!(failed(&[b"G"]), "error: \"G\" is not a first word here; begin with 'peticion'\n");
    assert_eq!(failed(&[b"\xff\0\nx"]), "error: \"\\xff\\x00\" is not a first word here; begin with 'peticion'\n");
    assert_eq!(failed(&[b"peticiones"]), "error: \"peticiones\" is not a first word here; begin with 'peticion'\n");
    let version = "error: version acopio/9 is not known here; speak acopio/2\n";
    assert_eq!(failed(&[b"peticion acopio/9\n"]), version);
    assert_eq!(failed(&[b"peticion", b" acopio/9\n"]), version);
    assert_eq!(failed(&[b"peticion hola"]), "error: version hola is not known here; speak acopio/2\n");
    assert!(failed(&[b"peticion acopio/2\nhola"]).starts_with("error: \"hola\" is not a third word here;"));
    assert!(failed(&[b"G".repeat(10_000).as_slice()]).len() < 200, "what is quoted is bounded");
    let endless = [b"peticion acopio/".as_slice(), &b"1".repeat(HANDSHAKE_BYTES_MAX)].concat();
    assert!(failed(&[&endless]).contains("longer than 256 bytes"));
    assert_eq!(shake(&[&endless]).1.unwrap_err().code(), Code::TooLong);
}

#[test]
fn an_end_settles_what_was_in_doubt() {
    for (packets, wanted, left) in [
        (&[b"peticion".as_slice(), b"\r"], Some((Dialect::Raw, Role::Client)), b"\r".as_slice()),
        (&[b"peticion\n", b"data"], Some((Dialect::Line, Role::Client)), b"data"),
        (&[b"peticion\n", b"dataNode"], Some((Dialect::Line, Role::DataNode)), b""),
        (&[b"peticion acopio/2\n", b"dataNode"], None, b"dataNode"),
        (&[b"petic", b""], None, b"petic"),
    ] {
        let (mut handshake, mut buffer) = (Handshake::new(), BytesMut::new());
        for packet in packets {
            buffer.extend_from_slice(packet);
            while let Step::Send(_) = handshake.feed(&mut buffer).unwrap() {}
        }
        let opening = handshake.settle(&mut buffer).map(|opening| (opening.dialect, opening.role));
        assert_eq!((opening, buffer.as_ref()), (wanted, left));
    }
}

#[test]
fn only_a_confirmed_text_peer_may_stay_silent() {
    let (mut handshake, mut buffer) = (Handshake::new(), BytesMut::from("peticion"));
    assert!(!handshake.may_stay_silent());
    handshake.feed(&mut buffer).unwrap();
    assert!(handshake.may_stay_silent());
    buffer.extend_from_slice(b" acopio/2\n");
    handshake.feed(&mut buffer).unwrap();
    assert!(!handshake.may_stay_silent());
}

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
fn lines_before_one_that_is_too_long_are_handed_over() {
    let mut buffer = BytesMut::from(("a\r\nb\n".to_owned() + &"x".repeat(LINE_BYTES_MAX + 2)).as_str());
    let mut got = vec![];
    assert_eq!(Lines::new().drain(&mut buffer, 9, |line| got.push(line.to_vec())), Err(LineTooLong));
    assert_eq!(got, [b"a", b"b"]);
}

proptest! {
    #[test]
    fn any_bytes_in_any_packets_never_break_the_handshake(packets in any_packets()) {
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let (_, done, left) = shake(&packets);
        if let Err(error) = done {
            prop_assert!(error.line().len() < 400 && error.line().lines().count() == 1);
        } else if done == Ok(None) {
            prop_assert!(left.len() <= HANDSHAKE_BYTES_MAX + 1, "nothing is waited for beyond the bound");
        }
    }

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

fn any_packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let packet = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 200..400),
        prop::sample::select(vec!["peticion", "\n", "\r", " acopio/2\n", " ", "acopio/", "dataNode", "cliente\n", "p"])
            .prop_map(|word| word.as_bytes().to_vec()),
    ];
    prop::collection::vec(packet, 0..6)
}
