//! Names of sources, from a bare socket to the record and back: all three dialects, groups, options, late words, and who
//! takes a name over.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::common::frames::Frames;
use crate::common::{Head, LineClient, PATIENCE, acopio, eventually, ran, read_once, verify_clean};
use acopio::client::Client;
use acopio::wire::frame::{Frame, MessagesBuilder};
use acopio::wire::id::ClientId;

const RECIBIDO: &str = " , mensaje: recibido";

/// What is kept, in the order of ids: the source, or `-`, and the text.
fn kept(head: &Head) -> Vec<String> {
    let mut command = acopio();
    command.args(["read", "--format", "json", "--head", &head.at()]);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    let shown = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{} {}", message["source"].as_str().unwrap_or("-"), message["text"].as_str().unwrap())
    };
    out.lines().map(shown).collect()
}

/// A line client that has said this, and what it was answered.
fn said(head: &Head, words: &str) -> (LineClient, String) {
    let mut client = LineClient(BufReader::new(head.connect()));
    client.send(words);
    let answer = client.read();
    (client, answer)
}

fn rest(mut socket: impl Read) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_client_says_its_name_on_every_dialect_and_its_records_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &[]);
    assert_eq!(head.nc(b"peticion esp7\n21.4\n"), format!("confirmacion\n127.0.0.2{RECIBIDO}\n"));
    let mut raw = head.raw();
    raw.write_all(b"cliente taller/horno").unwrap();
    assert_eq!(read_once(&mut raw), "confirmacion");
    raw.write_all(b"210").unwrap();
    assert!(read_once(&mut raw).ends_with(RECIBIDO));
    // Later words are messages.
    raw.write_all(b"cliente otro").unwrap();
    assert!(read_once(&mut raw).ends_with(RECIBIDO));
    let mut framed = Frames::open(head.connect(), b"peticion acopio/2\ncliente plc39\n");
    framed.say(&Frame::Hello { client: ClientId(7), text: false });
    assert!(matches!(framed.hear(), Frame::Welcome { .. }));
    for (first_seq, source) in [(1, None), (2, Some("lora/s12")), (3, None)] {
        let mut messages = MessagesBuilder::new();
        messages.push(&[b"n"]).unwrap();
        let source = source.map(|source: &str| source.parse().unwrap());
        framed.say(&Frame::Store { source, first_seq, messages: messages.take().unwrap() });
        assert!(matches!(framed.hear(), Frame::Acked { .. }));
    }
    let mut nobody = head.line();
    assert!(nobody.ask("sin nombre").ends_with(RECIBIDO));
    let wanted = [
        "esp7 mensaje: 21.4",
        "taller/horno mensaje: 210",
        "taller/horno mensaje: cliente otro",
        "plc39 n",
        "lora/s12 n",
        "plc39 n",
        "- mensaje: sin nombre",
    ];
    assert_eq!(kept(&head), wanted);
    drop(node);
    verify_clean(dir.path(), &["data1"]);
    let text = std::fs::read_to_string(dir.path().join("data1/data.txt")).unwrap();
    assert_eq!(text.lines().filter(|line| line.split(' ').nth(2).unwrap().contains("@taller/horno:")).count(), 2);
}

#[test]
fn the_library_and_the_commands_say_names() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::builder().head(head.at()).name("esp7").unwrap().build();
        client.store("21.4".into()).await.unwrap();
        client.store_as("lora/s12".parse().unwrap(), "7".into()).await.unwrap();
    });
    for more in [&["send", "--as", "taller/horno", "210"][..], &["client", "--as", "azar", "--count", "1"]] {
        let mut command = acopio();
        command.args(more).args(["--head", &head.at()]).current_dir(dir.path());
        let (code, _, err) = ran(command);
        assert_eq!(code, Some(0), "{err}");
    }
    let all = kept(&head);
    assert_eq!(all[..3], ["esp7 21.4", "lora/s12 7", "taller/horno 210"]);
    assert!(all[3].starts_with("azar mensaje: numero random: "), "{all:?}");
    let mut command = acopio();
    command.args(["send", "--as", "esp 7", "x", "--head", &head.at()]);
    let (code, _, err) = ran(command);
    assert!(code == Some(2) && err.contains("take 1 to 32 of A-Za-z0-9._-"), "{err}");
}

#[test]
fn a_name_that_is_none_is_refused_with_the_rule() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let refused = |input: &[u8], wanted: &str| {
        let answer = head.nc(input);
        assert!(answer.contains("error: ") && answer.contains(wanted) && answer.ends_with('\n'), "{answer}");
    };
    refused(b"peticion esp@7\nhola\n", "\"esp@7\" is not a source's name: '@' is not in a name; take 1 to 32 of");
    refused(b"peticion xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", "it has 33 bytes");
    refused(b"peticion /a\n", "a / stands between two parts of a name");
    refused(b"peticion esp7 calado\n", "\"calado\" is not an option; say callado, cr, numerado or varios");
    refused(b"peticion acopio/2\ncliente a b\n", "\"b\" is not an option");
    refused(b"peticion acopio/3\n", "version acopio/3 is not known here");
    let mut raw = head.raw();
    raw.write_all(b"cliente esp+7").unwrap();
    let answer = rest(&mut raw);
    assert!(
        answer.starts_with("error: \"esp+7\" is not a source's name: '+' is not in a name; take 1 to 32"),
        "{answer}"
    );
}

#[test]
fn late_words_with_a_slip_in_them_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    for (words, wanted) in [
        (
            " esp7 calado\r\n",
            "error: \"calado\" is not an option; say callado, cr, numerado or varios after the name\n",
        ),
        (" esp@7\n", "error: \"esp@7\" is not a source's name: '@' is not in a name; take 1 to 32"),
    ] {
        let mut socket = head.raw();
        socket.write_all(words.as_bytes()).unwrap();
        let answer = rest(&mut socket);
        assert!(answer.starts_with(wanted), "{answer}");
    }
    head.process.wait_for("127.0.0.1: error: \"calado\" is not an option");
    let mut socket = head.raw();
    socket.write_all(b" esp 7\n").unwrap();
    assert!(read_once(&mut socket).ends_with(RECIBIDO));
    head.process.wait_for("127.0.0.1: \"esp 7\" came behind peticion and is kept as a message; was it to be a name?");
    assert_eq!(kept(&head), ["- mensaje:  esp 7\n"]);
}

#[test]
fn nobody_says_the_name_of_notes() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let wanted = "acopio.notes is the name of notes, which 'acopio note' sends; ";
    assert!(head.nc(b"peticion acopio.notes\n21.4\n").contains(wanted));
    let mut raw = head.raw();
    raw.write_all(b"cliente acopio.notes").unwrap();
    assert!(rest(&mut raw).contains(wanted));
    let mut framed = Frames::open(head.connect(), b"peticion acopio/2\ncliente\n");
    framed.say(&Frame::Hello { client: ClientId(7), text: false });
    assert!(matches!(framed.hear(), Frame::Welcome { .. }));
    let mut messages = MessagesBuilder::new();
    messages.push(&[b"21.4"]).unwrap();
    let source = Some("acopio.notes".parse().unwrap());
    framed.say(&Frame::Store { source, first_seq: 1, messages: messages.take().unwrap() });
    let refused = framed.hear();
    assert!(
        matches!(&refused, Frame::Refused { refusal, .. } if refusal.text.contains(wanted) && !refusal.retry),
        "{refused:?}"
    );
    let mut command = acopio();
    command.args(["send", "--as", "acopio.notes", "x", "--head", &head.at()]);
    let (code, _, err) = ran(command);
    assert!(code == Some(2) && err.contains(wanted), "{err}");
    assert_eq!(kept(&head), Vec::<String>::new());
}

#[test]
fn a_plain_port_that_is_taken_is_told_with_its_own_flag() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = format!("{}=plc39", taken.local_addr().unwrap());
    let mut command = acopio();
    command.args(["head", "--listen", "127.0.0.1:0", "--plain", &plain, "--logs"]).arg(dir.path());
    let (code, _, err) = ran(command);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("choose another port with --plain"), "{err}");
}

#[test]
fn a_gateways_lines_say_whose_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let answer = head.nc(b"peticion lora/\ns12 21.4\ns13 7\n s 1\ns12 21.5\ns@1 2\n");
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines.len(), 6, "{answer}");
    for (at, line) in lines.iter().enumerate().skip(1) {
        let wanted = if matches!(at, 3 | 5) { "; begin each message with a name and a space" } else { RECIBIDO };
        assert!(line.ends_with(wanted), "{answer}");
    }
    assert_eq!(kept(&head), ["lora/s12 mensaje: 21.4", "lora/s13 mensaje: 7", "lora/s12 mensaje: 21.5"]);
    assert_eq!(head.status()["refused_messages"], 2);
}

#[test]
fn a_quiet_client_hears_nothing_and_a_carriage_return_may_end_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    assert_eq!(head.nc(b"peticion plc39 callado cr numerado\r1 21.4\r2 21.5\r\n3 21.6\r4 21.7"), "");
    let kept = kept(&head);
    assert_eq!(kept, ["1 21.4", "2 21.5", "3 21.6", "4 21.7"].map(|text| format!("plc39 mensaje: {text}")));
}

/// As `Serial.print` and `client.print` of an Arduino do: each argument in a packet of its own.
#[test]
fn words_that_come_late_are_a_name_and_readings_with_a_space_in_front_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut socket = head.raw();
    for piece in [" ", "esp7", "\r\n"] {
        socket.write_all(piece.as_bytes()).unwrap();
        // The next goes in a packet of its own.
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(read_once(&mut socket), "\n");
    socket.write_all(b"21.4\r\n").unwrap();
    assert!(read_once(&mut socket).ends_with("recibido\n"));
    for reading in [" 21.5\r\n", " hola que tal\n", " sola"] {
        let mut raw = head.raw();
        raw.write_all(reading.as_bytes()).unwrap();
        assert!(read_once(&mut raw).ends_with(RECIBIDO), "{reading:?}");
    }
    let wanted = ["esp7 mensaje: 21.4", "- mensaje:  21.5\r\n", "- mensaje:  hola que tal\n", "- mensaje:  sola"];
    assert_eq!(kept(&head), wanted);
}

#[test]
fn the_last_that_says_a_name_has_it_and_the_older_one_ends_with_its_answers() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--max-clients", "2"]);
    let _node = head.node(dir.path(), 1, &[]);
    let (mut old, answer) = said(&head, "peticion esp7");
    assert_eq!(answer, "confirmacion");
    assert!(old.ask("1").ends_with(RECIBIDO));
    let (_other, answer) = said(&head, "peticion esp8");
    assert_eq!(answer, "confirmacion");
    // The head is full, and the name's place is its own.
    let (mut new, answer) = said(&head, "peticion esp7");
    assert_eq!(answer, "confirmacion");
    let words = rest(&mut old.0);
    assert_eq!(words, "error: another connection said the name esp7, from 127.0.0.1; this one ends\n");
    assert!(new.ask("2").ends_with(RECIBIDO));
    assert_eq!(head.status()["clients"], 2);
    drop(new);
    eventually("its place is free", || (head.status()["clients"] == 1).then_some(()));
    assert!(said(&head, "peticion esp7").1 == "confirmacion");
}

/// A raw client is confirmed before it says its name: that its own ghost holds the last place must not keep it out.
#[test]
fn a_raw_client_gets_in_again_though_all_places_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--max-clients", "1"]);
    let _node = head.node(dir.path(), 1, &[]);
    let (mut ghosts, mut raw) = (Vec::new(), head.raw());
    for k in 0..3 {
        raw.write_all(b"cliente esp7").unwrap();
        assert_eq!(read_once(&mut raw), "confirmacion");
        raw.write_all(format!("{k}").as_bytes()).unwrap();
        assert!(read_once(&mut raw).ends_with(RECIBIDO));
        ghosts.push(std::mem::replace(&mut raw, head.raw()));
    }
    // Who says another name, none, or nothing at all has no place.
    let lleno = "lleno: 1 clients are connected; try again later or raise --max-clients\n";
    for words in ["cliente esp8", "hola", ""] {
        raw.write_all(words.as_bytes()).unwrap();
        assert_eq!(rest(&mut raw), lleno, "{words}");
        raw = head.raw();
    }
    drop(raw);
    assert_eq!(head.nc(b"peticion\nhola\n"), lleno);
    assert_eq!(kept(&head), ["0", "1", "2"].map(|text| format!("esp7 mensaje: {text}")));
    assert_eq!(head.status()["clients"], 1);
    ghosts.clear();
    eventually("its place is free", || (head.status()["clients"] == 0).then_some(()));
}

#[test]
fn several_may_have_a_name_where_all_of_them_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let (mut one, _) = said(&head, "peticion granja varios");
    let (mut two, _) = said(&head, "peticion granja varios");
    assert!(one.ask("1").ends_with(RECIBIDO) && two.ask("2").ends_with(RECIBIDO) && one.ask("3").ends_with(RECIBIDO));
    assert_eq!(kept(&head), ["granja mensaje: 1", "granja mensaje: 2", "granja mensaje: 3"]);
}

#[test]
fn two_devices_of_one_name_take_over_from_each_other_and_not_at_full_speed() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let begun = Instant::now();
    let (mut last, mut times) = (None, 0);
    while begun.elapsed() < Duration::from_secs(4) {
        let (client, answer) = said(&head, "peticion gemelo");
        assert_eq!(answer, "confirmacion");
        last = Some(client);
        times += 1;
    }
    assert!((9..=8 + 2 + 5).contains(&times), "{times} times in 4 s");
    assert!(last.unwrap().ask("sigue").ends_with(RECIBIDO));
    head.process.wait_for("gemelo connects again and again");
    // Said, and then counted.
    assert!(head.process.count("gemelo connects again and again") <= 4, "{}", head.process.all());
    assert!(head.process.count("said the name gemelo") <= 4, "{}", head.process.all());
}

#[test]
fn what_the_older_connection_has_sent_is_kept_though_its_name_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut old = head.connect();
    let mut lines = "peticion esp7 callado\n".to_owned();
    (0..2000).for_each(|k| lines.push_str(&format!("{k}\n")));
    old.write_all(lines.as_bytes()).unwrap();
    eventually("it has the name", || (head.status()["clients"] == 1).then_some(()));
    let mut new = head.connect();
    new.write_all(b"peticion esp7 callado\nnueva\n").unwrap();
    new.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut new), "");
    assert_eq!(rest(&mut old), "", "it hears nothing of its end");
    let kept = kept(&head);
    assert_eq!(kept.len(), 2001, "what had come is kept");
}

#[test]
fn a_framed_peer_hears_a_failure_when_its_name_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let open = || {
        let mut frames = Frames::open(head.connect(), b"peticion acopio/2\ncliente esp7\n");
        frames.say(&Frame::Hello { client: ClientId(7), text: false });
        assert!(matches!(frames.hear(), Frame::Welcome { .. }));
        frames
    };
    let mut old = open();
    let mut new = open();
    let failure = old.hear();
    assert!(
        matches!(&failure, Frame::Failure(refusal) if refusal.retry && refusal.text.contains("esp7")),
        "{failure:?}"
    );
    assert!(old.hear_or_end().is_none());
    new.say(&Frame::Ping(7));
    assert_eq!(new.hear(), Frame::Pong(7));
    assert_eq!(head.status()["clients"], 1);
}

#[test]
fn a_plain_port_takes_lines_without_a_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--plain", "127.0.0.1:0=plc39,cr,callado", "--plain", "0=granja,varios"];
    let head = Head::start(dir.path(), &more);
    let _node = head.node(dir.path(), 1, &[]);
    let port = |name: &str| {
        let line = head.process.wait_for(&format!("lines of {name} are taken on "));
        line.rsplit(' ').next().unwrap().parse::<std::net::SocketAddr>().unwrap()
    };
    let connect = |name: &str| {
        let socket = TcpStream::connect(port(name)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let mut plc = connect("plc39 callado cr");
    plc.write_all(b"21.4\r21.5\r\n21.6").unwrap();
    plc.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut plc), "");
    // No word of a handshake means anything there.
    let mut one = LineClient(BufReader::new(connect("granja varios")));
    let mut two = LineClient(BufReader::new(connect("granja varios")));
    assert!(
        one.ask("peticion").ends_with(RECIBIDO) && two.ask("2").ends_with(RECIBIDO) && one.ask("3").ends_with(RECIBIDO)
    );
    let wanted = ["plc39 mensaje: 21.4", "plc39 mensaje: 21.5", "plc39 mensaje: 21.6"];
    let kept = kept(&head);
    assert_eq!(kept[..3], wanted);
    assert_eq!(kept[3..], ["granja mensaje: peticion", "granja mensaje: 2", "granja mensaje: 3"]);
}

#[test]
fn an_address_has_the_name_that_the_file_gives_it_and_a_wrong_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("head")).unwrap();
    let names = dir.path().join("head/nombres.txt");
    std::fs::write(&names, "127.0.0.1 esp@7\n127.0.0.0/8 casa\n").unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    head.process.wait_for("line 1 of nombres.txt: \"esp@7\" is not a source's name");
    head.process.wait_for("1 names for addresses in ");
    assert!(head.line().ask("1").ends_with(RECIBIDO));
    let mut raw = head.raw();
    raw.write_all(b"2").unwrap();
    assert!(read_once(&mut raw).ends_with(RECIBIDO));
    // Who says a name has that one.
    assert!(said(&head, "peticion esp7").0.ask("3").ends_with(RECIBIDO));
    std::fs::write(&names, "127.0.0.1 banco/\n# nothing else\n127.0.0.2 x\n127.0.0.1/32 y\n").unwrap();
    head.process.wait_for("line 4 of nombres.txt: it is for the same addresses as line 1; it is passed over");
    head.process.wait_for("2 names for addresses in ");
    assert!(head.line().ask("4").ends_with(RECIBIDO));
    let wanted = ["casa mensaje: 1", "casa mensaje: 2", "esp7 mensaje: 3", "banco/127.0.0.1 mensaje: 4"];
    assert_eq!(kept(&head), wanted);
}

#[test]
fn who_connects_and_leaves_stands_in_a_log_and_who_does_so_for_each_reading_is_summed_up() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    for k in 0..30 {
        assert!(head.nc(format!("peticion esp7\n{k}\n").as_bytes()).ends_with("recibido\n"));
    }
    let (mut old, _) = said(&head, "peticion esp8");
    assert!(old.ask("1").ends_with(RECIBIDO));
    let (_new, _) = said(&head, "peticion esp8");
    rest(&mut old.0);
    let log = eventually("both lines of esp8", || {
        let log = head.log("clientes.log");
        log.contains("esp8 127.0.0.1:").then_some(()).filter(|()| log.contains("; this one ends")).map(|()| log)
    });
    let of = |word: &str| log.lines().filter(|line| line.contains(" esp7 127.0.0.1:") && line.contains(word)).count();
    assert_eq!((of(" line conectado"), of(" line desconectado cliente=")), (10, 10), "{log}");
    assert!(log.contains(" mensajes=1: it closed"), "{log}");
    assert!(!head.log("head.log").contains("conectado"), "only there");
    head.process.signal(crate::common::Signal::TERM);
    head.process.wait_for("stopped");
    let log = eventually("the sum", || Some(head.log("clientes.log")).filter(|log| log.contains(" mas en ")));
    assert!(log.contains(" esp7 20 conexiones mas en 1 min, 20 mensajes"), "{log}");
}

/// What `acopio read` prints of these sources.
fn read_from(head: &Head, names: &str, more: &[&str]) -> Vec<String> {
    let mut command = acopio();
    command.args(["read", "--format", "raw", "--from", names, "--head", &head.at()]).args(more);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    out.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn a_read_is_of_some_sources_and_groups_and_touches_no_file_without_them() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let small = ["--segment-bytes", "64KiB"];
    let node = head.node(dir.path(), 1, &small);
    let mut client = said(&head, "peticion taller/horno").0;
    assert!(client.ask("210").ends_with(RECIBIDO));
    let (mut esp, _) = said(&head, "peticion esp7");
    let filler = "x".repeat(1000);
    for k in 0..400 {
        assert!(esp.ask(&format!("{k} {filler}")).ends_with(RECIBIDO));
    }
    let (mut lora, _) = said(&head, "peticion lora/");
    assert!(lora.ask("s12 7").ends_with(RECIBIDO) && head.line().ask("nadie").ends_with(RECIBIDO));
    let read = || {
        assert_eq!(read_from(&head, "taller/", &[]), ["mensaje: 210"]);
        assert_eq!(read_from(&head, "taller/horno,lora/s12", &[]), ["mensaje: 210", "mensaje: 7"]);
        assert_eq!(read_from(&head, "lora", &[]), Vec::<String>::new());
        assert_eq!(read_from(&head, "esp7", &["--count"]), ["400"]);
        assert_eq!(read_from(&head, "esp7", &["--last", "2"]).len(), 2);
    };
    read();
    let sealed = crate::common::sealed_files(&dir.path().join("data1"));
    assert!(sealed.len() > 4, "{sealed:?}");
    // What has none of a name is not opened: it may as well not be there.
    let hidden: Vec<_> =
        sealed[1..4].iter().map(|file| (file.clone(), dir.path().join(file.file_name().unwrap()))).collect();
    hidden.iter().for_each(|(file, aside)| std::fs::rename(file, aside).unwrap());
    assert_eq!(read_from(&head, "taller/horno,lora/", &[]), ["mensaje: 210", "mensaje: 7"]);
    hidden.iter().for_each(|(file, aside)| std::fs::rename(aside, file).unwrap());
    // Also after a start, from the sidecars, and without them.
    drop(node);
    let node = head.node(dir.path(), 1, &small);
    read();
    drop(node);
    for entry in std::fs::read_dir(dir.path().join("data1")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "index") {
            assert!(std::fs::read_to_string(&path).unwrap().contains("\nsource "), "{path:?}");
            std::fs::remove_file(path).unwrap();
        }
    }
    let node = head.node(dir.path(), 1, &small);
    read();
    drop(node);
    verify_clean(dir.path(), &["data1"]);
}

#[test]
fn a_reader_that_follows_a_source_waits_for_nothing_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use acopio::client::reader::{Event, Query, read};
        let mut gateway = Client::builder().head(head.at()).build();
        let sources = ["lora/a", "lora/b"].map(|name| name.parse().unwrap());
        for k in 0..4_usize {
            gateway.store_as(sources[k % 2], format!("{k}").into()).await.unwrap();
        }
        let query = Query { sources: "lora/b".parse().unwrap(), follow: true, ..Query::default() };
        let mut reader = read(vec![head.at()], query);
        let mut got = Vec::new();
        let begun = Instant::now();
        while got.len() < 4 {
            if got.len() == 2 {
                for k in 4..8_usize {
                    gateway.store_as(sources[k % 2], format!("{k}").into()).await.unwrap();
                }
            }
            match tokio::time::timeout(Duration::from_secs(30), reader.next()).await.unwrap().unwrap().unwrap() {
                Event::Message(message) => got.push(message.text().to_owned()),
                Event::End { .. } => panic!("it follows"),
                _ => {}
            }
        }
        assert_eq!(got, ["1", "3", "5", "7"]);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    });
}

/// What `acopio devices` prints as JSON.
fn devices(head: &Head, more: &[&str]) -> Vec<serde_json::Value> {
    let mut command = acopio();
    command.args(["devices", "--format", "json", "--head", &head.at()]).args(more);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    report["devices"].as_array().unwrap().clone()
}

fn names(devices: &[serde_json::Value]) -> Vec<&str> {
    devices.iter().map(|device| device["name"].as_str().unwrap()).collect()
}

#[test]
fn devices_tells_who_was_heard_when_also_after_a_start_of_the_head_and_its_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let nodes: Vec<_> = (1..=2).map(|k| head.node(dir.path(), k, &["--segment-bytes", "4096"])).collect();
    let (mut esp, _) = said(&head, "peticion esp7");
    for k in 0..60 {
        assert!(esp.ask(&format!("{k} {}", "x".repeat(200))).ends_with(RECIBIDO));
    }
    assert!(head.nc(b"peticion lora/\ns12 1\ns13 2\ns12 3\n").ends_with("recibido\n"));
    let (_group, _) = said(&head, "peticion patio/");
    let all = devices(&head, &[]);
    assert_eq!(names(&all), ["esp7", "lora/s12", "lora/s13", "patio/"]);
    let numbers: Vec<_> =
        all.iter().map(|device| (device["records"].as_u64(), device["connected"].as_bool())).collect();
    let wanted = [(60, true), (2, false), (1, false), (0, true)].map(|(records, here)| (Some(records), Some(here)));
    assert_eq!(numbers, wanted);
    assert!(all[0]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{all:?}");
    assert!(all[0]["heard_s"].as_u64() < Some(60) && all[3]["heard_s"].is_null(), "{all:?}");
    assert_eq!(names(&devices(&head, &["--connected"])), ["esp7", "patio/"]);
    let first = all[0]["first"].clone();
    drop(nodes);
    drop(esp);
    head.process.kill();
    let head = Head::start(dir.path(), &[]);
    let _nodes: Vec<_> = (1..=2).map(|k| head.node(dir.path(), k, &["--segment-bytes", "4096"])).collect();
    let all = devices(&head, &[]);
    assert_eq!(names(&all), ["esp7", "lora/s12", "lora/s13"]);
    assert_eq!((&all[0]["records"], &all[0]["first"]), (&60.into(), &first));
    let mut command = acopio();
    command.args(["devices", "--head", &head.at()]);
    let (_, out, _) = ran(command);
    assert!(out.starts_with("DEVICE    STATE") && out.contains("\nlora/s12  "), "{out}");
    // This head has heard none of them: what they said last is read.
    let last: Vec<&str> = all.iter().map(|device| device["last_text"].as_str().unwrap()).collect();
    assert!(last[0].starts_with("mensaje: 59 xxx") && last[1..] == ["mensaje: 3", "mensaje: 2"], "{last:?}");
    assert!(
        out.contains("  value=3\n") && out.contains("\ntoday: what came by this head, which counts since 20"),
        "{out}"
    );
}

#[test]
fn a_device_that_keeps_quiet_for_three_of_its_periods_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let (mut quick, _) = said(&head, "peticion rapido");
    for k in 0..5 {
        assert!(quick.ask(&format!("{k}")).ends_with(RECIBIDO));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(said(&head, "peticion una-vez").0.ask("1").ends_with(RECIBIDO));
    let silent = eventually("it is silent", || {
        let silent = devices(&head, &["--silent"]);
        (!silent.is_empty()).then_some(silent)
    });
    assert_eq!(names(&silent), ["rapido"], "nothing is known of the period of what spoke once");
    let period = silent[0]["period_s"].as_f64().unwrap();
    assert!((0.05..1.0).contains(&period), "{period}");
    assert!(quick.ask("5").ends_with(RECIBIDO));
    assert!(devices(&head, &["--silent"]).is_empty());
}
