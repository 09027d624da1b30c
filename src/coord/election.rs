//! Election of a leader: the holder of a lock leads, in the order of standing.
//!
//! Source: kazoo's `Election` (`kazoo/recipe/election.py`), which is its lock with the candidate's id as data.
//!
//! Invariants:
//! - At most one candidate leads while all of them stop at a doubt. This one does: its work is dropped when no server
//!   answers, not only when the session is over. (kazoo's goes on.)
//! - Terms are told apart by their [`Fence`], which only grows.
//! - After a doubt that passes within the session's timeout, the same leader goes on in the same term.

use super::error::Error;
use super::lock::{Contender, Fence, Held, Lock};
use super::path::ZnodePath;
use super::session::{Generation, Session};

/// An election, and the candidate who stands in it.
#[derive(Clone, Debug)]
pub struct Election {
    lock: Lock,
}

/// One time of leading.
#[derive(Clone, Debug)]
pub struct Term {
    session: Session,
    generation: Generation,
    fence: Fence,
}

impl Term {
    /// Its number, greater than those of all terms before.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether this candidate leads for sure at this moment. To be asked after whatever took long.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.session.is_certain(self.generation)
    }
}

impl Election {
    /// The election at this path; the others see `id`.
    #[must_use]
    pub fn new(session: &Session, path: ZnodePath, id: impl Into<String>) -> Self {
        Self { lock: Lock::new(session, path, id) }
    }

    /// Stands, and does `work` while leading: it begins when this candidate leads, is dropped at the first doubt, and
    /// begins anew each time. When `work` ends by itself, the candidate resigns, and this returns what it gave.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn run<T>(&self, work: impl AsyncFnMut(Term) -> T) -> Result<T, Error> {
        self.run_telling(|_| {}, work).await
    }

    /// As [`Self::run`], and tells behind whom it waits.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_telling<T>(
        &self,
        mut tell: impl FnMut(&super::Waiting),
        mut work: impl AsyncFnMut(Term) -> T,
    ) -> Result<T, Error> {
        loop {
            let held = self.lead_telling(&mut tell).await?;
            loop {
                tokio::select! {
                    biased;
                    () = held.doubted() => {}
                    done = work(term(&held)) => {
                        held.release().await?;
                        return Ok(done);
                    }
                }
                if !held.resumed().await? {
                    break;
                }
            }
        }
    }

    /// Stands until it leads, and hands out the leadership itself, for those who need more than [`Self::run`] gives.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn lead_telling(&self, tell: impl FnMut(&super::Waiting)) -> Result<Held, Error> {
        self.lock.acquire_telling(tell).await
    }

    /// The candidates, the leader first.
    ///
    /// # Errors
    /// What ZooKeeper refuses.
    pub async fn candidates(&self) -> Result<Vec<Contender>, Error> {
        self.lock.contenders().await
    }
}

fn term(held: &Held) -> Term {
    let (session, generation) = held.session();
    Term { session: session.clone(), generation, fence: held.fence() }
}
