//! What can be done with single znodes, each until it is done or refused.

use zookeeper_client::{self as zk, Acls, CreateMode, CreateOptions, Stat};

use super::error::{Cause, Error, is_passing};
use super::path::ZnodePath;
use super::session::{Generation, Live, Pause, Session};
use crate::limits;

/// What lives how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Until somebody deletes it.
    Persistent,
    /// As long as the session.
    Ephemeral,
    /// Until somebody deletes it; ZooKeeper adds a number that grows to its name.
    PersistentSequential,
    /// As long as the session; ZooKeeper adds a number that grows to its name.
    EphemeralSequential,
}

impl Kind {
    pub(super) const fn options(self) -> CreateOptions<'static> {
        match self {
            Self::Persistent => CreateMode::Persistent,
            Self::Ephemeral => CreateMode::Ephemeral,
            Self::PersistentSequential => CreateMode::PersistentSequential,
            Self::EphemeralSequential => CreateMode::EphemeralSequential,
        }
        .with_acls(Acls::anyone_all())
    }

    const fn is_sequential(self) -> bool {
        matches!(self, Self::PersistentSequential | Self::EphemeralSequential)
    }
}

impl Session {
    /// The data of a znode, and its numbers.
    ///
    /// # Errors
    /// [`Cause::NoNode`], [`Cause::NoPermission`].
    pub async fn get(&self, path: &ZnodePath) -> Result<(Vec<u8>, Stat), Error> {
        let mut pause = Pause::default();
        loop {
            match self.live().await?.client.get_data(path.as_str()).await {
                Err(error) if is_passing(&error) => pause.wait().await,
                result => return result.map_err(|error| Error::refused("read", path, &error)),
            }
        }
    }

    /// The numbers of a znode; none if there is no such znode.
    ///
    /// # Errors
    /// What ZooKeeper refuses.
    pub async fn stat(&self, path: &ZnodePath) -> Result<Option<Stat>, Error> {
        let mut pause = Pause::default();
        loop {
            match self.live().await?.client.check_stat(path.as_str()).await {
                Err(error) if is_passing(&error) => pause.wait().await,
                result => return result.map_err(|error| Error::refused("see", path, &error)),
            }
        }
    }

    /// The names of a znode's children, sorted.
    ///
    /// # Errors
    /// [`Cause::NoNode`], [`Cause::NoPermission`].
    pub async fn children(&self, path: &ZnodePath) -> Result<Vec<String>, Error> {
        let mut pause = Pause::default();
        loop {
            match self.live().await?.client.list_children(path.as_str()).await {
                Err(error) if is_passing(&error) => pause.wait().await,
                Ok(mut children) => {
                    children.sort_unstable();
                    return Ok(children);
                }
                Err(error) => return Err(Error::refused("list", path, &error)),
            }
        }
    }

    /// Writes the data of a znode that is there; with `version`, only if it still has that one.
    ///
    /// # Errors
    /// [`Cause::NoNode`], [`Cause::BadVersion`], [`Cause::NoPermission`], [`Cause::TooLarge`]; [`Error::Uncertain`] if the
    /// connection was lost in the middle of a write with a version.
    pub async fn set(&self, path: &ZnodePath, data: &[u8], version: Option<i32>) -> Result<Stat, Error> {
        fits(path, data)?;
        let (mut pause, mut cut) = (Pause::default(), false);
        loop {
            match self.live().await?.client.set_data(path.as_str(), data, version).await {
                Err(error) if is_passing(&error) => {
                    cut = true;
                    pause.wait().await;
                }
                Err(zk::Error::BadVersion) if cut => {
                    return Err(Error::Uncertain { doing: "write", path: path.clone() });
                }
                result => return result.map_err(|error| Error::refused("write", path, &error)),
            }
        }
    }

    /// Makes a znode, and tells its path, which is another for a sequential one.
    ///
    /// # Errors
    /// [`Cause::Exists`], [`Cause::NoNode`] if there is none above it, [`Cause::NoPermission`], [`Cause::TooLarge`];
    /// [`Error::Uncertain`] if the connection was lost in the middle of it.
    pub async fn create(&self, path: &ZnodePath, data: &[u8], kind: Kind) -> Result<ZnodePath, Error> {
        fits(path, data)?;
        let live = self.live().await?;
        match live.client.create(path.as_str(), data, &kind.options()).await {
            Ok((_, number)) if kind.is_sequential() => Ok(format!("{path}{number}").parse()?),
            Ok(_) => Ok(path.clone()),
            Err(error) if is_passing(&error) => Err(Error::Uncertain { doing: "create", path: path.clone() }),
            Err(error) => Err(Error::refused("create", path, &error)),
        }
    }

    /// Makes a persistent znode, and those above it, unless they are there.
    ///
    /// # Errors
    /// [`Cause::NoPermission`], [`Cause::EphemeralParent`].
    pub async fn ensure(&self, path: &ZnodePath) -> Result<(), Error> {
        // Mostly it is there, and then nothing needs a permission.
        if self.stat(path).await?.is_some() {
            return Ok(());
        }
        let mut pause = Pause::default();
        loop {
            match self.live().await?.client.mkdir(path.as_str(), &Kind::Persistent.options()).await {
                Err(error) if is_passing(&error) => pause.wait().await,
                result => return result.map_err(|error| Error::refused("create", path, &error)),
            }
        }
    }

    /// Deletes a znode; false if there was none. With `version`, only if it still has that one.
    ///
    /// # Errors
    /// [`Cause::NotEmpty`], [`Cause::BadVersion`], [`Cause::NoPermission`].
    pub async fn delete(&self, path: &ZnodePath, version: Option<i32>) -> Result<bool, Error> {
        let (mut pause, mut cut) = (Pause::default(), false);
        loop {
            match self.live().await?.client.delete(path.as_str(), version).await {
                Err(error) if is_passing(&error) => {
                    cut = true;
                    pause.wait().await;
                }
                Ok(()) => return Ok(true),
                // The try that was cut off may have done it.
                Err(zk::Error::NoNode) => return Ok(cut),
                Err(error) => return Err(Error::refused("delete", path, &error)),
            }
        }
    }

    /// Resolves once the znode is gone, or the generation in which it was made is.
    pub(super) async fn gone(&self, path: &ZnodePath, generation: Generation) -> Result<(), Error> {
        let mut pause = Pause::default();
        loop {
            let Live { client, generation: now } = self.live().await?;
            if now != generation {
                return Ok(());
            }
            let armed = match client.check_and_watch_stat(path.as_str()).await {
                Ok((Some(_), armed)) => armed,
                Ok((None, _)) => return Ok(()),
                Err(error) if is_passing(&error) => {
                    pause.wait().await;
                    continue;
                }
                Err(error) => return Err(Error::refused("watch", path, &error)),
            };
            drop(client);
            armed.changed().await;
        }
    }

    /// Deletes a znode in the background, however often it takes: its owner was dropped.
    pub(super) fn forget(&self, path: ZnodePath) {
        let session = self.clone();
        self.in_background(async move {
            if let Err(error) = session.delete(&path, None).await {
                tracing::debug!("{error}");
            }
        });
    }

    /// The same, only if the znode is the present session's.
    pub(super) fn forget_own(&self, path: ZnodePath) {
        let session = self.clone();
        self.in_background(async move {
            if let Ok(Some(stat)) = session.stat(&path).await
                && session.id() == Some(stat.ephemeral_owner)
            {
                session.forget(path);
            }
        });
    }

    /// Runs on the runtime of the caller; without one, the session's end does what is to be done.
    pub(super) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

/// Refuses what the server would cut the connection for.
pub(super) fn fits(path: &ZnodePath, data: &[u8]) -> Result<(), Error> {
    if data.len() > limits::ZNODE_BYTES_MAX {
        return Err(Error::Refused { doing: "write", path: path.clone(), cause: Cause::TooLarge });
    }
    Ok(())
}
