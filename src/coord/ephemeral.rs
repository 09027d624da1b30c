//! One ephemeral znode that belongs to this process, such as a device's last value or a head's address.
//!
//! Source: what the seeds' devices do with `/mediciones/<id>`, without kazoo's trap: a znode left by an earlier session of
//! the same process looks alive and vanishes later.
//!
//! Invariants:
//! - The znode counts as ours only if the present session owns it. One of an earlier session of this process is deleted
//!   and made anew at once.
//! - One of a stranger is never touched: whoever claims it waits for it to go, for as long as it likes, and is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use zookeeper_client as zk;

use super::error::{Error, is_passing};
use super::path::ZnodePath;
use super::session::{Generation, Live, Pause, Session};
use super::znodes::{Kind, fits};

/// One ephemeral znode of this process. Dropped, it is deleted in the background.
#[derive(Debug)]
pub struct Ephemeral {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    path: ZnodePath,
    present: Mutex<Present>,
}

/// What the znode should be.
#[derive(Debug)]
struct Present {
    data: Vec<u8>,
    /// In which generation it was made, or tried, the last time.
    made: Option<Generation>,
}

/// How a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Into the znode that was there.
    Set,
    /// The znode was gone, and was made again with the value.
    Recreated,
}

/// What to do about a znode that is there, or is not.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Ours,
    /// Ours, of a session that is over.
    Replace,
    Taken,
}

/// The decision: `owner` is the znode's, `mine` the present session, `was_ours` knows the earlier ones.
fn decide(owner: i64, mine: i64, was_ours: impl Fn(i64) -> bool) -> Claim {
    if owner == mine {
        Claim::Ours
    } else if was_ours(owner) {
        Claim::Replace
    } else {
        Claim::Taken
    }
}

impl Ephemeral {
    /// Makes the znode, and those above it. If another session has it, waits up to `patience` for it to go: a process that
    /// was killed leaves it for the time of its session's timeout.
    ///
    /// # Errors
    /// [`Error::Taken`] if it does not go; what ZooKeeper refuses.
    pub async fn claim(session: &Session, path: ZnodePath, data: &[u8], patience: Duration) -> Result<Self, Error> {
        let present = Mutex::new(Present { data: data.to_vec(), made: None });
        let it = Self { inner: Arc::new(Inner { session: session.clone(), path, present }) };
        let claimed = async {
            loop {
                match it.inner.make(data).await {
                    Err(Error::Taken { .. }) => it.inner.wait_for_change().await?,
                    result => return result,
                }
            }
        };
        match timeout(patience, claimed).await {
            Ok(result) => result?,
            // A last look, which also tells the owner.
            Err(_) => it.inner.make(data).await?,
        }
        Ok(it)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &ZnodePath {
        &self.inner.path
    }

    /// Writes the value, and makes the znode again if it is gone.
    ///
    /// # Errors
    /// [`Error::Taken`] if another session has it by now; what ZooKeeper refuses.
    pub async fn set(&self, data: &[u8]) -> Result<Written, Error> {
        fits(&self.inner.path, data)?;
        data.clone_into(&mut self.inner.present().data);
        let mut pause = Pause::default();
        loop {
            let live = self.inner.session.live().await?;
            if self.inner.present().made != Some(live.generation) {
                break;
            }
            // Whose it is comes first, and the version sees that it is still that one: a stranger's is not written to.
            let version = match live.client.check_stat(self.inner.path.as_str()).await {
                Ok(Some(stat)) if stat.ephemeral_owner == live.session_id() => stat.version,
                Ok(_) => break,
                Err(error) if is_passing(&error) => {
                    pause.wait().await;
                    continue;
                }
                Err(error) => return Err(Error::refused("see", &self.inner.path, &error)),
            };
            match live.client.set_data(self.inner.path.as_str(), data, Some(version)).await {
                Ok(_) => return Ok(Written::Set),
                Err(zk::Error::NoNode) => break,
                Err(zk::Error::BadVersion) => {}
                Err(error) if is_passing(&error) => pause.wait().await,
                Err(error) => return Err(Error::refused("write", &self.inner.path, &error)),
            }
        }
        self.inner.make(data).await.map(|()| Written::Recreated)
    }

    /// Keeps the znode there: makes it again, with the last value, whenever it is gone or the session is a new one. Ends
    /// only with an error.
    ///
    /// # Errors
    /// [`Error::Taken`] if another session has it by now; what ZooKeeper refuses; [`Error::Closed`].
    pub async fn keep(&self) -> Error {
        loop {
            if let Err(error) = self.kept_once().await {
                return error;
            }
        }
    }

    async fn kept_once(&self) -> Result<(), Error> {
        let made = self.inner.present().made;
        if let Some(generation) = made {
            self.inner.session.gone(&self.inner.path, generation).await?;
        }
        let data = self.inner.present().data.clone();
        self.inner.make(&data).await
    }

    /// Deletes it.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`], and then it is gone as well.
    pub async fn remove(self) -> Result<(), Error> {
        let Inner { session, path, .. } = &*self.inner;
        if session.stat(path).await?.is_some_and(|stat| Some(stat.ephemeral_owner) == session.id()) {
            session.delete(path, None).await?;
        }
        self.inner.present().made = None;
        Ok(())
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        if self.inner.present().made.is_some() {
            self.inner.session.forget_own(self.inner.path.clone());
        }
    }
}

impl Inner {
    fn present(&self) -> std::sync::MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the znode until it is there and ours, or is known to be another's.
    async fn make(&self, data: &[u8]) -> Result<(), Error> {
        fits(&self.path, data)?;
        let mut pause = Pause::default();
        loop {
            let live = self.session.live().await?;
            // Before it is known to be so: dropped in the middle, what was made is deleted.
            self.present().made = Some(live.generation);
            match live.client.create(self.path.as_str(), data, &Kind::Ephemeral.options()).await {
                Ok(_) => return Ok(()),
                Err(zk::Error::NodeExists) => {
                    if self.is_ours_already(&live).await? {
                        // A znode whose creation was cut off has the value of then.
                        return self.session.set(&self.path, data, None).await.map(|_| ());
                    }
                }
                Err(zk::Error::NoNode) => match self.path.parent() {
                    Some(parent) => self.session.ensure(&parent).await?,
                    None => return Err(Error::refused("create", &self.path, &zk::Error::NoNode)),
                },
                Err(error) if is_passing(&error) => pause.wait().await,
                Err(error) => return Err(Error::refused("create", &self.path, &error)),
            }
        }
    }

    /// Whether the znode that is there is this session's; an earlier session's is deleted.
    async fn is_ours_already(&self, live: &Live) -> Result<bool, Error> {
        let Some(stat) = self.session.stat(&self.path).await? else { return Ok(false) };
        match decide(stat.ephemeral_owner, live.session_id(), |owner| self.session.was_ours(owner)) {
            Claim::Ours => Ok(true),
            Claim::Replace => self.session.delete(&self.path, Some(stat.version)).await.map(|_| false),
            Claim::Taken => {
                self.present().made = None;
                Err(Error::Taken { path: self.path.clone(), owner: stat.ephemeral_owner })
            }
        }
    }

    async fn wait_for_change(&self) -> Result<(), Error> {
        let live = self.session.live().await?;
        match live.client.check_and_watch_stat(self.path.as_str()).await {
            Ok((Some(_), armed)) => {
                drop(live);
                armed.changed().await;
                Ok(())
            }
            Ok((None, _)) => Ok(()),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(Error::refused("watch", &self.path, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_dead_sessions_are_replaced() {
        let was_ours = |owner| owner == 7;
        assert_eq!(decide(9, 9, was_ours), Claim::Ours);
        assert_eq!(decide(7, 9, was_ours), Claim::Replace);
        assert_eq!(decide(8, 9, was_ours), Claim::Taken);
        assert_eq!(decide(0, 9, was_ours), Claim::Taken);
    }
}
