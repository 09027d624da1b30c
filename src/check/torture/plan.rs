//! The schedule of faults: from a seed and the shape of the cluster, what is done to whom, for how long, in which order.
//!
//! Pure. A round holds one fault, or in a mix one of a data node and one of a head; the next round begins when the
//! cluster is whole again. So at any time at most one data node and one head are at fault, and the *order* depends on
//! the seed alone, while the moments depend on how fast the machine heals. A longer run has the same beginning.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

/// What is done to a process, its links or its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A data node is killed (-9) and started again.
    Kill,
    /// A data node is paused (SIGSTOP) and goes on.
    Stop,
    /// A data node's connections are closed, and new ones refused.
    Cut,
    /// A data node's connections carry nothing and stay open: a cable that was pulled.
    Stall,
    /// A data node's disk is filled.
    Full,
    /// A bit of a sealed file is flipped.
    Flip,
    /// A data node is killed and loses all its files.
    Wipe,
    /// A head is killed (-9) and started again.
    Head,
    /// A head is paused (SIGSTOP) and goes on.
    HeadStop,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Kill,
        Self::Stop,
        Self::Cut,
        Self::Stall,
        Self::Full,
        Self::Flip,
        Self::Wipe,
        Self::Head,
        Self::HeadStop,
    ];

    /// The word for it in flags and reports.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Full => "full",
            Self::Flip => "flip",
            Self::Wipe => "wipe",
            Self::Head => "head",
            Self::HeadStop => "head-stop",
        }
    }

    /// Whether a head is its victim.
    #[must_use]
    pub(crate) const fn is_of_a_head(self) -> bool {
        matches!(self, Self::Head | Self::HeadStop)
    }

    /// Whether a record may lose a copy by it.
    #[must_use]
    pub(crate) const fn takes_copies(self) -> bool {
        matches!(self, Self::Flip | Self::Wipe)
    }

    /// Time from its beginning within which what was in flight has to be acknowledged elsewhere: a second where the
    /// connection is closed, and the two heartbeats that tell of a silent death before that. None where nothing is
    /// promised: a client notices the loss of a head, not a head that of a node.
    #[must_use]
    pub(crate) fn bound(self, heartbeat: Duration) -> Option<Duration> {
        let second = Duration::from_secs(1);
        match self {
            Self::Kill | Self::Cut | Self::Wipe => Some(second),
            Self::Stop | Self::Stall => Some(heartbeat * 2 + second),
            Self::Full | Self::Flip | Self::Head | Self::HeadStop => None,
        }
    }

    /// How long it lasts, in heartbeats: from too short to be noticed to long enough for all that follows.
    const fn hold(self) -> (f64, f64) {
        match self {
            Self::Kill | Self::Wipe | Self::Head => (0.2, 3.0),
            Self::Stop | Self::Stall => (0.5, 5.0),
            Self::Cut => (0.2, 4.0),
            Self::Full => (1.0, 3.0),
            Self::Flip => (0.0, 0.0),
            // A client of the library waits three seconds for a head that says nothing, a text client of torture ten.
            Self::HeadStop => (0.5, 12.0),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether faults come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mix {
    /// Only one at a time.
    Alone,
    /// Every kind alone at first; from then on every other fault of a data node comes with one of a head.
    Random,
}

/// The cluster as far as the schedule depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Heads.
    pub(crate) heads: usize,
    /// Data nodes.
    pub(crate) nodes: usize,
    /// Time between two heartbeats of a head.
    pub(crate) heartbeat: Duration,
}

/// One fault of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What is done.
    pub(crate) kind: Kind,
    /// To whom: the place of a data node, or of a head, from 0.
    pub(crate) victim: usize,
    /// For links: only the one to this head, or all.
    pub(crate) link: Option<usize>,
    /// When, from the beginning of its round.
    pub(crate) after: Duration,
    /// For how long.
    pub(crate) hold: Duration,
    /// Randomness for what the place depends on what is there: the file, byte and bit of a flip.
    pub(crate) draw: u64,
}

/// Faults that come together, and the quiet before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Quiet, with the cluster whole, before it.
    pub(crate) pause: Duration,
    /// One, or one of a data node and one of a head.
    pub(crate) faults: Vec<Fault>,
}

impl Round {
    /// From its first fault to the end of its last.
    #[must_use]
    pub(crate) fn length(&self) -> Duration {
        self.faults.iter().map(|fault| fault.after + fault.hold).max().unwrap_or_default()
    }
}

/// What is done to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The node that loses copies, by flips and wipes. It is the same all through the run: until a lost copy is made
    /// again, two such nodes would be two failures of one record.
    pub(crate) unlucky: usize,
    /// The node whose disk fills up.
    pub(crate) small: usize,
    /// The rounds, enough of them for the time asked for.
    pub(crate) rounds: Vec<Round>,
}

/// Makes the schedule of a run. `kinds` without repetition; without any there are no rounds.
#[must_use]
pub(crate) fn plan(seed: u64, shape: Shape, kinds: &[Kind], mix: Mix, run_for: Duration) -> Plan {
    let mut rng = SmallRng::seed_from_u64(seed);
    let unlucky = rng.random_range(0..shape.nodes.max(1));
    let small = rng.random_range(0..shape.nodes.max(1));
    let mut maker = Maker { rng, shape, unlucky, small };
    let of_heads: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.is_of_a_head()).collect();
    let mut rounds = Vec::new();
    let mut time = Duration::ZERO;
    let mut first = true;
    while time < run_for && !kinds.is_empty() {
        let mut bag = kinds.to_vec();
        bag.shuffle(&mut maker.rng);
        for kind in bag {
            let partners: &[Kind] = if first || mix == Mix::Alone { &[] } else { &of_heads };
            let round = maker.round(kind, partners);
            time += round.pause + round.length();
            rounds.push(round);
        }
        first = false;
    }
    Plan { unlucky, small, rounds }
}

struct Maker {
    rng: SmallRng,
    shape: Shape,
    unlucky: usize,
    small: usize,
}

impl Maker {
    fn round(&mut self, kind: Kind, partners: &[Kind]) -> Round {
        let pause = self.heartbeats(0.3, 1.5);
        let mut faults = vec![self.fault(kind, Duration::ZERO)];
        if !kind.is_of_a_head() && self.rng.random_range(0..2) == 0 && !partners.is_empty() {
            let place = self.rng.random_range(0..partners.len());
            if let Some(partner) = partners.get(place) {
                // Either may come first: some time after the other began, be that over by then or not.
                let after = self.heartbeats(0.0, 2.0);
                let partner = self.fault(*partner, after);
                faults.push(partner);
                if self.rng.random_range(0..2) == 0
                    && let [node, head] = &mut faults[..]
                {
                    std::mem::swap(&mut node.after, &mut head.after);
                }
            }
        }
        Round { pause, faults }
    }

    fn fault(&mut self, kind: Kind, after: Duration) -> Fault {
        let victim = match kind {
            Kind::Flip | Kind::Wipe => self.unlucky,
            Kind::Full => self.small,
            Kind::Head | Kind::HeadStop => self.rng.random_range(0..self.shape.heads.max(1)),
            _ => self.rng.random_range(0..self.shape.nodes.max(1)),
        };
        let link = match kind {
            Kind::Cut | Kind::Stall if self.rng.random_range(0..2) == 0 => {
                Some(self.rng.random_range(0..self.shape.heads.max(1)))
            }
            _ => None,
        };
        let (least, most) = kind.hold();
        Fault {
            kind,
            victim,
            link,
            after,
            hold: self.heartbeats(least, most),
            draw: self.rng.random_range(0..u64::MAX),
        }
    }

    fn heartbeats(&mut self, least: f64, most: f64) -> Duration {
        self.shape.heartbeat.mul_f64(if least < most { self.rng.random_range(least..most) } else { least })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SHAPE: Shape = Shape { heads: 2, nodes: 4, heartbeat: Duration::from_secs(1) };

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn the_seed_makes_the_schedule() {
        let one = plan(7, SHAPE, &Kind::ALL, Mix::Random, minutes(10));
        assert_eq!(one, plan(7, SHAPE, &Kind::ALL, Mix::Random, minutes(10)));
        assert_ne!(one.rounds, plan(8, SHAPE, &Kind::ALL, Mix::Random, minutes(10)).rounds);
        let short = plan(7, SHAPE, &Kind::ALL, Mix::Random, minutes(1)).rounds;
        assert_eq!(one.rounds.get(..short.len()), Some(&short[..]), "a longer run begins as a shorter one");
        let length: Duration = one.rounds.iter().map(|round| round.pause + round.length()).sum();
        assert!(length >= minutes(10) && length < minutes(12), "{length:?}");
    }

    #[test]
    fn every_kind_comes_alone_first_and_in_mixes_later() {
        for seed in 0..20 {
            let plan = plan(seed, SHAPE, &Kind::ALL, Mix::Random, minutes(10));
            let (first, later) = plan.rounds.split_at(Kind::ALL.len());
            let alone: BTreeSet<Kind> = first.iter().map(|round| round.faults[0].kind).collect();
            assert!(first.iter().all(|round| round.faults.len() == 1) && alone.len() == Kind::ALL.len());
            let mixed = later.iter().filter(|round| round.faults.len() == 2).count();
            assert!(mixed * 5 > later.len() && mixed * 2 < later.len(), "{mixed} of {}", later.len());
        }
    }

    #[test]
    fn at_most_one_node_and_one_head_at_a_time_and_copies_are_lost_on_one_node_only() {
        for seed in 0..50 {
            let plan = plan(seed, SHAPE, &Kind::ALL, Mix::Random, minutes(5));
            for round in &plan.rounds {
                let heads = round.faults.iter().filter(|fault| fault.kind.is_of_a_head()).count();
                assert!(heads <= 1 && round.faults.len() - heads <= 1);
                for fault in &round.faults {
                    assert!(fault.victim < if fault.kind.is_of_a_head() { SHAPE.heads } else { SHAPE.nodes });
                    assert!(!fault.kind.takes_copies() || fault.victim == plan.unlucky);
                    assert!(fault.kind != Kind::Full || fault.victim == plan.small);
                    assert!(fault.link.is_none_or(|head| head < SHAPE.heads));
                }
            }
        }
    }

    #[test]
    fn alone_means_alone() {
        let plan = plan(3, SHAPE, &Kind::ALL, Mix::Alone, minutes(10));
        assert!(plan.rounds.iter().all(|round| round.faults.len() == 1));
        assert!(super::plan(3, SHAPE, &[], Mix::Alone, minutes(10)).rounds.is_empty());
    }

    #[test]
    fn bounds_are_a_second_and_the_heartbeats_that_notice() {
        assert_eq!(Kind::Kill.bound(Duration::from_secs(5)), Some(Duration::from_secs(1)));
        assert_eq!(Kind::Stall.bound(Duration::from_secs(5)), Some(Duration::from_secs(11)));
        assert_eq!(Kind::Head.bound(Duration::from_secs(5)), None);
    }
}
