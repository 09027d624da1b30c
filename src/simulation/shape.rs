//! A cluster and its faults, drawn from a seed. Pure: the same seed is the same shape.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::data::fetching;
use crate::data::log::SyncPolicy;
use crate::limits;
use crate::net::simulated::Weather;

/// A host of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Host {
    /// A head, by number.
    Head(usize),
    /// A data node.
    Node(usize),
    /// A client.
    Writer(usize),
}

/// A way in which a disk fails for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskFault {
    /// A write.
    Write,
    /// A sync.
    Sync,
    /// A sync of the folder.
    SyncDir,
}

/// What goes wrong; how long it lasts, where it ends by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// kill -9: the process is gone, its system is not.
    Kill(Host, Duration),
    /// The power is cut: unsynced data is lost, connections say nothing.
    Power(Host, Duration),
    /// SIGTERM; it is started again once it has ended.
    Stop(Host),
    /// The process stands still.
    Pause(Host, Duration),
    /// The power is cut and the disk lost: a new node comes in its place.
    Wipe(usize, Duration),
    /// Packets do not get through, one way or both ways.
    Cut {
        /// From this host.
        from: Host,
        /// To this one.
        to: Host,
        /// And back.
        both: bool,
        /// How long.
        time: Duration,
    },
    /// All connections between two hosts break.
    Reset(Host, Host),
    /// A node's disk takes so long for everything.
    Slow(usize, Duration, Duration),
    /// A call to a node's disk fails: so many calls from now.
    Fail(usize, DiskFault, u32),
    /// A node's disk has so many bytes left.
    Full(usize, u64, Duration),
    /// The wall clock of a head jumps, ns.
    Jump(usize, i64),
    /// A node is let go, by a person's word; another comes in its place once it has left.
    Drain(usize),
    /// A copy of a node's folder is taken.
    Backup(usize),
    /// The copy is put back in place of the folder, and started with `--new-id`.
    Restore(usize, Duration),
    /// A head loses its `head.state`.
    Forget(usize, Duration),
    /// A person changes how many copies the cluster keeps.
    Copies(Copies),
    /// A bit of a node's records flips on its disk.
    Rot(usize),
}

/// How many copies a cluster keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Copies {
    /// Copies that are asked for.
    pub(crate) replicas: usize,
    /// Copies without which a message is refused.
    pub(crate) least: usize,
}

/// Under which names a client sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Naming {
    /// None.
    Nobody,
    /// Those of so many sources, in turn.
    Sources(u64),
}

/// What one client does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Writing {
    /// Whether it speaks lines in place of frames.
    pub(crate) lines: bool,
    /// Whether a framed one asks to be stored as text.
    pub(crate) text: bool,
    /// Messages it sends.
    pub(crate) messages: u64,
    /// Most messages it sends without a pause.
    pub(crate) burst: u64,
    /// Longest pause.
    pub(crate) pause: Duration,
    /// Longest payload, bytes.
    pub(crate) bytes: usize,
    /// How long a framed one goes on trying.
    pub(crate) retry_for: Duration,
    /// Messages it may have in flight.
    pub(crate) window: usize,
    /// It vanishes after so many messages.
    pub(crate) vanishes: Option<u64>,
    /// Whose messages it says they are.
    pub(crate) naming: Naming,
}

impl Writing {
    /// The longest time that its pauses and what it tries in vain may take.
    #[must_use]
    pub(crate) fn longest(&self) -> Duration {
        let rounds = u32::try_from(self.messages.div_ceil(self.burst)).unwrap_or(u32::MAX);
        (self.pause * 2).saturating_mul(rounds + 1) + self.retry_for * 8
    }
}

/// A cluster and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// The seed it was drawn from, and from which everything else is drawn.
    pub(crate) seed: u64,
    /// Heads.
    pub(crate) heads: usize,
    /// Data nodes.
    pub(crate) nodes: usize,
    /// Copies asked for.
    pub(crate) replicas: usize,
    /// Copies without which a message is refused.
    pub(crate) copies_min: usize,
    /// Clients.
    pub(crate) writers: Vec<Writing>,
    /// Time between heartbeats.
    pub(crate) heartbeat: Duration,
    /// Size at which nodes seal a file, bytes.
    pub(crate) segment_bytes: u64,
    /// When nodes sync.
    pub(crate) sync: SyncPolicy,
    /// The network.
    pub(crate) weather: Weather,
    /// Shortest and longest time of a disk for one batch.
    pub(crate) disk: (Duration, Duration),
    /// How long things go wrong; then everything is mended.
    pub(crate) trouble: Duration,
    /// What goes wrong, and when.
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// How fast nodes make missing copies again.
    pub(crate) repair: fetching::Settings,
    /// How long a node may be away before what it keeps is copied elsewhere.
    pub(crate) repair_after: Duration,
    /// Whether the cluster begins before anything goes wrong. Heads that found it apart miss each other's nodes only later.
    pub(crate) founded: bool,
    /// When somebody reads what is there in the middle of it, and whether only from the nodes that are there.
    pub(crate) reads: Vec<(Duration, bool)>,
    /// How far the wall clock of each head is off at the start, ns.
    pub(crate) skews: Vec<i64>,
    /// Whether somebody follows from the start.
    pub(crate) follows: bool,
    /// Whether everything is read before the copies are made again, too.
    pub(crate) reads_first: bool,
    /// Whether all nodes lose their power before the disks are read.
    pub(crate) dark_end: bool,
}

/// Longest payload of most clients, bytes.
const SMALL_BYTES: usize = 200;

/// A share of runs in which nothing goes wrong: they show that nothing is found where nothing is.
const CALM_SHARE: f64 = 0.05;

/// A share of runs in which somebody follows.
const FOLLOWS_SHARE: f64 = 0.5;

/// A share of runs in which the cluster begins before anything goes wrong.
const FOUNDED_SHARE: f64 = 0.8;

/// A share of runs in which each of the rare faults happens.
const RARE_SHARE: f64 = 0.2;

/// Most reads in the middle of a run.
const READS_MAX: usize = 5;

const HOUR_NS: i64 = 3_600_000_000_000;

const YEAR_NS: i64 = 365 * 24 * HOUR_NS;

impl Shape {
    /// The shape of a seed.
    #[must_use]
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let heads = 1 + usize::from(rng.random_bool(0.5));
        let nodes = rng.random_range(1..=4);
        let replicas = if rng.random_bool(0.4) { 1 } else { rng.random_range(2..=3) };
        let calm = rng.random_bool(CALM_SHARE);
        let trouble = millis(rng, 3_000..30_000);
        let writers: Vec<_> = (0..rng.random_range(1..=4)).map(|_| writing(rng)).collect();
        let mut shape = Self {
            seed,
            heads,
            nodes,
            replicas,
            copies_min: rng.random_range(1..=replicas.min(nodes)),
            writers,
            heartbeat: millis(rng, 500..limits::HEARTBEAT_DEFAULT.as_millis() as u64 + 1),
            segment_bytes: rng.random_range(limits::SEGMENT_BYTES_MIN..20 * limits::SEGMENT_BYTES_MIN),
            sync: match rng.random_range(0..10) {
                0 => SyncPolicy::Every(millis(rng, 1..2_000)),
                1 => SyncPolicy::Never,
                _ => SyncPolicy::Always,
            },
            weather: Weather {
                delay: (Duration::from_micros(rng.random_range(10..500)), millis(rng, 1..20)),
                slow_share: if rng.random_bool(0.5) { rng.random_range(0.0..0.1) } else { 0.0 },
                split_share: if rng.random_bool(0.5) { rng.random_range(0.0..0.6) } else { 0.0 },
                pipe_bytes: 1 << rng.random_range(9..18),
            },
            disk: (Duration::from_micros(rng.random_range(20..900)), millis(rng, 1..40)),
            trouble,
            faults: Vec::new(),
            dark_end: rng.random_bool(0.7),
            repair: fetching::Settings { bytes_per_second: 8 << 20 },
            repair_after: millis(rng, 3_000..20_000),
            skews: skews(rng, heads),
            founded: rng.random_bool(FOUNDED_SHARE),
            reads: Vec::new(),
            follows: rng.random_bool(FOLLOWS_SHARE),
            reads_first: rng.random_bool(0.5),
        };
        if shape.writers.iter().any(|writing| writing.bytes > SMALL_BYTES) {
            // A ping waits behind the Put before it, so a road that takes longer than a heartbeat for one batch has no
            // node that lives: 64 KiB in 5 s are asked for in earnest, and in proportion here.
            shape.weather.pipe_bytes = shape.weather.pipe_bytes.max(8 * 1024);
            shape.heartbeat = shape.heartbeat.max(Duration::from_secs(1));
        }
        if !calm {
            let count = if rng.random_bool(0.7) { rng.random_range(1..=12) } else { rng.random_range(12..=40) };
            shape.faults = (0..count).map(|_| (shape.moment(rng), shape.fault(rng))).collect();
            shape.rare_faults(rng);
            shape.later_faults(&mut SmallRng::seed_from_u64(!seed));
            shape.faults.sort_by_key(|(at, _)| *at);
            let reads = rng.random_range(0..=READS_MAX);
            shape.reads = (0..reads).map(|_| (shape.moment(rng), rng.random_bool(0.7))).collect();
        }
        shape
    }

    /// How far the wall clock of a head is off at the start, ns.
    #[must_use]
    pub(crate) fn skew(&self, head: usize) -> i64 {
        self.skews.get(head).copied().unwrap_or(0)
    }

    /// Whether the power of a node is cut while things go wrong.
    #[must_use]
    pub(crate) fn loses_power(&self) -> bool {
        self.faults
            .iter()
            .any(|(_, fault)| matches!(fault, Fault::Power(Host::Node(_), _) | Fault::Wipe(..) | Fault::Restore(..)))
    }

    /// Whether a head may lose its `head.state` and then hear none but new nodes.
    #[must_use]
    pub(crate) fn may_forget(&self) -> bool {
        let has = |what: fn(&Fault) -> bool| self.faults.iter().any(|(_, fault)| what(fault));
        has(|fault| matches!(fault, Fault::Forget(..)))
            && has(|fault| matches!(fault, Fault::Wipe(..) | Fault::Drain(_)))
    }

    /// Whether the clocks of the heads differ at some time.
    #[must_use]
    pub(crate) fn is_skewed(&self) -> bool {
        self.skews.iter().any(|skew| *skew != 0)
            || self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Jump(..)))
    }

    /// Some time while things go wrong.
    fn moment(&self, rng: &mut SmallRng) -> Duration {
        millis(rng, 0..self.trouble.as_millis() as u64)
    }

    /// What happens once in a run, if at all.
    fn rare_faults(&mut self, rng: &mut SmallRng) {
        let (node, head) = (rng.random_range(0..self.nodes), rng.random_range(0..self.heads));
        // Fewer nodes than copies would take no messages until another comes, which waits for the one that leaves.
        if self.nodes > self.replicas && rng.random_bool(RARE_SHARE) {
            self.faults.push((self.moment(rng), Fault::Drain(node)));
        }
        if rng.random_bool(RARE_SHARE) {
            let (a, b) = (self.moment(rng), self.moment(rng));
            self.faults.push((a.min(b), Fault::Backup(node)));
            self.faults.push((a.max(b), Fault::Restore(node, millis(rng, 1..5_000))));
        }
        if rng.random_bool(RARE_SHARE) {
            self.faults.push((self.moment(rng), Fault::Forget(head, millis(rng, 1..5_000))));
        }
        if rng.random_bool(RARE_SHARE) {
            self.faults.push((self.moment(rng), Fault::Jump(head, rng.random_range(-10 * YEAR_NS..10 * YEAR_NS))));
        }
    }

    /// The same, drawn from numbers of their own.
    fn later_faults(&mut self, rng: &mut SmallRng) {
        if rng.random_bool(RARE_SHARE) {
            // Who drains waits until there are others enough.
            let drains = self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Drain(_)));
            let most = (self.nodes - usize::from(drains)).clamp(1, 3);
            let replicas = rng.random_range(1..=most);
            let copies = Copies { replicas, least: rng.random_range(1..=replicas) };
            self.faults.push((self.moment(rng), Fault::Copies(copies)));
        }
        // What rots is on another disk: nothing but rot takes a copy away, and no change lets go of one.
        let is_safe = self.copies_min > 1 && self.sync == SyncPolicy::Always && !self.takes_copies();
        if is_safe && rng.random_bool(2.0 * RARE_SHARE) {
            let node = rng.random_range(0..self.nodes);
            for _ in 0..rng.random_range(1..4) {
                self.faults.push((self.moment(rng), Fault::Rot(node)));
            }
        }
    }

    /// Whether a fault takes copies away, or lets the cluster have fewer of them.
    fn takes_copies(&self) -> bool {
        self.faults.iter().any(|(_, fault)| {
            matches!(fault, Fault::Wipe(..) | Fault::Restore(..) | Fault::Copies(_) | Fault::Drain(_))
        })
    }

    /// Whether records rot.
    #[must_use]
    pub(crate) fn rots(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Rot(_)))
    }

    /// The copies that the cluster is told to keep at last.
    #[must_use]
    pub(crate) fn copies_at_last(&self) -> Option<Copies> {
        self.faults.iter().rev().find_map(|(_, fault)| match fault {
            Fault::Copies(copies) => Some(*copies),
            _ => None,
        })
    }

    fn fault(&self, rng: &mut SmallRng) -> Fault {
        let node = rng.random_range(0..self.nodes);
        let head = rng.random_range(0..self.heads);
        let role = if rng.random_bool(0.7) { Host::Node(node) } else { Host::Head(head) };
        let time = if rng.random_bool(0.7) { millis(rng, 1..3_000) } else { millis(rng, 1..25_000) };
        let writer = Host::Writer(rng.random_range(0..self.writers.len().max(1)));
        let other = if rng.random_bool(0.6) { Host::Node(node) } else { writer };
        match rng.random_range(0..26) {
            0..=3 => Fault::Kill(role, time),
            4..=7 => Fault::Power(role, time),
            8 => Fault::Stop(role),
            9..=10 => Fault::Pause(role, time),
            11 => Fault::Wipe(node, time),
            12..=13 => Fault::Cut { from: Host::Head(head), to: other, both: true, time },
            14 => Fault::Cut { from: Host::Head(head), to: other, both: false, time },
            15 => Fault::Cut { from: other, to: Host::Head(head), both: false, time },
            16 => Fault::Reset(Host::Head(head), other),
            17 => Fault::Slow(node, millis(rng, 10..4_000), time),
            18 => Fault::Fail(node, DiskFault::Write, rng.random_range(0..4)),
            19 => Fault::Fail(node, DiskFault::Sync, rng.random_range(0..4)),
            20 => Fault::Fail(node, DiskFault::SyncDir, rng.random_range(0..3)),
            21..=22 => Fault::Full(node, rng.random_range(0..2_000), time),
            23..=24 => Fault::Reset(Host::Head(head), writer),
            _ => Fault::Jump(head, rng.random_range(-3_600_000_000_000..3_600_000_000_000)),
        }
    }
}

/// Most clocks are right; some are an hour behind or ahead.
fn skews(rng: &mut SmallRng, heads: usize) -> Vec<i64> {
    (0..heads)
        .map(|_| match rng.random_range(0..10) {
            0 => -HOUR_NS,
            1 => HOUR_NS,
            2 => rng.random_range(-60_000_000_000..60_000_000_000),
            _ => 0,
        })
        .collect()
}

fn writing(rng: &mut SmallRng) -> Writing {
    let messages = rng.random_range(5..250);
    Writing {
        lines: rng.random_bool(0.4),
        text: rng.random_bool(0.3),
        messages,
        burst: rng.random_range(1..40),
        pause: millis(rng, 1..2_000),
        bytes: if rng.random_bool(0.9) {
            rng.random_range(1..SMALL_BYTES)
        } else {
            rng.random_range(SMALL_BYTES..20_000)
        },
        retry_for: millis(rng, 1_000..30_000),
        window: if rng.random_bool(0.5) { limits::CLIENT_IN_FLIGHT_MESSAGES_MAX } else { rng.random_range(1..64) },
        vanishes: rng.random_bool(0.15).then(|| rng.random_range(0..messages)),
        naming: match rng.random_range(0..4) {
            0..=1 => Naming::Nobody,
            2 => Naming::Sources(1),
            _ => Naming::Sources(rng.random_range(2..5)),
        },
    }
}

fn millis(rng: &mut SmallRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}
