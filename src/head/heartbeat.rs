//! The heartbeat: every few seconds each node is asked whether it lives, and the silent are evicted.
//!
//! A node in frames is judged by its in-protocol ping: a process can be dead on a live host, and ICMP can be filtered
//! on a live network, so ICMP is reported and does not decide. A node that speaks text has no ping: ICMP decides.
//! [`verdict`] is the whole rule; this sends probes and writes `heartbeat.log`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::faults::Fault;
use super::pulse::{Signs, verdict};
use super::registered::NodeEntry;
use super::state::Head;
use crate::limits;
use crate::wire::text::NO_HAY_DATANODES;
use tokio_util::sync::CancellationToken;

/// Target of the routine lines: `heartbeat.log` gets them, a screen only when asked.
const BEAT: &str = "acopio::heartbeat::beat";

/// Beats until the head stops.
pub(crate) async fn run(head: Rc<Head>, shutdown: CancellationToken) {
    let every = head.config.heartbeat;
    let mut icmp = Icmp::new(head.config.icmp);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beat = 0_u64;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        beat += 1;
        evict_silent(&head);
        for node in head.nodes() {
            if head.ping(&node, beat) {
                let mut pulse = node.pulse.borrow_mut();
                pulse.sent = beat;
                pulse.sent_at = Some(Instant::now());
            }
        }
        let patience = limits::ICMP_TIME_MAX.min(every / 2);
        let hosts = icmp.ask(&head.nodes(), beat, patience).await;
        wait_for_pongs(&head, beat, Instant::now() + patience).await;
        report(&head, beat, &hosts);
        // Later it is said when the last one goes.
        if beat == 1 && head.nodes().is_empty() {
            tracing::info!(target: "acopio::heartbeat", "{NO_HAY_DATANODES}");
        }
    }
}

/// Looks at the nodes more often than the heartbeat does, until the head is dropped: the window of one that settles
/// nothing halves, and one that has settled nothing at all is let go before it holds up what others would have kept.
pub(crate) async fn look(head: Rc<Head>) {
    let mut ticks = interval(limits::NODE_LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        head.core_mut(super::core::Core::look);
        for node in head.nodes() {
            let time = head.core(|core| core.trial_time(node.key)).filter(|_| node.id.is_some());
            if time.is_some_and(|time| head.stalled(&node) > time) {
                head.remove(&node, Fault::Stalls, "it has acknowledged nothing since it registered; look at its disk");
            }
        }
    }
}

/// Evicts the nodes that gave no sign of life since the last beat, or that hang.
fn evict_silent(head: &Head) {
    for node in head.nodes() {
        let pulse = node.pulse.borrow().clone();
        let signs = match pulse.sent_at {
            Some(sent_at) => Signs::InProtocol {
                heard: pulse.answered >= pulse.sent || pulse.heard_at.is_some_and(|at| at > sent_at),
                icmp_silent: pulse.icmp == Some(false),
            },
            None => Signs::HostOnly { icmp_misses: pulse.icmp_misses },
        };
        if let Some((fault, cause)) = verdict(signs, head.stalled(&node)) {
            head.remove(&node, fault, cause);
        }
    }
}

/// Waits until every ping of this beat is answered, or its node is gone, or the time is over.
async fn wait_for_pongs(head: &Head, beat: u64, deadline: Instant) {
    loop {
        let changed = head.changed.notified();
        let missing = head.nodes().iter().any(|node| {
            let pulse = node.pulse.borrow();
            pulse.sent == beat && pulse.answered < beat
        });
        if !missing {
            return;
        }
        tokio::select! {
            biased;
            () = sleep_until(deadline) => return,
            () = changed => {}
        }
    }
}

/// A line for each node of which there is something to say.
fn report(head: &Head, beat: u64, hosts: &HashMap<IpAddr, bool>) {
    for node in head.nodes() {
        let mut pulse = node.pulse.borrow_mut();
        let icmp = hosts.get(&node.ip).copied();
        pulse.icmp = icmp;
        pulse.icmp_misses = if icmp == Some(false) { pulse.icmp_misses.saturating_add(1) } else { 0 };
        let word = match icmp {
            None => "off",
            Some(true) => "ok",
            Some(false) => "silent",
        };
        let (ip, name, is_text) = (node.ip, &node.name, pulse.sent == 0);
        let answers = if is_text { icmp != Some(false) } else { pulse.answered >= beat };
        if answers {
            let took = pulse.took.unwrap_or_default();
            let Some(beats) = pulse.steady.answered(Instant::now(), word, took) else { continue };
            let ms = beats.longest.as_secs_f64() * 1000.0;
            let ping = if is_text { String::new() } else { format!(" ping={ms:.1}ms") };
            let many = if beats.count == 1 { String::new() } else { format!(" veces={}", beats.count) };
            tracing::info!(target: BEAT, "{ip} disponible name={name}{ping} icmp={word}{many}");
        } else if is_text || pulse.sent == beat {
            pulse.steady.silent();
            tracing::info!(target: BEAT, "{ip} sin respuesta name={name} icmp={word}; evicted if it stays so");
        }
    }
}

/// Notes that a node answered a ping.
pub(crate) fn pong(head: &Head, node: &NodeEntry, n: u64) {
    let mut pulse = node.pulse.borrow_mut();
    if n <= pulse.sent && n > pulse.answered {
        pulse.answered = n;
        pulse.took = pulse.sent_at.map(|at| at.elapsed());
        head.changed.notify_waiters();
    }
}

/// ICMP echoes, where the system permits them.
struct Icmp {
    v4: Option<Client>,
    v6: Option<Client>,
}

impl Icmp {
    /// Opens the sockets; says once if that is not permitted, and goes on without.
    fn new(wanted: bool) -> Self {
        if !wanted {
            return Self { v4: None, v6: None };
        }
        let v4 = Client::new(&Config::default());
        if let Err(error) = &v4 {
            tracing::warn!(
                "ICMP is not permitted here ({}): nodes are judged by their own ping alone; allow it with net.ipv4.ping_group_range or CAP_NET_RAW",
                error.kind()
            );
        }
        Self { v4: v4.ok(), v6: Client::new(&Config::builder().kind(ICMP::V6).build()).ok() }
    }

    /// Asks every host once, all at the same time. Hosts that can't be asked are not in the answer.
    async fn ask(&mut self, nodes: &[Rc<NodeEntry>], beat: u64, patience: Duration) -> HashMap<IpAddr, bool> {
        let mut asked = HashMap::new();
        let mut answers = tokio::task::JoinSet::new();
        for (place, node) in nodes.iter().enumerate() {
            let client = if node.ip.is_ipv4() { &self.v4 } else { &self.v6 };
            let Some(client) = client.clone() else { continue };
            if asked.insert(node.ip, false).is_some() {
                continue;
            }
            let (ip, sequence) = (node.ip, PingSequence(beat as u16));
            let identifier = PingIdentifier(place as u16 ^ std::process::id() as u16);
            answers.spawn_local(async move {
                let mut pinger = client.pinger(ip, identifier).await;
                pinger.timeout(patience);
                let alive = match pinger.ping(sequence, b"acopio heartbeat").await {
                    Ok(_) => Some(true),
                    Err(SurgeError::Timeout { .. }) => Some(false),
                    // It was not sent, which says nothing of the host.
                    Err(_) => None,
                };
                (ip, alive)
            });
        }
        let all = async {
            while let Some(answer) = answers.join_next().await {
                match answer {
                    Ok((ip, Some(alive))) => asked.insert(ip, alive),
                    Ok((ip, None)) => asked.remove(&ip),
                    Err(_) => None,
                };
            }
        };
        if timeout(patience * 2, all).await.is_err() {
            tracing::debug!("some ICMP echoes took longer than {patience:?}");
        }
        asked
    }
}
