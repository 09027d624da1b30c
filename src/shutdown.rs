//! Asking a role to end: one trigger, any number of listeners. Signals are handled elsewhere.

use tokio::sync::watch;

/// Asks for the end.
#[derive(Clone, Debug)]
pub struct Trigger(watch::Sender<bool>);

impl Trigger {
    /// Asks all listeners to end; asking again changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Learns that the end was asked for.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Resolves once the end was asked for, at once if it was before. A trigger that is gone can no longer ask, so
    /// this then waits for ever. Safe to cancel.
    pub async fn stopping(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|&stop| stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }
}

/// A trigger and its listener.
#[must_use]
pub fn pair() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_reaches_every_listener_before_and_after() {
        let (trigger, shutdown) = pair();
        let waiting = shutdown.clone();
        assert!(!shutdown.is_stopping());
        let ((), ()) = tokio::join!(waiting.stopping(), async { trigger.stop() });
        shutdown.stopping().await;
        assert!(shutdown.is_stopping());
    }
}
