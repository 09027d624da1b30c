//! Starts and kills the processes of a world; takes disks away and gives new ones.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{CLUSTER, PORT, Step, World, ip};
use crate::client::{self, Change};
use crate::clock::Clock;
use crate::daily::Keep;
use crate::data;
use crate::data::recover;
use crate::data::retention::Policy;
use crate::data::segments;
use crate::data::simulated::SimDisk;
use crate::data::storage::Storage as _;
use crate::data::worker::{Executor, Latency};
use crate::head::{self, Gate, registro::Registro, shelf::Shelf};
use crate::key::file::NodeKey;
use crate::key::record::RecordCheck;
use crate::key::{Nonces, PeerKey};
use crate::limits;
use crate::net::simulated::Down;
use crate::net::{Listener, Net};
use crate::simulation::Planted;
use crate::simulation::process::Process;
use crate::simulation::shape::{Copies, Host};

impl World {
    pub(super) fn start(&mut self, host: Host) {
        match host {
            Host::Head(n) => {
                let seed = self.rng.random();
                let shape = &self.shape;
                let Some(head) = self.heads.get_mut(n).filter(|head| head.process.is_none()) else { return };
                let config = head::Config {
                    logs: PathBuf::new(),
                    names: None,
                    keep_registro: Keep::default(),
                    clients: head::Rules {
                        most: limits::CLIENTS_MAX_DEFAULT,
                        per_address: None,
                        silent_after: limits::CLIENT_SILENT_AFTER,
                        idle_after: None,
                    },
                    peer_silence: limits::PEER_SILENCE_MAX,
                    heartbeat: shape.heartbeat,
                    icmp: false,
                    solo: None,
                    admits: head::Admits::default(),
                    secured: None,
                    share: head::Share::default(),
                    gate: gate(seed),
                    records: Some(records()),
                    key_file: None,
                    cluster: CLUSTER.to_owned(),
                    replicas: shape.replicas,
                    copies_min: shape.copies_min,
                    repair_after: shape.repair_after,
                    text_node_bytes: limits::TEXT_NODE_BYTES_DEFAULT,
                    clock: Clock::Simulated(head.clock.clone()),
                    seed,
                };
                let registro = Registro::in_memory(Arc::clone(&head.registro), config.clock.clone());
                let shelf = Shelf::Memory(Arc::clone(&head.state));
                let listener = self.net.host(head.ip).listen(PORT);
                head.process = Some(Process::start(|shutdown| async move {
                    match listener {
                        Ok(listener) => {
                            let doors = Listener::Simulated(listener).into();
                            head::run_on(config, registro, shelf, doors, shutdown).await;
                            IN_ORDER.to_owned()
                        }
                        Err(error) => format!("it cannot listen: {error}"),
                    }
                }));
            }
            Host::Node(n) => {
                let seed = self.rng.random();
                let heads: Vec<_> = self.heads.iter().map(|head| format!("{}:{PORT}", head.ip)).collect();
                let heads = heads.into();
                let shape = &self.shape;
                let Some(node) = self.nodes.get_mut(n).filter(|node| node.process.is_none()) else { return };
                if node.new_id.as_ref().is_some_and(|told| told.get().is_some()) {
                    node.new_id = None;
                }
                let config = data::Config {
                    dir: PathBuf::from(format!("data{n}")),
                    name: format!("data{n}"),
                    heads,
                    bind: None,
                    key: Some(NodeKey::fixed(key(n, &format!("data{n}")))),
                    http: None,
                    nonces: Nonces::seeded(seed),
                    net: Net::Simulated(self.net.host(node.ip)),
                    clock: Clock::Simulated(node.clock.clone()),
                    sync: shape.sync,
                    segment_bytes: shape.segment_bytes,
                    repair: shape.repair,
                    retention: Policy::default(),
                    new_id: node.new_id.is_some(),
                    boot: format!("boot-{}", node.boots),
                    notes_syncs: false,
                    identity: node.new_id.clone(),
                    seed,
                };
                let executor = Executor::Inline(latency(seed, shape.disk, Arc::clone(&node.slow_ms)));
                let disk = node.disk.clone();
                node.process = Some(Process::start(|shutdown| async move {
                    match data::run_on(config, disk, &executor, shutdown).await {
                        Ok(()) => IN_ORDER.to_owned(),
                        Err(error) => error.to_string(),
                    }
                }));
            }
            Host::Writer(_) => return,
        }
        self.note(&format!("{host:?} starts"));
    }

    pub(super) fn process(&mut self, host: Host) -> Option<&mut Option<Process>> {
        match host {
            Host::Head(n) => self.heads.get_mut(n).map(|head| &mut head.process),
            Host::Node(n) => self.nodes.get_mut(n).map(|node| &mut node.process),
            Host::Writer(_) => None,
        }
    }

    pub(super) fn is_up(&mut self, host: Host) -> bool {
        self.process(host).is_some_and(|process| process.is_some())
    }

    /// Ends a process between two of its steps, or in the middle of what its disk does; false if it was down.
    pub(super) fn kill(&mut self, host: Host, how: Down) -> bool {
        let Some(process) = self.process(host).and_then(Option::take) else { return false };
        self.net.down(ip(host), how);
        let (cut_at, seed) = (self.rng.random_range(0..6), self.rng.random());
        let disk = match host {
            Host::Node(n) => self.nodes.get(n).map(|node| node.disk.clone()),
            _ => None,
        };
        if let Some(disk) = &disk {
            disk.faults(|faults| faults.die = Some(cut_at));
        }
        drop(process);
        if let Some(disk) = disk {
            disk.faults(|faults| faults.die = None);
            if how == Down::Dark {
                disk.crash(seed);
            }
        }
        if let (Host::Node(n), Down::Dark) = (host, how)
            && let Some(node) = self.nodes.get_mut(n)
        {
            node.boots += 1;
        }
        true
    }

    pub(super) fn resume(&mut self, host: Host) {
        if let Some(Some(process)) = self.process(host) {
            process.pause(false);
        }
    }

    pub(super) fn room(&mut self, n: usize) {
        if let Some(node) = self.nodes.get(n) {
            node.disk.faults(|faults| faults.capacity = None);
        }
    }

    /// Asks a head to let a node go, without waiting for its answer.
    pub(super) fn drain(&mut self, n: usize) {
        let head = self.rng.random_range(0..self.heads.len());
        let (head, name) = (format!("{}:{PORT}", ip(Host::Head(head))), format!("data{n}"));
        let change = self.change(Change::drain(&name, client::Leaving::Drained));
        tokio::task::spawn_local(async move {
            let asked = change.ask(&head).await;
            tracing::info!(target: "acopio::simulation", "{head} is asked to drain {name}: {asked:?}");
        });
    }

    /// A bit flips somewhere in a node's records, but for the batch that was written last: with a crash behind it nobody could
    /// tell that from a torn end.
    pub(super) fn rot(&mut self, n: usize) {
        let Some(disk) = self.nodes.get(n).map(|node| node.disk.clone()) else { return };
        let names = disk.list().unwrap_or_default();
        let files: Vec<(String, usize)> = names
            .into_iter()
            .filter(|name| segments::is_data(name))
            .map(|name| (name.clone(), 8 * settled(&name, &disk.contents(&name))))
            .filter(|(_, bits)| *bits > 0)
            .collect();
        if files.is_empty() {
            return;
        }
        if let Some((name, bits)) = files.get(self.rng.random_range(0..files.len())) {
            let bit = self.rng.random_range(0..*bits);
            self.note(&format!("bit {bit} of {name} of Node({n}) flips"));
            disk.flip(name, bit);
        }
    }

    /// A node says that its folder is not whole: whoever runs it does what it says, and starts it as another identity.
    pub(super) fn start_anew(&mut self, n: usize) {
        self.note(&format!("Node({n}) is to start as another identity"));
        if let Some(node) = self.nodes.get_mut(n) {
            node.new_id = Some(Arc::default());
            self.wiped.insert(node.ip);
        }
    }

    /// A node has left the cluster in order: a new one, whose disk is empty, comes in its place.
    pub(super) fn leave(&mut self, n: usize) {
        self.note(&format!("Node({n}) has left, and is replaced"));
        let planted = self.planted;
        if let Some(node) = self.nodes.get_mut(n) {
            (node.disk, node.backup, node.new_id) = (disk(planted), None, None);
            self.left.insert(node.ip);
        }
    }

    /// Cuts the power of a node, and puts the copy of its folder back that was taken.
    pub(super) fn restore(&mut self, n: usize, time: Duration) {
        let Some(backup) = self.nodes.get(n).and_then(|node| node.backup.clone()) else { return };
        if !self.kill(Host::Node(n), Down::Dark) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(n) {
            (node.disk, node.new_id) = (backup.copy(), Some(Arc::default()));
            self.wiped.insert(node.ip);
        }
        self.after(time, Step::Start(Host::Node(n)));
    }

    /// Cuts the power of a node and takes its disk away: another node comes in its place.
    pub(super) fn wipe(&mut self, n: usize, time: Duration) {
        let host = Host::Node(n);
        if !self.is_up(host) {
            return;
        }
        self.kill(host, Down::Dark);
        let planted = self.planted;
        if let Some(node) = self.nodes.get_mut(n) {
            (node.disk, node.new_id) = (disk(planted), None);
            self.wiped.insert(node.ip);
        }
        self.after(time, Step::Start(host));
    }
}

/// Asks a head to have so many copies kept.
pub(super) async fn set_copies(change: Change, head: &str, copies: Copies) -> Result<(), client::Error> {
    let (Copies { replicas, least }, asked) = (copies, change.ask(head).await);
    tracing::info!(target: "acopio::simulation", "{head} is asked for {replicas} copies, {least} at least: {asked:?}");
    asked
}

/// The change to so many copies.
pub(super) fn of_copies(copies: Copies) -> Change {
    Change::copies(u8::try_from(copies.replicas).unwrap_or(1), u8::try_from(copies.least).unwrap_or(1))
}

/// Whom a simulated head lets in: who has the cluster's key.
fn gate(seed: u64) -> Gate {
    let keys = Rc::new(RefCell::new(vec![super::cluster_key()]));
    Gate { keys, everybody: true, text_nodes: Vec::new(), nonces: Nonces::seeded(seed) }
}

/// Every record of a simulated cluster is marked.
fn records() -> head::Records {
    let key = super::cluster_key().records();
    head::Records { check: RecordCheck::new([key.clone()]), key }
}

/// Every other node has the cluster's key, and the others that of their names.
fn key(n: usize, name: &str) -> PeerKey {
    let key = super::cluster_key();
    if n.is_multiple_of(2) { key.node(name) } else { key.holder() }
}

/// How a process ended that was asked to, or that was let go.
pub(super) const IN_ORDER: &str = "in order";

/// A new disk, with the fault that is planted.
pub(super) fn disk(planted: Option<Planted>) -> SimDisk {
    let disk = SimDisk::default();
    disk.faults(|faults| faults.lie = planted.and_then(Planted::lie));
    disk
}

/// How long the jobs of a disk take.
fn latency(seed: u64, (least, most): (Duration, Duration), slow_ms: Arc<AtomicU64>) -> Latency {
    let rng = Mutex::new(SmallRng::seed_from_u64(seed));
    Latency(Arc::new(move || {
        let usual = rng.lock().unwrap_or_else(PoisonError::into_inner).random_range(least..=most);
        usual + Duration::from_millis(slow_ms.load(Ordering::Relaxed))
    }))
}

/// How many bytes at the beginning of a file of records were followed by a batch.
fn settled(name: &str, bytes: &[u8]) -> usize {
    if name != segments::CURRENT {
        return bytes.len();
    }
    let read = |buffer: &mut [u8], at: u64| {
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(len)
    };
    let found = recover::scan(bytes.len() as u64, read, |_, _| {});
    found.ok().and_then(|found| usize::try_from(found.synced).ok()).unwrap_or_default()
}
