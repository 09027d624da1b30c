//! A cluster in containers on real bridge networks, by the engine of this machine: whole, cut up, and gone again.
//!
//! It needs an engine, and fails without one. Each test has its own names and removes what it made, also when it fails;
//! no packet leaves the networks that it made, but through ports published on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests stop at the first surprise, too"
)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use acopio::internals::{Engine, Found};
use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HealthStatusEnum, HostConfig, NetworkCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    ListNetworksOptionsBuilder,
};
use common::{LineClient, PATIENCE, Signal, acopio};
use tokio::runtime::Runtime;

/// The longest a demo may take to be up on a slow machine that builds several images at the same time.
const UP_PATIENCE: Duration = Duration::from_secs(120);

/// A name that no other test has.
fn unique(what: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("acopio-t{}-{}-{what}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn socket() -> PathBuf {
    Engine::default_socket(std::env::var("DOCKER_HOST").ok().as_deref()).unwrap()
}

/// The engine, by its own words.
struct Lab {
    runtime: Runtime,
    engine: Engine,
    docker: Docker,
}

impl Lab {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let engine = runtime.block_on(Engine::dial(&socket()));
        let engine =
            engine.unwrap_or_else(|error| panic!("these tests need a docker engine (test.sh installs one): {error}"));
        let docker = Docker::connect_with_unix(socket().to_str().unwrap(), 60, bollard::API_DEFAULT_VERSION).unwrap();
        let docker = runtime.block_on(docker.negotiate_version()).unwrap();
        Self { runtime, engine, docker }
    }

    fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    fn inspect(&self, container: &str) -> ContainerInspectResponse {
        self.wait(self.docker.inspect_container(container, None)).unwrap()
    }

    fn container(&self, demo: &str, member: &str) -> Found {
        let name = format!("{demo}-{member}");
        let found = self.wait(self.engine.containers(demo)).unwrap();
        found.into_iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no container {name}"))
    }

    /// Containers, networks and images with this in their names.
    fn all_called(&self, part: &str) -> Vec<String> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let containers = self.wait(self.docker.list_containers(Some(options))).unwrap();
        let networks =
            self.wait(self.docker.list_networks(Some(ListNetworksOptionsBuilder::default().build()))).unwrap();
        let images = self.wait(self.docker.list_images(Some(ListImagesOptionsBuilder::default().build()))).unwrap();
        let names = containers.into_iter().flat_map(|one| one.names.unwrap_or_default());
        let names = names.chain(networks.into_iter().filter_map(|one| one.name));
        names.chain(images.into_iter().flat_map(|one| one.repo_tags)).filter(|name| name.contains(part)).collect()
    }

    fn network(&self, name: &str) -> Network<'_> {
        let request = NetworkCreateRequest { name: name.to_owned(), ..Default::default() };
        let id = self.wait(self.docker.create_network(request)).unwrap().id;
        Network { lab: self, id }
    }
}

/// A network that is not a demo's; it goes with this.
struct Network<'a> {
    lab: &'a Lab,
    id: String,
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        drop(self.lab.wait(self.lab.docker.remove_network(&self.id)));
    }
}

/// A running `acopio demo`. What it made is removed when this is dropped, however the test ends.
struct Demo {
    child: Child,
    name: String,
    dir: PathBuf,
    out: PathBuf,
}

impl Demo {
    fn start(what: &str, dir: &Path, more: &[&str]) -> Self {
        Self::start_called(&unique(what), dir, more)
    }

    fn start_called(name: &str, dir: &Path, more: &[&str]) -> Self {
        let out = dir.join("out");
        let mut command = acopio();
        command.args(["demo", "--name", name, "--dir"]).arg(dir.join("logs")).args(more);
        command.stdin(Stdio::null()).stdout(fs::File::create(&out).unwrap());
        command.stderr(fs::File::create(dir.join("err")).unwrap());
        Self { child: command.spawn().unwrap(), name: name.to_owned(), dir: dir.join("logs"), out }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap() + &fs::read_to_string(self.out.with_file_name("err")).unwrap()
    }

    /// Waits until it says this; the line.
    fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + UP_PATIENCE;
        loop {
            if let Some(line) = self.said().lines().find(|line| line.contains(part)) {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "it never said {part:?} ({ended:?}):\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where clients of this machine reach its (first) head.
    fn published(&mut self) -> SocketAddr {
        let line = self.wait_for("| nc -N ");
        let mut words = line.split("| nc -N ").nth(1).unwrap().split_whitespace();
        format!("{}:{}", words.next().unwrap(), words.next().unwrap()).parse().unwrap()
    }

    fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until a log of a member has a line with these words.
    fn logged(&self, log: &str, words: &[&str]) -> String {
        let path = self.dir.join(log);
        eventually(&format!("{log} says {words:?}"), || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.lines().rfind(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(acopio().args(["demo", "--down", "--name", &self.name]).output());
    }
}

/// As the one of `common`, with the patience that containers need.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A line client of this machine after its handshake. The engine's own proxy may listen before the head does.
fn dial(head: SocketAddr) -> LineClient {
    eventually("the published port answers", || {
        let socket = TcpStream::connect(head).ok()?;
        socket.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let mut client = LineClient(BufReader::new(socket));
        client.0.get_mut().write_all(b"peticion\n").ok()?;
        let mut word = [0; 13];
        client.0.read_exact(&mut word).ok()?;
        (word == *b"confirmacion\n").then_some(client)
    })
}

#[test]
fn up_and_down_leave_nothing_but_the_files() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(
        "whole",
        dir.path(),
        &["--publish", "0", "--every", "200ms", "--heartbeat", "500ms", "--nodes", "2"],
    );
    demo.wait_for("Ctrl-C stops");
    let name = demo.name.clone();
    let other = lab.network(&format!("{name}-other"));

    // From this machine, by way of the published port.
    let answer = dial(demo.published()).ask("desde fuera");
    assert!(answer.ends_with(" , mensaje: recibido"), "{answer}");
    demo.wait_for("mensaje: desde fuera");
    demo.wait_for("confirmacion");
    demo.wait_for("Servidor recibio: ");
    demo.wait_for("recibido en dataNode ");
    // No capability is needed for ICMP.
    demo.wait_for("icmp=ok");
    demo.wait_for("disponible name=data2");

    let head = lab.inspect(&lab.container(&name, "head").id);
    let (config, host) = (head.config.unwrap(), head.host_config.unwrap());
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(config.user, Some(format!("{user}:{}", rustix::process::getegid().as_raw())));
    assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
    assert!(!host.security_opt.unwrap().iter().any(|option| option.contains("seccomp")), "the stock profile");
    for file in ["data1/data.txt", "head/registro.log", "client1/client.log"] {
        assert_eq!(fs::metadata(demo.dir.join(file)).unwrap().uid(), user, "{file}");
    }

    let again = acopio().args(["demo", "--name", &name, "--dir"]).arg(dir.path().join("again")).output().unwrap();
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(1));
    assert!(error.contains("is there already; remove it with 'acopio demo --down"), "{error}");

    demo.signal(Signal::INT);
    let status = demo.wait(2 * PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", demo.said());
    // In order, each of them told to: the client with its messages, the data nodes with their records.
    assert_eq!(demo.said().matches("stopped with ").count(), 3, "{}", demo.said());
    assert_eq!(lab.all_called(&name), [format!("{name}-other")], "what was not the demo's stays, and nothing else");
    drop(other);
    let kept: String =
        ["data1", "data2"].map(|node| fs::read_to_string(demo.dir.join(node).join("data.txt")).unwrap()).concat();
    assert!(kept.contains("mensaje: desde fuera\n"), "{kept}");
}

#[test]
fn what_a_killed_demo_leaves_is_removed_by_down() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start("killed", dir.path(), &["--nodes", "1", "--clients", "0"]);
    demo.wait_for("Ctrl-C stops");
    demo.signal(Signal::KILL);
    demo.wait(PATIENCE);
    assert_eq!(lab.all_called(&demo.name).len(), 4, "two containers, a network, an image");
    // It may be in any state.
    let node = lab.container(&demo.name, "data1");
    lab.wait(lab.engine.pause(&node.id, &node.name)).unwrap();
    let down = acopio().args(["demo", "--down", "--name", &demo.name]).output().unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert_eq!(lab.all_called(&demo.name), Vec::<String>::new());
    assert!(demo.dir.join("data1/data.txt").exists(), "the files stay");
}

/// Messages go on while a node is away, also those that were on their way to it, and it comes back.
fn a_lost_node(what: &str, lose: impl Fn(&Lab, &str, &Found), mend: impl Fn(&Lab, &str, &Found), cause: &str) {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let more = ["--publish", "0", "--nodes", "2", "--clients", "0", "--heartbeat", "2s"];
    let mut demo = Demo::start(what, dir.path(), &more);
    let head = demo.published();
    demo.wait_for("Ctrl-C stops");
    let mut clients: Vec<LineClient> = (0..30).map(|_| dial(head)).collect();
    // A node that has kept nothing yet is given one message at a time, and would be evicted for that.
    let mut before = dial(head);
    eventually("both nodes keep messages", || {
        before.ask("antes");
        let registro = fs::read_to_string(demo.dir.join("head/registro.log")).unwrap();
        ["data1", "data2"].iter().all(|node| registro.contains(&format!(" {node} "))).then_some(())
    });
    let victim = lab.container(&demo.name, "data1");
    let name = demo.name.clone();
    lose(&lab, &name, &victim);
    // One message each: every one is placed by itself, half of them with the node that is away.
    for (i, client) in clients.iter_mut().enumerate() {
        client.send(&format!("{what} {i}."));
    }
    for client in &mut clients {
        let answer = client.read();
        assert!(answer.ends_with(" , mensaje: recibido"), "{answer}");
    }
    let evicted = demo.logged("head/heartbeat.log", &["no disponible, eliminado name=data1 ", cause]);
    assert!(!evicted.ends_with("in_flight=0"), "nothing was on its way: {evicted}");
    let kept = fs::read_to_string(demo.dir.join("data2/data.txt")).unwrap();
    for i in 0..30 {
        assert!(kept.contains(&format!("mensaje: {what} {i}.\n")), "{what} {i}:\n{kept}");
    }
    mend(&lab, &name, &victim);
    eventually("it registers again", || {
        let log = fs::read_to_string(demo.dir.join("head/heartbeat.log")).unwrap();
        (log.matches(" disponible name=data1 registered").count() >= 2).then_some(())
    });
    let node = format!("recibido en dataNode {} data1", ip(&lab, &name, &victim));
    let mut client = dial(head);
    eventually("it keeps messages again", || {
        client.ask("otra vez");
        let registro = fs::read_to_string(demo.dir.join("head/registro.log")).unwrap();
        registro.contains(&node).then_some(())
    });
    demo.signal(Signal::TERM);
    assert_eq!(demo.wait(2 * PATIENCE).code(), Some(0), "{}", demo.said());
    assert_eq!(lab.all_called(&name), Vec::<String>::new());
}

/// The address of a container on the demo's network: the one that the head has to know it by.
fn ip(lab: &Lab, demo: &str, container: &Found) -> String {
    let networks = lab.inspect(&container.id).network_settings.unwrap().networks.unwrap();
    let endpoint: HashMap<String, _> = networks;
    let address = endpoint.values().find_map(|one| one.ip_address.clone().filter(|ip| !ip.is_empty()));
    address.unwrap_or_else(|| panic!("{} has no address on {demo}", container.name))
}

#[test]
fn a_node_that_is_cut_off_is_evicted_and_comes_back() {
    let lose = |lab: &Lab, demo: &str, node: &Found| {
        lab.wait(lab.engine.disconnect(demo, &node.id, &node.name)).unwrap();
    };
    let mend = |lab: &Lab, demo: &str, node: &Found| lab.wait(lab.engine.connect(demo, &node.id, "data1")).unwrap();
    a_lost_node("cortado", lose, mend, "no answer to the ping");
}

#[test]
fn a_node_that_is_paused_is_evicted_and_comes_back() {
    let lose = |lab: &Lab, _: &str, node: &Found| lab.wait(lab.engine.pause(&node.id, &node.name)).unwrap();
    let mend = |lab: &Lab, _: &str, node: &Found| lab.wait(lab.engine.unpause(&node.id, &node.name)).unwrap();
    a_lost_node("parado", lose, mend, "no answer to the ping");
}

/// A head of two is killed in it, too.
#[test]
fn the_script_of_failures_loses_nothing() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let script = ["--script", "failures", "--every", "200ms", "--heartbeat", "1s"];
    let mut demo = Demo::start("script", dir.path(), &script);
    let status = demo.wait(2 * UP_PATIENCE);
    let said = demo.said();
    assert_eq!(status.code(), Some(0), "{said}");
    let of = |did: &str| said.lines().filter(|line| line.starts_with(&format!("ok  {did} "))).count();
    let done = ["stop data1", "pause data2", "network disconnect data3", "kill head1"].map(of);
    assert_eq!(done, [1; 4], "{said}");
    assert!(said.ends_with("\n0 lost\n"), "{said}");
    assert_eq!(lab.all_called(&demo.name), Vec::<String>::new());
}

/// The script is no show: records that vanish are noticed by the read of the step, and by the audit.
#[test]
fn the_script_of_failures_notices_a_loss() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let script = ["--script", "failures", "--every", "200ms", "--heartbeat", "1s"];
    let mut demo = Demo::start("loss", dir.path(), &script);
    demo.wait_for("== step 2: ");
    for node in ["data1", "data2", "data3"] {
        fs::File::create(demo.dir.join(node).join("data.txt")).unwrap();
    }
    let status = demo.wait(2 * UP_PATIENCE);
    let said = demo.said();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("\nFAILED  ") && said.contains(" acknowledged records are missing\n"), "{said}");
    assert_eq!(lab.all_called(&demo.name), Vec::<String>::new());
}

#[test]
fn what_keeps_it_from_starting_is_told_with_a_remedy() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut demo = Demo::start("port", dir.path(), &["--publish", &port]);
    assert_eq!(demo.wait(UP_PATIENCE).code(), Some(1), "{}", demo.said());
    assert!(demo.said().contains("acopio: cannot publish a port of "), "{}", demo.said());
    assert_eq!(lab.all_called(&demo.name), Vec::<String>::new());

    let name = unique("theirs");
    let theirs = lab.network(&name);
    let mut demo = Demo::start_called(&name, dir.path(), &[]);
    assert_eq!(demo.wait(PATIENCE).code(), Some(1), "{}", demo.said());
    assert!(demo.said().contains("that no demo made; choose another --name"), "{}", demo.said());
    assert_eq!(lab.all_called(&name).len(), 1, "it is still there");
    drop(demo);
    drop(theirs);

    let theirs = Image { lab: &lab, name: unique("image") };
    theirs.build();
    let mut demo = Demo::start_called(&theirs.name, dir.path(), &[]);
    assert_eq!(demo.wait(PATIENCE).code(), Some(1), "{}", demo.said());
    assert!(demo.said().contains("the engine has an image called "), "{}", demo.said());
    drop(demo);
    assert_eq!(lab.all_called(&theirs.name), [format!("{}:latest", theirs.name)], "it has its name still");
    drop(theirs);

    let mut demo = Demo::start("image", dir.path(), &["--image", "acopio-no-such-image"]);
    assert_eq!(demo.wait(PATIENCE).code(), Some(1), "{}", demo.said());
    assert!(demo.said().contains("build it with 'acopio demo --image-only"), "{}", demo.said());
}

/// A container of somebody else; it goes with this.
struct Foreign<'a> {
    lab: &'a Lab,
    name: String,
}

impl Drop for Foreign<'_> {
    fn drop(&mut self) {
        drop(self.lab.wait(self.lab.engine.remove(&self.name, &self.name)));
    }
}

#[test]
fn what_somebody_else_uses_stays_and_all_the_rest_is_removed() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start("used", dir.path(), &["--nodes", "1", "--clients", "0"]);
    demo.wait_for("Ctrl-C stops");
    let foreign = Foreign { lab: &lab, name: unique("guest") };
    let options = CreateContainerOptionsBuilder::default().name(&foreign.name).build();
    let body = ContainerCreateBody {
        image: Some(format!("{}:latest", demo.name)),
        cmd: Some(vec!["head".to_owned()]),
        host_config: Some(HostConfig { network_mode: Some(demo.name.clone()), ..Default::default() }),
        ..Default::default()
    };
    lab.wait(lab.docker.create_container(Some(options), body)).unwrap();
    lab.wait(lab.engine.start(&foreign.name, &foreign.name)).unwrap();
    demo.signal(Signal::INT);
    assert_eq!(demo.wait(2 * PATIENCE).code(), Some(1), "{}", demo.said());
    assert!(demo.said().contains("that is not the demo's still uses it: "), "{}", demo.said());
    let mut left = lab.all_called(&demo.name);
    left.sort();
    assert_eq!(left, [demo.name.clone(), format!("{}:latest", demo.name)], "its network and its image");
    drop(foreign);
    let down = acopio().args(["demo", "--down", "--name", &demo.name]).output().unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert_eq!(lab.all_called(&demo.name), Vec::<String>::new());
}

/// An image that is no demo's; it goes with this.
struct Image<'a> {
    lab: &'a Lab,
    name: String,
}

impl Image<'_> {
    fn build(&self) {
        let built = acopio().args(["demo", "--image-only", "--image", &self.name]).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let options = None::<bollard::query_parameters::RemoveImageOptions>;
        let removed = self.lab.wait(self.lab.docker.remove_image(&self.name, options, None));
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// The kernel keeps signals from a pid 1 that does not ask for them, and the first may come before it does.
fn a_short_command_ends_when_it_is_told_to(lab: &Lab, compose: &Compose) {
    let send = ["run", "-d", "--no-deps", "client", "send", "--head", "127.0.0.1:5000", "--retry-for", "5m", "hola"];
    let name = compose.run(&send).trim().to_owned();
    let code = eventually("it ends", || {
        let options = KillContainerOptionsBuilder::default().signal("SIGTERM").build();
        // It may have ended since.
        drop(lab.wait(lab.docker.kill_container(&name, Some(options))));
        let state = lab.inspect(&name).state.unwrap();
        (state.running == Some(false)).then_some(state.exit_code)
    });
    assert_eq!(code, Some(143));
}

/// A project of compose, called as its image; it goes with this.
struct Compose {
    name: String,
    /// The file, and what its variables are.
    file: &'static str,
    variables: Vec<(String, String)>,
}

impl Compose {
    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("docker-compose (test.sh installs it)");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}{err}");
        out.into_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(self.file);
        command.arg("-p").arg(&self.name).arg("-f").arg(file).args(args);
        command.env("ACOPIO_IMAGE", &self.name).env("ACOPIO_PORT", "0");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        // It is a Python program of Debian's: the packages that the tests talk to are not its own.
        command.env_remove("PYTHONPATH");
        command
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        drop(self.command(&["down", "--volumes", "--timeout", "3"]).output());
    }
}

#[test]
fn the_compose_file_runs_against_the_image_of_the_demo() {
    let lab = Lab::new();
    let image = Image { lab: &lab, name: unique("compose") };
    image.build();
    let compose = Compose { name: image.name.clone(), file: "compose.yml", variables: Vec::new() };
    compose.run(&["up", "-d"]);
    assert_eq!(compose.run(&["ps", "-q", "data"]), "", "it is there to be scaled");
    compose.run(&["up", "-d", "--scale", "data=2"]);
    let of = |service: &str| (service.to_owned(), compose.run(&["ps", "-q", service]).trim().to_owned());
    let mut containers = ["head", "data1", "data2", "data3", "client"].map(of).to_vec();
    let scaled: Vec<String> = of("data").1.lines().map(str::to_owned).collect();
    assert_eq!(scaled.len(), 2);
    containers.extend(scaled.iter().map(|id| ("data".to_owned(), id.clone())));
    for (service, id) in containers {
        let mut last = String::new();
        eventually(&format!("{service} is healthy"), || {
            let health = lab.inspect(&id).state.unwrap().health.unwrap();
            last = health.log.unwrap_or_default().pop().and_then(|one| one.output).unwrap_or_default();
            (health.status == Some(HealthStatusEnum::HEALTHY)).then_some(())
        });
        let wanted = if service.starts_with("data") { "is disponible with" } else { "it answers" };
        assert!(last.contains(wanted), "{service}: {last}");
    }
    // Folders are for their user alone there, too, of volumes and in memory.
    let said = compose.run(&["logs", "head", "data1", "client"]);
    assert!(said.contains("listening on") && !said.contains("open to every user"), "{said}");
    let head = compose.run(&["port", "head", "5000"]).trim().parse().unwrap();
    let answer = dial(head).ask("por compose");
    assert_eq!(answer.matches("recibido").count(), 1, "{answer}");
    // Nobody on this machine, with a read-only root, and ICMP all the same.
    let id = compose.run(&["ps", "-q", "head"]);
    let inspected = lab.inspect(id.trim());
    assert_eq!(inspected.config.unwrap().user.as_deref(), Some("65532:65532"));
    assert_eq!(inspected.host_config.unwrap().readonly_rootfs, Some(true));
    let status = compose.run(&["exec", "-T", "head", "/acopio", "status", "--head", "head:5000", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 5, "{status}");
    assert!(nodes.iter().any(|node| node["icmp"] == true), "{status}");
    // By their host names: given ones, and what the engine calls a container.
    for name in ["data1"].into_iter().chain(scaled.iter().filter_map(|id| id.get(..12))) {
        assert!(nodes.iter().any(|node| node["name"] == name), "{name}: {status}");
    }
    a_short_command_ends_when_it_is_told_to(&lab, &compose);
    compose.run(&["down", "--volumes"]);
    let left: Vec<String> = lab.all_called(&compose.name);
    assert_eq!(left, [format!("{}:latest", compose.name)]);
}

/// Stand-ins of the images that devices.yml takes from a registry; they go with this.
struct StandIns<'a> {
    lab: &'a Lab,
    variables: Vec<(String, String)>,
}

impl<'a> StandIns<'a> {
    fn build(lab: &'a Lab, prefix: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/stand-ins.sh");
        let output = Command::new(script).arg(prefix).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
        let words = out.trim().strip_prefix("export ").expect("variables").split(' ');
        let variables = words.filter_map(|word| word.split_once('='));
        Self { lab, variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }
}

impl Drop for StandIns<'_> {
    fn drop(&mut self) {
        for (_, image) in &self.variables {
            let options = None::<bollard::query_parameters::RemoveImageOptions>;
            drop(self.lab.wait(self.lab.docker.remove_image(image, options, None)));
        }
    }
}

#[test]
fn another_device_leads_when_the_leaders_container_is_killed() {
    let lab = Lab::new();
    let image = Image { lab: &lab, name: unique("devices") };
    image.build();
    let stand_ins = StandIns::build(&lab, &image.name);
    let ports = ["WEB_PORT", "REDIS_PORT", "ZOOKEEPER_PORT"].map(|name| (name.to_owned(), "0".to_owned()));
    let quick = [("SAMPLING_PERIOD", "1"), ("SESSION_TIMEOUT", "3s")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let variables = stand_ins.variables.iter().cloned().chain(ports).chain(quick).collect();
    let compose = Compose { name: image.name.clone(), file: "devices.yml", variables };
    compose.run(&["up", "-d"]);
    let leads = |device: &str| compose.run(&["logs", "--no-color", device]).contains("LEADER :");
    let devices = ["device1", "device2", "device3"];
    let leader = eventually("a device leads", || devices.into_iter().find(|device| leads(device)));
    let web: SocketAddr = compose.run(&["port", "web-api", "80"]).trim().parse().unwrap();
    let listed = || {
        let mut socket = TcpStream::connect(web).ok()?;
        socket.write_all(b"GET /listar HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut page = String::new();
        socket.read_to_string(&mut page).ok()?;
        Some(page.matches(" °C </b>").count())
    };
    eventually("means are listed", || listed().filter(|&means| means > 0));
    let id = compose.run(&["ps", "-q", leader]);
    lab.wait(lab.docker.kill_container(id.trim(), None::<bollard::query_parameters::KillContainerOptions>)).unwrap();
    let others = devices.into_iter().filter(|&device| device != leader);
    eventually("another one leads", || others.clone().find(|device| leads(device)));
    let before = listed().unwrap();
    eventually("means go on", || listed().filter(|&means| means > before));
    for service in ["web-api", "head", "zookeeper"].into_iter().chain(others) {
        let id = compose.run(&["ps", "-q", service]);
        eventually(&format!("{service} is healthy"), || {
            let health = lab.inspect(id.trim()).state.unwrap().health.unwrap();
            (health.status == Some(HealthStatusEnum::HEALTHY)).then_some(())
        });
    }
    compose.run(&["down", "--volumes", "--timeout", "3"]);
}
