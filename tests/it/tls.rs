//! TLS on a head's port: openssl and Python's ssl as peers, certificates that are wrong in every way, a false head in the middle,
//! a recorded session, files that change while connections go on, and what `access.log` and the status tell.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::Signal;

use crate::common::{Head, PATIENCE, Process, acopio, eventually, ran};
use crate::keys::Alone;

/// A folder with an authority in it.
pub(crate) struct Plant {
    pub(crate) dir: tempfile::TempDir,
}

impl Plant {
    /// With a certificate for a head, and one for a client.
    pub(crate) fn new() -> Self {
        let plant = Self { dir: tempfile::tempdir().unwrap() };
        plant.cert("head", &["--host", "127.0.0.1"]);
        plant.cert("esp7", &[]);
        plant
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Makes a certificate in the folder `ca`; what is said of it.
    pub(crate) fn cert(&self, name: &str, more: &[&str]) -> String {
        self.cert_in("ca", name, more)
    }

    pub(crate) fn cert_in(&self, dir: &str, name: &str, more: &[&str]) -> String {
        let mut command = acopio();
        command.args(["cert", "--dir", &self.at(dir), "--name", name]).args(more);
        let (code, out, err) = ran(command);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
        out
    }

    /// A token of this name; the file with its secret.
    pub(crate) fn token(&self, name: &str, more: &[&str]) -> String {
        let mut command = acopio();
        command.args(["token", "new", "--tokens", &self.at("tokens"), name]).args(more);
        let (code, out, err) = ran(command);
        assert_eq!(code, Some(0), "{err}");
        let file = self.path(&format!("{name}.token"));
        fs::write(&file, out).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// A head that speaks TLS with this certificate and keeps the messages itself.
    fn head_with(&self, certificate: &str, more: &[&str]) -> Head {
        let (solo, certificate) = (self.at("solo"), self.at(certificate));
        let words = ["--solo", "--dir", &solo, "--tls-cert", &certificate];
        let head = Head::start(self.dir.path(), &[&words, more].concat());
        head.process.wait_for("TLS with the certificate in");
        head
    }

    pub(crate) fn head(&self, more: &[&str]) -> Head {
        self.head_with("ca/head.crt", more)
    }

    /// What becomes of a command that dials over TLS.
    fn run(&self, head: &str, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = acopio();
        command.args(words).args(["--head", head, "--ca", &self.at("ca/ca.crt")]);
        ran(command)
    }

    /// What a message comes to.
    fn send(&self, head: &str, more: &[&str]) -> (Option<i32>, String) {
        let (code, _, err) = self.run(head, &[&["send", "hola", "--retry-for", "20s"], more].concat());
        (code, err)
    }

    /// What one comes to whose sender, or its head, is not believed: that may be mended, so it is tried for a moment.
    fn distrusted(&self, head: &str, more: &[&str]) -> String {
        let (code, _, err) = self.run(head, &[&["send", "hola", "--retry-for", "1s"], more].concat());
        assert_eq!(code, Some(1), "{err}");
        err
    }
}

/// `openssl s_client`, which goes on until it is dropped.
struct OpenSsl(Child, BufReader<std::process::ChildStdout>);

impl OpenSsl {
    fn connect(head: &Head, more: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-verify_return_error", "-connect", &head.at()]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl is here");
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    fn say(&mut self, line: &str) {
        self.0.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().unwrap();
    }
}

/// The serial number of the certificate that a head shows.
fn serial(head: &Head) -> String {
    let script =
        format!("openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -serial", head.at());
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    ran(command).1
}

/// What a program in Python prints.
fn python(program: &str, words: &[&str]) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", program]).args(words);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    out
}

#[test]
fn openssl_and_python_speak_to_a_head_and_so_do_plain_peers_on_the_same_port() {
    let plant = Plant::new();
    let head = plant.head(&[]);
    let ca = plant.at("ca/ca.crt");
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = OpenSsl::connect(&head, &["-CAfile", &ca, version]);
        assert_eq!(client.ask("peticion"), "confirmacion", "{version}");
        assert_eq!(client.ask(version), version);
    }
    const CLIENT: &str = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.maximum_version = getattr(ssl.TLSVersion, sys.argv[3])
host, port = sys.argv[2].split(':')
client = context.wrap_socket(socket.create_connection((host, int(port)), 20), server_hostname=host)
client.sendall(b'peticion\\nde Python\\n')
lines = client.makefile('r')
print(client.version(), lines.readline().strip(), lines.readline().strip())";
    for (most, version) in [("TLSv1_2", "TLSv1.2"), ("TLSv1_3", "TLSv1.3")] {
        assert_eq!(python(CLIENT, &[&ca, &head.at(), most]), format!("{version} confirmacion de Python\n"));
    }
    assert_eq!(head.nc(b"peticion\nin the clear\n"), "confirmacion\nin the clear\n");
    let mut raw = head.raw();
    raw.write_all(b"raw").unwrap();
    assert_eq!(crate::common::read_once(&mut raw), "raw");
    assert_eq!(plant.send(&head.at(), &[]).0, Some(0));
    let (code, out, err) = plant.run(&head.at(), &["read"]);
    let wanted = ["-tls1_2", "-tls1_3", "de Python", "de Python", "in the clear", "raw", "hola"];
    assert!(code == Some(0) && out.lines().count() == wanted.len(), "{out}{err}");
    assert!(out.lines().zip(wanted).all(|(line, wanted)| line.ends_with(wanted)), "{out}");
}

#[test]
fn much_goes_over_tls_in_every_dialect_and_comes_back() {
    let plant = Plant::new();
    let head = plant.head(&[]);
    for (dialect, size) in [("framed", "60000"), ("line", "100"), ("raw", "100")] {
        let words =
            ["bench", "--dialect", dialect, "--size", size, "--clients", "3", "--for", "200ms", "--warm-up", "1ms"];
        let (code, out, err) = plant.run(&head.at(), &[&words[..], &["--format", "json"]].concat());
        assert_eq!(code, Some(0), "{dialect}: {err}");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(report["messages"].as_u64() > Some(0) && report["check"] == "good", "{report}");
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_in_words() {
    let plant = Plant::new();
    let good = plant.head(&[]);
    plant.cert("over", &["--host", "127.0.0.1", "--from", "2020-02-01T00:00:00Z", "--days", "28"]);
    plant.cert("early", &["--host", "127.0.0.1", "--from", "2099-02-01T00:00:00Z"]);
    plant.cert_in("other", "head", &["--host", "127.0.0.1"]);
    let told = |certificate: &str| {
        let dir = tempfile::tempdir().unwrap();
        let head = Head::start(dir.path(), &["--tls-cert", &plant.at(certificate)]);
        let err = plant.distrusted(&head.at(), &[]);
        assert!(err.contains(&format!("head {}", head.at())) && !err.contains("see that a head runs"), "{err}");
        err
    };
    let over = told("ca/over.crt");
    assert!(
        over.contains("its certificate was good until 2020-02-29T00:00:00Z, and the clock of this machine"),
        "{over}"
    );
    let early = told("ca/early.crt");
    assert!(early.contains("good from 2099-02-01T00:00:00Z on, and the clock of this machine shows 2"), "{early}");
    let other = told("other/head.crt");
    assert!(other.contains("from an authority that is not known here; give the right one with --ca"), "{other}");
    // A client's certificate is no head's, though the same authority made it.
    assert!(told("ca/esp7.crt").contains("its certificate is"));
    let listens = Head::start_at(&plant.path("b"), "127.0.0.2:0", &["--tls-cert", &plant.at("ca/head.crt")]);
    let err = plant.distrusted(&listens.at(), &[]);
    assert!(err.contains("its certificate is for 127.0.0.1, "), "{err}");
    assert!(err.contains("not for 127.0.0.2; dial it by one of its names"), "{err}");
    // No TLS where it is asked for, and nobody asked for it.
    let plain = Head::start(&plant.path("c"), &[]);
    let err = plant.distrusted(&plain.at(), &[]);
    assert!(err.contains("it speaks no TLS: start it with --tls-cert"), "{err}");
    plain.process.wait_for("this head speaks no TLS; start it with --tls-cert FILE, or connect without TLS");
    let (code, _, err) = plant.run(&plain.at(), &["status"]);
    assert!(code == Some(1) && err.contains("it speaks no TLS"), "{err}");
    good.process.wait_for("listening on ");
    for (words, wanted) in [
        (["--ca", "/none"], "cannot read the authority in /none"),
        (["--cert", "/none"], "--cert says nothing without TLS"),
    ] {
        let mut command = acopio();
        command.args(["status", "--head", &good.at()]).args(words);
        let (code, _, err) = ran(command);
        assert!(code == Some(1) && err.contains(wanted), "{err}");
    }
}

#[test]
fn a_certificate_lets_in_by_its_name_and_the_file_of_tokens_says_what_it_may() {
    let plant = Plant::new();
    for name in ["operator", "guest", "stranger"] {
        plant.cert(name, &[]);
    }
    plant.token("operator", &["--certificate", "--role", "admin"]);
    plant.token("guest", &["--certificate", "--role", "read", "--until", "2020-01-31"]);
    let secret = plant.token("writer", &["--role", "write"]);
    plant.cert_in("other", "stranger", &[]);
    let (ca, tokens) = (plant.at("ca/ca.crt"), plant.at("tokens"));
    let head = plant.head(&["--clients", "tls", "--tls-ca", &ca, "--tokens", &tokens]);
    let cert = |name: &str| plant.at(&format!("ca/{name}.crt"));
    let send = |name: &str| plant.send(&head.at(), &["--cert", &cert(name)]);
    assert_eq!(send("esp7"), (Some(0), String::new()));
    let (code, err) = send("operator");
    assert!(code == Some(1) && err.contains("the token operator has not the role write"), "{err}");
    let (code, _, err) = plant.run(&head.at(), &["status", "--cert", &cert("operator")]);
    assert_eq!(code, Some(0), "{err}");
    let (code, err) = send("guest");
    assert!(code == Some(1) && err.contains("the token guest was good until 2020-01-31"), "{err}");
    let (code, err) = plant.send(&head.at(), &[]);
    assert!(
        code == Some(1) && err.contains("asks clients for a certificate or a token, and 127.0.0.1 has neither"),
        "{err}"
    );
    assert_eq!(plant.send(&head.at(), &["--token-file", &secret]).0, Some(0));
    let err = plant.distrusted(&head.at(), &["--cert", &plant.at("other/stranger.crt")]);
    assert!(err.contains("it does not know the authority of the certificate"), "{err}");
    // Names, roles and addresses are told, and secrets are not.
    let mut client =
        OpenSsl::connect(&head, &["-CAfile", &ca, "-cert", &cert("esp7"), "-key", &plant.at("ca/esp7.key")]);
    assert_eq!(client.ask("peticion taller/horno"), "confirmacion");
    assert_eq!(client.ask("21.5"), "21.5");
    let words = ["status", "--clients", "--format", "json", "--cert", &cert("esp7")];
    let (_, out, _) = plant.run(&head.at(), &words);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let connected = &report["connected"][0];
    assert_eq!((&connected["token"], &connected["roles"]), (&"esp7".into(), &"write,read".into()), "{report}");
    assert_eq!(connected["tls"], true);
    assert_eq!(plant.run(&head.at(), &["read", "--from", "taller/", "--cert", &cert("esp7")]).0, Some(0));
    let log = head.log("access.log");
    for wanted in [
        " esp7 write,read 127.0.0.1:",
        " tls connected as taller/horno, line",
        " tls reads taller/",
        " tls left after 1 messages",
        " operator admin 127.0.0.1:",
        "refused: the token operator has not the role write",
        " - - 127.0.0.1:",
        "refused: the token guest was good until 2020-01-31",
        "refused: its certificate is from an authority that is not known here",
    ] {
        assert!(log.contains(wanted), "{wanted}:\n{log}");
    }
    assert!(!log.contains(fs::read_to_string(&secret).unwrap().trim()), "{log}");
    assert_eq!(head.process.count("connected as taller/horno"), 0, "it is for its file");
    // A certificate that is revoked has a line that is over, whether it had one or not.
    let revoke = |words: &[&str]| {
        let mut command = acopio();
        command.args(["token", "revoke", "--tokens", &tokens]).args(words);
        assert_eq!(ran(command).0, Some(0));
        head.process.signal(Signal::HUP);
    };
    revoke(&["--certificate", "esp7"]);
    let said = client.hear();
    assert!(
        said.starts_with("error: the token esp7 was good until 2") && said.ends_with("; ask for another one"),
        "{said}"
    );
    revoke(&["operator"]);
    for name in ["esp7", "operator"] {
        let (code, err) = send(name);
        assert!(code == Some(1) && err.contains(&format!("the token {name} was good until 2")), "{err}");
    }
}

#[test]
fn certificates_change_while_connections_go_on() {
    let plant = Plant::new();
    let head = plant.head(&[]);
    let ca = plant.at("ca/ca.crt");
    let mut client = OpenSsl::connect(&head, &["-CAfile", &ca]);
    assert_eq!(client.ask("peticion"), "confirmacion");
    let first = serial(&head);
    assert!(first.starts_with("serial="), "{first}");
    let key = fs::read(plant.path("ca/head.key")).unwrap();
    plant.cert("head", &["--host", "127.0.0.1"]);
    assert_eq!(fs::read(plant.path("ca/head.key")).unwrap(), key);
    let second = eventually("the new one is shown", || Some(serial(&head)).filter(|serial| *serial != first));
    assert_eq!(client.ask("still here"), "still here");
    // Half of a file, and a key of somebody else.
    fs::write(plant.path("ca/head.crt"), "-----BEGIN").unwrap();
    head.process.signal(Signal::HUP);
    head.process
        .wait_for("has no certificate in PEM; 'acopio cert' makes such files; the certificate of before counts");
    assert_eq!(serial(&head), second);
    fs::copy(plant.path("ca/esp7.crt"), plant.path("ca/head.crt")).unwrap();
    head.process.signal(Signal::HUP);
    head.process.wait_for("it belongs to another key");
    assert_eq!((serial(&head), client.ask("and here").as_str()), (second, "and here"));
    assert_eq!(plant.send(&head.at(), &[]).0, Some(0));
    // What can't be read at the start ends it.
    let started = |more: &[&str]| {
        let mut command = acopio();
        command.args(["head", "--listen", "127.0.0.1:0", "--logs", &plant.at("none")]).args(more);
        ran(command).2
    };
    assert!(started(&["--tls-cert", &plant.at("ca/head.crt")]).contains("it belongs to another key"));
    assert!(started(&["--clients", "tls"]).contains("--clients tls needs --tls-cert FILE; 'acopio cert' makes one"));
    fs::set_permissions(plant.path("ca/esp7.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(started(&["--tls-cert", &plant.at("ca/esp7.crt")]).contains("open to everybody (mode 644); chmod 600"));
}

#[test]
fn who_listens_on_the_way_learns_nothing_that_opens_the_door_again() {
    let plant = Plant::new();
    let secret = plant.token("writer", &["--role", "write"]);
    let head = plant.head(&["--clients", "token", "--tokens", &plant.at("tokens")]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, to) = (listener.local_addr().unwrap().to_string(), head.address);
    let recorder = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut head = TcpStream::connect(to).unwrap();
        let (mut back, mut from) = (client.try_clone().unwrap(), head.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut back).and_then(|_| back.shutdown(Shutdown::Write)));
        let (mut recorded, mut chunk) = (Vec::new(), [0; 4096]);
        while let Some(n) = client.read(&mut chunk).ok().filter(|n| *n > 0) {
            recorded.extend_from_slice(&chunk[..n]);
            head.write_all(&chunk[..n]).unwrap();
        }
        recorded
    });
    assert_eq!(plant.send(&at, &["--token-file", &secret]), (Some(0), String::new()));
    let recorded = recorder.join().unwrap();
    let text = String::from_utf8_lossy(&recorded);
    assert!(!text.contains("hola") && !text.contains(fs::read_to_string(&secret).unwrap().trim()));
    let mut again = head.connect();
    again.write_all(&recorded).ok();
    again.read_to_end(&mut Vec::new()).ok();
    head.process.wait_for("that speaks TLS is not let in");
    let log = fs::read_to_string(plant.path("solo/data.txt")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("hola")).count(), 1, "{log}");
    // Nor does one that begins TLS and says no more hold a connection.
    let mut silent = head.connect();
    silent.write_all(&[0x16]).unwrap();
    silent.read_to_end(&mut Vec::new()).unwrap();
    head.process.wait_for("no handshake of TLS within 5s");
}

/// Ends TLS with a certificate that is good, and begins it again to the head.
const MIDDLE: &str = "import socket, ssl, sys, threading
certificate, ca, head = sys.argv[1:]
ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
ours.load_cert_chain(certificate, certificate[:-3] + 'key')
theirs = ssl.create_default_context(cafile=ca)
host, port = head.split(':')
listener = socket.create_server(('127.0.0.1', 0))
print('listening on', '127.0.0.1:%d' % listener.getsockname()[1], file=sys.stderr, flush=True)
def pump(a, b):
    try:
        while (some := a.recv(65536)):
            b.sendall(some)
        b.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
while True:
    peer, _ = listener.accept()
    try:
        peer = ours.wrap_socket(peer, server_side=True)
    except OSError:
        continue
    real = theirs.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
    for ends in ((peer, real), (real, peer)):
        threading.Thread(target=pump, args=ends, daemon=True).start()";

#[test]
fn a_data_node_registers_over_tls_and_a_head_in_the_middle_is_noticed_whatever_its_certificate() {
    let plant = Plant::new();
    let key = plant.at("cluster.key");
    let mut command = acopio();
    command.args(["key", "new", &key]);
    assert_eq!(ran(command).0, Some(0));
    let (ca, certificate) = (plant.at("ca/ca.crt"), plant.at("ca/head.crt"));
    let head = Head::start(plant.dir.path(), &["--key", &key, "--tls-cert", &certificate]);
    let _node = head.node(plant.dir.path(), 1, &["--key", &key, "--ca", &ca]);
    assert!(head.log("access.log").contains(" data1 node 127.0.0.2:"), "{}", head.log("access.log"));
    assert_eq!(plant.send(&head.at(), &[]).0, Some(0));
    let (code, _, err) = plant.run(&head.at(), &["copies", "1", "--key", &key]);
    assert_eq!(code, Some(0), "{err}");
    assert!(head.log("access.log").contains(" tls changes the copies to 1, at least 1"));

    let mut command = Command::new("python3");
    command.args(["-c", MIDDLE, &certificate, &ca, &head.at()]);
    let middle = Process::start(command);
    let line = middle.wait_for("listening on ");
    let at = line.split("listening on ").nth(1).unwrap();
    let mut command = acopio();
    command.args(["data", "--name", "data2", "--head", at, "--key", &key, "--ca", &ca, "--dir", &plant.at("data2")]);
    let deceived = Process::start(command);
    deceived.wait_for("its key is not the one that this side has");
    let (code, _, err) = plant.run(at, &["copies", "1", "--key", &key]);
    assert!(code == Some(1) && err.contains("or somebody stands in between"), "{err}");
    assert!(!head.log("access.log").contains(" data2 node "));
    // Without a key nobody but the certificate tells who is there.
    assert_eq!(plant.send(at, &[]).0, Some(0));
    plant.cert_in("other", "head", &["--host", "127.0.0.1"]);
    let (code, _, err) = {
        let mut command = acopio();
        let other = plant.at("other/ca.crt");
        command.args(["send", "hola", "--retry-for", "1s", "--head", at, "--ca", &other]);
        ran(command)
    };
    assert!(code == Some(1) && err.contains("from an authority that is not known here"), "{err}");
}

#[test]
fn from_other_machines_tls_alone_is_taken_where_that_is_asked_for() {
    let plant = Plant::new();
    let alone = Alone::new("tls");
    plant.cert("head", &["--host", Alone::ADDRESS]);
    let secret = plant.token("writer", &["--role", "write"]);
    let (tokens, certificate, ca) = (plant.at("tokens"), plant.at("ca/head.crt"), plant.at("ca/ca.crt"));
    let (logs, solo) = (plant.at("head"), plant.at("solo"));
    let listen = ["head", "--listen", "0.0.0.0:5000", "--no-icmp", "--logs", &logs, "--solo", "--dir", &solo];
    let words = ["--clients", "tls", "--tokens", &tokens, "--tls-cert", &certificate];
    let head = Process::start(alone.acopio(&[&listen[..], &words].concat()));
    head.wait_for("listening on ");
    let away = format!("{}:5000", Alone::ADDRESS);
    let send = |head: &str, more: &[&str]| {
        let words = ["send", "hola", "--retry-for", "1s", "--token-file", &secret, "--head", head];
        let (code, _, err) = ran(alone.acopio(&[&words[..], more].concat()));
        (code, err)
    };
    let (code, err) = send(&away, &[]);
    assert!(
        code == Some(1) && err.contains("this head takes connections of other machines over TLS alone; connect"),
        "{err}"
    );
    assert_eq!(send(&away, &["--ca", &ca]), (Some(0), String::new()), "a token crosses the network in TLS");
    assert_eq!(send("127.0.0.1:5000", &[]).0, Some(0));
    let log = fs::read_to_string(plant.path("head/access.log")).unwrap();
    assert!(log.contains("plain refused: this head takes connections of other machines over TLS alone"), "{log}");
    assert!(log.contains(&format!(" writer write {}:", Alone::ADDRESS)), "{log}");
}

#[test]
fn the_library_sends_and_reads_over_tls() {
    use acopio::client::{Client, Tls, reader};
    let plant = Plant::new();
    let head = plant.head(&["--clients", "tls", "--tls-ca", &plant.at("ca/ca.crt")]);
    let path = |name: &str| plant.path(name);
    let tls = |certificate: Option<&Path>| Tls::new(Some(&path("ca/ca.crt")), certificate).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let certificate = path("ca/esp7.crt");
        let mut client = Client::builder().head(head.at()).tls(tls(Some(&certificate))).build();
        tokio::time::timeout(PATIENCE, client.store("hola".into())).await.unwrap().unwrap();
        let config = reader::Config::from(vec![head.at()]).with_tls(tls(Some(&certificate)));
        let mut read = reader::read(config, reader::Query::default());
        let event = tokio::time::timeout(PATIENCE, read.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(event, reader::Event::Message(message) if &message.payload[..] == b"hola"));
    });
    let error = Tls::new(Some(&path("ca/esp7.key")), None).unwrap_err().to_string();
    assert!(error.contains("has no authority in PEM"), "{error}");
}
