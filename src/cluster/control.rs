//! Does what a person orders of a cluster that `up` owns: to its processes by their watchers, to its network by the links
//! that its data nodes dial.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use super::fault::{self, Command, Fault, Shape};
use super::link::{Link, Relay};
use super::plan::{Kind, Member};
use super::watcher::{Condition, Order, Shared};

/// The links of a data node, one to each head.
struct Node {
    name: String,
    links: Vec<Relay>,
}

/// All links between data nodes and heads.
#[derive(Default)]
pub(crate) struct Links {
    nodes: Vec<Node>,
    /// Data nodes note how far they are synced, which costs the disk as much again: only where one does not always sync.
    notes: bool,
}

/// Why no power is cut.
const NO_NOTES: &str = "all data nodes sync before they acknowledge, so a power cut takes nothing from them; start with \
                        --sync-of data3=never to see one that loses";

impl Links {
    /// Lays links for all data nodes among these members, which are told to dial them in place of the heads.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub(crate) async fn lay(members: &mut [Member], heads: &[std::net::SocketAddr]) -> std::io::Result<Self> {
        let may_lose = |member: &Member| member.value("--sync").is_some_and(|when| when != "always");
        let notes = members.iter().any(|member| member.kind == Kind::Data && may_lose(member));
        let mut nodes = Vec::new();
        for member in members.iter_mut().filter(|member| member.kind == Kind::Data) {
            let from: Option<IpAddr> = member.value("--bind").and_then(|ip| ip.to_str()?.parse().ok());
            let mut links = Vec::new();
            for head in heads {
                links.push(Relay::start(*head, from).await?);
            }
            let dialled: Vec<String> = links.iter().map(|link| link.address.to_string()).collect();
            member.set_value("--head", dialled.join(",").into());
            if notes {
                member.args.push("--note-syncs".into());
            }
            nodes.push(Node { name: member.name.clone(), links });
        }
        Ok(Self { nodes, notes })
    }
}

impl Node {
    fn set(&self, link: Link) {
        self.links.iter().for_each(|one| one.set(link));
    }
}

/// Where orders go.
pub(crate) struct Control {
    shared: Rc<Shared>,
    links: Links,
    heads: Vec<String>,
    cut: RefCell<BTreeSet<String>>,
}

impl Control {
    /// Over the members that `shared` watches.
    pub(crate) fn new(shared: Rc<Shared>, links: Links) -> Self {
        let heads = shared.members.iter().filter(|member| member.kind == Kind::Head);
        let heads = heads.map(|head| head.name.clone()).collect();
        Self { shared, links, heads, cut: RefCell::default() }
    }

    /// The members.
    pub(crate) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// Whether nothing passes between a data node and the heads.
    pub(crate) fn is_cut(&self, name: &str) -> bool {
        self.cut.borrow().contains(name)
    }

    /// Whether any of them is.
    pub(crate) fn any_cut(&self) -> bool {
        !self.cut.borrow().is_empty()
    }

    fn shape(&self) -> Shape {
        Shape { nodes: self.links.nodes.len(), heads: self.heads.len() }
    }

    /// Does what a line asks for, and says what came of it; whether it asked for the keys.
    pub(crate) fn line(&self, line: &str) -> bool {
        match fault::parse(line, self.shape()) {
            Ok(Command::Help) => return true,
            Ok(Command::Mend) => self.mend(),
            Ok(Command::Break(fault)) => self.breaks(fault),
            Err(error) => self.shared.say(error.to_string()),
        }
        false
    }

    fn breaks(&self, fault: Fault) {
        let node = |place: usize| self.links.nodes.get(place - 1);
        let order = |name: Option<&String>, order| {
            if let Some(Err(cause)) = name.map(|name| self.shared.order(name, order)) {
                self.shared.say(cause);
            }
        };
        match fault {
            Fault::Kill(place) => order(node(place).map(|node| &node.name), Order::Kill),
            Fault::Pause(place) => order(node(place).map(|node| &node.name), Order::Pause),
            Fault::Wipe(place) => order(node(place).map(|node| &node.name), Order::Wipe),
            Fault::PowerCut(_) if !self.links.notes => self.shared.say(NO_NOTES.to_owned()),
            Fault::PowerCut(place) => order(node(place).map(|node| &node.name), Order::CutPower),
            Fault::KillHead(place) => order(self.heads.get(place - 1), Order::Kill),
            Fault::Cut(place) => {
                if let Some(node) = node(place) {
                    self.cuts(node);
                }
            }
        }
    }

    fn cuts(&self, node: &Node) {
        self.shared.changes();
        if self.cut.borrow_mut().insert(node.name.clone()) {
            node.set(Link::Stalled);
            let name = &node.name;
            self.shared.say(format!("{name} is cut: nothing passes between it and the heads; r connects it"));
        } else {
            self.shared.say(format!("{} is cut already", node.name));
        }
    }

    /// Connects what is cut and continues what is paused, that the end is in order for everybody: a client's message may
    /// wait for such a node. What is down stays down.
    pub(crate) fn let_end(&self) {
        self.links.nodes.iter().for_each(|node| node.set(Link::Open));
        for node in &self.links.nodes {
            if self.shared.condition(&node.name) == Some(Condition::Paused) {
                drop(self.shared.order(&node.name, Order::Mend));
            }
        }
    }

    fn mend(&self) {
        for node in &self.links.nodes {
            if self.cut.borrow_mut().remove(&node.name) {
                node.set(Link::Open);
                self.shared.changes();
                self.shared.say(format!("{} is connected again", node.name));
            }
        }
        for member in self.shared.members.iter().filter(|member| matches!(member.kind, Kind::Head | Kind::Data)) {
            // One that is over has nothing to mend.
            drop(self.shared.order(&member.name, Order::Mend));
        }
    }
}
