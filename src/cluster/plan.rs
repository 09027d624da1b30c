//! Who runs in a cluster on this machine, with which flags: no process is started here.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// What a cluster is made of. Durations are in the words of the flags that take them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder for all files of the cluster.
    pub dir: PathBuf,
    /// Address the head listens on.
    pub listen_ip: IpAddr,
    /// Port of the first head; the others have the ones after it.
    pub port: u16,
    /// Number of heads, all active.
    pub heads: usize,
    /// Time between two messages of a client.
    pub every: String,
    /// Time between two heartbeats.
    pub heartbeat: String,
    /// When data nodes sync.
    pub sync: String,
    /// Copies of each message.
    pub replicas: usize,
    /// Number of data nodes.
    pub nodes: usize,
    /// Number of clients.
    pub clients: usize,
}

/// What a process of the cluster is, in the order in which they are started. They end clients first, then heads, so
/// that data nodes keep what is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A headNode.
    Head,
    /// A dataNode.
    Data,
    /// A client that sends random numbers.
    Client,
}

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Its name: `head`, `data1`, `client1`.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Its arguments, beginning with the subcommand.
    pub args: Vec<OsString>,
}

impl Settings {
    /// The addresses at which this machine's processes reach the heads.
    #[must_use]
    pub fn head_addresses(&self) -> Vec<SocketAddr> {
        self.ports().map(|port| SocketAddr::new(self.head_ip(), port)).collect()
    }

    /// The addresses on which the heads listen.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<SocketAddr> {
        self.ports().map(|port| SocketAddr::new(self.listen_ip, port)).collect()
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        (self.port..=u16::MAX).take(self.heads)
    }

    /// All heads in one flag.
    fn heads_flag(&self) -> String {
        let heads: Vec<String> = self.head_addresses().iter().map(ToString::to_string).collect();
        heads.join(",")
    }

    fn head_ip(&self) -> IpAddr {
        match self.listen_ip {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        }
    }

    /// All processes, in the order in which they are started. `has_address` tells whether this machine has an address.
    pub fn members(&self, has_address: impl Fn(Ipv4Addr) -> bool) -> Vec<Member> {
        let nodes = (1..=self.nodes).map(|i| self.data(i, &has_address));
        let heads = (1..).zip(self.listen_addresses()).map(|(i, address)| self.head(i, address));
        heads.chain(nodes).chain((1..=self.clients).map(|i| self.client(i))).collect()
    }

    fn head(&self, i: usize, listen: SocketAddr) -> Member {
        let name = if self.heads == 1 { "head".to_owned() } else { format!("head{i}") };
        let member = self.member(Kind::Head, name);
        let member = member.flag("--listen", listen.to_string()).flag("--heartbeat", &self.heartbeat);
        member.flag("--replicas", self.replicas.to_string()).folder("--logs")
    }

    fn data(&self, i: usize, has_address: &impl Fn(Ipv4Addr) -> bool) -> Member {
        let name = format!("data{i}");
        let member = self.member(Kind::Data, name.clone()).flag("--head", self.heads_flag());
        let member = member.flag("--name", name).flag("--sync", &self.sync).folder("--dir");
        match self.address_of(i).filter(|&ip| has_address(ip)) {
            Some(ip) => member.flag("--bind", ip.to_string()),
            None => member,
        }
    }

    /// A loopback address for data node `i`, counted from 1; none if the head is not on loopback.
    fn address_of(&self, i: usize) -> Option<Ipv4Addr> {
        let on_loopback = self.head_ip().is_loopback() && self.head_ip().is_ipv4();
        let last = u8::try_from(i + 1).ok().filter(|&last| last < u8::MAX)?;
        on_loopback.then_some(Ipv4Addr::new(127, 0, 0, last))
    }

    fn client(&self, i: usize) -> Member {
        let member = self.member(Kind::Client, format!("client{i}"));
        member.flag("--head", self.heads_flag()).flag("--every", &self.every).folder("--logs")
    }

    fn member(&self, kind: Kind, name: String) -> Member {
        let command = match kind {
            Kind::Head => "head",
            Kind::Data => "data",
            Kind::Client => "client",
        };
        let args = vec![command.into(), "--until-stdin-closes".into()];
        Member { kind, dir: self.dir.join(&name), name, args }
    }
}

impl Member {
    fn flag(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        self.args.extend([flag.into(), value.into()]);
        self
    }

    fn folder(self, flag: &str) -> Self {
        let dir = self.dir.clone();
        self.flag(flag, dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            dir: "logs".into(),
            listen_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 5000,
            heads: 1,
            every: "3s".to_owned(),
            heartbeat: "5s".to_owned(),
            sync: "always".to_owned(),
            replicas: 1,
            nodes: 3,
            clients: 1,
        }
    }

    fn text(member: &Member) -> String {
        member.args.join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn a_cluster_is_a_head_nodes_and_clients() {
        let members = settings().members(|_| true);
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["head", "data1", "data2", "data3", "client1"]);
        assert!(text(&members[0]).ends_with("--listen 0.0.0.0:5000 --heartbeat 5s --replicas 1 --logs logs/head"));
        assert!(text(&members[2]).contains("--head 127.0.0.1:5000 --name data2 --sync always --dir logs/data2"));
        assert!(text(&members[2]).ends_with("--bind 127.0.0.3"));
        assert!(text(&members[4]).ends_with("--every 3s --logs logs/client1"));
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
        let settings = Settings { listen_ip: "192.0.2.1".parse().unwrap(), ..settings() };
        let members = settings.members(|_| true);
        assert!(text(&members[1]).contains("--head 192.0.2.1:5000"));
        assert!(!text(&members[1]).contains("--bind"));
    }
}
