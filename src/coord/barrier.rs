//! A barrier: up while its znode exists; who waits goes on when it is gone.
//!
//! Source: kazoo's `Barrier` (`kazoo/recipe/barrier.py`).
//!
//! Invariant: [`Barrier::wait`] returns only if the barrier was down at some moment after it was called. Of one that was
//! removed and raised again in between it learns, too, unless no server answered meanwhile; then the next time counts.

use zookeeper_client as zk;

use super::error::{Error, is_passing};
use super::path::ZnodePath;
use super::session::{Pause, Session};

/// A barrier.
#[derive(Clone, Debug)]
pub struct Barrier {
    session: Session,
    path: ZnodePath,
}

impl Barrier {
    /// The barrier at this path.
    #[must_use]
    pub fn new(session: &Session, path: ZnodePath) -> Self {
        Self { session: session.clone(), path }
    }

    /// Raises it, unless it is up.
    ///
    /// # Errors
    /// What ZooKeeper refuses.
    pub async fn create(&self) -> Result<(), Error> {
        self.session.ensure(&self.path).await
    }

    /// Lets all go on; false if it was not up.
    ///
    /// # Errors
    /// What ZooKeeper refuses.
    pub async fn remove(&self) -> Result<bool, Error> {
        self.session.delete(&self.path, None).await
    }

    /// Waits until it is down.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn wait(&self) -> Result<(), Error> {
        let mut pause = Pause::default();
        loop {
            let live = self.session.live().await?;
            let armed = match live.client.check_and_watch_stat(self.path.as_str()).await {
                Ok((None, _)) => return Ok(()),
                Ok((Some(_), armed)) => armed,
                Err(error) if is_passing(&error) => {
                    pause.wait().await;
                    continue;
                }
                Err(error) => return Err(Error::refused("watch", &self.path, &error)),
            };
            drop(live);
            if armed.changed().await.event_type == zk::EventType::NodeDeleted {
                return Ok(());
            }
        }
    }
}
