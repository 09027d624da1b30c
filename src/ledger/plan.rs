//! On whom a head opens its ledgers, and when a node that comes back gets some again.
//!
//! As many ledgers are open as nodes are usable, each node in R of them. So a ledger that is drawn uniformly gives a uniform
//! node, and losing a node ends R ledgers, not all. What is usable is decided in `heard`; randomness and time are handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use super::id::NodeId;

/// A number below the one that is given, which is at least one: the caller's randomness.
pub(crate) type Below<'a> = dyn FnMut(usize) -> usize + 'a;

/// What to do about the open ledgers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// Places of open ledgers that are to be closed: they stand in the way of an even spread.
    pub(crate) close: Vec<usize>,
    /// Members of each ledger that is to be opened.
    pub(crate) open: Vec<Vec<NodeId>>,
}

/// Members for new ledgers, so that each usable node is in R of all that are open; with R nodes or fewer, one ledger on all
/// of them. As few of the open ones are closed as a greedy choice finds: a ledger costs for as long as its records are kept.
/// With fewer than `least` usable nodes nothing is opened.
#[must_use]
pub(crate) fn plan(
    usable: &[NodeId],
    replicas: usize,
    least: usize,
    open: &[Vec<NodeId>],
    below: &mut Below<'_>,
) -> Plan {
    let (size, due) = (replicas.min(usable.len()), if usable.len() > replicas { usable.len() } else { 1 });
    let fits = |members: &Vec<NodeId>| members.len() == size && members.iter().all(|member| usable.contains(member));
    let mut plan = Plan::default();
    let (mut left, unfit): (Vec<usize>, Vec<usize>) = (0..open.len()).partition(|&at| open.get(at).is_some_and(fits));
    plan.close = unfit;
    if size < least.max(1) {
        plan.close.append(&mut left);
        plan.close.sort_unstable();
        return plan;
    }
    let per_node = if due == 1 { 1 } else { size };
    let mut lacks: BTreeMap<NodeId, isize> = usable.iter().map(|&node| (node, per_node as isize)).collect();
    let count = |lacks: &mut BTreeMap<NodeId, isize>, at: usize, by: isize| {
        for member in open.get(at).into_iter().flatten() {
            *lacks.entry(*member).or_default() += by;
        }
    };
    for &at in &left {
        count(&mut lacks, at, -1);
    }
    // The rest can be spread evenly if nobody has too many already, and nobody needs more ledgers than are missing.
    while let Some(place) = (!left.is_empty()).then(|| below(left.len())) {
        let missing = due as isize - left.len() as isize;
        let over =
            left.iter().position(|&at| open.get(at).into_iter().flatten().any(|node| lacks.get(node) < Some(&0)));
        let tight = missing < 0 || lacks.values().any(|&lack| lack > missing);
        let Some(place) = over.or(tight.then_some(place)) else { break };
        let at = left.swap_remove(place);
        count(&mut lacks, at, 1);
        plan.close.push(at);
    }
    plan.close.sort_unstable();
    for _ in left.len()..due {
        plan.open.push(neediest(&mut lacks, size, below));
    }
    plan
}

/// The nodes that lack most, drawn among equals.
fn neediest(lacks: &mut BTreeMap<NodeId, isize>, size: usize, below: &mut Below<'_>) -> Vec<NodeId> {
    let mut order: Vec<NodeId> = lacks.keys().copied().collect();
    for at in (1..order.len()).rev() {
        order.swap(at, below(at + 1));
    }
    order.sort_by_key(|node| std::cmp::Reverse(lacks.get(node).copied()));
    order.truncate(size);
    for node in &order {
        *lacks.entry(*node).or_default() -= 1;
    }
    order
}

/// When nodes that were lost get ledgers again: after 1 s, after each further loss twice as long, up to 10 min. Each loss
/// costs ledgers that stay for years, so a node that comes and goes must not be given some each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    lost: BTreeMap<NodeId, Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    at: Duration,
    wait: Duration,
}

/// After the first loss.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// After many; a node that has held for so long after its wait is as good as new.
const WAIT_MAX: Duration = Duration::from_mins(10);

/// Most nodes whose losses are remembered.
const LOST_MAX: usize = 1024;

impl Backoff {
    /// A node was lost with ledgers open on it. Times are since any fixed one.
    pub(crate) fn lost(&mut self, node: NodeId, now: Duration) {
        let before = self.lost.get(&node).filter(|lost| now < lost.at + lost.wait + WAIT_MAX);
        let wait = before.map_or(WAIT_MIN, |lost| (lost.wait * 2).min(WAIT_MAX));
        self.lost.insert(node, Lost { at: now, wait });
        if self.lost.len() > LOST_MAX {
            self.lost.retain(|_, lost| now < lost.at + lost.wait + WAIT_MAX);
        }
    }

    /// How long a node has to wait still.
    #[must_use]
    pub(crate) fn wait(&self, node: NodeId, now: Duration) -> Duration {
        self.lost.get(&node).map_or(Duration::ZERO, |lost| (lost.at + lost.wait).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeSet;

    fn nodes(n: u64) -> Vec<NodeId> {
        (0..n).map(NodeId).collect()
    }

    fn apply(open: &mut Vec<Vec<NodeId>>, plan: Plan) {
        for at in plan.close.iter().rev() {
            open.remove(*at);
        }
        open.extend(plan.open);
    }

    fn even(usable: &[NodeId], replicas: usize, open: &[Vec<NodeId>]) {
        let size = replicas.min(usable.len());
        let each = if usable.len() > replicas { replicas } else { 1 };
        for node in usable {
            assert_eq!(open.iter().filter(|members| members.contains(node)).count(), each, "{open:?}");
        }
        for members in open {
            assert_eq!(members.iter().collect::<BTreeSet<_>>().len(), size, "{open:?}");
        }
    }

    #[test]
    fn each_node_is_in_r_ledgers_whoever_comes_and_goes() {
        for seed in 0..40 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let replicas = rng.random_range(1..4);
            let (mut usable, mut open) = (Vec::new(), Vec::new());
            for step in 0..40 {
                if rng.random() {
                    usable.push(NodeId(step));
                } else if !usable.is_empty() {
                    let gone = usable.swap_remove(rng.random_range(0..usable.len()));
                    open.retain(|members: &Vec<NodeId>| !members.contains(&gone));
                }
                let made = plan(&usable, replicas, 1, &open, &mut |n| rng.random_range(0..n));
                apply(&mut open, made);
                even(&usable, replicas, &open);
            }
        }
    }

    #[test]
    fn a_node_that_comes_and_goes_costs_few_ledgers() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut open = Vec::new();
        let all = nodes(128);
        let first = plan(&all, 2, 2, &open, &mut |n| rng.random_range(0..n));
        apply(&mut open, first);
        let mut made = 0;
        for round in 0..400 {
            let gone = NodeId(round % 128);
            open.retain(|members| !members.contains(&gone));
            let rest: Vec<NodeId> = all.iter().copied().filter(|&node| node != gone).collect();
            for usable in [&rest, &all] {
                let next = plan(usable, 2, 2, &open, &mut |n| rng.random_range(0..n));
                made += next.open.len();
                apply(&mut open, next);
                even(usable, 2, &open);
            }
        }
        assert!((400..400 * 4).contains(&made), "{made} ledgers for 400 losses");
    }

    #[test]
    fn fewer_than_m_nodes_get_no_ledger() {
        assert_eq!(plan(&nodes(1), 2, 2, &[nodes(2)], &mut |_| 0), Plan { close: vec![0], open: vec![] });
        assert_eq!(plan(&nodes(2), 3, 2, &[], &mut |n| n - 1).open.len(), 1);
        assert_eq!(plan(&[], 1, 1, &[], &mut |_| 0), Plan::default());
    }

    #[test]
    fn a_node_waits_twice_as_long_after_each_loss() {
        let (mut backoff, node, mut now) = (Backoff::default(), NodeId(1), Duration::from_secs(100));
        let mut waits = Vec::new();
        for _ in 0..12 {
            backoff.lost(node, now);
            waits.push(backoff.wait(node, now).as_secs());
            now += backoff.wait(node, now);
            assert_eq!(backoff.wait(node, now), Duration::ZERO);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        backoff.lost(node, now + WAIT_MAX);
        assert_eq!(backoff.wait(node, now + WAIT_MAX), WAIT_MIN);
    }
}
