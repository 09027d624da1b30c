//! Mutual exclusion: one holder at a time, in the order of asking.
//!
//! Source: kazoo's `Lock` (`kazoo/recipe/lock.py`), which is ZooKeeper's own recipe without the herd; with
//! [`Layout::Prefix`] the exercise of the seed, `/LOCKS/L-<seq>`.
//!
//! Invariants:
//! - The contender whose znode has the lowest number holds. Its znode is ephemeral, so a dead holder's lock is free after
//!   its session's timeout.
//! - A contender's znode has a name or data that no other has, so that one whose creation was cut off is found again,
//!   and it counts only if the present session owns it.
//! - Whoever is dropped while it waits or holds leaves no znode behind.

use std::fmt;

use zookeeper_client as zk;

use super::error::{Error, is_passing};
use super::path::ZnodePath;
use super::session::{Generation, Live, Pause, Session};
use super::turn::{Layout, Standing};
use super::znodes::{Kind, fits};

/// A lock, and who asks for it.
#[derive(Clone, Debug)]
pub struct Lock {
    session: Session,
    dir: ZnodePath,
    layout: Layout,
    id: String,
}

/// A number that only grows from one holder to the next: the transaction in which the holder's znode was made. Whoever
/// is written to under a lock refuses lower numbers than it has seen; then a holder that was paused and does not know yet
/// that it lost the lock does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub i64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Somebody who holds or waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Its znode.
    pub node: ZnodePath,
    /// What it said of itself; may be empty.
    pub id: String,
}

/// That one waits, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// One's own znode.
    pub node: ZnodePath,
    /// The one just before.
    pub behind: Contender,
    /// How many are before.
    pub ahead: usize,
}

impl Lock {
    /// The lock at this path; `id` is what others see of this contender.
    #[must_use]
    pub fn new(session: &Session, path: ZnodePath, id: impl Into<String>) -> Self {
        Self { session: session.clone(), dir: path, layout: Layout::Kazoo, id: id.into() }
    }

    /// The same with znodes of other names.
    #[must_use]
    pub fn with_layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn acquire(&self) -> Result<Held, Error> {
        self.acquire_telling(|_| {}).await
    }

    /// As [`Self::acquire`], and tells each time for whom it waits.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub async fn acquire_telling(&self, mut tell: impl FnMut(&Waiting)) -> Result<Held, Error> {
        loop {
            let place = self.stand().await?;
            if self.wait_for_turn(&place, &mut tell).await? {
                return Ok(Held { place });
            }
            // Its znode is gone, or the session: it stands again, at the end.
        }
    }

    /// Who holds and who waits, the holder first.
    ///
    /// # Errors
    /// What ZooKeeper refuses.
    pub async fn contenders(&self) -> Result<Vec<Contender>, Error> {
        let children = match self.session.children(&self.dir).await {
            Err(error) if error.cause() == Some(&super::Cause::NoNode) => return Ok(Vec::new()),
            children => children?,
        };
        let mut contenders = Vec::new();
        for name in self.layout.in_order(&children) {
            let node = self.dir.listed(name);
            match self.session.get(&node).await {
                Ok((data, _)) => contenders.push(Contender { node, id: id_of(&data) }),
                Err(error) if error.cause() == Some(&super::Cause::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(contenders)
    }

    /// Makes a contender's znode.
    async fn stand(&self) -> Result<Place, Error> {
        let uuid = format!("{:032x}", rand::random::<u128>());
        let prefix = self.layout.name(&uuid);
        let mark = match (&self.layout, self.id.is_empty()) {
            (Layout::Kazoo, _) => self.id.clone(),
            // The name tells it from no other znode of this session: the data does.
            (Layout::Prefix(_), true) => uuid,
            (Layout::Prefix(_), false) => format!("{} {uuid}", self.id),
        };
        let path = self.dir.child(&prefix)?;
        fits(&path, mark.as_bytes())?;
        let mut claim = Claim { lock: self, prefix: &prefix, mark: &mark, generation: None };
        let mut pause = Pause::default();
        loop {
            let live = self.session.live().await?;
            if claim.generation.is_some_and(|generation| generation == live.generation) {
                // A try before was cut off, and may have been done.
                if let Some((node, stat)) = find(&live, &self.dir, &prefix, &mark).await? {
                    return Ok(claim.settled(node, Fence(stat.czxid), live.generation));
                }
            }
            claim.generation = Some(live.generation);
            match live.client.create(path.as_str(), mark.as_bytes(), &Kind::EphemeralSequential.options()).await {
                Ok((stat, number)) => {
                    let node = self.dir.listed(&format!("{prefix}{number}"));
                    return Ok(claim.settled(node, Fence(stat.czxid), live.generation));
                }
                Err(zk::Error::NoNode) => self.session.ensure(&self.dir).await?,
                Err(error) if is_passing(&error) => pause.wait().await,
                Err(error) => {
                    claim.generation = None;
                    return Err(Error::refused("lock", &self.dir, &error));
                }
            }
        }
    }

    /// True once it is this one's turn; false if its znode is gone.
    async fn wait_for_turn(&self, place: &Place, tell: &mut impl FnMut(&Waiting)) -> Result<bool, Error> {
        let mut pause = Pause::default();
        loop {
            let live = self.session.live().await?;
            if live.generation != place.generation {
                return Ok(false);
            }
            let children = match live.client.list_children(self.dir.as_str()).await {
                Err(error) if is_passing(&error) => {
                    pause.wait().await;
                    continue;
                }
                Err(zk::Error::NoNode) => return Ok(false),
                children => children.map_err(|error| Error::refused("list", &self.dir, &error))?,
            };
            let (on, ahead) = match self.layout.standing(&children, place.node.name()) {
                Standing::Holds => return Ok(true),
                Standing::Gone => return Ok(false),
                Standing::Waits { on, ahead } => (self.dir.listed(&on), ahead),
            };
            let (data, armed) = match live.client.get_and_watch_data(on.as_str()).await {
                Ok((data, _, armed)) => (data, armed),
                Err(zk::Error::NoNode) => continue,
                Err(error) if is_passing(&error) => {
                    pause.wait().await;
                    continue;
                }
                Err(error) => return Err(Error::refused("watch", &on, &error)),
            };
            drop(live);
            tell(&Waiting { node: place.node.clone(), behind: Contender { node: on, id: id_of(&data) }, ahead });
            armed.changed().await;
        }
    }
}

fn id_of(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// The znode of a creation that was cut off: of this name, of this session, with this data.
async fn find(live: &Live, dir: &ZnodePath, prefix: &str, mark: &str) -> Result<Option<(ZnodePath, zk::Stat)>, Error> {
    let children = match live.client.list_children(dir.as_str()).await {
        Ok(children) => children,
        // Asked again with the next try.
        Err(zk::Error::NoNode) => return Ok(None),
        Err(error) if is_passing(&error) => return Ok(None),
        Err(error) => return Err(Error::refused("list", dir, &error)),
    };
    for name in children.iter().filter(|name| name.starts_with(prefix)) {
        let node = dir.listed(name);
        if let Ok((data, stat)) = live.client.get_data(node.as_str()).await
            && stat.ephemeral_owner == live.session_id()
            && data == mark.as_bytes()
        {
            return Ok(Some((node, stat)));
        }
    }
    Ok(None)
}

/// A creation under way: dropped in the middle, it deletes what it may have made.
struct Claim<'a> {
    lock: &'a Lock,
    prefix: &'a str,
    mark: &'a str,
    /// In which generation it was tried the last time.
    generation: Option<Generation>,
}

impl Claim<'_> {
    fn settled(mut self, node: ZnodePath, fence: Fence, generation: Generation) -> Place {
        self.generation = None;
        Place { session: self.lock.session.clone(), node, fence, generation }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let Some(generation) = self.generation else { return };
        let (session, dir) = (self.lock.session.clone(), self.lock.dir.clone());
        let (prefix, mark) = (self.prefix.to_owned(), self.mark.to_owned());
        self.lock.session.in_background(async move {
            // Another generation's ephemerals go without help.
            while let Ok(live) = session.live().await
                && live.generation == generation
            {
                if let Ok(found) = find(&live, &dir, &prefix, &mark).await {
                    if let Some((node, _)) = found {
                        session.forget(node);
                    }
                    return;
                }
            }
        });
    }
}

/// One's own znode; dropped, it is deleted.
#[derive(Debug)]
struct Place {
    session: Session,
    node: ZnodePath,
    fence: Fence,
    generation: Generation,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.session.forget(self.node.clone());
    }
}

/// The lock, held. Dropped, it is released in the background.
#[derive(Debug)]
pub struct Held {
    place: Place,
}

impl Held {
    /// The number to hand on to whoever is written to under this lock.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.place.fence
    }

    /// The holder's znode.
    #[must_use]
    pub const fn node(&self) -> &ZnodePath {
        &self.place.node
    }

    /// Whether it is held for sure at this moment.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.place.session.is_certain(self.place.generation)
    }

    /// Resolves at the first doubt: no server answers, the process was paused, or somebody deleted the znode. Whoever can
    /// stop without a loss, such as a leader, stops here; [`Self::resumed`] tells whether it may go on.
    pub async fn doubted(&self) {
        tokio::select! {
            biased;
            () = self.place.session.doubted(self.place.generation) => {}
            () = self.removed() => {}
        }
    }

    /// Resolves once another may hold it: a doubt that outlasts what the session's timeout makes certain, an expired
    /// session, or a deleted znode. A command that can't be stopped for nothing goes on until here.
    pub async fn lost(&self) {
        tokio::select! {
            biased;
            () = self.place.session.over(self.place.generation) => {}
            () = self.removed() => {}
        }
    }

    /// After a doubt: waits for a server and tells whether the lock was held all the time.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn resumed(&self) -> Result<bool, Error> {
        let there = self.place.session.stat(&self.place.node).await?.is_some();
        // A server has just said so, however long it was away: no name of a znode is ever given again.
        Ok(there && self.place.session.is_of(self.place.generation))
    }

    /// Gives it back.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`], and then it is free as well.
    pub async fn release(self) -> Result<(), Error> {
        self.place.session.delete(&self.place.node, None).await.map(|_| ())
    }

    pub(super) fn session(&self) -> (&Session, Generation) {
        (&self.place.session, self.place.generation)
    }

    /// Resolves once the znode is gone while the session is not.
    async fn removed(&self) {
        // Where it can't be watched, the session still tells.
        if self.place.session.gone(&self.place.node, self.place.generation).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
