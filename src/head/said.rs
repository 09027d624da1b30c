//! What a head says in its logs: what peers can cause is said once and then counted, and what is wrong with the cluster is told
//! when it begins and when it is over. Nothing here changes what the head does.

use std::net::IpAddr;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::alarms::{Log, News};
use super::state::Head;
use crate::limits;

impl Head {
    /// Logs something that a peer can cause as often as it likes: the same again is counted.
    pub(crate) fn say(&self, peer: IpAddr, log: Log, line: &str) {
        if let Some(saying) = self.alarms.borrow_mut().peers.note(Some(peer), line, log, Instant::now()) {
            log.write(&saying);
        }
    }

    /// Logs what was only counted: the head ends.
    pub(crate) fn say_last(&self) {
        let alarms = &mut *self.alarms.borrow_mut();
        let last = [alarms.peers.last_words(), alarms.accesses.last_words()].concat();
        last.iter().for_each(|saying| saying.detail.write(saying));
    }
}

/// Looks at the clock and the copies until the head is dropped.
pub(crate) async fn run(head: &Head) {
    let mut ticks = interval(limits::ALARM_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        head.tick_registro();
        head.sum_visits(false);
        let (ids, able, short) = head.core(|core| (core.clock_ns(), core.able(), core.counters().short));
        let mut alarms = head.alarms.borrow_mut();
        let now = Instant::now();
        let due = [alarms.peers.due(now), alarms.accesses.due(now)].concat();
        due.iter().for_each(|saying| saying.detail.write(saying));
        let news = [
            alarms.drift.look(head.config.clock.wall_ns(), ids),
            alarms.shortfall.look(able, head.config.replicas, short),
        ];
        for news in news.into_iter().flatten() {
            match news {
                News::Begins(text) => tracing::warn!("{text}"),
                News::Over(text) => tracing::info!("{text}"),
            }
        }
    }
}
