//! The heartbeat: every few seconds each node is asked whether it lives, and the silent are evicted.
//!
//! A node in frames is judged by its in-protocol ping: a process can be dead on a live host, and ICMP can be filtered
//! on a live network, so ICMP is reported and does not decide. A node that speaks text has no ping: ICMP decides.
//! [`verdict`] is the whole rule, and pure; the rest sends probes and writes `heartbeat.log`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::state::{Head, NodeEntry};
use crate::limits;
use crate::shutdown::Shutdown;

/// Target of the routine lines: `heartbeat.log` gets them, a screen only when asked.
const BEAT: &str = "acopio::heartbeat::beat";

/// What the heartbeat knows of one node.
#[derive(Clone, Default, Debug)]
pub struct Pulse {
    /// The ping that was sent last and when; 0 before the first.
    pub sent: u64,
    /// When it was sent.
    pub sent_at: Option<Instant>,
    /// The last ping that was answered.
    pub answered: u64,
    /// How long that answer took.
    pub took: Option<Duration>,
    /// Whether the host answered the last ICMP echo; none where ICMP is off.
    pub icmp: Option<bool>,
}

/// What a node is asked with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// It answers pings inside the protocol.
    InProtocol {
        /// The ping of the heartbeat before was answered, or none was sent.
        answered: bool,
    },
    /// It speaks text: only its host can be asked.
    HostOnly,
}

/// Whether a node stays, at the beginning of a heartbeat: `None`, or the cause of its eviction.
#[must_use]
pub const fn verdict(probe: Probe, icmp: Option<bool>) -> Option<&'static str> {
    match (probe, icmp) {
        (Probe::InProtocol { answered: true }, _) | (Probe::HostOnly, Some(true) | None) => None,
        (Probe::InProtocol { answered: false }, Some(false)) => Some("no answer to the ping nor to ICMP"),
        (Probe::InProtocol { answered: false }, _) => Some("no answer to the ping"),
        (Probe::HostOnly, Some(false)) => Some("no answer to ICMP"),
    }
}

/// Beats until the head stops.
pub async fn run(head: Rc<Head>, shutdown: Shutdown) {
    let every = head.config.heartbeat;
    let mut icmp = Icmp::new(head.config.icmp);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beat = 0_u64;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.stopping() => return,
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
        head.say_if_none();
    }
}

/// Evicts the nodes in frames that did not answer the ping of the last beat.
fn evict_silent(head: &Head) {
    for node in head.nodes() {
        let pulse = node.pulse.borrow().clone();
        if pulse.sent == 0 {
            continue;
        }
        let probe = Probe::InProtocol { answered: pulse.answered >= pulse.sent };
        if let Some(cause) = verdict(probe, pulse.icmp) {
            head.remove(&node, cause, None);
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
            () = changed => {}
            () = sleep_until(deadline) => return,
        }
    }
}

/// A line for each node that is there; those that speak text are evicted here if their host is silent.
fn report(head: &Head, beat: u64, hosts: &HashMap<IpAddr, bool>) {
    for node in head.nodes() {
        let icmp = hosts.get(&node.ip).copied();
        let pulse = {
            let mut pulse = node.pulse.borrow_mut();
            pulse.icmp = icmp;
            pulse.clone()
        };
        let icmp_word = match icmp {
            None => "off",
            Some(true) => "ok",
            Some(false) => "silent",
        };
        if pulse.sent == 0 {
            match verdict(Probe::HostOnly, icmp) {
                Some(cause) => head.remove(&node, cause, None),
                None => {
                    tracing::info!(target: BEAT, "{} disponible name={} icmp={icmp_word}", node.ip, node.name);
                }
            }
        } else if pulse.answered >= beat {
            let ms = pulse.took.unwrap_or_default().as_secs_f64() * 1000.0;
            tracing::info!(target: BEAT, "{} disponible name={} ping={ms:.1}ms icmp={icmp_word}", node.ip, node.name);
        } else if pulse.sent == beat {
            tracing::info!(target: BEAT, "{} sin respuesta name={} icmp={icmp_word}; evicted at the next heartbeat", node.ip, node.name);
        }
    }
}

/// Notes that a node answered a ping.
pub fn pong(head: &Head, node: &NodeEntry, n: u64) {
    let mut pulse = node.pulse.borrow_mut();
    if n <= pulse.sent && n > pulse.answered {
        pulse.answered = n;
        pulse.took = pulse.sent_at.map(|at| at.elapsed());
    }
    drop(pulse);
    head.changed.notify_waiters();
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
                (ip, pinger.ping(sequence, b"acopio heartbeat").await.is_ok())
            });
        }
        let all = async {
            while let Some(answer) = answers.join_next().await {
                if let Ok((ip, alive)) = answer {
                    asked.insert(ip, alive);
                }
            }
        };
        if timeout(patience * 2, all).await.is_err() {
            tracing::debug!("some ICMP echoes took longer than {patience:?}");
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ping_decides_for_frames_and_icmp_for_text() {
        for icmp in [None, Some(true), Some(false)] {
            assert_eq!(verdict(Probe::InProtocol { answered: true }, icmp), None, "filtered ICMP evicts nobody");
            assert!(verdict(Probe::InProtocol { answered: false }, icmp).is_some(), "a paused process on a live host");
        }
        assert_eq!(verdict(Probe::HostOnly, Some(true)), None);
        assert_eq!(verdict(Probe::HostOnly, None), None, "without ICMP only its connection tells");
        assert!(verdict(Probe::HostOnly, Some(false)).is_some());
    }
}
