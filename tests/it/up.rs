//! `acopio up`: a whole cluster from one command, through its death and its next start.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::common::{Port, Signal, acopio, eventually, records, verify_clean};
use rustix::process::{Pid, kill_process};

/// A running `acopio up`, whose outputs go to files. It is told to stop, or killed, when it is dropped.
struct Up {
    child: Child,
    dir: PathBuf,
    out: PathBuf,
    _port: Option<Port>,
}

impl Up {
    /// On a free port, with messages every 100 ms.
    fn start(dir: &Path, more: &[&str]) -> Self {
        let port = Port::reserve();
        let up = Self::start_on(port.number(), dir, more);
        up.keeping(port)
    }

    fn keeping(mut self, port: Port) -> Self {
        self._port = Some(port);
        self
    }

    fn start_on(port: u16, dir: &Path, more: &[&str]) -> Self {
        let out = dir.join("out");
        let mut command = acopio();
        command.args(["up", "--listen-ip", "127.0.0.1", "--port", &port.to_string(), "--every", "100ms"]);
        command.arg("--dir").arg(dir.join("logs")).args(more);
        if !more.contains(&"--web-port") {
            command.arg("--no-web");
        }
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap());
        command.stderr(File::create(dir.join("err")).unwrap());
        Self { child: command.spawn().unwrap(), dir: dir.join("logs"), out, _port: None }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn erred(&self) -> String {
        fs::read_to_string(self.out.with_file_name("err")).unwrap()
    }

    fn wait_for(&self, part: &str) -> String {
        eventually(&format!("up says {part:?}"), || {
            self.said().lines().find(|line| line.contains(part)).map(ToOwned::to_owned)
        })
    }

    /// The pid that it tells for a member, once it runs.
    fn pid(&self, member: &str) -> i32 {
        self.wait_for("Ctrl-C stops everything");
        let line = self.wait_for(&format!("  {member:8} pid "));
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    }

    fn pids(&self) -> Vec<i32> {
        ["head", "data1", "data2", "data3", "client1"].map(|member| self.pid(member)).to_vec()
    }

    /// Waits until the client was told so often more that its message is kept.
    fn more_answers(&self, answers: usize) {
        let count = || self.log("client1/client.log").matches("Servidor recibio: ").count();
        let target = count() + answers;
        eventually("the client gets answers", || (count() >= target).then_some(()));
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        send(self.child.id() as i32, signal);
    }

    fn wait(&mut self) -> ExitStatus {
        eventually("up ends", || self.child.try_wait().unwrap())
    }

    /// Interrupts it, and expects an orderly end.
    fn interrupt(mut self) -> String {
        self.signal(Signal::INT);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}{}", self.said(), self.erred());
        self.said()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Whether the process runs on this folder: not a zombie, not another with its number.
fn runs(pid: i32, dir: &Path) -> bool {
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(dir.to_str().unwrap()))
}

fn none_runs(pids: &[i32], dir: &Path) -> bool {
    !pids.iter().any(|&pid| runs(pid, dir))
}

/// The ids of every message that the head told somebody is kept.
fn acknowledged(registro: &str) -> BTreeSet<String> {
    let ids = registro.lines().filter_map(|line| line.split_once(" recibido en dataNode "));
    // After the node's address and name: ids, those of a range by its first.
    ids.flat_map(|(_, rest)| rest.split(' ').skip(2).map(|id| id.split("..").next().unwrap().to_owned())).collect()
}

fn assert_nothing_lost(dir: &Path) {
    let ids = acknowledged(&fs::read_to_string(dir.join("head/registro.log")).unwrap());
    assert!(!ids.is_empty(), "messages were acknowledged");
    let kept: BTreeSet<String> = records(dir).into_iter().map(|record| record.id).collect();
    let lost: Vec<_> = ids.difference(&kept).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {:?}", lost.len(), ids.len(), lost.first());
    verify_clean(dir, &["data1", "data2", "data3"]);
}

#[test]
fn messages_flow_and_a_second_up_goes_on_with_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let identity = |k: usize| {
        let text = fs::read_to_string(logs.join(format!("data{k}/node.state"))).unwrap();
        text.lines().find_map(|line| line.strip_prefix("node ")?.split(' ').next().map(str::to_owned)).unwrap()
    };
    let mut first = Up::start(dir.path(), &[]);
    first.more_answers(5);
    let pids = first.pids();
    eventually("each node has been told of", || {
        let told =
            |k: u8| first.log("head/heartbeat.log").contains(&format!("127.0.0.{} disponible name=data{k}", k + 1));
        (1..=3).all(told).then_some(())
    });
    first.signal(Signal::INT);
    assert_eq!(first.wait().code(), Some(0), "{}{}", first.said(), first.erred());
    assert!(none_runs(&pids, &logs), "its children are gone before it is");
    for name in ["head/registro.log", "head/heartbeat.log", "head/head.log", "client1/client.log", "data1/node.log"] {
        assert!(!first.log(name).is_empty(), "{name} is empty");
        assert!(fs::symlink_metadata(logs.join(name)).unwrap().is_file(), "{name} is no file of its own");
    }
    assert!(first.log("client1/client.log").contains("Servidor recibio: 127.0.0."));
    let before: BTreeSet<_> = records(&logs).into_iter().collect();
    for record in &before {
        let number = record.payload.strip_prefix("mensaje: numero random: ").expect(&record.payload);
        assert!(number.parse::<u32>().unwrap() <= 100, "{number}");
    }
    let said = first.said();
    let summed: usize = said
        .split_once("Stopped. What is on disk:\n")
        .expect("a summary")
        .1
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(summed, before.len(), "{said}");
    assert_nothing_lost(&logs);

    let identities = [1, 2, 3].map(identity);
    let second = Up::start(dir.path(), &[]);
    second.more_answers(5);
    second.interrupt();
    let after: BTreeSet<_> = records(&logs).into_iter().collect();
    assert!(after.is_superset(&before) && after.len() > before.len(), "records only grow");
    assert_eq!(identities, [1, 2, 3].map(identity));
    assert_nothing_lost(&logs);
}

#[test]
fn a_killed_data_node_is_told_of_evicted_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["--restart-after", "300ms"]);
    let registered = || up.log("head/head.log").matches("dataNode data2 registered").count();
    eventually("data2 registers", || (registered() == 1).then_some(()));
    up.more_answers(5);
    let pid = up.pid("data2");
    up.wait_for(&format!("kill -9 {pid} "));
    send(pid, Signal::KILL);
    let told = up.wait_for(&format!("data2 (pid {pid}) was killed by signal 9"));
    assert!(told.ends_with("it is started again in 300ms"), "{told}");
    eventually("the head evicts it", || {
        up.log("head/heartbeat.log").contains("127.0.0.3 no disponible, eliminado name=data2").then_some(())
    });
    let again = up.wait_for("data2 runs again, pid ");
    let again: i32 = again.rsplit(' ').next().unwrap().parse().unwrap();
    assert_ne!(again, pid);
    eventually("data2 registers again", || (registered() == 2).then_some(()));
    up.more_answers(10);
    let (pids, logs) = (up.pids(), up.dir.clone());
    assert!(!up.log("client1/client.log").contains("was not kept"), "the client sees no error");
    up.interrupt();
    assert!(none_runs(&pids, &logs) && none_runs(&[again], &logs));
    assert_nothing_lost(&logs);
}

#[test]
fn a_drained_data_node_is_not_started_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["--restart-after", "200ms"]);
    up.more_answers(3);
    let head = up.wait_for("Its head listens on ");
    let head = head.split_once("listens on ").unwrap().1.split(';').next().unwrap().to_owned();
    let mut drain = acopio();
    assert!(drain.args(["drain", "data3", "--head", &head]).status().unwrap().success());
    up.wait_for("it was drained or told to end, and is not started again");
    up.interrupt();
    let again = Up::start(dir.path(), &["--restart-after", "200ms"]);
    let told = again.wait_for("data3 (pid ");
    assert!(told.contains("it was drained, and is not started again; to have it back, remove "), "{told}");
    again.more_answers(10);
    assert_eq!(again.said().matches(" was drained: ").count(), 1, "{}", again.said());
    again.interrupt();
}

#[test]
fn an_interrupt_ends_every_process_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &[]);
    up.more_answers(3);
    let (pids, logs) = (up.pids(), up.dir.clone());
    assert!(pids.iter().all(|&pid| runs(pid, &logs)));
    let said = up.interrupt();
    assert!(none_runs(&pids, &logs));
    assert!(said.contains("Stopped. What is on disk:") && !said.contains("was killed"), "{said}");
    assert_nothing_lost(&logs);
}

#[test]
fn the_processes_end_by_themselves_when_up_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Up::start(dir.path(), &[]);
    up.more_answers(3);
    let (pids, logs) = (up.pids(), up.dir.clone());
    up.signal(Signal::KILL);
    up.wait();
    eventually("the children end", || none_runs(&pids, &logs).then_some(()));
    assert!(up.log("head/head.log").trim_end().ends_with(" stopped"), "{}", up.log("head/head.log"));
    for k in 1..=3 {
        assert!(up.log(&format!("data{k}/node.log")).contains("stopped with "), "data{k} ended in order");
    }
    assert_nothing_lost(&logs);
}

#[test]
fn it_stops_by_itself_after_the_time_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Up::start(dir.path(), &["--for", "1s"]);
    assert_eq!(up.wait().code(), Some(0), "{}{}", up.said(), up.erred());
    assert!(up.said().contains("Stopped. What is on disk:"), "{}", up.said());
}

#[test]
fn a_port_in_use_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut up = Up::start_on(port, dir.path(), &[]);
    assert_eq!(up.wait().code(), Some(1), "{}", up.said());
    let erred = up.erred();
    assert_eq!(erred.lines().count(), 1, "{erred}");
    assert!(erred.starts_with("acopio: ") && erred.contains(&format!("127.0.0.1:{port}")), "{erred}");
    assert!(erred.contains("; ") && erred.contains("--port"), "the remedy is a flag of up: {erred}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("logs"), "a file").unwrap();
    let mut up = Up::start(dir.path(), &[]);
    assert_eq!(up.wait().code(), Some(1), "{}", up.said());
    let erred = up.erred();
    assert!(erred.contains(up.dir.to_str().unwrap()) && erred.contains("name another folder with --dir"), "{erred}");
}

#[test]
fn with_brokers_it_shows_the_calculation_and_what_to_kill() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["--broker", "--nodes", "1", "--clients", "0", "--restart-after", "never"]);
    let line = up.wait_for("ends primary: the backup takes over after 3 s");
    up.wait_for("ends square1: the calculation server squares the first leg itself");
    up.wait_for("ask     | ← Hipotenusa recibida: 17.6918");
    let pid: i32 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
    send(pid, Signal::KILL);
    eventually("the backup is active", || up.said().contains("ahora activo como PRIMARY").then_some(()));
    let answers = || up.said().matches("← Hipotenusa recibida: 17.6918").count();
    let before = answers();
    eventually("the calculation goes on", || (answers() > before + 1).then_some(()));
    eventually("what passed is in the cluster", || {
        let kept = records(&dir.path().join("logs"));
        kept.iter().any(|record| record.payload == "zmq 21,2 calc.square.request.1 12").then_some(())
    });
    up.signal(Signal::TERM);
    up.wait_for("stopping: clients, then the topics, then the head, then the data nodes");
}

/// A page of the web API; none while it does not answer.
fn page(port: &Port, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(port.at()).ok()?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn devices_have_all_they_need_and_another_leads_when_the_leader_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (zookeeper, web) = (Port::reserve(), Port::reserve());
    let (zookeeper_port, web_port) = (zookeeper.number().to_string(), web.number().to_string());
    let flags = ["--devices", "3", "--zookeeper-port", &zookeeper_port, "--web-port", &web_port, "--period", "300ms"];
    let up = Up::start(dir.path(), &flags);
    up.wait_for(&format!("See it at http://127.0.0.1:{web_port}/"));
    assert_eq!(up.said().lines().next(), Some(format!("The page: http://127.0.0.1:{web_port}/").as_str()));
    up.wait_for(&format!("  curl http://127.0.0.1:{web_port}/listar"));
    up.wait_for(&format!(" zk --zookeeper 127.0.0.1:{zookeeper_port} set /config/sampling_period 8"));
    let leader = |not: &str| {
        eventually("a device leads", || {
            let said = up.said();
            let line = said.lines().rfind(|line| line.contains(" leads, term ") && !line.contains(not))?;
            Some((line.split('|').next()?.trim().to_owned(), line.rsplit(' ').next()?.parse::<i32>().ok()?))
        })
    };
    let (name, pid) = leader("nobody");
    up.wait_for("El nuevo valor fue enviado a la API correctamente!");
    eventually("means are listed", || page(&web, "/listar")?.contains(" °C </b>").then_some(()));
    send(pid, Signal::KILL);
    up.wait_for(&format!("{name} (pid {pid}) was killed by signal 9"));
    let (other, _) = leader(&format!("{name} |"));
    assert_ne!(other, name);
    let mut zk = acopio();
    zk.args(["zk", "--zookeeper", &format!("127.0.0.1:{zookeeper_port}"), "get", "/config/api_url"]);
    let said = String::from_utf8(zk.output().unwrap().stdout).unwrap();
    assert_eq!(said.trim(), format!("http://127.0.0.1:{web_port}/"));
    let pids = ["zk", "web", "device1"].map(|member| up.pid(member));
    let logs = up.dir.clone();
    let said = up.interrupt();
    assert!(said.contains("stopping: devices, clients"), "{said}");
    assert!(none_runs(&pids, &logs), "its ZooKeeper is gone, too");

    // Again on the same folder, and killed: nobody outlives it.
    let mut again = Up::start(dir.path(), &flags);
    again.wait_for("Valor actual del contador: ");
    assert!(!again.said().contains("Valor actual del contador: 1\n"), "ZooKeeper goes on with its data");
    let pids = ["zk", "web", "device1"].map(|member| again.pid(member));
    assert!(pids.iter().all(|&pid| runs(pid, &logs)));
    again.signal(Signal::KILL);
    again.wait();
    eventually("the children end", || none_runs(&pids, &logs).then_some(()));
}

#[test]
fn devices_without_a_zookeeper_say_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = acopio();
    command.args(["up", "--devices", "1", "--dir"]).arg(dir.path().join("logs")).env("PATH", dir.path());
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("install it with 'apt-get install zookeeper', or name one that runs with --zookeeper"),
        "{error}"
    );
}

#[test]
fn devices_whose_zookeeper_is_not_there_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (web, nobody) = (Port::reserve(), Port::reserve());
    let port = web.number().to_string();
    let flags = ["--devices", "1", "--nodes", "1", "--clients", "0", "--web-port", &port, "--zookeeper", &nobody.at()];
    let mut up = Up::start(dir.path(), &flags);
    assert_eq!(up.wait().code(), Some(1), "{}", up.said());
    let erred = up.erred();
    assert!(erred.contains(&format!("acopio: no ZooKeeper at {}: ", nobody.at())), "{erred}");
    assert!(erred.contains("start it, or name another with --zookeeper"), "{erred}");
}

/// On a terminal of 80 columns, which `script` makes.
#[test]
fn a_terminal_shows_each_messages_way_and_the_suggestions_again_with_enter() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let up = format!(
        "stty cols 80; exec {} up --no-web --port {} --dir {} --heartbeat 500ms --every 1s",
        env!("CARGO_BIN_EXE_acopio"),
        port.number(),
        dir.path().join("logs").display()
    );
    let out = dir.path().join("out");
    let mut script = Command::new("script");
    script.args(["-qec", &up, "/dev/null"]).stdin(Stdio::piped()).stdout(File::create(&out).unwrap());
    let mut script = script.spawn().unwrap();
    let mut keys = script.stdin.take().unwrap();
    let said = || fs::read_to_string(&out).unwrap();
    let sees = |what: &str, times: usize| {
        eventually(what, || (said().matches(what).count() >= times).then_some(()));
    };
    sees("Enter shows this again", 1);
    let mut somebody = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).unwrap();
    somebody.write_all(b"peticion\ndesde fuera\n").unwrap();
    for (what, times) in [(" -> head -> data", 1), (" -> registro.log:", 2), ("recibido en dataNode ", 1), ("ping=", 1)]
    {
        sees(what, times);
    }
    sees("mensaje: desde fuera", 1);
    // Of the messages of its own clients the way alone, in one line; of others' what their files say.
    for what in ["envia: numero random: ", "Servidor recibio: ", "mensaje: numero random: ", "cliente "] {
        assert!(!said().contains(what), "{}", said());
    }
    assert_eq!(said().matches("recibido en dataNode ").count(), 1, "{}", said());
    let told = said().lines().find_map(|line| Some(line.split_once("registro.log:")?.1.trim_end().to_owned())).unwrap();
    let (line, id) = (told.split(' ').next().unwrap(), told.rsplit(' ').next().unwrap());
    let registro = fs::read_to_string(dir.path().join("logs/head/registro.log")).unwrap();
    assert!(
        registro.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap().contains(id.trim_end_matches('…')),
        "{told}\n{registro}"
    );
    sees(" read --head ", 1);
    sees(" status --head ", 1);
    keys.write_all(b"\n").unwrap();
    sees("Enter shows this again", 2);
    keys.write_all(b"\x03").unwrap();
    eventually("up ends", || script.try_wait().unwrap());

    let said = said();
    let (way, end) = said.split_once("stopping: ").unwrap();
    // Not any word with these letters: ids and checksums have them, too.
    let is_dated =
        |line: &str| line.contains("|") && line.split(' ').any(|word| humantime::parse_rfc3339(word).is_ok());
    assert!(!way.lines().any(is_dated), "{said}");
    let members = |text: &str| text.lines().filter(|line| line.contains("|\x1b[0m ")).map(plain).collect::<Vec<_>>();
    assert!(members(way).iter().all(|line| line.chars().count() <= 80), "{said}");
    let last = members(end);
    assert_eq!(last.len(), 5, "{end}");
    assert!(last.iter().all(|line| line.contains(" stopped")) && !end.contains("WARN"), "{end}");
}

/// Without colours.
fn plain(line: &str) -> String {
    let parts = line.trim_end().split('\x1b').enumerate();
    parts.map(|(k, part)| if k == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) }).collect()
}
