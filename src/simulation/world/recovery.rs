//! What has to be true once nothing is wrong any more: copies are made again, and everything is read back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::evidence::stored_in;
use super::hosts::{of_copies, set_copies};
use super::{MENDED_TIME_MAX, PORT, WATCH_EVERY, World, ip};
use crate::client::{self, Change, reader};
use crate::data::node_state::{self, Said};
use crate::data::segments;
use crate::data::simulated::SimDisk;
use crate::data::storage::Storage as _;
use crate::limits;
use crate::net::Net;
use crate::net::simulated::Down;
use crate::simulation::readers::Reading;
use crate::simulation::reading::{self, Expected};
use crate::simulation::shape::{Copies, Host};
use crate::simulation::verdict::{Ack, Stored};
use crate::wire::frame::SyncMode;
use crate::wire::status::StatusReport;

/// Number of the host that asks heads for their status, and of the first that reads.
const ASKER: usize = 100;

/// Time without a record that is short of copies after which there is none: two reports and what they take.
const CALM_TIME: Duration = Duration::from_secs(2 * limits::REPORT_EVERY.as_secs() + 2);

/// Time in which all copies have to be there again, beside the time for which a node may be away.
const REPAIR_TIME_MAX: Duration = Duration::from_secs(180);

impl World {
    /// Begins to read, over all heads.
    pub(super) fn read(&mut self, follow: bool, partial: bool) -> Reading {
        let number = ASKER + 1 + usize::from(follow);
        let mut heads: Vec<String> = self.heads.iter().map(|head| format!("{}:{PORT}", head.ip)).collect();
        let first = self.rng.random_range(0..heads.len().max(1));
        heads.rotate_left(first);
        let net = Net::Simulated(self.net.host(ip(Host::Writer(number))));
        let config = reader::Config { net, seed: self.rng.random(), ..heads.into() };
        Reading::begin(config, reader::Query { follow, partial, ..reader::Query::default() })
    }

    /// Steps on until the condition holds; false if it does not in that time.
    async fn wait_for(&mut self, time: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + time;
        while !done(self) {
            if Instant::now() >= end {
                return false;
            }
            self.steps_until(Instant::now() + WATCH_EVERY).await;
        }
        true
    }

    /// Asks a head while the run goes on.
    async fn ask<T>(&mut self, question: impl Future<Output = T>) -> T {
        tokio::pin!(question);
        loop {
            tokio::select! {
                biased;
                answer = &mut question => return answer,
                () = self.steps_until(Instant::now() + WATCH_EVERY) => {}
            }
        }
    }

    pub(super) fn asker(&self) -> Net {
        Net::Simulated(self.net.host(ip(Host::Writer(ASKER))))
    }

    /// Who asks for a change has the cluster's key.
    pub(super) fn change(&self, change: Change) -> Change {
        change.with_key(&super::cluster_key()).on(&self.asker(), &self.nonces)
    }

    /// Whoever runs the cluster says that the nodes whose disks were lost do not come back. All others are there by then: what
    /// is given up by its name while it is on its way back is not waited for either.
    pub(super) async fn give_up_wiped(&mut self) {
        let wiped: Vec<usize> = (0..self.nodes.len())
            .filter(|n| {
                self.renamed.contains(n) || self.nodes.get(*n).is_some_and(|node| self.wiped.contains(&node.ip))
            })
            .collect();
        if !wiped.is_empty() {
            self.all_registered().await;
        }
        for n in wiped {
            for head in 0..self.heads.len() {
                let head = format!("{}:{PORT}", ip(Host::Head(head)));
                let change = self.change(Change::drain(&format!("data{n}"), client::Leaving::Gone));
                let given_up = self.ask(async move { change.ask(&head).await }).await;
                if let Err(error) = given_up {
                    // A head that has not known the old one has nothing to give up.
                    self.note(&format!("data{n}: {error}"));
                }
            }
        }
    }

    /// Where a line rotted at the end of a file, the head says that the node lost what it acknowledged: whoever runs it does
    /// what it says, and starts it as another identity. Others have what it had, since nothing else takes copies there.
    pub(super) async fn start_rotted_anew(&mut self) {
        if !self.shape.rots() {
            return;
        }
        self.all_registered().await;
        let reports = self.statuses().await;
        let here = |n: usize| {
            let name = format!("data{n}");
            reports.iter().flatten().any(|report| report.nodes.iter().any(|node| node.name == name))
        };
        for n in (0..self.nodes.len()).filter(|n| !here(*n)) {
            self.kill(Host::Node(n), Down::Killed);
            self.start_anew(n);
            self.start(Host::Node(n));
            if let Some(node) = self.nodes.get(n) {
                // It is no disk that was lost: what it had has to be elsewhere.
                self.wiped.remove(&node.ip);
                self.left.insert(node.ip);
                self.renamed.insert(n);
            }
        }
        // And where nobody can say what a rotten line was, the node has started as another one by itself.
        let replaced = |disk: &SimDisk| match node_state::read(disk) {
            Ok(Said::State(state)) => state.identity.and_then(|identity| identity.replaces),
            _ => None,
        };
        for node in self.nodes.iter().filter(|node| !self.wiped.contains(&node.ip)) {
            if let Some(old) = replaced(&node.disk) {
                self.left.insert(node.ip);
                self.rotted.insert(old.to_string());
            }
        }
    }

    /// Whether faults were let in that may take what was acknowledged.
    pub(super) fn may_lose(&self) -> bool {
        let synced = self.shape.sync == crate::data::log::SyncPolicy::Always;
        !self.wiped.is_empty() || (!synced && self.shape.loses_power())
    }

    /// Whoever runs the cluster gives up what lost identities alone had, where something may be lost: reads would name them
    /// for ever. Otherwise nobody may be missed any more.
    async fn give_up_lost(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let may_lose = self.may_lose();
        let mut again = false;
        for (head, report) in self.statuses().await.into_iter().enumerate() {
            for away in report.map(|report| report.members_away).unwrap_or_default() {
                // What rotted and nobody else had is missed until somebody gives it up.
                if !may_lose && !self.rotted.contains(&away.id) {
                    problems
                        .push(format!("{} {} is missed by head {head}, though nothing was lost", away.name, away.id));
                    continue;
                }
                let head = format!("{}:{PORT}", ip(Host::Head(head)));
                let change = self.change(Change::drain(&away.id, client::Leaving::GoneWithItsRecords));
                let given_up = self.ask(async move { change.ask(&head).await }).await;
                again |= given_up.is_err();
                self.note(&format!("{} {} is given up with what it kept: {given_up:?}", away.name, away.id));
            }
        }
        if again {
            // The others have to note what was changed just now.
            self.steps_until(Instant::now() + 4 * WATCH_EVERY).await;
        }
        problems
    }

    /// Where M was lowered to as many as were lost, one of those may have been all that had a ledger: a person has to say that
    /// it is lost before messages are taken again.
    pub(super) async fn give_up_lowered(&mut self) -> Vec<String> {
        if self.shape.copies_at_last().is_none() || !self.may_lose() {
            return Vec::new();
        }
        let end = Instant::now() + self.shape.repair_after + MENDED_TIME_MAX;
        let none_away = |report: &Option<StatusReport>| report.as_ref().is_some_and(|r| r.members_away.is_empty());
        while !self.statuses().await.iter().all(none_away) {
            if Instant::now() >= end {
                return self.give_up_lost().await;
            }
            self.steps_until(Instant::now() + 2 * WATCH_EVERY).await;
        }
        Vec::new()
    }

    /// Waits until nobody is missed, and who is drained has left.
    async fn settled_roster(&mut self) -> Vec<String> {
        let (end, nodes) = (Instant::now() + MENDED_TIME_MAX, self.shape.nodes);
        loop {
            let problems = self.give_up_lost().await;
            let rests = |report: &Option<StatusReport>| {
                report.as_ref().is_some_and(|report| {
                    let leaves = report.nodes.iter().any(|node| node.state == "vaciando");
                    report.members_away.is_empty() && !leaves && report.nodes.len() == nodes
                })
            };
            let reports = self.statuses().await;
            if !problems.is_empty() || reports.iter().all(rests) {
                return problems;
            }
            if Instant::now() >= end {
                let told: Vec<String> = reports.iter().map(|report| told(report.as_ref())).collect();
                return vec![format!("some are missed, or do not leave: {}", told.join("; "))];
            }
            self.steps_until(Instant::now() + 2 * WATCH_EVERY).await;
        }
    }

    /// Waits until every head has every node.
    pub(super) async fn all_registered(&mut self) {
        let end = Instant::now() + MENDED_TIME_MAX;
        let nodes = self.shape.nodes;
        let has_all = |report: &Option<StatusReport>| report.as_ref().is_some_and(|report| report.nodes.len() == nodes);
        while Instant::now() < end && !self.statuses().await.iter().all(has_all) {
            self.steps_until(Instant::now() + 2 * WATCH_EVERY).await;
        }
    }

    async fn statuses(&mut self) -> Vec<Option<StatusReport>> {
        let mut reports = Vec::new();
        let net = self.asker();
        for head in 0..self.heads.len() {
            let (head, net) = (format!("{}:{PORT}", ip(Host::Head(head))), net.clone());
            reports.push(self.ask(async move { client::status_on(&net, &head).await.ok() }).await);
        }
        reports
    }

    /// A person asks for the copies that are to be kept at last, until a head has taken that in.
    pub(super) async fn settled_copies(&mut self) -> Vec<String> {
        match self.shape.copies_at_last() {
            Some(copies) => self.asked_for(copies).await,
            None => Vec::new(),
        }
    }

    /// A change of the copies is through once all is repaired: the next one is taken.
    pub(super) async fn copies_are_through(&mut self) -> Vec<String> {
        let Some(copies) = self.shape.copies_at_last() else { return Vec::new() };
        let least = if copies.least > 1 { copies.least - 1 } else { copies.replicas };
        self.asked_for(Copies { least, ..copies }).await
    }

    async fn asked_for(&mut self, copies: Copies) -> Vec<String> {
        let end = Instant::now() + MENDED_TIME_MAX;
        loop {
            let (change, head) = (self.change(of_copies(copies)), format!("{}:{PORT}", ip(Host::Head(0))));
            match self.ask(async move { set_copies(change, &head, copies).await }).await {
                Ok(()) => return Vec::new(),
                Err(error) if Instant::now() >= end => return vec![format!("{copies:?} cannot be asked for: {error}")],
                Err(_) => self.steps_until(Instant::now() + 2 * WATCH_EVERY).await,
            }
        }
    }

    /// Waits until no node says that a record is short of copies, and looks whether that is so.
    pub(super) async fn repaired(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let replicas = self.shape.copies_at_last().map_or(self.shape.replicas, |copies| copies.replicas);
        let wanted = replicas.min(self.shape.nodes);
        let synced = self.shape.sync == crate::data::log::SyncPolicy::Always;
        // With fewer nodes than copies some record is always short: the disks alone can say when all is done.
        let full = self.shape.nodes >= replicas;
        let end = Instant::now() + self.shape.repair_after + REPAIR_TIME_MAX;
        let mut calm_since = Instant::now();
        loop {
            let reports = self.statuses().await;
            let calm = reports.iter().all(|report| {
                report.as_ref().is_some_and(|report| {
                    report.nodes.len() == self.shape.nodes && (report.short_of_copies == 0 || !full)
                })
            });
            // What heads founded one soon after the other they show as one beginning.
            let foundings = self.nodes.iter().filter_map(|node| match node_state::read(&node.disk) {
                Ok(Said::State(state)) => Some(state.noted.roster.foundings().count()),
                _ => None,
            });
            self.claims.foundings = foundings.max().unwrap_or_default().max(self.claims.foundings);
            if !calm {
                calm_since = Instant::now();
            }
            let rests = calm_since.elapsed() >= CALM_TIME;
            if rests && (!synced || self.short(wanted).is_empty()) {
                break;
            }
            if Instant::now() >= end {
                let told: Vec<String> = reports.iter().map(|report| told(report.as_ref())).collect();
                if !rests {
                    problems.push(format!("repair does not come to rest: {}", told.join("; ")));
                }
                break;
            }
            self.steps_until(Instant::now() + 2 * WATCH_EVERY).await;
        }
        self.note("repair rests");
        problems.extend(self.settled_roster().await);
        self.repaired = true;
        // What lost identities left is copied once they are given up for good.
        let end = Instant::now() + MENDED_TIME_MAX;
        while synced && !self.short(wanted).is_empty() && Instant::now() < end {
            self.steps_until(Instant::now() + 2 * WATCH_EVERY).await;
        }
        let short = self.short(wanted);
        if synced && let Some((payload, nodes)) = short.first() {
            problems.push(format!(
                "short of copies after repair: {} messages, one on {nodes} nodes in place of {wanted}: {payload}",
                short.len()
            ));
        }
        problems
    }

    /// Acknowledged messages that are on fewer nodes than that, and on how many.
    fn short(&self, wanted: usize) -> Vec<(String, usize)> {
        let mut nodes: BTreeMap<Vec<u8>, BTreeSet<_>> = BTreeMap::new();
        for record in self.stored() {
            nodes.entry(record.payload).or_default().insert(record.node);
        }
        let book = self.book.borrow();
        // Of what was lost with all the disks that had acknowledged it, a line that nobody acknowledged may be left.
        let is_lost = |ack: &&Ack| !ack.nodes.is_empty() && ack.nodes.iter().all(|node| self.wiped.contains(node));
        let acked: BTreeSet<&[u8]> = book.acks.iter().filter(|ack| !is_lost(ack)).map(|ack| &*ack.payload).collect();
        let on = acked.into_iter().filter_map(|payload| nodes.get(payload).map(|on| (payload, on.len())));
        on.filter(|(_, on)| *on < wanted)
            .map(|(payload, on)| {
                let text = String::from_utf8_lossy(payload.get(..24).unwrap_or(payload));
                (format!("{text}, kept as {}", self.places_of(payload)), on)
            })
            .collect()
    }

    /// What the disks hold now, as those who read them see it.
    pub(super) fn stored(&self) -> Vec<Stored> {
        let mut stored = Vec::new();
        for node in &self.nodes {
            for name in node.disk.list().unwrap_or_default().iter().filter(|name| segments::is_data(name)) {
                stored.extend(stored_in(node.ip, &node.disk.contents(name)));
            }
        }
        stored
    }

    /// Messages that a reader has to deliver: acknowledged and on a disk, or synced by a node that did not lose its disk.
    fn kept(&self) -> BTreeSet<Vec<u8>> {
        let stored: BTreeSet<Vec<u8>> = self.stored().into_iter().map(|record| record.payload).collect();
        let book = self.book.borrow();
        let always = self.shape.sync == crate::data::log::SyncPolicy::Always;
        let kept = book.acks.iter().filter(|ack| {
            let lost = |node| self.wiped.contains(node) || (self.left.contains(node) && !self.wiped.is_empty());
            let safe = always && ack.sync == SyncMode::Always && !ack.nodes.iter().any(lost);
            safe || stored.contains(&ack.payload)
        });
        kept.map(|ack| ack.payload.clone()).collect()
    }

    /// Reads everything once, and judges.
    pub(super) async fn read_back(&mut self, partial: bool) -> Vec<String> {
        let read = self.read(false, partial);
        let ended = self.wait_for(MENDED_TIME_MAX, |_| read.is_over()).await;
        // Nodes that are on their way back when a reader that waits for none asks are missing, and named.
        let lacks = partial && read.notes.borrow().ended.as_ref().is_none_or(|missing| !missing.is_empty());
        // While nodes come back, what they lost with the power for want of a sync may be only on those that are not there.
        let synced = self.shape.sync == crate::data::log::SyncPolicy::Always;
        let kept = if lacks || !(self.repaired || synced) { BTreeSet::new() } else { self.kept() };
        let mut problems = self.judge_read("reader", &read, &kept);
        // The power garbles what was not synced: where nothing else has it, the answer lacks those lines for good.
        let partial = partial || self.shape.replicas == 1;
        match &read.notes.borrow().ended {
            _ if !ended => problems.push("reader: does not come to an end".to_owned()),
            Some(missing) if !missing.is_empty() && !partial => {
                problems.push(format!("reader: {} missing", missing.join(",")));
            }
            _ => {}
        }
        problems
    }

    /// Waits until a reader that follows has everything, and judges.
    pub(super) async fn followed(&mut self, follower: &Reading) -> Vec<String> {
        // What is lost with the power for want of a sync may be only on nodes that are not there when others have it again.
        let synced = self.shape.sync == crate::data::log::SyncPolicy::Always;
        let kept = if synced || !self.shape.loses_power() { self.kept() } else { BTreeSet::new() };
        let has_all = self
            .wait_for(MENDED_TIME_MAX, |_| {
                let notes = follower.notes.borrow();
                let has: BTreeSet<&[u8]> = notes.delivered.iter().map(|message| &*message.payload).collect();
                kept.iter().all(|payload| has.contains(&**payload))
            })
            .await;
        let mut problems = self.judge_read("follower", follower, &kept);
        if !has_all {
            problems.push("follower: does not get everything".to_owned());
        }
        problems
    }

    fn judge_read(&mut self, who: &str, read: &Reading, kept: &BTreeSet<Vec<u8>>) -> Vec<String> {
        let notes = read.notes.borrow();
        let outcome = {
            let book = self.book.borrow();
            let expected = Expected {
                sent: &book.sent,
                torn: &book.torn,
                kept,
                follows: who == "follower",
                skewed: self.shape.is_skewed(),
            };
            reading::judge(&notes.delivered, &expected)
        };
        self.note(&format!("{who}: {} messages, {} late", notes.delivered.len(), outcome.late));
        self.read += notes.delivered.len() as u64;
        self.late += outcome.late;
        let problems = outcome.problems.into_iter().chain(notes.errors.iter().cloned());
        problems.map(|problem| format!("{who}: {problem}")).collect()
    }
}

fn told(report: Option<&StatusReport>) -> String {
    let Some(report) = report else { return "no answer".to_owned() };
    let nodes: Vec<String> =
        report.nodes.iter().map(|node| format!("{} {} {}", node.name, node.state, node.records)).collect();
    let away: Vec<String> = report.members_away.iter().map(|away| format!("{} {}", away.name, away.id)).collect();
    format!("{} copies are short; {}; away: {}", report.short_of_copies, nodes.join(", "), away.join(", "))
}
