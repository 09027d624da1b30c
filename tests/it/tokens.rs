//! Tokens of clients: who is let in, what each may do, and that nothing shows a secret.

use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::common::{Head, PATIENCE, Process, acopio, eventually, ran, read_once};
use crate::keys::Alone;

/// A folder with a file of tokens in it, and the secrets of them in files of their own.
struct Course {
    dir: tempfile::TempDir,
}

impl Course {
    /// With a token that may write, one that may read, one that may both as the sources of a group, and one for operators.
    fn new() -> Self {
        let course = Self { dir: tempfile::tempdir().unwrap() };
        course.token("writer", &["--role", "write"]);
        course.token("reader", &["--role", "read"]);
        course.token("gateway", &["--role", "write,read", "--as", "lora/*,esp7"]);
        course.token("operator", &["--role", "admin"]);
        course
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tokens(&self) -> String {
        self.path("tokens").to_str().unwrap().to_owned()
    }

    /// Makes a token; its secret.
    fn token(&self, name: &str, more: &[&str]) -> String {
        let mut command = acopio();
        command.args(["token", "new", "--file", &self.tokens(), name]).args(more);
        let (code, out, err) = ran(command);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
        let file = self.path(&format!("{name}.token"));
        fs::write(&file, &out).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        out.trim().to_owned()
    }

    fn secret(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.token"))).unwrap().trim().to_owned()
    }

    fn revoke(&self, name: &str) {
        let mut command = acopio();
        command.args(["token", "revoke", "--file", &self.tokens(), name]);
        assert_eq!(ran(command), (Some(0), String::new(), String::new()));
    }

    /// A head that keeps the messages itself, and asks for tokens.
    fn head(&self, more: &[&str]) -> Head {
        let (tokens, data) = (self.tokens(), self.path("solo"));
        let solo = ["--solo", "--dir", data.to_str().unwrap(), "--clients", "token", "--tokens", &tokens];
        Head::start(self.dir.path(), &[&solo, more].concat())
    }

    /// What becomes of a command with this token.
    fn run(&self, head: &Head, token: Option<&str>, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = acopio();
        command.args(words).args(["--head", &head.at()]);
        if let Some(token) = token {
            command.arg("--token-file").arg(self.path(&format!("{token}.token")));
        }
        ran(command)
    }

    /// Everything that a head wrote and said has none of the secrets.
    fn assert_no_secret(&self, head: &Head) {
        let mut told = head.process.all();
        for file in fs::read_dir(&head.logs).unwrap() {
            told += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
        }
        told += &fs::read_to_string(self.tokens()).unwrap();
        for file in fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "token") {
                let secret = fs::read_to_string(&file).unwrap();
                assert!(!told.contains(secret.trim()), "{}", file.display());
            }
        }
    }
}

/// What a head answers to all of this, up to its end.
fn answer(head: &Head, words: &str) -> String {
    head.nc(words.as_bytes())
}

#[test]
fn each_role_may_do_its_own_and_nothing_else() {
    let course = Course::new();
    let head = course.head(&[]);
    let send = ["send", "hola"];
    let read = ["read", "--retry-for", "20s"];
    let (code, _, err) = course.run(&head, Some("writer"), &["send", "hola"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = course.run(&head, Some("reader"), &read);
    assert!(code == Some(0) && out.contains("hola"), "{err}");
    for words in [["status"].as_slice(), &["devices"]] {
        assert_eq!(course.run(&head, Some("reader"), words).0, Some(0));
    }
    assert_eq!(course.run(&head, Some("operator"), &["status"]).0, Some(0));
    let refused = [
        (Some("reader"), send.as_slice(), "the token reader has not the role write"),
        (Some("operator"), &send, "the token operator has not the role write"),
        (Some("writer"), &read, "the token writer has not the role read"),
        (Some("writer"), &["status"], "the token writer has not the role read or admin"),
        (Some("writer"), &["devices"], "the token writer has not the role read"),
        (Some("operator"), &["devices"], "the token operator has not the role read"),
        (Some("reader"), &["copies", "1"], "the token reader has not the role admin"),
        (Some("writer"), &["drain", "data1"], "the token writer has not the role admin"),
        (None, &send, "this head asks clients for a token, and 127.0.0.1 said none"),
        (None, &read, "this head asks clients for a token"),
        (None, &["status"], "this head asks clients for a token"),
        (None, &["copies", "1"], "this head asks clients for a token"),
    ];
    for (token, words, wanted) in refused {
        let (code, _, err) = course.run(&head, token, words);
        assert!(code == Some(1) && err.contains(wanted), "{token:?} {words:?}: {err}");
    }
    // An operator is past the token; what else is wrong is told.
    let (_, _, err) = course.run(&head, Some("operator"), &["drain", "data1"]);
    assert!(!err.contains("token") && err.contains("data1"), "{err}");
    course.assert_no_secret(&head);
}

#[test]
fn a_token_is_for_its_sources_alone() {
    let course = Course::new();
    let head = course.head(&[]);
    let secret = course.secret("gateway");
    for (name, message) in [("esp7", "21.5"), ("lora/", "s1 20.1"), ("lora/s2", "7")] {
        let told = answer(&head, &format!("peticion {name} token={secret}\n{message}\n"));
        assert!(told.starts_with("confirmacion\n") && !told.contains("error"), "{name}: {told}");
    }
    for name in ["esp8", "taller/", "lora"] {
        let told = answer(&head, &format!("peticion {name} token={secret}\n21.5\n"));
        let wanted = format!("error: the token gateway does not let write as {name}; write as one of: lora/*, esp7\n");
        assert_eq!(told, wanted);
    }
    let told = answer(&head, &format!("peticion token={secret}\n21.5\n"));
    assert!(told.starts_with("confirmacion\nerror: the token gateway does not let write without a name"), "{told}");
    let (code, _, err) = course.run(&head, Some("gateway"), &["send", "--as", "esp7", "a"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = course.run(&head, Some("gateway"), &["send", "--as", "esp8", "b"]);
    assert!(code == Some(1) && err.contains("does not let write as esp8"), "{err}");
    let (_, out, _) = course.run(&head, Some("gateway"), &["read"]);
    let kept = ["21.5", "20.1", "7", "a"];
    assert!(kept.iter().all(|text| out.contains(text)) && out.lines().count() == kept.len(), "{out}");
    course.assert_no_secret(&head);
}

#[test]
fn every_dialect_says_a_token_and_none_is_shown() {
    let course = Course::new();
    let head = course.head(&[]);
    let secret = course.secret("writer");
    assert_eq!(answer(&head, &format!("peticion token={secret}\nuno\n")), "confirmacion\nuno\n");
    assert_eq!(answer(&head, &format!("peticion esp7 token={secret} callado\ndos\n")), "");
    let mut raw = head.raw();
    raw.write_all(format!("cliente esp7 token={secret}").as_bytes()).unwrap();
    assert_eq!(read_once(&mut raw), "confirmacion");
    raw.write_all(b"tres").unwrap();
    assert_eq!(read_once(&mut raw), "tres");
    let mut late = head.raw();
    late.write_all(format!(" esp8 token={secret}\n").as_bytes()).unwrap();
    assert_eq!(read_once(&mut late), "\n");
    late.write_all(b"cuatro\n").unwrap();
    assert_eq!(read_once(&mut late), "cuatro\n");
    // Who says none, a wrong one or half of one.
    let none = "error: this head asks clients for a token, and 127.0.0.1 said none";
    assert!(answer(&head, "peticion\nhola\n").starts_with(&format!("confirmacion\n{none}")));
    assert!(answer(&head, "peticion esp7\nhola\n").starts_with(none));
    let mut raw = head.raw();
    raw.write_all(b"hola").unwrap();
    assert!(read_once(&mut raw).starts_with(none));
    let wrong = secret.chars().rev().collect::<String>();
    let told = answer(&head, &format!("peticion token={wrong}\nhola\n"));
    assert!(told.starts_with("error: this head knows no such token: it is wrong or revoked"), "{told}");
    for words in [
        format!("peticion token={secret}0\n"),
        format!("peticion tokn={secret}\n"),
        format!("Peticion token={secret}\n"),
        format!("peticion acopio/2\nclient token={secret}\n"),
        format!("peticion acopio/2\ncliente esp7 calado token={secret}\n"),
        format!("peticion esp7 token={secret} calado\n"),
    ] {
        let told = answer(&head, &words);
        assert!(told.contains("error: ") && !told.contains(&secret), "{told}");
    }
    course.assert_no_secret(&head);
}

#[test]
fn who_says_nothing_holds_no_place_where_tokens_are_asked_for() {
    let course = Course::new();
    let head = course.head(&["--max-clients", "1"]);
    let mut silent = head.raw();
    let mut told = String::new();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    silent.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("error: this head asks clients for a token"), "{told}");
    let secret = course.secret("writer");
    assert_eq!(answer(&head, &format!("peticion token={secret}\nuno\n")), "confirmacion\nuno\n");
}

#[test]
fn a_token_that_is_revoked_or_over_ends_its_connections() {
    let course = Course::new();
    let head = course.head(&[]);
    let secret = course.secret("writer");
    let mut client = head.named(&format!("esp7 token={secret}"));
    assert_eq!(client.ask("uno"), "uno");
    course.revoke("writer");
    head.process.signal(Signal::HUP);
    assert_eq!(client.read(), "error: the token writer is revoked; ask for another one");
    let told = answer(&head, &format!("peticion token={secret}\nhola\n"));
    assert!(told.starts_with("error: this head knows no such token"), "{told}");
    // One that follows, and nobody says SIGHUP: the head looks itself.
    let mut follow = acopio();
    follow.args(["read", "--follow", "--head", &head.at(), "--token-file"]).arg(course.path("reader.token"));
    let mut follow = Process::start(follow);
    // Who reads nothing any more is left alone.
    let (mut line, mut out) = (String::new(), follow.stdout());
    out.read_line(&mut line).unwrap();
    assert!(line.contains("uno"), "{line}");
    course.revoke("reader");
    follow.wait_for("the token reader is revoked");
    // What is added counts at once, too.
    let over = course.token("guest", &["--role", "write", "--until", "2020-02-29"]);
    let told = || answer(&head, &format!("peticion token={over}\nhola\n"));
    let told = eventually("it is read", || Some(told()).filter(|told| told.contains("guest")));
    assert!(told.starts_with("error: the token guest was good until 2020-02-29; ask for another one"), "{told}");
    let (code, list, _) = {
        let mut command = acopio();
        command.args(["token", "list", "--file", &course.tokens()]);
        ran(command)
    };
    assert!(
        code == Some(0) && list.contains("guest secret roles=write as=- until=2020-02-29 (over) rate=-\n"),
        "{list}"
    );
    course.assert_no_secret(&head);
}

#[test]
fn who_tries_secrets_is_kept_waiting_and_then_not_looked_at() {
    let course = Course::new();
    let head = course.head(&[]);
    let tries: Vec<_> = (0..40)
        .map(|n| {
            let mut socket = head.connect();
            socket.write_all(format!("peticion token={n:032x}\nhola\n").as_bytes()).unwrap();
            socket
        })
        .collect();
    let told: Vec<String> = tries
        .into_iter()
        .map(|mut socket| {
            let mut told = String::new();
            socket.read_to_string(&mut told).unwrap();
            told
        })
        .collect();
    let unknown = told.iter().filter(|told| told.starts_with("error: this head knows no such token")).count();
    let busy = told.iter().filter(|told| told.starts_with("error: too many wrong tokens came from 127.0.0.1")).count();
    assert!(unknown >= 20 && busy >= 1 && unknown + busy == told.len(), "{told:?}");
    // Who has the right one gets in again with time.
    let (code, _, err) = course.run(&head, Some("writer"), &["send", "hola"]);
    assert_eq!(code, Some(0), "{err}");
}

#[test]
fn wrong_lines_are_named_and_the_others_count() {
    let course = Course::new();
    let text = fs::read_to_string(course.tokens()).unwrap() + "half sha256=12 roles=write\n";
    fs::write(course.tokens(), text).unwrap();
    let head = course.head(&[]);
    head.process.wait_for("line 6 of the tokens: sha256= has 64 digits 0-9a-f; it is passed over");
    assert_eq!(course.run(&head, Some("writer"), &["send", "hola"]).0, Some(0));
    let started = |more: &[&str]| {
        let mut command = acopio();
        command.args(["head", "--listen", "127.0.0.1:0", "--logs"]).arg(course.path("other")).args(more);
        let (code, _, err) = ran(command);
        assert_eq!(code, Some(1), "{err}");
        err
    };
    assert!(started(&["--clients", "token"]).contains("--clients token needs --tokens FILE"));
    assert!(started(&["--tokens", &course.tokens()]).contains("add --clients token"));
    let missing = course.path("none");
    let missing = ["--clients", "token", "--tokens", missing.to_str().unwrap()];
    assert!(started(&missing).contains("make one with 'acopio token new'"));
    fs::set_permissions(course.tokens(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(started(&["--clients", "token", "--tokens", &course.tokens()]).contains("chmod 600 the file"));
    // What is wrong on the client's side.
    let mut again = acopio();
    again.args(["token", "new", "--file", &course.tokens(), "--role", "read", "writer"]);
    fs::set_permissions(course.tokens(), fs::Permissions::from_mode(0o600)).unwrap();
    let (code, out, err) = ran(again);
    assert!(code == Some(1) && out.is_empty() && err.contains("there is a token writer"), "{err}");
    fs::set_permissions(course.path("writer.token"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = course.run(&head, Some("writer"), &["send", "hola"]);
    assert!(code == Some(1) && err.contains("open to everybody (mode 644); chmod 600 the file"), "{err}");
}

#[test]
fn who_cannot_say_a_token_is_let_in_by_its_address() {
    let course = Course::new();
    course.token("plcs", &["--role", "write", "--from", "127.0.0.0/8", "--as", "plc*"]);
    let port = crate::common::Port::reserve();
    let plain = format!("{}=plc1", port.number());
    let head = course.head(&["--plain", &plain]);
    let mut plc = std::net::TcpStream::connect(port.at()).unwrap();
    plc.set_read_timeout(Some(PATIENCE)).unwrap();
    plc.write_all(b"21.5\n").unwrap();
    assert_eq!(read_once(&mut plc), "21.5\n");
    assert_eq!(answer(&head, "peticion plc2\n7\n"), "confirmacion\n7\n");
    assert!(answer(&head, "peticion esp7\n7\n").starts_with("error: the token plcs does not let write as esp7"));
    let (code, _, err) = course.run(&head, None, &["read"]);
    assert!(code == Some(1) && err.contains("the token plcs has not the role read"), "{err}");
    // A secret goes before the address.
    assert_eq!(course.run(&head, Some("reader"), &["read"]).0, Some(0));
    course.revoke("plcs");
    head.process.signal(Signal::HUP);
    let mut told = String::new();
    plc.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("error: the token plcs is revoked"), "{told}");
}

#[test]
fn a_token_with_a_rate_is_read_no_faster() {
    let course = Course::new();
    let secret = course.token("slow", &["--role", "write", "--rate", "10"]);
    let head = course.head(&[]);
    let begun = std::time::Instant::now();
    let lines: String = (0..40).map(|n| format!("{n}\n")).collect();
    let told = answer(&head, &format!("peticion token={secret}\n{lines}"));
    assert_eq!(told, format!("confirmacion\n{lines}"), "all are kept");
    assert!(begun.elapsed().as_secs_f64() > 2.0, "40 at 10 a second, of which 16 come together: {:?}", begun.elapsed());
}

#[test]
fn open_heads_say_so_off_loopback_and_take_a_token_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start_at(dir.path(), "0.0.0.0:0", &["--solo", "--dir", dir.path().join("solo").to_str().unwrap()]);
    head.process.wait_for("clients are asked for nothing: whoever reaches 0.0.0.0:");
    let here = Head::start(&dir.path().join("b"), &[]);
    assert_eq!(here.process.count("clients are asked for nothing"), 0);
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", head.address.port())).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(format!("peticion esp7 token={}\nhola\n", "ab".repeat(16)).as_bytes()).unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut told = String::new();
    socket.read_to_string(&mut told).unwrap();
    assert_eq!(told, "confirmacion\nhola\n", "so that tokens can be handed out before they are asked for");
}

#[test]
fn tokens_do_not_cross_a_network_in_the_clear_unless_that_is_meant() {
    let course = Course::new();
    let alone = Alone::new("tok");
    let at = |name: &str| course.path(name).to_str().unwrap().to_owned();
    let (tokens, away) = (course.tokens(), format!("{}:5000", Alone::ADDRESS));
    let head = |more: &[&str]| {
        let words =
            ["head", "--listen", "0.0.0.0:5000", "--logs", &at("head"), "--no-icmp", "--solo", "--dir", &at("solo")]
                .map(ToOwned::to_owned);
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.extend(["--clients", "token", "--tokens", &tokens]);
        words.extend(more);
        let head = Process::start(alone.acopio(&words));
        head.wait_for("listening on ");
        assert_eq!(head.count("clients are asked for nothing"), 0);
        head
    };
    let file = at("writer.token");
    let send = |head: &str| -> (Option<i32>, String, String) {
        let command: Command = alone.acopio(&["send", "hola", "--head", head, "--token-file", &file]);
        ran(command)
    };
    let first = head(&[]);
    let (code, _, err) = send(&away);
    assert!(code == Some(1) && err.contains("this head takes tokens from its own machine alone"), "{err}");
    assert_eq!(send("127.0.0.1:5000").0, Some(0));
    course.token("near", &["--role", "write", "--from", Alone::ADDRESS]);
    first.signal(Signal::HUP);
    let unnamed = || ran(alone.acopio(&["send", "hola", "--head", &away]));
    eventually("an address is no secret", || (unnamed().0 == Some(0)).then_some(()));
    drop(first);
    let _second = head(&["--tokens-in-the-clear"]);
    let (code, _, err) = send(&away);
    assert_eq!(code, Some(0), "{err}");
}

#[test]
fn a_file_of_tokens_is_for_its_user_alone() {
    let course = Course::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&course.path("tokens")), 0o600);
    course.revoke("writer");
    assert_eq!(mode(&course.path("tokens")), 0o600);
    assert!(!fs::read_to_string(course.tokens()).unwrap().contains("writer"));
}
