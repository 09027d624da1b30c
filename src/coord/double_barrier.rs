//! A double barrier: so many begin together, and all end together.
//!
//! Source: kazoo's `DoubleBarrier` (`kazoo/recipe/barrier.py`), which is ZooKeeper's own recipe.
//!
//! Invariants:
//! - Nobody enters before `players` members are there at one moment. `ready` is the sign of that moment for those who came
//!   before it, so it counts only if it is newer than one's own znode. (kazoo counts `ready` as a member, and one that was
//!   left by a game that broke off lets a single process in.)
//! - Nobody has left before all have said that they leave, or are gone with their session.
//! - A member's znode is made again in a new session, so that the others wait for it until it leaves.

use std::time::Duration;

use zookeeper_client as zk;

use super::ephemeral::Ephemeral;
use super::error::{Cause, Error, is_passing};
use super::path::ZnodePath;
use super::session::{Pause, Session};

/// The sign that all are there. Its name is after all members' in the alphabet, which have hex digits.
const READY: &str = "ready";

/// A double barrier, and one who may take part in it.
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    session: Session,
    dir: ZnodePath,
    players: usize,
    id: String,
}

/// One who takes part. Dropped, it is gone for the others.
#[derive(Debug)]
pub struct Member {
    barrier: DoubleBarrier,
    node: Ephemeral,
}

/// What one who wants to enter does next.
#[derive(Debug, PartialEq, Eq)]
enum Enter {
    /// All are there: make `ready` for those who wait, and go in.
    Open,
    /// `ready` was made for one who was there: go in.
    In,
    /// `ready` is older than one's own znode and not all are there: it was left behind. Delete it and look again.
    Clear,
    /// Wait for `ready`.
    Wait,
}

/// What one who wants to leave does next.
#[derive(Debug, PartialEq, Eq)]
enum Leave {
    /// All are gone.
    Done,
    /// Delete one's own znode, and look again.
    Withdraw,
    /// Wait until this one is gone.
    WaitFor(String),
}

/// Decides on entering: how many `members` there are, and the transactions in which one's own znode and `ready` were made.
const fn enter(members: usize, players: usize, mine: i64, ready: Option<i64>) -> Enter {
    match ready {
        Some(ready) if ready > mine => Enter::In,
        _ if members >= players => Enter::Open,
        Some(_) => Enter::Clear,
        None => Enter::Wait,
    }
}

/// Decides on leaving. The first of all waits for the last, the others withdraw and wait for the first: so each event
/// wakes one, and the first is the last to go.
fn leave(members: &[String], mine: &str) -> Leave {
    match members {
        [] => Leave::Done,
        [only] if only == mine => Leave::Withdraw,
        [first, .., last] if first == mine => Leave::WaitFor(last.clone()),
        members if members.iter().any(|member| member == mine) => Leave::Withdraw,
        [first, ..] => Leave::WaitFor(first.clone()),
    }
}

impl DoubleBarrier {
    /// The barrier at this path, for so many; the others see `id`.
    #[must_use]
    pub fn new(session: &Session, path: ZnodePath, players: usize, id: impl Into<String>) -> Self {
        Self { session: session.clone(), dir: path, players, id: id.into() }
    }

    /// Waits until all are there.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn enter(&self) -> Result<Member, Error> {
        let name = format!("{:032x}", rand::random::<u128>());
        let path = self.dir.child(&name)?;
        let node = Ephemeral::claim(&self.session, path, self.id.as_bytes(), Duration::ZERO).await?;
        let member = Member { barrier: self.clone(), node };
        tokio::select! {
            biased;
            entered = member.wait_for_all() => entered?,
            error = member.node.keep() => return Err(error),
        }
        Ok(member)
    }

    async fn members(&self) -> Result<Vec<String>, Error> {
        let mut members = match self.session.children(&self.dir).await {
            Err(error) if error.cause() == Some(&Cause::NoNode) => Vec::new(),
            children => children?,
        };
        members.retain(|name| name != READY);
        Ok(members)
    }
}

impl Member {
    /// Resolves only if the membership can't be kept any more. To be run beside what is done inside.
    pub async fn keep(&self) -> Error {
        self.node.keep().await
    }

    /// Says that it leaves, and waits until all have.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn leave(self) -> Result<(), Error> {
        let (session, dir) = (&self.barrier.session, &self.barrier.dir);
        session.delete(&dir.listed(READY), None).await?;
        let mine = self.node.path().name();
        loop {
            match leave(&self.barrier.members().await?, mine) {
                Leave::Done => return Ok(()),
                Leave::Withdraw => {
                    session.delete(self.node.path(), None).await?;
                }
                Leave::WaitFor(other) => self.wait_for(&dir.listed(&other)).await?,
            }
        }
    }

    async fn wait_for_all(&self) -> Result<(), Error> {
        let DoubleBarrier { session, dir, players, .. } = &self.barrier;
        let ready = dir.listed(READY);
        let mut pause = Pause::default();
        loop {
            let live = session.live().await?;
            let (sign, armed) = match live.client.check_and_watch_stat(ready.as_str()).await {
                Ok(found) => found,
                Err(error) if is_passing(&error) => {
                    pause.wait().await;
                    continue;
                }
                Err(error) => return Err(Error::refused("watch", &ready, &error)),
            };
            drop(live);
            let members = self.barrier.members().await?.len();
            // In a new session it is made again beside this, and counts from then on.
            let Some(mine) = session.stat(self.node.path()).await? else {
                pause.wait().await;
                continue;
            };
            match enter(members, *players, mine.czxid, sign.map(|stat| stat.czxid)) {
                Enter::In => return Ok(()),
                Enter::Open => return session.ensure(&ready).await,
                Enter::Clear => {
                    session.delete(&ready, None).await?;
                }
                // Made and deleted again, before one could look: all were there all the same.
                Enter::Wait => {
                    if armed.changed().await.event_type == zk::EventType::NodeCreated {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits until a member is gone.
    async fn wait_for(&self, other: &ZnodePath) -> Result<(), Error> {
        let session = &self.barrier.session;
        let mut pause = Pause::default();
        loop {
            let live = session.live().await?;
            match live.client.check_and_watch_stat(other.as_str()).await {
                Ok((None, _)) => return Ok(()),
                Ok((Some(_), armed)) => {
                    drop(live);
                    armed.changed().await;
                    // Whatever it was, the list tells.
                    return Ok(());
                }
                Err(error) if is_passing(&error) => pause.wait().await,
                Err(error) => return Err(Error::refused("watch", other, &error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_enters_with_all_or_by_a_sign_that_is_newer() {
        assert_eq!(enter(1, 2, 10, None), Enter::Wait);
        assert_eq!(enter(2, 2, 10, None), Enter::Open);
        assert_eq!(enter(3, 2, 10, None), Enter::Open);
        // Made for those who were there, of whom some may have left already.
        assert_eq!(enter(1, 2, 10, Some(11)), Enter::In);
    }

    #[test]
    fn a_sign_left_behind_lets_nobody_in() {
        assert_eq!(enter(1, 2, 10, Some(9)), Enter::Clear);
        assert_eq!(enter(2, 2, 10, Some(9)), Enter::Open);
    }

    #[test]
    fn the_first_waits_for_the_last_and_all_others_for_the_first() {
        assert_eq!(leave(&[], "a"), Leave::Done);
        assert_eq!(leave(&names(&["a"]), "a"), Leave::Withdraw);
        assert_eq!(leave(&names(&["a", "b", "c"]), "a"), Leave::WaitFor("c".to_owned()));
        assert_eq!(leave(&names(&["a", "b", "c"]), "b"), Leave::Withdraw);
        assert_eq!(leave(&names(&["a", "b", "c"]), "c"), Leave::Withdraw);
        assert_eq!(leave(&names(&["a", "c"]), "b"), Leave::WaitFor("a".to_owned()));
        assert_eq!(leave(&names(&["c"]), "b"), Leave::WaitFor("c".to_owned()));
    }

    /// All orders in which members take their steps end with all of them gone, and nobody is done before.
    #[test]
    fn leaving_ends_in_every_order() {
        fn go(present: &[String], waiting: &[String]) {
            if waiting.is_empty() {
                assert!(present.is_empty());
                return;
            }
            let mut moved = false;
            for who in waiting {
                match leave(present, who) {
                    Leave::Done => {
                        assert!(present.is_empty(), "{who} is done while {present:?} are there");
                        let rest: Vec<_> = waiting.iter().filter(|other| *other != who).cloned().collect();
                        go(present, &rest);
                        moved = true;
                    }
                    Leave::Withdraw => {
                        let rest: Vec<_> = present.iter().filter(|other| *other != who).cloned().collect();
                        assert!(rest.len() < present.len());
                        go(&rest, waiting);
                        moved = true;
                    }
                    Leave::WaitFor(other) => assert!(present.contains(&other)),
                }
            }
            assert!(moved, "{waiting:?} wait for each other: {present:?}");
        }
        for all in [names(&["a"]), names(&["a", "b"]), names(&["a", "b", "c", "d"])] {
            go(&all, &all);
        }
    }
}
