//! Who of a pair publishes: the decisions of the Binary Star pattern (ZeroMQ guide, chapter 4). Pure: no socket, and the
//! time is handed in.
//!
//! One of two brokers is active; only an active one sends heartbeats. The other takes over after a time of silence. What
//! the original lacks is the way back: a broker looks for an active peer before it becomes active, and the backup gives way
//! where both are. A peer that never sent a heartbeat, as the original's backup, counts as active while its port for
//! subscribers accepts.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// What a broker is in its pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that is active unless it was away.
    Primary,
    /// The one that takes over.
    Backup,
}

/// What a broker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has just started, or stood still, and finds out whether its peer is active.
    Listening,
    /// Its peer is active, or it is the backup.
    StandingBy,
    /// It forwards messages and sends heartbeats.
    Active,
}

/// What the port for subscribers of the peer said to an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It accepts.
    Accepts,
    /// Its host answers, and nobody listens there.
    Refused,
    /// Nothing came back.
    Silent,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    Stay,
    /// Begin to forward.
    TakeOver,
    /// Stop forwarding, or say that the peer is active.
    StandBy(Why),
}

/// Why a broker stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its peer was active when it started.
    PeerIsActive,
    /// It is the backup, and the primary is active as well.
    PrimaryIsActive,
    /// It is the primary, and its peer stays active: one that cannot hear it, or cannot give way.
    PeerStays,
    /// It stood still for so long that its peer may have taken over.
    StoodStill,
    /// Another is elected, or it is not certain who is.
    NotElected,
}

/// The broker's side of the pair.
#[derive(Debug)]
pub(crate) struct Star {
    role: Role,
    has_peer: bool,
    dead_after: Duration,
    state: State,
    /// Since when it has been in its state.
    since: Instant,
    /// The last sign that the peer is active.
    active_at: Option<Instant>,
    /// A heartbeat was heard, and the peer's port for subscribers has not been found closed since.
    heard: bool,
    /// Since when both are active.
    both_since: Option<Instant>,
    ticked_at: Instant,
}

impl Star {
    /// A broker that starts now.
    #[must_use]
    pub(crate) const fn new(role: Role, has_peer: bool, dead_after: Duration, now: Instant) -> Self {
        let state = match role {
            Role::Primary => State::Listening,
            Role::Backup => State::StandingBy,
        };
        Self {
            role,
            has_peer,
            dead_after,
            state,
            since: now,
            active_at: None,
            heard: false,
            both_since: None,
            ticked_at: now,
        }
    }

    /// What it does.
    #[must_use]
    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// Until when it may forward without another [`tick`](Self::tick): a process that stood still for longer was taken for
    /// dead meanwhile. None for one that is not active; there is no end to it where there is no peer.
    #[must_use]
    pub(crate) fn lease(&self) -> Option<Instant> {
        let time = if self.has_peer { self.dead_after } else { limits::DURATION_FLAG_MAX };
        (self.state == State::Active).then(|| self.ticked_at + time)
    }

    /// Whether the peer's port for subscribers is to be tried: where heartbeats tell, it is left alone.
    #[must_use]
    pub(crate) fn wants_probe(&self, now: Instant) -> bool {
        let told = self.heard && !self.is_silent(now, self.dead_after / 2);
        self.has_peer && !told && (self.state != State::Active || self.role == Role::Primary)
    }

    /// Whether it is heartbeats that tell whether the peer is active.
    #[must_use]
    pub(crate) const fn hears(&self) -> bool {
        self.heard
    }

    /// A heartbeat of the peer came.
    pub(crate) fn heard(&mut self, now: Instant) -> Turn {
        self.heard = true;
        self.peer_is_active(now)
    }

    /// The peer's port for subscribers was tried.
    pub(crate) fn probed(&mut self, probe: Probe, now: Instant) -> Turn {
        match probe {
            // One that sends heartbeats is judged by them: a process that is stopped still accepts.
            Probe::Accepts if !self.heard => self.peer_is_active(now),
            Probe::Accepts | Probe::Silent => Turn::Stay,
            Probe::Refused => {
                self.heard = false;
                let alone = self.state == State::Listening && self.role == Role::Primary;
                if alone { self.become_active(now) } else { Turn::Stay }
            }
        }
    }

    /// Time has passed. To be called at every heartbeat, of an active broker before it sends one.
    pub(crate) fn tick(&mut self, now: Instant) -> Turn {
        let stood_still = self.has_peer && now.saturating_duration_since(self.ticked_at) >= self.dead_after;
        self.ticked_at = now;
        if stood_still {
            // The peer may have taken over, and what it did meanwhile was not heard.
            let was = self.state;
            (self.since, self.active_at, self.both_since) = (now, None, None);
            self.state = State::Listening;
            return if was == State::Active { Turn::StandBy(Why::StoodStill) } else { Turn::Stay };
        }
        match self.state {
            State::Active => self.judge_both(now),
            _ if !self.has_peer => self.become_active(now),
            _ if now.saturating_duration_since(self.since) < self.dead_after => Turn::Stay,
            _ if self.is_silent(now, self.dead_after) => self.become_active(now),
            _ => Turn::Stay,
        }
    }

    /// Time has passed, and an election says whether this one is active; what is heard of the peer counts for nothing then.
    pub(crate) fn appointed(&mut self, elected: bool, now: Instant) -> Turn {
        self.ticked_at = now;
        match (self.state, elected) {
            (State::Active, true) | (State::StandingBy, false) => Turn::Stay,
            (State::Listening | State::StandingBy, true) => self.become_active(now),
            (State::Listening | State::Active, false) => self.stand_by(Why::NotElected, now),
        }
    }

    fn peer_is_active(&mut self, now: Instant) -> Turn {
        self.active_at = Some(now);
        match (self.state, self.role) {
            (State::StandingBy, _) => Turn::Stay,
            (State::Listening, _) => self.stand_by(Why::PeerIsActive, now),
            (State::Active, Role::Backup) => self.stand_by(Why::PrimaryIsActive, now),
            (State::Active, Role::Primary) => {
                self.both_since.get_or_insert(now);
                Turn::Stay
            }
        }
    }

    /// A primary whose peer goes on publishing gives way after a while: the backup does at the first heartbeat it hears, so
    /// this one hears none, or is not ours.
    fn judge_both(&mut self, now: Instant) -> Turn {
        if self.is_silent(now, self.dead_after) {
            self.both_since = None;
        }
        match self.both_since {
            Some(since) if now.saturating_duration_since(since) >= 2 * self.dead_after => {
                self.stand_by(Why::PeerStays, now)
            }
            _ => Turn::Stay,
        }
    }

    fn is_silent(&self, now: Instant, time: Duration) -> bool {
        self.active_at.is_none_or(|at| now.saturating_duration_since(at) >= time)
    }

    fn become_active(&mut self, now: Instant) -> Turn {
        (self.state, self.since, self.both_since) = (State::Active, now, None);
        Turn::TakeOver
    }

    fn stand_by(&mut self, why: Why, now: Instant) -> Turn {
        (self.state, self.since, self.both_since) = (State::StandingBy, now, None);
        Turn::StandBy(why)
    }
}

#[cfg(test)]
#[path = "star_tests.rs"]
mod tests;
