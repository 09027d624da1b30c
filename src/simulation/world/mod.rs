//! Runs a shape: starts the hosts, lets go wrong what is to go wrong, mends everything, and reads the disks.

mod claims;
mod evidence;
mod faults;
mod hosts;
mod recovery;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::client;
use crate::clock::SimClock;
use crate::data::simulated::SimDisk;
use crate::key::{ClusterKey, Nonces};
use crate::limits;
use crate::net::Net;
use crate::net::simulated::{Down, SimNet};
use crate::simulation::process::Process;
use crate::simulation::readers::Reading;
use crate::simulation::shape::{Fault, Host, Shape};
use crate::simulation::writers::{Book, Writer};
use crate::simulation::{Planted, Run};
use crate::wire::id::ClientId;
use crate::wire::ledger::NodeId;
use claims::Claims;

/// What the wall clocks show at the start, ns since the Unix epoch: 2026-11-21.
const EPOCH_NS: u64 = 1_795_219_200_000_000_000;

/// The name of the cluster.
const CLUSTER: &str = "simulado";

/// The port of every head.
const PORT: u16 = 5000;

/// Time between two looks for processes that ended on their own.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Time in which everything has to be settled once nothing is wrong any more: a node registers again, a silent one is
/// evicted, a client gives up.
const MENDED_TIME_MAX: Duration = Duration::from_secs(120);

/// Time before the first message of a run in which nothing goes wrong: nothing is to be refused, so nodes have to be there.
const CALM_START: Duration = Duration::from_secs(3);

/// Messages of the client that asks each head, at the end, whether it still works.
const PROBES: usize = 5;

struct HeadHost {
    ip: IpAddr,
    clock: SimClock,
    registro: Arc<Mutex<String>>,
    /// What is in its `head.state`.
    state: Arc<Mutex<Vec<u8>>>,
    process: Option<Process>,
}

struct NodeHost {
    ip: IpAddr,
    clock: SimClock,
    disk: SimDisk,
    /// How often its system was started.
    boots: u32,
    /// It starts as another identity, until one is told: its folder is a copy.
    new_id: Option<Arc<OnceLock<NodeId>>>,
    /// A copy of its folder.
    backup: Option<SimDisk>,
    /// What its disk adds to every job, ms.
    slow_ms: Arc<AtomicU64>,
    process: Option<Process>,
}

/// What is to happen at some time.
#[derive(Debug)]
enum Step {
    Fault(Fault),
    Start(Host),
    Resume(Host),
    Mend(Host, Host, bool),
    Fast(usize),
    Room(usize),
    Read(bool),
    Watch,
    /// A process that was asked to stop has had its time.
    Force(Host),
}

/// The key of every simulated cluster.
const fn cluster_key() -> ClusterKey {
    ClusterKey::from_bytes([7; 32])
}

struct World {
    shape: Shape,
    planted: Option<Planted>,
    rng: SmallRng,
    net: SimNet,
    /// Of who changes the cluster.
    nonces: Nonces,
    heads: Vec<HeadHost>,
    nodes: Vec<NodeHost>,
    /// Nodes whose disks were lost, or replaced by older ones.
    wiped: BTreeSet<IpAddr>,
    /// Identities that others replace because what they had rotted.
    rotted: BTreeSet<String>,
    /// Nodes that were started as another identity, because a line had rotted at the end of a file.
    renamed: BTreeSet<usize>,
    /// Nodes that left in order: what they had is elsewhere.
    left: BTreeSet<IpAddr>,
    /// Reads in the middle of the run.
    claims: Claims,
    steps: BTreeMap<(Instant, u64), Step>,
    next_step: u64,
    started: Instant,
    history: Vec<String>,
    book: Rc<RefCell<Book>>,
    /// Messages that readers delivered, and those of them that came too late for their order.
    read: u64,
    late: u64,
    /// Repair has come to rest.
    repaired: bool,
}

/// The address of a host.
fn ip(host: Host) -> IpAddr {
    let (net, n) = match host {
        Host::Head(n) => (0, n),
        Host::Node(n) => (1, n),
        Host::Writer(n) => (2, n),
    };
    IpAddr::from([10, 0, net, u8::try_from(n + 1).unwrap_or(u8::MAX)])
}

/// Runs a shape to its end.
pub(crate) fn run(shape: &Shape, planted: Option<Planted>) -> std::io::Result<Run> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let set = LocalSet::new();
    Planted::sow(planted);
    Ok(set.block_on(&runtime, async { World::new(shape.clone(), planted).run().await }))
}

impl World {
    fn new(shape: Shape, planted: Option<Planted>) -> Self {
        let mut rng = SmallRng::seed_from_u64(shape.seed ^ 0x0b5e_55ed);
        let net = SimNet::new(rng.random(), shape.weather.clone());
        let heads = (0..shape.heads).map(|n| HeadHost {
            ip: ip(Host::Head(n)),
            clock: SimClock::new(EPOCH_NS.saturating_add_signed(shape.skew(n)) + rng.random_range(0..2_000_000_000)),
            registro: Arc::default(),
            state: Arc::default(),
            process: None,
        });
        let heads = heads.collect();
        let nodes = (0..shape.nodes).map(|n| NodeHost {
            ip: ip(Host::Node(n)),
            clock: SimClock::new(EPOCH_NS),
            disk: hosts::disk(planted),
            boots: 0,
            new_id: None,
            backup: None,
            slow_ms: Arc::default(),
            process: None,
        });
        let nodes = nodes.collect();
        let shape_seed = shape.seed;
        Self {
            shape,
            planted,
            nonces: Nonces::seeded(shape_seed),
            rng,
            net,
            heads,
            nodes,
            wiped: BTreeSet::new(),
            rotted: BTreeSet::new(),
            renamed: BTreeSet::new(),
            left: BTreeSet::new(),
            claims: Claims::default(),
            steps: BTreeMap::new(),
            next_step: 0,
            started: Instant::now(),
            history: Vec::new(),
            book: Rc::default(),
            read: 0,
            late: 0,
            repaired: false,
        }
    }

    fn note(&mut self, what: &str) {
        let at = self.started.elapsed().as_secs_f64();
        let line = format!("{at:9.3} {what}");
        tracing::info!(target: "acopio::simulation", "{line}");
        self.history.push(line);
    }

    fn after(&mut self, time: Duration, step: Step) {
        self.steps.insert((Instant::now() + time, self.next_step), step);
        self.next_step += 1;
    }

    // ---- the course of a run ----

    async fn run(mut self) -> Run {
        let shape = self.shape.clone();
        self.note(&format!(
            "{} heads, {} nodes, {} copies (at least {}), {} clients, sync {}, files of {} bytes",
            shape.heads,
            shape.nodes,
            shape.replicas,
            shape.copies_min,
            shape.writers.len(),
            shape.sync,
            shape.segment_bytes
        ));
        for n in 0..shape.heads {
            self.start(Host::Head(n));
        }
        for n in 0..shape.nodes {
            self.start(Host::Node(n));
        }
        self.after(WATCH_EVERY, Step::Watch);
        let mut problems = Vec::new();
        if shape.faults.is_empty() || shape.founded {
            self.steps_until(Instant::now() + CALM_START).await;
            problems.extend(self.probe_all().await);
        }
        for (at, fault) in shape.faults {
            self.after(at, Step::Fault(fault));
        }
        for (at, partial) in shape.reads {
            self.after(at, Step::Read(partial));
        }
        let follower = self.shape.follows.then(|| self.read(true, false));
        let mut writers = self.writers();
        self.steps_until(Instant::now() + self.shape.trouble).await;
        self.mend();
        let unsettled = self.settle(&mut writers).await;
        // Clients may wait for a node that has rotted, and that nobody has started as another one yet.
        if self.wiped.is_empty() && !self.shape.rots() {
            problems.extend(unsettled);
        }
        problems.extend(self.recover(&mut writers, follower).await);
        problems.extend(self.claims.problems(self.shape.may_forget()));
        self.end().await;
        let (evidence, digest) = self.evidence();
        problems.extend(evidence.judge());
        problems.append(&mut self.book.borrow_mut().nonsense);
        let (refused, cause) = self.book.borrow().refused.clone();
        if self.shape.faults.is_empty() && refused > 0 {
            problems.push(format!("{refused} messages are refused though nothing is wrong: {cause}"));
        }
        let acked = evidence.acks.len() as u64;
        for problem in &problems {
            self.note(problem);
        }
        Run {
            seed: self.shape.seed,
            problems,
            sent: evidence.sent.len() as u64,
            acked,
            read: self.read,
            late: self.late,
            digest: digest_of(self.history.iter().map(String::as_bytes), digest ^ self.net.digest()),
            history: self.history,
        }
    }

    /// Does what is to be done until then.
    async fn steps_until(&mut self, end: Instant) {
        while let Some((at, _)) = self.steps.keys().next().copied().filter(|(at, _)| *at <= end) {
            sleep_until(at).await;
            if let Some((_, step)) = self.steps.pop_first() {
                self.step(step);
            }
        }
        sleep_until(end).await;
    }

    fn writers(&mut self) -> JoinSet<()> {
        let mut writers = JoinSet::new();
        let heads: Vec<String> = self.heads.iter().map(|head| format!("{}:{PORT}", head.ip)).collect();
        for (number, writing) in self.shape.writers.clone().into_iter().enumerate() {
            let mut heads = heads.clone();
            let first = self.rng.random_range(0..heads.len().max(1));
            heads.rotate_left(first);
            let writer = Writer {
                number,
                writing,
                heads,
                net: Net::Simulated(self.net.host(ip(Host::Writer(number)))),
                seed: self.rng.random(),
                book: Rc::clone(&self.book),
            };
            writers.spawn_local(writer.run());
        }
        writers
    }

    /// Everything works from now on: roads, disks, processes.
    fn mend(&mut self) {
        self.note("everything is mended");
        self.net.heal();
        self.steps.retain(|_, step| matches!(step, Step::Watch | Step::Force(_) | Step::Read(_)));
        for n in 0..self.nodes.len() {
            self.room(n);
            if let Some(node) = self.nodes.get(n) {
                node.slow_ms.store(0, Ordering::Relaxed);
                node.disk
                    .faults(|faults| (faults.fail_write, faults.fail_sync, faults.fail_sync_dir) = (None, None, None));
            }
        }
        let hosts: Vec<Host> =
            (0..self.heads.len()).map(Host::Head).chain((0..self.nodes.len()).map(Host::Node)).collect();
        for host in hosts {
            self.start(host);
            self.resume(host);
        }
    }

    /// Waits until every client is done.
    async fn settle(&mut self, writers: &mut JoinSet<()>) -> Vec<String> {
        let mut problems = Vec::new();
        // Clients may have as much to write as they like, but then everything has to come to an end.
        let longest = self.shape.writers.iter().map(|writing| writing.longest()).max().unwrap_or_default();
        let end = Instant::now() + longest + MENDED_TIME_MAX;
        while !writers.is_empty() && Instant::now() < end {
            self.steps_until(Instant::now() + WATCH_EVERY).await;
            while writers.try_join_next().is_some() {}
        }
        if !writers.is_empty() {
            problems.push(format!("{} clients are not done long after everything was mended", writers.len()));
        }
        self.note("the clients are done");
        problems
    }

    /// Has each head prove that it works.
    async fn probe_all(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        for n in 0..self.heads.len() {
            let probe = self.probe(n);
            tokio::pin!(probe);
            let end = Instant::now() + MENDED_TIME_MAX;
            let mut found = None;
            while found.is_none() && Instant::now() < end {
                tokio::select! {
                    biased;
                    result = &mut probe => found = Some(result),
                    () = self.steps_until(Instant::now() + WATCH_EVERY) => {}
                }
            }
            match found {
                Some(Ok(())) => {}
                Some(Err(cause)) => {
                    problems.push(format!("head {n} keeps nothing after everything was mended: {cause}"))
                }
                None => problems.push(format!("head {n} answers nothing after everything was mended")),
            }
        }
        problems
    }

    /// Everything is read back and has its copies.
    async fn recover(&mut self, writers: &mut JoinSet<()>, follower: Option<Reading>) -> Vec<String> {
        let mut problems = Vec::new();
        if self.shape.rots() {
            // Nobody is told of a loss because the one that has the good line is still on its way back.
            self.all_registered().await;
        }
        // Rot is met by who reads.
        if self.shape.reads_first || self.shape.rots() {
            // Nobody has said yet that lost disks are lost: a reader is told who is missing, and gets the rest.
            problems.extend(self.read_back(self.may_lose()).await);
        }
        self.start_rotted_anew().await;
        self.give_up_wiped().await;
        problems.extend(self.give_up_lowered().await);
        // While lost nodes are missed, messages may wait for them.
        problems.extend(self.settle(writers).await);
        problems.extend(self.probe_all().await);
        problems.extend(self.settled_copies().await);
        problems.extend(self.repaired().await);
        problems.extend(self.read_back(false).await);
        if let Some(follower) = follower {
            problems.extend(self.followed(&follower).await);
        }
        problems.extend(self.copies_are_through().await);
        problems
    }

    /// Has some messages stored through one head.
    fn probe(&mut self, n: usize) -> impl Future<Output = Result<(), String>> + 'static {
        let number = self.shape.writers.len() + n;
        let mut config = client::Config::new(vec![format!("{}:{PORT}", ip(Host::Head(n)))]);
        config.id = ClientId::of_library(self.rng.random());
        config.seed = self.rng.random();
        config.net = Net::Simulated(self.net.host(ip(Host::Writer(number))));
        config.retry_for = MENDED_TIME_MAX / 2;
        let book = Rc::clone(&self.book);
        let first = book.borrow().sent.len();
        async move {
            let mut probe = client::Client::new(config);
            for k in 0..PROBES {
                let payload = format!("{number} probe {first} {k}").into_bytes();
                book.borrow_mut().sent.insert(payload.clone(), Instant::now());
                probe.store(Bytes::from(payload)).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        }
    }

    /// Takes everything down: with the power, or in order.
    async fn end(&mut self) {
        let dark = self.shape.dark_end;
        self.note(if dark { "the power goes everywhere" } else { "all processes stop" });
        for n in 0..self.nodes.len() {
            if dark {
                self.kill(Host::Node(n), Down::Dark);
            }
        }
        let processes = self.heads.iter().filter_map(|head| head.process.as_ref());
        for process in processes.chain(self.nodes.iter().filter_map(|node| node.process.as_ref())) {
            process.stop();
        }
        drop(timeout(limits::STOP_TIME_MAX, std::future::pending::<()>()).await);
        for n in 0..self.heads.len() {
            self.kill(Host::Head(n), Down::Killed);
        }
        for n in 0..self.nodes.len() {
            self.kill(Host::Node(n), Down::Killed);
        }
    }
}

fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>, mut digest: u64) -> u64 {
    for part in parts {
        let crc = u64::from(crc32c::crc32c(part)) << 32 | part.len() as u64;
        digest = (digest ^ crc).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    }
    digest
}
