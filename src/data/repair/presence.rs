//! Who is there, as far as this node's heads say: the part of repair that knows time.
//!
//! Pure: what heads told and the time are handed in. A node that is away is first absent, then lost: it may come back,
//! and copying everything at once would only hurt. Nobody is lost while no head can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits;
use crate::wire::frame::{Member, MemberState, SyncMode};

/// What is known of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// A head has it.
    Present,
    /// It is being drained: what it holds has to be elsewhere, too.
    Leaving,
    /// No head has it, but it may come back.
    Absent,
    /// No head has had it for so long that its copies are made again. It may come back with what it held.
    Lost,
    /// It was given up, or no head knows it any more: what it held is not counted on.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    id: u64,
    /// When some head had it last; `None` while one has it.
    until: Option<Duration>,
    /// It acknowledges before it syncs, by what was told while it was here.
    unsynced: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    replicas: u8,
    members: Vec<Member>,
}

/// What the connected heads say of the nodes. Times are counted from any fixed moment.
#[derive(Debug)]
pub(crate) struct Presence {
    after: Duration,
    heads: BTreeMap<u64, Told>,
    /// Since when there has been at least one head all the time.
    since: Option<Duration>,
    seen: BTreeMap<String, Seen>,
    /// Nodes that acknowledge before they sync and went away.
    left: BTreeSet<String>,
    replicas: usize,
}

impl Presence {
    /// Knows nobody yet. A node is lost when it has been absent for `after`.
    #[must_use]
    pub(crate) const fn new(after: Duration) -> Self {
        Self { after, heads: BTreeMap::new(), since: None, seen: BTreeMap::new(), left: BTreeSet::new(), replicas: 1 }
    }

    /// A connected head told whom it knows.
    pub(crate) fn told(&mut self, head: u64, replicas: u8, members: Vec<Member>, now: Duration) {
        self.heads.insert(head, Told { replicas, members });
        self.since.get_or_insert(now);
        self.replicas = self.heads.values().map(|told| usize::from(told.replicas)).max().unwrap_or(1).max(1);
        self.look(now);
    }

    /// The connection to a head is gone.
    pub(crate) fn lost_head(&mut self, head: u64, now: Duration) {
        if self.heads.remove(&head).is_some() {
            if self.heads.is_empty() {
                self.since = None;
            }
            self.look(now);
        }
    }

    fn look(&mut self, now: Duration) {
        let here: BTreeMap<&str, &Member> = self
            .heads
            .values()
            .flat_map(|told| &told.members)
            .filter(|member| matches!(member.state, MemberState::Here | MemberState::Draining))
            .map(|member| (member.name.as_str(), member))
            .collect();
        for (name, seen) in &mut self.seen {
            if seen.until.is_none() && !here.contains_key(name.as_str()) {
                seen.until = Some(now);
                if seen.unsynced {
                    self.left.insert(name.clone());
                }
            }
        }
        if self.seen.len() > limits::MEMBERS_MAX {
            let told: BTreeSet<&str> =
                self.heads.values().flat_map(|told| &told.members).map(|member| member.name.as_str()).collect();
            self.seen.retain(|name, _| told.contains(name.as_str()));
        }
        for (name, member) in here {
            let seen = Seen { id: member.id, until: None, unsynced: member.sync != SyncMode::Always };
            match self.seen.get_mut(name) {
                Some(known) => *known = seen,
                None => drop(self.seen.insert(name.to_owned(), seen)),
            }
        }
    }

    /// The nodes that acknowledge before they sync and went away since the last call.
    pub(crate) fn take_left(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.left)
    }

    /// Whether some node is known to acknowledge before it syncs.
    #[must_use]
    pub(crate) fn is_unsynced(&self) -> bool {
        self.seen.values().any(|seen| seen.unsynced)
    }

    /// Copies that each record is to have, by the word of the heads; at least 1.
    #[must_use]
    pub(crate) const fn replicas(&self) -> usize {
        self.replicas
    }

    /// Heads that have told.
    #[must_use]
    pub(crate) fn heads(&self) -> usize {
        self.heads.len()
    }

    /// Whether a head can be asked.
    #[must_use]
    pub(crate) fn is_connected(&self) -> bool {
        !self.heads.is_empty()
    }

    /// The nodes that some head waits for and none has.
    #[must_use]
    pub(crate) fn away(&self) -> Vec<String> {
        let members = || self.heads.values().flat_map(|told| &told.members);
        let is_here = |name: &str| {
            members()
                .any(|member| member.name == name && matches!(member.state, MemberState::Here | MemberState::Draining))
        };
        let away = members().filter(|member| member.state == MemberState::Away && !is_here(&member.name));
        away.map(|member| member.name.clone()).collect()
    }

    /// Whether some head has a node of this name, or waits for it.
    #[must_use]
    pub(crate) fn is_told(&self, name: &str) -> bool {
        let mut members = self.heads.values().flat_map(|told| &told.members);
        members.any(|member| member.name == name && member.state != MemberState::Gone)
    }

    /// What is known of the node of this name.
    #[must_use]
    pub(crate) fn standing(&self, name: &str, now: Duration) -> Standing {
        let states = || {
            let members = self.heads.values().flat_map(|told| &told.members);
            members.filter(|member| member.name == name).map(|member| member.state)
        };
        if states().any(|state| state == MemberState::Draining) {
            return Standing::Leaving;
        }
        if states().any(|state| state == MemberState::Here) {
            return Standing::Present;
        }
        let Some(since) = self.since else { return Standing::Absent };
        if states().next().is_some() && states().all(|state| state == MemberState::Gone) {
            return Standing::Gone;
        }
        let is_known = states().next().is_some();
        let until = self.seen.get(name).and_then(|seen| seen.until).unwrap_or(since).max(since);
        match now.saturating_sub(until) >= self.after {
            false => Standing::Absent,
            true if is_known => Standing::Lost,
            true => Standing::Gone,
        }
    }

    /// Names and identities of the nodes that some head has now.
    pub(crate) fn here(&self) -> impl Iterator<Item = (&str, u64)> {
        self.seen.iter().filter(|(_, seen)| seen.until.is_none()).map(|(name, seen)| (name.as_str(), seen.id))
    }

    /// Whether some head has a node that is being drained.
    #[must_use]
    pub(crate) fn is_draining(&self) -> bool {
        self.heads.values().flat_map(|told| &told.members).any(|member| member.state == MemberState::Draining)
    }

    /// Whether every head that has told says that the node of this identity is drained: one that does not may still
    /// have messages kept there.
    #[must_use]
    pub(crate) fn is_gone(&self, id: u64) -> bool {
        let gone = |told: &Told| told.members.iter().any(|one| one.id == id && one.state == MemberState::Gone);
        self.is_connected() && self.heads.values().all(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn members(list: &[(&str, u64, MemberState)]) -> Vec<Member> {
        list.iter()
            .map(|&(name, id, state)| Member { name: name.to_owned(), id, state, sync: SyncMode::Always, sole: false })
            .collect()
    }

    #[test]
    fn a_node_is_lost_when_every_head_has_missed_it_long_enough() {
        let mut presence = Presence::new(AFTER);
        assert_eq!(presence.standing("b", at(1000)), Standing::Absent, "no head can be asked");
        presence.told(1, 2, members(&[("b", 2, MemberState::Here)]), at(1000));
        presence.told(2, 3, members(&[("b", 2, MemberState::Here)]), at(1000));
        assert_eq!((presence.standing("b", at(1001)), presence.replicas()), (Standing::Present, 3));
        presence.told(1, 2, members(&[("b", 2, MemberState::Away)]), at(1100));
        assert_eq!(presence.standing("b", at(2000)), Standing::Present, "the other head has it");
        assert_eq!(presence.away(), [""; 0]);
        presence.told(2, 2, members(&[("b", 2, MemberState::Away)]), at(2000));
        assert_eq!(presence.standing("b", at(2059)), Standing::Absent);
        assert_eq!(presence.away().first().map(String::as_str), Some("b"));
        assert_eq!(presence.standing("b", at(2060)), Standing::Lost);
        presence.told(2, 2, members(&[("b", 2, MemberState::Here)]), at(2061));
        assert_eq!(presence.standing("b", at(2061)), Standing::Present);
    }

    #[test]
    fn who_may_lose_what_it_acknowledged_is_told_when_it_leaves() {
        let mut presence = Presence::new(AFTER);
        let mut list = members(&[("b", 2, MemberState::Here), ("c", 3, MemberState::Here)]);
        list[1].sync = SyncMode::Interval;
        presence.told(1, 2, list, at(0));
        assert!(presence.is_unsynced() && presence.take_left().is_empty());
        presence.told(1, 2, members(&[("b", 2, MemberState::Away), ("c", 3, MemberState::Away)]), at(1));
        assert_eq!(presence.take_left().into_iter().collect::<Vec<_>>(), ["c"]);
        presence.lost_head(1, at(2));
        assert!(presence.take_left().is_empty(), "it was away before");
    }

    #[test]
    fn the_time_without_a_head_does_not_count() {
        let mut presence = Presence::new(AFTER);
        presence.told(1, 2, members(&[("b", 2, MemberState::Here)]), at(0));
        presence.lost_head(1, at(10));
        assert_eq!(presence.standing("b", at(500)), Standing::Absent);
        presence.told(1, 2, members(&[]), at(500));
        assert_eq!(presence.standing("b", at(559)), Standing::Absent);
        assert_eq!(presence.standing("b", at(560)), Standing::Gone, "that head does not know it");
        assert_eq!(presence.standing("never seen", at(560)), Standing::Gone);
    }

    #[test]
    fn drained_and_given_up_nodes_do_not_wait() {
        let mut presence = Presence::new(AFTER);
        let list =
            members(&[("a", 1, MemberState::Draining), ("b", 2, MemberState::Gone), ("c", 3, MemberState::Away)]);
        presence.told(1, 2, list, at(0));
        assert_eq!(presence.standing("a", at(0)), Standing::Leaving);
        assert_eq!(presence.standing("b", at(0)), Standing::Gone);
        assert_eq!(presence.standing("c", at(0)), Standing::Absent);
        assert!(presence.is_draining() && presence.is_gone(2) && !presence.is_gone(3));
        presence.told(1, 2, members(&[("b", 2, MemberState::Gone), ("b", 9, MemberState::Here)]), at(1));
        assert_eq!(presence.standing("b", at(1)), Standing::Present, "another node of that name");
        assert_eq!(presence.here().collect::<Vec<_>>(), [("b", 9)]);
    }

    #[test]
    fn a_node_is_let_go_when_every_head_says_so() {
        let mut presence = Presence::new(AFTER);
        presence.told(1, 1, members(&[("a", 1, MemberState::Gone)]), at(0));
        presence.told(2, 1, members(&[("a", 1, MemberState::Here)]), at(0));
        assert!(!presence.is_gone(1), "the other head still has messages kept there");
        presence.told(2, 1, members(&[("a", 1, MemberState::Gone)]), at(1));
        assert!(presence.is_gone(1));
    }
}
