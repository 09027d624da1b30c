//! The request to end in order, from whoever asks (a signal, a test) to every task of a role.
//!
//! It only says that the end was asked for; what is finished first is each role's own business.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Not a watch channel: that wakes who waits in a random order, which no simulation could replay.
#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    told: Notify,
}

/// Asks for the end. Dropping it asks for the end too: nobody is left who could.
#[derive(Debug)]
pub struct Trigger(Arc<State>);

/// Knows whether the end was asked for; clones share the answer.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<State>);

/// A trigger and what it triggers.
#[must_use]
pub fn pair() -> (Trigger, Shutdown) {
    let state = Arc::new(State::default());
    (Trigger(Arc::clone(&state)), Shutdown(state))
}

impl Trigger {
    /// Asks for the end; asking twice is asking once.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::SeqCst);
        self.0.told.notify_waiters();
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shutdown {
    /// Resolves once the end was asked for. Safe to drop and call again at any time.
    pub async fn stopping(&self) {
        // Before the look: what is told in between is not missed.
        let told = self.0.told.notified();
        if !self.is_stopping() {
            told.await;
        }
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stop.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_learns_of_the_end() {
        let (trigger, shutdown) = pair();
        let clone = shutdown.clone();
        assert!(!clone.is_stopping());
        trigger.stop();
        clone.stopping().await;
        shutdown.stopping().await;
        assert!(shutdown.is_stopping());
    }

    #[tokio::test]
    async fn a_lost_trigger_is_the_end() {
        let (trigger, shutdown) = pair();
        drop(trigger);
        shutdown.stopping().await;
        assert!(shutdown.is_stopping());
    }
}
