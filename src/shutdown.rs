//! The request to end in order, from whoever asks (a signal, a test) to every task of a role.
//!
//! It only says that the end was asked for; what is finished first is each role's own business.

use tokio::sync::watch;

/// Asks for the end. Dropping it asks for the end too: nobody is left who could.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Knows whether the end was asked for; clones share the answer.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger and what it triggers.
#[must_use]
pub fn pair() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks for the end; asking twice is asking once.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Resolves once the end was asked for. Safe to drop and call again at any time.
    pub async fn stopping(&self) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, which is the end as well.
        drop(receiver.wait_for(|stop| *stop).await);
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
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
