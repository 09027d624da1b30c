//! A part of the tree of znodes, and what comes and goes in it.
//!
//! Source: what the seeds' exercises look at in `zooinspector`; ZooKeeper's own persistent recursive watch.
//!
//! Invariants: the changes told, one after the other, make what was there into what is there. Changes that follow each
//! other fast, or while no server answers, may be told as one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zookeeper_client::{self as zk, AddWatchMode, EventType, PersistentWatcher, Stat};

use super::error::{Cause, Error, is_passing};
use super::path::ZnodePath;
use super::session::{Pause, Session};
use crate::limits;

/// One znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Znode {
    /// Where it is.
    pub path: ZnodePath,
    /// Its numbers.
    pub stat: Stat,
    /// What it holds; none if its ACL does not let this client see.
    pub data: Option<Vec<u8>>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Made(Znode),
    /// Its data changed.
    Set(Znode),
    /// It is gone; this is how it was last seen.
    Gone(Znode),
}

impl Session {
    /// A znode and all below it, each before its children, which are sorted.
    ///
    /// # Errors
    /// [`Cause::NoNode`], [`Cause::NoPermission`] for a list, and a refusal for more than
    /// [`limits::ZK_TREE_NODES_MAX`] znodes.
    pub async fn tree(&self, path: &ZnodePath) -> Result<Vec<Znode>, Error> {
        let top = self.znode(path).await?.ok_or_else(|| Error::refused("read", path, &zk::Error::NoNode))?;
        let (mut found, mut open) = (Vec::new(), vec![top]);
        while let Some(node) = open.pop() {
            if found.len() + open.len() >= limits::ZK_TREE_NODES_MAX {
                let words = format!("more than {} znodes; name a part of it", limits::ZK_TREE_NODES_MAX);
                return Err(Error::Refused { doing: "show", path: path.clone(), cause: Cause::Other(words) });
            }
            let children = match self.children(&node.path).await {
                Err(error) if error.cause() == Some(&Cause::NoNode) => continue,
                // What one may not look into is shown closed.
                Err(error) if error.cause() == Some(&Cause::NoPermission) && node.path != *path => Vec::new(),
                children => children?,
            };
            for name in children.iter().rev() {
                open.extend(self.znode(&node.path.listed(name)).await?);
            }
            found.push(node);
        }
        Ok(found)
    }

    async fn znode(&self, path: &ZnodePath) -> Result<Option<Znode>, Error> {
        match self.get(path).await {
            Ok((data, stat)) => Ok(Some(Znode { path: path.clone(), stat, data: Some(data) })),
            Err(error) if error.cause() == Some(&Cause::NoNode) => Ok(None),
            Err(error) if error.cause() == Some(&Cause::NoPermission) => {
                Ok(self.stat(path).await?.map(|stat| Znode { path: path.clone(), stat, data: None }))
            }
            Err(error) => Err(error),
        }
    }
}

/// Watches a part of the tree.
#[derive(Debug)]
pub struct TreeWatch {
    session: Session,
    path: ZnodePath,
    armed: Option<PersistentWatcher>,
    known: BTreeMap<ZnodePath, Znode>,
    told: VecDeque<Change>,
}

impl TreeWatch {
    /// Watches this path and all below it, from what is there now.
    ///
    /// # Errors
    /// As [`Session::tree`].
    pub async fn new(session: &Session, path: ZnodePath) -> Result<(Self, Vec<Znode>), Error> {
        let mut watch =
            Self { session: session.clone(), path, armed: None, known: BTreeMap::new(), told: VecDeque::new() };
        watch.arm().await?;
        let tree = session.tree(&watch.path).await?;
        watch.known = tree.iter().map(|node| (node.path.clone(), node.clone())).collect();
        Ok((watch, tree))
    }

    /// The next change.
    ///
    /// # Errors
    /// As [`Session::tree`].
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.told.pop_front() {
                return Ok(change);
            }
            let Some(armed) = &mut self.armed else {
                self.arm().await?;
                self.look_at_all().await?;
                continue;
            };
            let event = armed.changed().await;
            match event.event_type {
                EventType::Session if event.session_state.is_terminated() => self.armed = None,
                // What happened without a connection is not told again.
                EventType::Session if event.session_state == zk::SessionState::SyncConnected => {
                    self.look_at_all().await?;
                }
                EventType::Session => {}
                _ => self.look_at(&event.path.parse()?).await?,
            }
        }
    }

    async fn arm(&mut self) -> Result<(), Error> {
        let mut pause = Pause::default();
        loop {
            let live = self.session.live().await?;
            match live.client.watch(self.path.as_str(), AddWatchMode::PersistentRecursive).await {
                Ok(armed) => {
                    self.armed = Some(armed);
                    return Ok(());
                }
                Err(error) if is_passing(&error) => pause.wait().await,
                Err(error) => return Err(Error::refused("watch", &self.path, &error)),
            }
        }
    }

    async fn look_at(&mut self, path: &ZnodePath) -> Result<(), Error> {
        let now = self.session.znode(path).await?;
        self.note(path, now);
        Ok(())
    }

    async fn look_at_all(&mut self) -> Result<(), Error> {
        let mut now = match self.session.tree(&self.path).await {
            Err(error) if error.cause() == Some(&Cause::NoNode) => BTreeMap::new(),
            tree => tree?.into_iter().map(|node| (node.path.clone(), node)).collect(),
        };
        let paths: BTreeSet<_> = self.known.keys().chain(now.keys()).cloned().collect();
        for path in paths {
            let node = now.remove(&path);
            self.note(&path, node);
        }
        Ok(())
    }

    fn note(&mut self, path: &ZnodePath, now: Option<Znode>) {
        let before = match &now {
            Some(node) => self.known.insert(path.clone(), node.clone()),
            None => self.known.remove(path),
        };
        self.told.extend(changes(before, now));
    }
}

/// What happened between two looks at one znode.
fn changes(before: Option<Znode>, now: Option<Znode>) -> Vec<Change> {
    match (before, now) {
        (None, None) => Vec::new(),
        (None, Some(now)) => vec![Change::Made(now)],
        (Some(before), None) => vec![Change::Gone(before)],
        (Some(before), Some(now)) if before.stat.czxid != now.stat.czxid => {
            vec![Change::Gone(before), Change::Made(now)]
        }
        (Some(before), Some(now)) if before.stat.mzxid != now.stat.mzxid => vec![Change::Set(now)],
        (Some(_), Some(_)) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(czxid: i64, mzxid: i64) -> Znode {
        let stat = Stat {
            czxid,
            mzxid,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            data_length: 0,
            num_children: 0,
        };
        Znode { path: ZnodePath::root(), stat, data: None }
    }

    #[test]
    fn changes_lead_from_what_was_to_what_is() {
        assert!(changes(None, None).is_empty());
        assert!(changes(Some(node(1, 1)), Some(node(1, 1))).is_empty());
        assert_eq!(changes(None, Some(node(1, 1))), [Change::Made(node(1, 1))]);
        assert_eq!(changes(Some(node(1, 1)), Some(node(1, 2))), [Change::Set(node(1, 2))]);
        assert_eq!(changes(Some(node(1, 1)), None), [Change::Gone(node(1, 1))]);
        let anew = [Change::Gone(node(1, 1)), Change::Made(node(3, 3))];
        assert_eq!(changes(Some(node(1, 1)), Some(node(3, 3))), anew);
    }
}
