//! `acopio device` on a real ZooKeeper, beside Python devices of the seeds' shape, and a web API that may fail.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::zookeeper::{Room, kazoo};
use crate::common::{Head, Process, Signal, acopio, eventually, ran};

/// The period of all devices here, and the session timeout of each.
const PERIOD: &str = "300ms";
const SESSION: Duration = Duration::from_secs(2);

/// A device whose lines and log come on one stream.
struct Device {
    process: Process,
    id: String,
    _dir: tempfile::TempDir,
}

fn command(at: &str, id: &str, api: &str, more: &[&str]) -> (Command, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let program = acopio().get_program().to_owned();
    let mut command = acopio();
    let environment: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    command = Command::new("sh");
    for name in environment {
        command.env_remove(name);
    }
    for name in ["ZK_HOST", "API_URL", "SAMPLING_PERIOD"] {
        command.env_remove(name);
    }
    command.args(["-c", "exec \"$0\" \"$@\" 1>&2"]).arg(program).args(["device", id, "--zookeeper", at, "--api", api]);
    command.arg("--logs").arg(dir.path().join("logs")).args(more);
    for (flag, value) in [("--session-timeout", "2s"), ("--period", PERIOD)] {
        if !more.contains(&flag) {
            command.args([flag, value]);
        }
    }
    (command, dir)
}

fn device(at: &str, id: &str, api: &str, more: &[&str]) -> Device {
    let (command, dir) = command(at, id, api, more);
    Device { process: Process::start(command), id: id.to_owned(), _dir: dir }
}

impl Device {
    fn leads(&self) -> bool {
        self.process.count("LEADER :") > 0
    }

    /// Waits until one more line holds `part`.
    fn more(&self, part: &str) {
        let before = self.process.count(part);
        eventually(&format!("device {} says {part:?} again:\n{}", self.id, self.process.all()), || {
            (self.process.count(part) > before).then_some(())
        });
    }
}

/// A device of the seeds' shape in Python, written anew: sensor and candidate, with kazoo.
fn python(at: &str, id: &str, api: &str) -> Process {
    let program = format!(
        r#"
import random, threading, urllib.request
from kazoo.exceptions import NoNodeError
me, period = {id:?}, 0.3
counter, barrier = zk.Counter('/counter'), zk.Barrier('/barrier')
zk.ensure_path('/mediciones')
zk.create('/mediciones/' + me, b'', ephemeral=True)

@zk.DataWatch('/config/sampling_period')
def watch_period(data, stat):
    global period
    if data:
        period = float(data)

def lead():
    say('LEADER', me)
    @zk.ChildrenWatch('/mediciones')
    def watch(children):
        say('Dispositivos conectados:', sorted(children))
    while True:
        time.sleep(period)
        values = dict()
        for child in sorted(zk.get_children('/mediciones')):
            try:
                data, _ = zk.get('/mediciones/' + child)
            except NoNodeError:
                continue
            if data:
                values[child] = int(data.decode())
        if values:
            mean = sum(values.values()) / len(values)
            try:
                urllib.request.urlopen(f'{api}nuevo?dato={{mean}}', timeout=2)
                say('python sent', mean, 'of', sorted(values))
            except Exception as error:
                say('failed', error)
        barrier.remove()

threading.Thread(target=lambda: zk.Election('/election', me).run(lead), daemon=True).start()
while True:
    value = str(random.randint(75, 85)).encode()
    try:
        zk.set('/mediciones/' + me, value)
    except NoNodeError:
        zk.create('/mediciones/' + me, value, ephemeral=True)
    counter += 1
    barrier.create()
    barrier.wait()
    say('python went on')
"#
    );
    kazoo(at, &program)
}

/// How a web API answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Broken,
    Hanging,
}

/// A web API that remembers the means it was sent.
struct Api {
    url: String,
    means: Arc<Mutex<Vec<f64>>>,
    mood: Arc<Mutex<Mood>>,
}

impl Api {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (means, mood) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Mood::Well)));
        let (seen, how) = (Arc::clone(&means), Arc::clone(&mood));
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for socket in listener.incoming().map_while(Result::ok) {
                let mood = *how.lock().unwrap();
                match mood {
                    Mood::Hanging => held.push(socket),
                    mood => take(socket, mood, &seen),
                }
            }
        });
        Self { url, means, mood }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn count(&self) -> usize {
        self.means.lock().unwrap().len()
    }

    /// Waits for so many more means; the last.
    fn more(&self, means: usize) -> f64 {
        let wanted = self.count() + means;
        eventually("means arrive", || (self.count() >= wanted).then_some(()));
        *self.means.lock().unwrap().last().unwrap()
    }
}

fn take(mut socket: TcpStream, mood: Mood, means: &Mutex<Vec<f64>>) {
    let mut bytes = [0; 2048];
    let n = socket.read(&mut bytes).unwrap_or_default();
    let asked = String::from_utf8_lossy(&bytes[..n]).into_owned();
    let mean = asked.strip_prefix("GET /nuevo?dato=").and_then(|rest| rest.split(' ').next()?.parse().ok());
    let answer = match (mood, mean) {
        (Mood::Well, Some(mean)) => {
            means.lock().unwrap().push(mean);
            "HTTP/1.1 200 OK"
        }
        (Mood::Well, None) => "HTTP/1.1 400 Bad Request",
        _ => "HTTP/1.1 500 Internal Server Error",
    };
    drop(socket.write_all(format!("{answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()));
}

/// What `acopio zk` prints in a room; asked again where the machine was too busy for a session.
fn zk(room: &Room, args: &[&str]) -> String {
    eventually(&format!("acopio zk {args:?}"), || match ran(room.zk(args)) {
        (Some(0), out, _) => Some(out),
        (_, _, said) if said.contains("made no session in time") => None,
        (code, _, said) => panic!("{args:?}: {code:?} {said}"),
    })
}

fn leader<'a>(devices: &'a [&'a Device]) -> &'a Device {
    eventually("a device leads", || devices.iter().copied().find(|device| device.leads()))
}

#[test]
fn a_device_says_the_seeds_lines_each_on_its_occasion() {
    let (room, api) = (Room::new(), Api::start());
    let one = device(&room.at(), "1", &api.url, &["--file", &value_file(82)]);
    one.process.wait_for("Dispositivos conectados: ['1']");
    api.more(1);
    let two = device(&room.at(), "2", &api.url, &["--file", &value_file(84)]);
    one.process.wait_for("Dispositivos conectados: ['1', '2']");
    one.process.wait_for("La media es: 83.0");
    assert_eq!(api.more(1), 83.0);
    let all = one.process.all();
    for line in [
        "-----WATCHER-----",
        "Node 1: 82 sent to zk",
        "Valor actual del contador: 1",
        "Node 1: Esperando en la barrera...",
        "LEADER :",
        "Hay 2 dispositivos activos: ['1', '2']",
        "Valor del dispositivo 1 a considerar : 82",
        "Valor del dispositivo 2 a considerar : 84",
        "La media es: 83.0",
        "Enviando request...",
        "El nuevo valor fue enviado a la API correctamente!",
        "Abriendo la barrera...",
    ] {
        assert!(all.lines().any(|said| said == line), "{line:?} is not in:\n{all}");
    }
    assert!(!two.leads() && two.process.count("WATCHER") == 0, "a follower watches no devices");
    two.process.wait_for("Node 2: 84 sent to zk");

    zk(&room, &["rm", "/mediciones/2"]);
    two.process.wait_for("Node 2: Nodo fue eliminado por un fallo de conexión, recreando...");
    two.process.wait_for("Node 2: 84 sent to zk (recreated)");

    // SIGTERM ends in order: the znode is gone at once, and another leads without waiting for a session's timeout.
    let Device { mut process, .. } = one;
    process.signal(Signal::TERM);
    let begun = Instant::now();
    assert_eq!(process.wait().code(), Some(0), "{}", process.all());
    assert_eq!(zk(&room, &["ls", "/mediciones"]).trim(), "2");
    two.process.wait_for("LEADER :");
    assert!(begun.elapsed() < SESSION, "{:?}", begun.elapsed());
    two.process.wait_for("Dispositivos conectados: ['2']");
    api.more(1);
}

/// A file with a value in it, for the time of the tests.
fn value_file(value: impl std::fmt::Display) -> String {
    let file = std::env::temp_dir().join(format!("acopio-value-{}-{value}", std::process::id()));
    std::fs::write(&file, format!("{value}\n")).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn when_the_leader_is_killed_the_next_mean_comes_within_a_sessions_timeout_and_a_period() {
    let (room, api) = (Room::new(), Api::start());
    let (period, session) = (Duration::from_secs(6), Duration::from_secs(6));
    // Means without one of the three tell who is missing.
    let devices = [("1", 10), ("2", 20), ("3", 40)].map(|(id, value)| {
        let more = ["--period", "6s", "--session-timeout", "6s", "--file", &value_file(value)];
        device(&room.at(), id, &api.url, &more)
    });
    let [one, two, three] = &devices;
    let leads = leader(&[one, two, three]).id.clone();
    eventually("all three count", || api.means.lock().unwrap().contains(&(70.0 / 3.0)).then_some(()));
    let (killed, rest): (Vec<_>, Vec<_>) = devices.into_iter().partition(|device| device.id == leads);
    killed.into_iter().for_each(|device| device.process.kill());
    let begun = Instant::now();
    let of_two = [30.0, 25.0, 15.0];
    eventually("the next leader's mean", || {
        api.means.lock().unwrap().iter().any(|mean| of_two.contains(mean)).then_some(())
    });
    // Well before a period is added to the session's timeout: the round under way goes on under the next leader.
    let took = begun.elapsed();
    assert!(took < session + period / 2, "{took:?}");
    let rest: Vec<&Device> = rest.iter().collect();
    leader(&rest);
    for device in rest {
        device.more("sent to zk");
    }
}

#[test]
fn python_devices_take_part_and_whoever_leads_counts_all() {
    let (room, api) = (Room::new(), Api::start());
    let first = python(&room.at(), "p1", &api.url);
    first.wait_for("LEADER p1");
    let ours = device(&room.at(), "1", &api.url, &[]);
    let second = python(&room.at(), "p2", &api.url);
    first.wait_for("of ['1', 'p1', 'p2']");
    ours.more("sent to zk");
    first.kill();
    ours.process.wait_for("Hay 2 dispositivos activos: ['1', 'p2']");
    eventually("all count", || {
        let said = ours.process.all();
        (said.contains("Valor del dispositivo 1 a") && said.contains("Valor del dispositivo p2 a")).then_some(())
    });
    let went_on = second.count("python went on");
    eventually("ours opens the barrier for Python's", || (second.count("python went on") > went_on + 1).then_some(()));
    api.more(2);
    let Device { process: ours, .. } = ours;
    ours.signal(Signal::TERM);
    second.wait_for("LEADER p2");
    second.wait_for("of ['p2']");
}

#[test]
fn the_second_device_of_one_id_is_told_and_does_not_fight() {
    let (room, api) = (Room::new(), Api::start());
    let first = device(&room.at(), "1", &api.url, &[]);
    first.more("sent to zk");
    let second = device(&room.at(), "1", &api.url, &[]);
    second.process.wait_for("a device 1 is there already");
    let (code, _, said) = second.process.finish();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("acopio: a device 1 is there already: session 0x"), "{said}");
    assert!(said.contains("give this one another id, or end that one"), "{said}");
    assert!(!said.contains("LEADER") && !said.contains("sent to zk"), "{said}");
    first.more("sent to zk");
    assert_eq!(first.process.count("recreando"), 0);
}

#[test]
fn a_killed_device_that_starts_again_gets_its_znode_back() {
    let (room, api) = (Room::new(), Api::start());
    let first = device(&room.at(), "1", &api.url, &[]);
    first.more("sent to zk");
    let Device { process, .. } = first;
    process.kill();
    let again = device(&room.at(), "1", &api.url, &[]);
    again.process.wait_for("a device 1 is there already");
    again.more("Node 1: ");
    assert_eq!(again.process.count("recreando"), 0);
    let Device { process, .. } = again;
    process.signal(Signal::INT);
    let (code, _, said) = process.finish();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(zk(&room, &["ls", "/mediciones"]).trim(), "", "Ctrl-C ends in order");
    // The first one's candidature may last as long as its session.
    assert!(!zk(&room, &["tree", "/mediciones"]).contains("ephemeral"));
}

#[test]
fn a_leader_that_was_paused_for_too_long_sends_nothing_for_the_next_one() {
    let (room, api) = (Room::new(), Api::start());
    let one = device(&room.at(), "1", &api.url, &["--file", &value_file(11)]);
    api.more(1);
    let two = device(&room.at(), "2", &api.url, &["--file", &value_file(33)]);
    one.process.wait_for("La media es: 22.0");
    one.process.signal(Signal::STOP);
    two.process.wait_for("La media es: 33.0");
    let led = one.process.count("LEADER :");
    one.process.signal(Signal::CONT);
    one.process.wait_for("takes its place");
    one.process.wait_for("Node 1: 11 sent to zk (recreated)");
    two.process.wait_for("La media es: 22.0");
    assert_eq!(one.process.count("LEADER :"), led, "{}", one.process.all());
}

#[test]
fn an_id_is_asked_for_on_a_terminal() {
    let (room, api) = (Room::new(), Api::start());
    let dir = tempfile::tempdir().unwrap();
    for (typed, wanted) in [
        ("77", "Node 77: Esperando en la barrera..."),
        ("", "Error: Se requiere un identificador como argumento."),
        ("a/b", "one word without a slash; give another"),
    ] {
        let (program, at) = (env!("CARGO_BIN_EXE_acopio"), room.at());
        let device = format!("{program} device --zookeeper {at} --api {} --logs {}", api.url, dir.path().display());
        let mut script = Command::new("script");
        script.args(["-qec", &device, "/dev/null"]).env_remove("ACOPIO_HEAD");
        script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut script = script.spawn().unwrap();
        let (mut keys, mut out) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let mut said = Vec::new();
        let mut read_until = |part: &str| {
            let mut bytes = [0; 1024];
            while !String::from_utf8_lossy(&said).contains(part) {
                let n = out.read(&mut bytes).unwrap_or_default();
                assert!(n > 0, "never {part:?}: {}", String::from_utf8_lossy(&said));
                said.extend_from_slice(&bytes[..n]);
            }
        };
        read_until("Introduce un identificador: ");
        keys.write_all(format!("{typed}\n").as_bytes()).unwrap();
        read_until(wanted);
        // Ctrl-C, where it runs.
        drop(keys.write_all(b"\x03"));
        script.wait().unwrap();
    }
}

#[test]
fn settings_in_znodes_take_effect_at_once_and_nonsense_changes_nothing() {
    let (room, api, other) = (Room::new(), Api::start(), Api::start());
    let one = device(&room.at(), "1", &api.url, &["--period", "1h"]);
    one.process.wait_for("Esperando en la barrera");
    zk(&room, &["create", "/config"]);
    zk(&room, &["create", "/config/sampling_period", "pronto"]);
    one.process.wait_for("SAMPLING_PERIOD stays 3600");
    zk(&room, &["set", "/config/sampling_period", "0.2"]);
    one.process.wait_for("Nuevo valor de SAMPLING_PERIOD: 0.2");
    api.more(2);
    zk(&room, &["create", "/config/api_url", "ftp://nada"]);
    one.process.wait_for(&format!("API_URL stays {}", api.url));
    api.more(1);
    zk(&room, &["set", "/config/api_url", &other.url]);
    one.process.wait_for(&format!("Nuevo valor de API_URL: {}", other.url));
    other.more(2);
    zk(&room, &["rm", "/config/api_url"]);
    one.process.wait_for(&format!("Nuevo valor de API_URL: {}", api.url));
    api.more(1);
}

#[test]
fn a_web_api_that_fails_or_hangs_holds_up_no_round() {
    let (room, api) = (Room::new(), Api::start());
    let one = device(&room.at(), "1", &api.url, &["--api-timeout", "300ms"]);
    api.more(1);
    api.set(Mood::Broken);
    one.process.wait_for("it answers 500 Internal Server Error; ");
    one.more("sent to zk");
    api.set(Mood::Hanging);
    one.process.wait_for("no answer within 300ms; see that it runs; trying again");
    one.more("sent to zk");
    api.set(Mood::Well);
    api.more(1);
    let away = device(&room.at(), "2", "http://127.0.0.1:1/", &[]);
    let Device { process, .. } = one;
    process.signal(Signal::TERM);
    away.process.wait_for("the web API at http://127.0.0.1:1/: ");
    away.more("sent to zk");
}

#[test]
fn the_cluster_keeps_each_measurement_and_how_each_mean_came_about() {
    let (room, api) = (Room::new(), Api::start());
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &[]);
    zk(&room, &["create", "/mediciones"]);
    zk(&room, &["create", "/mediciones/roto", "ochenta"]);
    zk(&room, &["create", "/mediciones/viejo", "50"]);
    zk(&room, &["create", "/mediciones/vacio", ""]);
    let long = "x".repeat(1100);
    let stranger = kazoo(&room.at(), &format!("zk.create('/mediciones/{long}', b'5')\nsay('made')\n"));
    stranger.wait_for("made");
    let one = device(&room.at(), "1", &api.url, &["--head", &head.at(), "--file", &value_file(21.5)]);
    one.process.wait_for("device viejo is late");
    one.process.wait_for("device roto does not count: \"ochenta\" is no number");
    let records = |kind: &str| -> Vec<Value> {
        let mut read = acopio();
        read.args(["read", "--head", &head.at(), "--format", "raw", "--from", "1"]);
        let (code, out, err) = ran(read);
        assert_eq!(code, Some(0), "{err}");
        let records = out.lines().filter_map(|line| serde_json::from_str(line).ok());
        records.filter(|record: &Value| record["kind"] == kind).collect()
    };
    let mean = eventually("a mean with a late device is kept", || {
        records("mean").into_iter().find(|mean| mean["late"] == json!(["viejo"]))
    });
    assert_eq!((&mean["mean"], &mean["leader"], &mean["sent"]), (&json!(21.5), &json!("1"), &json!(true)));
    assert_eq!(mean["counted"], json!({ "1": 21.5 }));
    let unreadable = mean["unreadable"].as_object().unwrap();
    assert_eq!(
        (&unreadable["roto"], &unreadable["vacio"]),
        (&json!("\"ochenta\" is no number"), &json!("it is empty"))
    );
    let too_long = unreadable[&long[..64]].as_str().unwrap();
    assert!(too_long.contains("it is too long"), "a name that ZooKeeper takes and we do not: {too_long}");
    assert!(mean["round"].as_u64().unwrap() >= 2 && mean["term"].as_i64().unwrap() > 0, "{mean}");
    let first = &records("measurement")[0];
    assert_eq!((&first["device"], &first["value"], &first["counter"]), (&json!("1"), &json!(21.5), &json!(1)));

    // While the cluster is away, measuring goes on, and all of it is kept later, each once.
    node.kill();
    one.process.wait_for("measurements wait for the cluster");
    one.more("sent to zk");
    let _node = head.node(dir.path(), 1, &[]);
    one.process.wait_for("the cluster keeps measurements again");
    let Device { process, .. } = one;
    process.signal(Signal::TERM);
    let (code, _, said) = process.finish();
    assert_eq!(code, Some(0), "{said}");
    let counted: Vec<i64> = records("measurement").iter().map(|record| record["counter"].as_i64().unwrap()).collect();
    let measured = said.lines().filter(|line| line.contains("Valor actual del contador")).count() as i64;
    assert_eq!(counted, (1..=measured).collect::<Vec<_>>());
}

#[test]
fn an_app_publishes_each_period_and_waits_at_no_barrier() {
    let (room, api) = (Room::new(), Api::start());
    zk(&room, &["create", "/barrier"]);
    let command = ["--command", "echo 7.25 grados"];
    let app = device(&room.at(), "app1", &api.url, &command);
    app.process.wait_for("Node app1: 7.25 sent to zk");
    assert_eq!(zk(&room, &["get", "/mediciones/app1"]).trim(), "7.25");
    assert_eq!(api.more(2), 7.25);
    assert_eq!(app.process.count("barrera...\n") + app.process.count("Esperando"), 0);
    // It leads, and opens the barrier for those that wait there.
    let one = device(&room.at(), "1", &api.url, &[]);
    one.more("sent to zk");
    one.more("sent to zk");
    assert!(!one.leads());
}

#[test]
fn values_come_from_standard_input_and_the_device_ends_with_it() {
    let (room, api) = (Room::new(), Api::start());
    let (mut command, _dir) = command(&room.at(), "5", &api.url, &["--stdin"]);
    command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"31\n").unwrap();
    assert_eq!(api.more(1), 31.0);
    input.write_all(b"nada\n32 grados\n").unwrap();
    eventually("the next line counts", || (api.more(1) == 32.0).then_some(()));
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("Node 5: 31 sent to zk"), "{said}");
    assert_eq!(zk(&room, &["ls", "/mediciones"]).trim(), "");
}

#[test]
fn what_is_wrong_is_one_clear_line() {
    let (room, api) = (Room::new(), Api::start());
    let failed = |at: &str, id: &str, api: &str| {
        let (command, _dir) = command(at, id, api, &[]);
        let (code, _, said) = Process::start(command).finish();
        assert_ne!(code, Some(0), "{said}");
        said
    };
    let nobody = failed("127.0.0.1:1", "1", &api.url);
    assert!(nobody.contains("acopio: no ZooKeeper at 127.0.0.1:1: "), "{nobody}");
    let web = api.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let other = failed(&web, "1", &api.url);
    assert!(other.contains(&format!("acopio: no ZooKeeper at {web}: ")), "{other}");
    let chroot = failed(&format!("{}/nada", room.server()), "1", &api.url);
    assert!(chroot.contains("the chroot /nada is not there"), "{chroot}");
    for id in ["a/b", "..", "two words", ""] {
        let bad = failed(&room.at(), id, &api.url);
        assert!(bad.contains("error: invalid value"), "{id}: {bad}");
    }
    let url = failed(&room.at(), "1", "web:4000");
    assert!(url.contains("write http://HOST:PORT/"), "{url}");

    let (_, out, _) = ran({
        let mut command = acopio();
        command.args(["device", "--zookeeper", &room.at()]);
        command
    });
    assert_eq!(out, "Error: Se requiere un identificador como argumento.\n");

    let closed = Room::new();
    let maker = kazoo(
        &closed.at(),
        "from kazoo.security import make_acl\n\
         zk.create('/mediciones', b'', acl=[make_acl('world', 'anyone', read=True)])\nsay('made')\ntime.sleep(60)\n",
    );
    maker.wait_for("made");
    let refused = failed(&closed.at(), "1", &api.url);
    assert!(refused.contains("acopio: cannot create /mediciones/1: no permission"), "{refused}");

    // A counter with nonsense in it counts nothing, and holds up nobody.
    zk(&room, &["create", "/counter", "muchos"]);
    let one = device(&room.at(), "1", &api.url, &[]);
    one.process.wait_for("/counter holds \"muchos\"");
    one.more("sent to zk");
    api.more(1);
}

#[test]
fn the_seeds_variables_are_understood() {
    let (room, api) = (Room::new(), Api::start());
    let dir: PathBuf = tempfile::tempdir().unwrap().keep();
    let mut command = acopio();
    command.args(["device", "1", "--session-timeout", "2s", "--logs"]).arg(&dir);
    command.env("ZK_HOST", room.at()).env("API_URL", &api.url).env("SAMPLING_PERIOD", "0.3");
    let one = Process::start(command);
    api.more(2);
    drop(one);
    log_has(&dir, "Node 1: ");
    let (code, _, said) = ran({
        let mut command = acopio();
        command.args(["device", "1", "--logs"]).arg(&dir).env("SAMPLING_PERIOD", "pronto");
        command
    });
    assert!(code == Some(1) && said.contains("the variable SAMPLING_PERIOD: \"pronto\" is no number"), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}

fn log_has(dir: &Path, part: &str) {
    let log = std::fs::read_to_string(dir.join("device.log")).unwrap();
    assert!(log.contains(part), "{log}");
}
