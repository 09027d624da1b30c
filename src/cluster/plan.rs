//! Who runs in a cluster of this machine, with which flags: neither a process nor a container is started here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::daily::Keep;
use crate::key::file::NODE_FILE;

/// Where each container has its member's folder.
pub(crate) const CONTAINER_DIR: &str = "/data";

/// Where an image has room for a volume with the cluster's key, as `docker/compose.yml` uses it.
pub(crate) const CONTAINER_KEYS: &str = "/keys";

/// The settings of a ZooKeeper, in its folder.
pub(crate) const ZOO_CFG: &str = "zoo.cfg";

/// Silence after which ZooKeeper gives a device up: a new leader is seen soon.
const DEVICE_SESSION: &str = "3s";

/// The port of every head that is in a container.
pub(crate) const CONTAINER_PORT: u16 = 5000;

/// What a cluster is made of. Durations are in the words of the flags that take them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Folder for all files of the cluster.
    pub(crate) dir: PathBuf,
    /// Where the members run.
    pub(crate) place: Place,
    /// Number of heads, all active.
    pub(crate) heads: usize,
    /// Time between two messages of a client.
    pub(crate) every: String,
    /// Time between two heartbeats.
    pub(crate) heartbeat: String,
    /// When data nodes sync.
    pub(crate) sync: String,
    /// When some of them do, who differ from the others, by their numbers.
    pub(crate) sync_of: BTreeMap<usize, String>,
    /// Time that a data node may be away before its copies are made again.
    pub(crate) repair_after: String,
    /// Pace of those copies, bytes a second.
    pub(crate) repair_rate: u64,
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Copies of each message.
    pub(crate) replicas: usize,
    /// Time for which data nodes keep records; for ever if there is none.
    pub(crate) keep: Option<String>,
    /// Bytes that each data node keeps; no limit if there is none.
    pub(crate) keep_bytes: Option<u64>,
    /// How long heads keep their registros.
    pub(crate) keep_registro: Keep,
    /// Number of data nodes.
    pub(crate) nodes: usize,
    /// Number of clients.
    pub(crate) clients: usize,
    /// Have a pair of brokers, and the original's calculation over them.
    pub(crate) brokers: bool,
    /// Where the page and the web API listen, if there are to be any; only for processes of this machine.
    pub(crate) web: Option<SocketAddr>,
    /// Measuring devices, and what they need; only for processes of this machine.
    pub(crate) devices: Option<Devices>,
}

/// Measuring devices beside the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Devices {
    /// How many.
    pub(crate) count: usize,
    /// Over which ZooKeeper they coordinate.
    pub(crate) zookeeper: ZooKeeper,
    /// Where the web API listens.
    pub(crate) web: SocketAddr,
    /// Time between two measurements.
    pub(crate) period: String,
}

/// A ZooKeeper.
#[derive(Clone, Debug)]
pub(crate) enum ZooKeeper {
    /// One that runs, as `--zookeeper` names it.
    Running(String),
    /// One that is started with the others.
    Child {
        /// Its port on the loopback address.
        port: u16,
        /// The Java class path of its program.
        classes: String,
    },
}

impl ZooKeeper {
    /// How devices are told of it.
    #[must_use]
    pub(crate) fn servers(&self) -> String {
        match self {
            Self::Running(servers) => servers.clone(),
            Self::Child { port, .. } => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).to_string(),
        }
    }
}

/// The brokers' addresses on this machine: the primary's, and the backup's. Data nodes have others of 127.0.0.
pub(crate) const BROKERS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 1, 2)];

/// Where the members run, and so how they find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Processes of this machine, which end when their standard input does.
    Machine {
        /// Address the heads listen on.
        listen_ip: IpAddr,
        /// Port of the first head; the others have the ones after it.
        port: u16,
    },
    /// Containers on one network: each has a name there, and its folder at the same place.
    Containers,
}

/// What a process of the cluster is, in the order in which they are started. Who sends ends first, then heads, so
/// that data nodes keep what is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The ZooKeeper that devices coordinate over: a program of its own.
    ZooKeeper,
    /// A headNode.
    Head,
    /// A dataNode.
    Data,
    /// A broker of topics, or a program that publishes and subscribes.
    Topics,
    /// A client that sends random numbers.
    Client,
    /// A web API.
    Web,
    /// A measuring device.
    Device,
}

impl Kind {
    /// The order in which they end.
    pub(crate) const STOP_ORDER: [Self; 7] =
        [Self::Device, Self::Client, Self::Web, Self::Topics, Self::Head, Self::Data, Self::ZooKeeper];

    /// The word for it, which is the subcommand of those that are acopio.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::ZooKeeper => "zookeeper",
            Self::Head => "head",
            Self::Data => "data",
            Self::Topics => "topics",
            Self::Client => "client",
            Self::Web => "web",
            Self::Device => "device",
        }
    }

    /// The program that it is, if it is not acopio. This one ends a Java program when `up` is killed.
    #[must_use]
    pub(crate) const fn program(self) -> Option<&'static str> {
        match self {
            Self::ZooKeeper => Some("setpriv"),
            _ => None,
        }
    }
}

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its name: `head`, `data1`, `client1`.
    pub(crate) name: String,
    /// Its folder on this machine.
    pub(crate) dir: PathBuf,
    /// Its arguments; those of acopio begin with the subcommand.
    pub(crate) args: Vec<OsString>,
}

impl Settings {
    /// The addresses at which this machine's processes reach the heads; none if they are in containers.
    #[must_use]
    pub(crate) fn head_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(Place::reached_at)
    }

    /// The addresses of this machine on which the heads listen; none if they are in containers.
    #[must_use]
    pub(crate) fn listen_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(|place| match place {
            Place::Machine { listen_ip, .. } => Some(listen_ip),
            Place::Containers => None,
        })
    }

    fn addresses(&self, ip: impl Fn(Place) -> Option<IpAddr>) -> Vec<SocketAddr> {
        match (ip(self.place), self.place) {
            (Some(ip), Place::Machine { port, .. }) => {
                (port..=u16::MAX).take(self.heads).map(|port| SocketAddr::new(ip, port)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn head_name(&self, i: usize) -> String {
        if self.heads == 1 { "head".to_owned() } else { format!("head{i}") }
    }

    /// All heads in one flag.
    fn heads_flag(&self) -> String {
        let heads: Vec<String> = match self.place {
            Place::Machine { .. } => self.head_addresses().iter().map(ToString::to_string).collect(),
            Place::Containers => (1..=self.heads).map(|i| format!("{}:{CONTAINER_PORT}", self.head_name(i))).collect(),
        };
        heads.join(",")
    }

    /// What it means that there are fewer data nodes than copies, and what to do; nothing if there are enough.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let Self { nodes, replicas, .. } = self;
        let is_short = *nodes > 0 && nodes < replicas;
        is_short.then(|| {
            format!(
                "WARN each message is to be kept on {replicas} data nodes and there are {nodes}: all messages are refused until more \
                 register; start it with --nodes {replicas}, or with --replicas {nodes}"
            )
        })
    }

    /// All processes, in the order in which they are started. `has_address` tells whether this machine has an address.
    pub(crate) fn members(&self, has_address: impl Fn(Ipv4Addr) -> bool) -> Vec<Member> {
        let nodes = (1..=self.nodes).map(|i| self.data(i, &has_address));
        let heads = (1..=self.heads).map(|i| self.head(i));
        let clients = (1..=self.clients).map(|i| self.client(i));
        let topics = self.topics().into_iter().filter(|_| self.brokers);
        let web = self.web.map(|listen| self.web(listen));
        let first = self.devices.iter().filter_map(|devices| self.zookeeper(&devices.zookeeper));
        let devices = self.devices.iter().flat_map(|all| (1..=all.count).map(|i| self.device(i, all)));
        let last = web.into_iter().chain(devices);
        first.chain(heads).chain(nodes).chain(topics).chain(clients).chain(last).collect()
    }

    /// A pair of brokers that keeps what passes, and the programs of the original's calculation.
    fn topics(&self) -> Vec<Member> {
        let [primary, backup] = BROKERS.map(|ip| ip.to_string());
        let both = format!("{primary},{backup}");
        let broker = |role: &str, own: &str, peer: &str| {
            let member = self.called(Kind::Topics, role.to_owned(), &["broker"]).flag("--role", role);
            let member = member.flag("--bind", own).flag("--peer", peer).flag("--keep", "calc.");
            self.folder(member.flag("--head", self.heads_flag()), "--logs")
        };
        let calc = |name: &str, words: &[&str]| {
            self.called(Kind::Topics, name.to_owned(), &[&["calc"], words].concat()).flag("--broker", &both)
        };
        vec![
            broker("primary", &primary, &backup),
            broker("backup", &backup, &primary),
            calc("square1", &["square", "1"]),
            calc("square2", &["square", "2"]),
            calc("calc", &["server"]),
            calc("ask", &["client", "12", "13"]).flag("--every", &self.every),
        ]
    }

    /// The ZooKeeper, if it is to be started. Its files are those of [`super::devices::prepare`].
    fn zookeeper(&self, zookeeper: &ZooKeeper) -> Option<Member> {
        let ZooKeeper::Child { classes, .. } = zookeeper else { return None };
        let name = "zk".to_owned();
        let dir = self.dir.join(&name);
        let mut args: Vec<OsString> = ["--pdeathsig", "TERM", "java", "-Xmx128m", "-XX:+UseSerialGC", "-cp", classes]
            .map(OsString::from)
            .to_vec();
        args.insert(args.len() - 2, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error".into());
        args.extend(["org.apache.zookeeper.server.quorum.QuorumPeerMain".into(), dir.join(ZOO_CFG).into()]);
        Some(Member { kind: Kind::ZooKeeper, name, dir, args })
    }

    fn web(&self, listen: SocketAddr) -> Member {
        let member = self.member(Kind::Web, "web".to_owned()).flag("--head", self.heads_flag());
        self.folder(member.flag("--listen", listen.to_string()), "--logs")
    }

    fn device(&self, i: usize, devices: &Devices) -> Member {
        let mut member = self.member(Kind::Device, format!("device{i}"));
        member.args.push(i.to_string().into());
        let member = member.flag("--zookeeper", devices.zookeeper.servers()).flag("--session-timeout", DEVICE_SESSION);
        let member = member.flag("--head", self.heads_flag()).flag("--api", devices.api());
        self.folder(member.flag("--period", &devices.period), "--logs")
    }

    fn head(&self, i: usize) -> Member {
        let member = self.member(Kind::Head, self.head_name(i)).flag("--cluster", &self.cluster);
        let listen = match self.listen_addresses().get(i - 1) {
            Some(address) => address.to_string(),
            None => format!("0.0.0.0:{CONTAINER_PORT}"),
        };
        let mut member = member.flag("--listen", listen).flag("--heartbeat", &self.heartbeat);
        member = member.flag("--replicas", self.replicas.to_string());
        if let Some(age) = self.keep_registro.age {
            member = member.flag("--keep-registro", humantime::format_duration(age).to_string());
        }
        if let Some(bytes) = self.keep_registro.bytes {
            member = member.flag("--keep-registro-bytes", bytes.to_string());
        }
        self.folder(member.flag("--repair-after", &self.repair_after), "--logs")
    }

    fn data(&self, i: usize, has_address: &impl Fn(Ipv4Addr) -> bool) -> Member {
        let name = format!("data{i}");
        let mut member = self.member(Kind::Data, name.clone()).flag("--repair-rate", self.repair_rate.to_string());
        member = member.flag("--head", self.heads_flag());
        if self.place != Place::Containers {
            // A container is called by its host name, which is the node's by default.
            member = member.flag("--name", name);
        }
        member = self.folder(member.flag("--sync", self.sync_of.get(&i).unwrap_or(&self.sync)), "--dir");
        let key = self.seen_at(&member).join(NODE_FILE);
        member = member.flag("--key", key);
        if let Some(keep) = &self.keep {
            member = member.flag("--keep", keep);
        }
        if let Some(bytes) = self.keep_bytes {
            member = member.flag("--keep-bytes", bytes.to_string());
        }
        match self.place.address_of(i).filter(|&ip| has_address(ip)) {
            Some(ip) => member.flag("--bind", ip.to_string()),
            None => member,
        }
    }

    fn client(&self, i: usize) -> Member {
        let member = self.member(Kind::Client, format!("client{i}"));
        self.folder(member.flag("--head", self.heads_flag()).flag("--every", &self.every), "--logs")
    }

    fn member(&self, kind: Kind, name: String) -> Member {
        self.called(kind, name, &[kind.word()])
    }

    fn called(&self, kind: Kind, name: String, command: &[&str]) -> Member {
        let mut args: Vec<OsString> = command.iter().map(Into::into).collect();
        if kind == Kind::Head {
            args.push("--show-heartbeats".into());
        }
        if self.place != Place::Containers {
            args.push("--until-stdin-closes".into());
        }
        Member { kind, dir: self.dir.join(&name), name, args }
    }

    /// Its folder, under the path at which it finds it.
    fn folder(&self, member: Member, flag: &str) -> Member {
        let dir = self.seen_at(&member);
        member.flag(flag, dir)
    }

    fn seen_at(&self, member: &Member) -> PathBuf {
        match self.place {
            Place::Machine { .. } => member.dir.clone(),
            Place::Containers => CONTAINER_DIR.into(),
        }
    }
}

impl Devices {
    /// The web API as devices are told of it.
    #[must_use]
    pub(crate) fn api(&self) -> String {
        format!("http://{}/", self.web)
    }
}

impl Place {
    /// The address at which processes of this machine reach the heads.
    fn reached_at(self) -> Option<IpAddr> {
        match self {
            Self::Machine { listen_ip, .. } if !listen_ip.is_unspecified() => Some(listen_ip),
            Self::Machine { listen_ip: IpAddr::V4(_), .. } => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Self::Machine { listen_ip: IpAddr::V6(_), .. } => Some(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
            Self::Containers => None,
        }
    }

    /// A loopback address for data node `i`, counted from 1; none if the head is not on loopback.
    fn address_of(self, i: usize) -> Option<Ipv4Addr> {
        let on_loopback = self.reached_at().is_some_and(|ip| ip.is_loopback() && ip.is_ipv4());
        let last = u8::try_from(i + 1).ok().filter(|&last| last < u8::MAX)?;
        on_loopback.then_some(Ipv4Addr::new(127, 0, 0, last))
    }
}

impl Member {
    fn flag(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        self.args.extend([flag.into(), value.into()]);
        self
    }

    /// The value of a flag.
    pub(crate) fn value(&self, flag: &str) -> Option<&OsString> {
        self.args.iter().skip_while(|arg| *arg != flag).nth(1)
    }

    /// Gives a flag another value, or the member the flag.
    pub(crate) fn set_value(&mut self, flag: &str, value: OsString) {
        match self.args.iter().position(|arg| arg == flag).and_then(|at| self.args.get_mut(at + 1)) {
            Some(old) => *old = value,
            None => self.args.extend([flag.into(), value]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings() -> Settings {
        Settings {
            dir: "logs".into(),
            place: Place::Machine { listen_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 5000 },
            heads: 1,
            every: "3s".to_owned(),
            heartbeat: "5s".to_owned(),
            sync: "always".to_owned(),
            sync_of: BTreeMap::new(),
            repair_after: "60s".to_owned(),
            repair_rate: 10_000_000,
            cluster: "acopio".to_owned(),
            replicas: 1,
            keep: None,
            keep_bytes: None,
            keep_registro: Keep::default(),
            nodes: 3,
            clients: 1,
            brokers: false,
            web: None,
            devices: None,
        }
    }

    fn text(member: &Member) -> String {
        member.args.join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn fewer_nodes_than_copies_are_told_of_with_what_to_do() {
        assert_eq!(settings().shortfall(), None);
        let words = Settings { replicas: 5, ..settings() }.shortfall().unwrap();
        assert!(words.contains("kept on 5 data nodes and there are 3: all messages are refused"), "{words}");
        assert!(words.ends_with("start it with --nodes 5, or with --replicas 3"), "{words}");
        // Those of other machines are to come.
        assert_eq!(Settings { nodes: 0, ..settings() }.shortfall(), None);
    }

    #[test]
    fn a_cluster_is_a_head_nodes_and_clients() {
        let members = settings().members(|_| true);
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["head", "data1", "data2", "data3", "client1"]);
        let with_page = Settings { web: Some("127.0.0.1:8080".parse().unwrap()), ..settings() };
        assert_eq!(with_page.members(|_| true).last().map(|member| member.kind), Some(Kind::Web));
        assert!(
            text(&members[0])
                .ends_with("--listen 0.0.0.0:5000 --heartbeat 5s --replicas 1 --repair-after 60s --logs logs/head")
        );
        assert!(text(&members[0]).contains("--cluster acopio"));
        assert!(text(&members[2]).contains("--head 127.0.0.1:5000 --name data2 --sync always --dir logs/data2"));
        assert!(text(&members[2]).contains(" --key logs/data2/node.key "));
        assert!(text(&members[2]).ends_with("--bind 127.0.0.3"));
        assert!(text(&members[2]).contains(" --repair-rate 10000000 "));
        assert!(text(&members[4]).ends_with("--every 3s --logs logs/client1"));
    }

    #[test]
    fn one_data_node_may_sync_at_other_times() {
        let members = Settings { sync_of: BTreeMap::from([(3, "never".to_owned())]), ..settings() }.members(|_| true);
        for (member, sync) in [(1, "always"), (2, "always"), (3, "never")] {
            assert!(text(&members[member]).contains(&format!("--sync {sync} ")), "{member}");
        }
    }

    #[test]
    fn a_value_is_found_and_replaced() {
        let mut member = settings().members(|_| true).remove(1);
        assert_eq!(member.value("--name"), Some(&"data1".into()));
        member.set_value("--head", "127.0.0.1:9".into());
        member.set_value("--boot-id", "b2".into());
        assert!(text(&member).contains("--head 127.0.0.1:9 ") && text(&member).ends_with("--boot-id b2"));
        assert_eq!(member.value("--nothing"), None);
    }

    #[test]
    fn devices_have_a_zookeeper_and_a_web() {
        let zookeeper = ZooKeeper::Child { port: 2181, classes: "a.jar:b.jar".to_owned() };
        let web = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let devices = Devices { count: 2, zookeeper, web, period: "5s".to_owned() };
        let members = Settings { devices: Some(devices.clone()), web: Some(web), ..settings() }.members(|_| true);
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["zk", "head", "data1", "data2", "data3", "client1", "web", "device1", "device2"]);
        assert!(text(&members[0]).starts_with("--pdeathsig TERM java "), "{}", text(&members[0]));
        assert!(
            text(&members[0])
                .ends_with("-cp a.jar:b.jar org.apache.zookeeper.server.quorum.QuorumPeerMain logs/zk/zoo.cfg")
        );
        assert_eq!(
            text(&members[6]),
            "web --until-stdin-closes --head 127.0.0.1:5000 --listen 127.0.0.1:8080 --logs logs/web"
        );
        assert_eq!(
            text(&members[8]),
            "device --until-stdin-closes 2 --zookeeper 127.0.0.1:2181 --session-timeout 3s --head 127.0.0.1:5000 \
             --api http://127.0.0.1:8080/ --period 5s --logs logs/device2"
        );
        let running = Devices { zookeeper: ZooKeeper::Running("zk:2181/lab".to_owned()), ..devices };
        let members = Settings { devices: Some(running), ..settings() }.members(|_| true);
        assert!(members.iter().all(|member| member.kind != Kind::ZooKeeper));
        assert!(
            members
                .iter()
                .all(|member| member.kind != Kind::Device || text(member).contains("--zookeeper zk:2181/lab"))
        );
    }

    #[test]
    fn data_nodes_are_told_how_long_to_keep_records() {
        let members = Settings { keep: Some("30d".to_owned()), keep_bytes: Some(5000), ..settings() }.members(|_| true);
        for member in &members {
            assert_eq!(text(member).contains("--keep 30d --keep-bytes 5000"), member.kind == Kind::Data);
        }
    }

    #[test]
    fn heads_are_told_how_long_to_keep_their_registro() {
        let keep = Keep { age: Some(Duration::from_secs(30 * 24 * 60 * 60)), bytes: Some(5000) };
        let members = Settings { keep_registro: keep, ..settings() }.members(|_| true);
        for member in &members {
            let told = text(member).contains("--keep-registro 30days --keep-registro-bytes 5000");
            assert_eq!(told, member.kind == Kind::Head, "{}", member.name);
        }
    }

    #[test]
    fn several_heads_have_ports_in_a_row_and_everybody_knows_all_of_them() {
        let members = Settings { heads: 2, ..settings() }.members(|_| true);
        assert!(
            text(&members[1]).contains("--listen 0.0.0.0:5001") && text(&members[1]).ends_with("--logs logs/head2")
        );
        for member in &members[2..] {
            assert!(text(member).contains("--head 127.0.0.1:5000,127.0.0.1:5001"), "{}", member.name);
        }
    }

    #[test]
    fn where_there_is_one_loopback_address_all_dial_from_it() {
        assert!(settings().members(|_| false).iter().all(|member| !text(member).contains("--bind")));
    }

    #[test]
    fn a_head_on_a_real_address_is_not_dialled_from_loopback() {
        let settings =
            Settings { place: Place::Machine { listen_ip: "192.0.2.1".parse().unwrap(), port: 5000 }, ..settings() };
        let members = settings.members(|_| true);
        assert!(text(&members[1]).contains("--head 192.0.2.1:5000"));
        assert!(!text(&members[1]).contains("--bind"));
    }

    #[test]
    fn containers_find_each_other_by_name_and_are_told_no_names() {
        let members = Settings { place: Place::Containers, heads: 2, ..settings() }.members(|_| true);
        assert_eq!(
            text(&members[0]),
            "head --show-heartbeats --cluster acopio --listen 0.0.0.0:5000 --heartbeat 5s --replicas 1 --repair-after 60s --logs /data"
        );
        assert!(
            text(&members[2]).ends_with("--head head1:5000,head2:5000 --sync always --dir /data --key /data/node.key")
        );
        assert_eq!(text(&members[5]), "client --head head1:5000,head2:5000 --every 3s --logs /data");
        assert_eq!(members[2].dir, PathBuf::from("logs/data1"));
    }
}
