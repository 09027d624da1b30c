//! Sessions that somebody recorded on the way and says again, byte for byte: a data node that proved its key, a drain, a client
//! with a token in the clear. What becomes of one over TLS is in `tls`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::{Head, PATIENCE, Process, acopio, eventually, ran};

/// Stands between peers and a head, and keeps what each peer says.
struct Recorder {
    at: SocketAddr,
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn before(head: &Head) -> Self {
        let (listener, to) = (TcpListener::bind("127.0.0.1:0").unwrap(), head.address);
        let (at, said) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let recorder = Self { at, said: Arc::clone(&said) };
        thread::spawn(move || {
            while let Ok((peer, _)) = listener.accept() {
                let place = {
                    let mut said = said.lock().unwrap();
                    said.push(Vec::new());
                    said.len() - 1
                };
                let said = Arc::clone(&said);
                thread::spawn(move || record(peer, to, |some| said.lock().unwrap()[place].extend_from_slice(some)));
            }
        });
        recorder
    }

    /// What each connection said.
    fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().unwrap().clone()
    }
}

fn record(mut peer: TcpStream, to: SocketAddr, mut keep: impl FnMut(&[u8])) {
    let mut head = TcpStream::connect(to).unwrap();
    let (mut back, mut from) = (peer.try_clone().unwrap(), head.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut from, &mut back).and_then(|_| back.shutdown(Shutdown::Write)));
    let mut chunk = [0; 4096];
    while let Some(n) = peer.read(&mut chunk).ok().filter(|n| *n > 0) {
        keep(&chunk[..n]);
        head.write_all(&chunk[..n]).unwrap();
    }
    head.shutdown(Shutdown::Write).ok();
}

/// Says this to a head, and hears all that it answers.
fn again(head: &Head, recorded: &[u8]) -> String {
    let mut socket = head.connect();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // A head that has refused may have closed before all is said.
    socket.write_all(recorded).ok();
    socket.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn key(dir: &Path) -> String {
    let key = dir.join("cluster.key").to_str().unwrap().to_owned();
    let mut command = acopio();
    command.args(["key", "new", &key]);
    assert_eq!(ran(command).0, Some(0));
    key
}

/// A data node that comes to the head through there.
fn node(head: &Head, at: SocketAddr, dir: &Path, name: &str, key: &str) -> Process {
    let before = head.process.count(&format!("dataNode {name} registered"));
    let mut command = acopio();
    command.args(["data", "--name", name, "--head", &at.to_string(), "--key", key, "--dir"]).arg(dir.join(name));
    let node = Process::start(command);
    let registered = || (head.process.count(&format!("dataNode {name} registered")) > before).then_some(());
    eventually("it is registered", registered);
    node
}

fn names(head: &Head) -> Vec<String> {
    let status = head.status();
    let mut names: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|node| node["name"].to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_data_nodes_recorded_session_opens_no_door() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path());
    let head = Head::start(dir.path(), &["--key", &key]);
    let recorder = Recorder::before(&head);
    let data1 = node(&head, recorder.at, dir.path(), "data1", &key);
    eventually("it says something of its state", || recorder.said().first().filter(|said| said.len() > 200).map(drop));
    let recorded = recorder.said().remove(0);
    assert!(recorded.starts_with(b"peticion acopio/2\ndataNode\n"));
    // While it is there, and when it is gone and its name is free.
    let answer = again(&head, &recorded);
    assert!(answer.contains("the proof is wrong"), "{answer}");
    assert_eq!(names(&head), ["\"data1\""]);
    drop(data1);
    eventually("it is gone", || names(&head).is_empty().then_some(()));
    let answer = again(&head, &recorded);
    assert!(answer.contains("the proof is wrong"), "{answer}");
    assert!(names(&head).is_empty());
    assert_eq!(head.process.count("dataNode data1 registered"), 1);
    assert!(head.log("access.log").contains("refused: the proof is wrong"));
}

#[test]
fn a_recorded_drain_drains_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path());
    let head = Head::start(dir.path(), &["--key", &key]);
    let (data1, data2) =
        (node(&head, head.address, dir.path(), "data1", &key), node(&head, head.address, dir.path(), "data2", &key));
    head.wait_in_cluster(2);
    let recorder = Recorder::before(&head);
    let drain = |at: SocketAddr| {
        let mut command = acopio();
        command.args(["drain", "data1", "--key", &key, "--head", &at.to_string()]);
        let (code, _, err) = ran(command);
        assert_eq!(code, Some(0), "{err}");
    };
    drain(recorder.at);
    drop(data1);
    // Somebody of that name is there again, whom nobody asked to go.
    fs::remove_dir_all(dir.path().join("data1")).unwrap();
    let mut data1 = node(&head, head.address, dir.path(), "data1", &key);
    eventually("it is back", || (names(&head) == ["\"data1\"", "\"data2\""]).then_some(()));
    let refused = recorder.said().iter().filter(|said| again(&head, said).contains("the proof is wrong")).count();
    assert!(refused >= 1, "{:?}", recorder.said());
    // Nobody asked it to go, until somebody with the key does.
    let drains = || head.log("access.log").matches(" drains dataNode data1").count();
    assert_eq!((names(&head).len(), drains()), (2, 1));
    assert_eq!(data1.ended(), None);
    drain(head.address);
    assert_eq!(drains(), 2);
    drop(data2);
}

/// A token in the clear is heard by who listens, and can be said again: so heads take none over a network that is not trusted.
#[test]
fn a_session_with_a_token_in_the_clear_is_one_more_session_until_the_token_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let token = |words: &[&str]| {
        let mut command = acopio();
        command.arg("token").args(words).args(["--tokens", &at("tokens"), "taller"]);
        let (code, out, err) = ran(command);
        assert_eq!(code, Some(0), "{err}");
        out.trim().to_owned()
    };
    let secret = token(&["new", "--role", "write"]);
    fs::write(at("taller"), &secret).unwrap();
    fs::set_permissions(at("taller"), fs::Permissions::from_mode(0o600)).unwrap();
    let (tokens, solo) = (at("tokens"), at("solo"));
    let head = Head::start(dir.path(), &["--clients", "token", "--tokens", &tokens, "--solo", "--dir", &solo]);
    let recorder = Recorder::before(&head);
    let mut line = TcpStream::connect(recorder.at).unwrap();
    line.write_all(format!("peticion taller token={secret}\nhola\n").as_bytes()).unwrap();
    line.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "confirmacion\nhola\n");
    let mut command = acopio();
    command.args(["send", "adios", "--token-file", &at("taller"), "--head", &recorder.at.to_string()]);
    let (code, _, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    let [text, framed] = &recorder.said()[..] else { panic!("{}", recorder.said().len()) };
    assert_eq!(again(&head, text), "confirmacion\nhola\n");
    assert!(again(&head, framed).starts_with("confirmacion acopio/2\n"));
    let kept = |what: &str| {
        let log = fs::read_to_string(dir.path().join("solo/data.txt")).unwrap();
        log.lines().filter(|line| line.ends_with(what)).count()
    };
    assert_eq!(kept(" hola"), 2);
    // The second copy of a framed client has the numbers of the first, and a reader drops it.
    assert_eq!(kept(" adios"), 2);
    let mut command = acopio();
    command.args(["read", "--dir", &solo, "--format", "raw"]);
    let (_, out, err) = ran(command);
    assert_eq!(out.matches("adios").count(), 1, "{out}{err}");
    token(&["revoke"]);
    eventually("it is revoked", || again(&head, text).contains("this head knows no such token").then_some(()));
    let before = (kept(" hola"), kept(" adios"));
    assert!(again(&head, text).contains("this head knows no such token"));
    assert!(again(&head, framed).contains("this head knows no such token"));
    assert_eq!((kept(" hola"), kept(" adios")), before);
}
