//! Peers that lose their power: no end of their connection comes, and their places are free again soon all the same.
//!
//! They live in a network of their own, whose cable is pulled. The system is told to wait for 2 s in place of 20.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::common::{Head, LineClient, eventually, need};

/// Where `ip` is, for who has no such folder in the path.
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// A network namespace and a cable to it.
struct Far {
    name: String,
    near: Ipv4Addr,
}

impl Far {
    fn start() -> Self {
        let pid = std::process::id();
        // A network for measurements, which nobody has (RFC 2544).
        let octets =
            |host: u8| Ipv4Addr::from([198, 18 + (pid >> 14 & 1) as u8, (pid >> 6) as u8, (pid << 2) as u8 | host]);
        let (near, far) = (octets(1), octets(2));
        let name = format!("acopio{pid}");
        let made = Self { name, near };
        made.ip("netns add NAME");
        made.ip("link add NAME type veth peer name far netns NAME");
        made.ip(&format!("addr add {near}/30 dev NAME"));
        made.ip("link set NAME up");
        made.ip(&format!("-n NAME addr add {far}/30 dev far"));
        made.ip("-n NAME link set far up");
        made
    }

    fn ip(&self, words: &str) {
        let mut command = Command::new("ip");
        command.args(words.replace("NAME", &self.name).split(' '));
        command.env("PATH", PATH);
        need("a network of its own (iproute2)", &mut command);
    }

    fn run(&self, words: &[&str]) -> Peer {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words).env("PATH", PATH);
        Peer(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// A peer over there that says these lines, reads as many answers, and stays.
    fn lines(&self, head: &Head, lines: &str) -> Peer {
        let (host, port) = (head.address.ip(), head.address.port());
        let reads = "read -r answer <&3; ".repeat(lines.matches("\\n").count());
        let script = format!("exec 3<>/dev/tcp/{host}/{port}; printf '{lines}' >&3; {reads}exec sleep 600");
        self.run(&["bash", "-c", &script])
    }

    fn pull_the_cable(&self) {
        self.ip("link set NAME down");
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        for words in ["netns", "link"] {
            let mut command = Command::new("ip");
            command.args([words, "del", &self.name]).env("PATH", PATH);
            drop(command.status());
        }
    }
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn text_node(head: &Head) -> LineClient {
    let mut node = head.line();
    node.send("dataNode");
    head.process.wait_for("dataNode line-");
    node
}

/// How many connections a head has whose end it does not know of.
fn connections(head: &Head) -> usize {
    let port = format!(":{:04X}", head.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01").count()
}

#[test]
fn whose_power_went_leaves_its_place_whether_something_is_on_its_way_or_not() {
    let far = Far::start();
    let dir = tempfile::tempdir().unwrap();
    let text_nodes = format!("{}/30", far.near);
    let head = Head::start_at(
        dir.path(),
        &format!("{}:0", far.near),
        &["--peer-silence", "2s", "--no-icmp", "--text-nodes", &text_nodes],
    );
    let mut node = text_node(&head);
    let _idle = far.lines(&head, "peticion\\nociosa\\n");
    assert_eq!(node.read(), "mensaje: ociosa");
    node.send("recibido");
    eventually("the idle one has its answer", || (head.status()["acked_messages"] == 1).then_some(()));
    let _waits = far.lines(&head, "peticion\\nespera\\n");
    assert_eq!(node.read(), "mensaje: espera");
    assert_eq!(head.status()["clients"], 2);
    let _reader = far.run(&[env!("CARGO_BIN_EXE_acopio"), "read", "--follow", "--head", &head.at()]);
    eventually("it reads", || (connections(&head) == 4).then_some(()));
    let _node = far.lines(&head, "peticion\\ndataNode\\n");
    eventually("another node", || (head.process.count("dataNode line-") == 2).then_some(()));
    far.pull_the_cable();
    node.send("recibido");
    eventually("the answer is on its way", || (head.status()["acked_messages"] == 2).then_some(()));
    eventually("both clients' places are free", || (head.status()["clients"] == 0).then_some(()));
    // Of the four over there nothing is left.
    eventually("the reader and the node are gone", || (connections(&head) == 1).then_some(()));
}
