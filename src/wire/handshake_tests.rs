//! Tests of the handshake: every opening, however it is cut into packets, and what is none.

use proptest::prelude::*;

use super::*;
use crate::wire::text::{FRAMED_CLIENT_OPENING, FRAMED_NODE_OPENING};

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
    assert_eq!(
        (sent.as_str(), done, rest.as_slice()),
        (answer, Ok(Some(Opening { dialect, role, said: None, token: None })), left)
    );
}

/// As a client that said this of itself.
fn named(packets: &[&[u8]], dialect: Dialect, said: &str, answer: &str, left: &[u8]) {
    let (sent, done, rest) = shake(packets);
    let said = Some(Said::parse(said.as_bytes(), dialect).unwrap());
    let opening = Opening { dialect, role: Role::Client, said, token: None };
    assert_eq!((sent.as_str(), done, rest.as_slice()), (answer, Ok(Some(opening)), left), "{packets:?}");
}

fn failed(packets: &[&[u8]]) -> String {
    shake(packets).1.unwrap_err().line()
}

#[test]
fn a_raw_client_is_confirmed_without_newline_and_its_first_read_is_its_message() {
    opened(&[b"peticion", b"hola"], Dialect::Raw, Role::Client, "confirmacion", b"hola");
    opened(&[b"petic", b"ion", b"hola"], Dialect::Raw, Role::Client, "confirmacion", b"hola");
    opened(&[b"peticion", b" hola que tal\n"], Dialect::Raw, Role::Client, "confirmacion", b" hola que tal\n");
    opened(&[b"peticion", b" temp=21.5\r\n"], Dialect::Raw, Role::Client, "confirmacion", b" temp=21.5\r\n");
    assert!(failed(&[b"peticion", b" ", b"esp7 calado", b"\r\n"]).contains("\"calado\" is not an option"));
    assert!(failed(&[b"peticion", b" esp@7\n"]).contains("'@' is not in a name"));
    opened(&[b"peticion", b" 21.5\r\n"], Dialect::Raw, Role::Client, "confirmacion", b" 21.5\r\n");
    opened(
        &[b"peticion", b"cliente 42 dice hola"],
        Dialect::Raw,
        Role::Client,
        "confirmacion",
        b"cliente 42 dice hola",
    );
    opened(&[b"peticion", b"clientes"], Dialect::Raw, Role::Client, "confirmacion", b"clientes");
    opened(&[b"peticion", b"cliente"], Dialect::Raw, Role::Client, "confirmacion", b"cliente");
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
            assert_eq!(
                done,
                Ok(Some(Opening { dialect: Dialect::Framed, role, said: None, token: None })),
                "cut at {at}"
            );
        }
        let single: Vec<&[u8]> = opening.chunks(1).collect();
        opened(&single, Dialect::Framed, role, "confirmacion acopio/2\n", b"");
    }
}

#[test]
fn a_client_may_say_its_name_on_every_dialect() {
    named(&[b"peticion esp7\n21.4\n"], Dialect::Line, "esp7", "confirmacion\n", b"21.4\n");
    named(&[b"peticion taller/horno callado cr\r\n1\r"], Dialect::Line, "taller/horno callado cr", "", b"1\r");
    named(&[b"peticion plc cr\r1\r"], Dialect::Line, "plc cr", "confirmacion\n", b"1\r");
    named(&[b"peticion", b" plc callado cr\r"], Dialect::Line, "plc callado cr", "confirmacion", b"");
    named(&[b"peticion lora/\ns12 21.4\n"], Dialect::Line, "lora/", "confirmacion\n", b"s12 21.4\n");
    named(&[b"peticion acopio/2\ncliente esp7\n\0\0"], Dialect::Framed, "esp7", "confirmacion acopio/2\n", b"\0\0");
    named(
        &[b"peticion acopio/2\ncliente esp7 varios\r\n"],
        Dialect::Framed,
        "esp7 varios",
        "confirmacion acopio/2\n",
        b"",
    );
    named(&[b"peticion", b"cliente esp7"], Dialect::Raw, "esp7", "confirmacionconfirmacion", b"");
    named(&[b"peticion", b"cliente esp7 varios\r\n"], Dialect::Raw, "esp7 varios", "confirmacionconfirmacion", b"");
    named(&[b"peticion", b"cliente esp7 callado"], Dialect::Raw, "esp7 callado", "confirmacion", b"");
}

/// Arduino prints each argument in a packet of its own.
#[test]
fn a_name_may_come_in_any_packets() {
    for (opening, dialect, answer) in [
        (&b"peticion esp7 varios\r\n"[..], Dialect::Line, "confirmacion\n"),
        (b"peticion acopio/2\ncliente esp7 varios\n", Dialect::Framed, "confirmacion acopio/2\n"),
    ] {
        let stream = [opening, b"21.4\n"].concat();
        for at in 0..=stream.len() {
            let (a, b) = stream.split_at(at);
            let (sent, done, _) = shake(&[a, b]);
            assert_eq!(sent, answer, "cut at {at}");
            assert_eq!(done.unwrap().unwrap().said.unwrap().to_string(), "esp7 varios", "cut at {at}");
        }
        let single: Vec<&[u8]> = opening.chunks(1).collect();
        named(&single, dialect, "esp7 varios", answer, b"");
    }
    named(&[b"peticion", b" ", b"esp7", b"\r\n", b"21"], Dialect::Line, "esp7", "confirmacion\n", b"21");
}

#[test]
fn what_is_no_handshake_is_refused_as_soon_as_that_is_certain() {
    assert_eq!(failed(&[b"G"]), "error: \"G\" is not a first word here; begin with 'peticion'\n");
    assert_eq!(failed(&[b"\xff\0\nx"]), "error: \"\\xff\\x00\" is not a first word here; begin with 'peticion'\n");
    assert_eq!(failed(&[b"peticiones"]), "error: \"peticiones\" is not a first word here; begin with 'peticion'\n");
    let version = "error: version acopio/9 is not known here; speak acopio/2\n";
    assert_eq!(failed(&[b"peticion acopio/9\n"]), version);
    assert_eq!(failed(&[b"peticion", b" acopio/9\n"]), version);
    assert!(
        failed(&[b"peticion ho@la\n"]).starts_with("error: \"ho@la\" is not a source's name: '@' is not in a name;")
    );
    assert!(failed(&[b"peticion \n"]).contains("it is empty"));
    assert!(failed(&[b"peticion hola que\n"]).starts_with("error: \"que\" is not an option; say callado,"));
    assert!(failed(&[b"peticion", b"cliente ho+la"]).contains("'+' is not in a name"));
    assert!(failed(&[b"peticion acopio/2\ncliente ho+la\n"]).contains("'+' is not in a name"));
    assert!(failed(&[b"peticion acopio/2\ncliente lora/\n"]).contains("say StoreAs"));
    assert!(
        failed(&[b"peticion acopio/2\ndataNode esp7\n"]).starts_with("error: \"dataNode esp7\" is not a third word")
    );
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
