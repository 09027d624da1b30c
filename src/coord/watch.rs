//! Watches that go on for ever: the present at the start, and then each change.
//!
//! Source: kazoo's `DataWatch` and `ChildrenWatch` (`kazoo/recipe/watchers.py`).
//!
//! Invariants:
//! - The last thing told is what is there, once no more changes are made. Changes that follow each other fast, or while no
//!   server answers, may be told as one.
//! - What did not change is not told again, also not after a new session.
//! - Dropping `next` while it waits loses nothing.

use std::fmt;
use std::pin::Pin;

use zookeeper_client::{self as zk, OneshotWatcher, Stat};

use super::error::{Error, is_passing};
use super::path::ZnodePath;
use super::session::{Pause, Session};

/// The data of a znode, and its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// When and how often it changed.
    pub stat: Stat,
}

/// A wait for the next event; kept where a dropped `next` does not lose it.
#[derive(Default)]
struct Armed(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Armed {
    fn set(&mut self, armed: OneshotWatcher) {
        self.0 = Some(Box::pin(async move {
            armed.changed().await;
        }));
    }

    async fn wait(&mut self) {
        if let Some(armed) = &mut self.0 {
            armed.await;
        }
        self.0 = None;
    }
}

impl fmt::Debug for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "armed" } else { "not armed" })
    }
}

/// Watches the data of a znode, which need not be there.
#[derive(Debug)]
pub struct DataWatch {
    session: Session,
    path: ZnodePath,
    armed: Armed,
    /// What was told: the creation and the last change of the znode, or that there was none.
    told: Option<Option<(i64, i64)>>,
}

impl DataWatch {
    /// Watches this path.
    #[must_use]
    pub fn new(session: &Session, path: ZnodePath) -> Self {
        Self { session: session.clone(), path, armed: Armed::default(), told: None }
    }

    /// What is there, at once the first time, later when it has changed; none if there is no such znode.
    ///
    /// # Errors
    /// [`super::Cause::NoPermission`]; [`Error::Closed`].
    pub async fn next(&mut self) -> Result<Option<Data>, Error> {
        let mut pause = Pause::default();
        loop {
            self.armed.wait().await;
            let found = match self.look().await {
                Ok(found) => found,
                Err(error) if is_passing(&error) => {
                    self.session.live().await?;
                    pause.wait().await;
                    continue;
                }
                Err(error) => return Err(Error::refused("watch", &self.path, &error)),
            };
            let mark = found.as_ref().map(|data| (data.stat.czxid, data.stat.mzxid));
            if self.told != Some(mark) {
                self.told = Some(mark);
                return Ok(found);
            }
        }
    }

    /// What is there now, and a watch for what comes.
    async fn look(&mut self) -> Result<Option<Data>, zk::Error> {
        loop {
            let Ok(live) = self.session.live().await else { return Err(zk::Error::ClientClosed) };
            match live.client.get_and_watch_data(self.path.as_str()).await {
                Ok((bytes, stat, armed)) => {
                    self.armed.set(armed);
                    return Ok(Some(Data { bytes, stat }));
                }
                Err(zk::Error::NoNode) => {}
                Err(error) => return Err(error),
            }
            // It may have come in between.
            if let (None, armed) = live.client.check_and_watch_stat(self.path.as_str()).await? {
                self.armed.set(armed);
                return Ok(None);
            }
        }
    }
}

/// Watches who the children of a znode are.
#[derive(Debug)]
pub struct ChildrenWatch {
    session: Session,
    path: ZnodePath,
    armed: Armed,
    told: Option<Vec<String>>,
}

impl ChildrenWatch {
    /// Watches this path.
    #[must_use]
    pub fn new(session: &Session, path: ZnodePath) -> Self {
        Self { session: session.clone(), path, armed: Armed::default(), told: None }
    }

    /// The names of the children, sorted: at once the first time, later when they have changed. None if there is no such
    /// znode; kazoo's watch ends then, and so should its user.
    ///
    /// # Errors
    /// [`super::Cause::NoPermission`]; [`Error::Closed`].
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, Error> {
        let mut pause = Pause::default();
        loop {
            self.armed.wait().await;
            let live = self.session.live().await?;
            match live.client.list_and_watch_children(self.path.as_str()).await {
                Ok((mut children, armed)) => {
                    self.armed.set(armed);
                    children.sort_unstable();
                    if self.told.as_ref() != Some(&children) {
                        self.told = Some(children.clone());
                        return Ok(Some(children));
                    }
                }
                Err(zk::Error::NoNode) => return Ok(None),
                Err(error) if is_passing(&error) => pause.wait().await,
                Err(error) => return Err(Error::refused("watch", &self.path, &error)),
            }
        }
    }
}
