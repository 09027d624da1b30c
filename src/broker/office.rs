//! The right to be active, where an election gives it: a task stands for it, and the broker looks whether it has it.
//!
//! A term that is certain is the one of its time: ZooKeeper elects nobody else before this session is over. What is not
//! certain any more counts as lost at once, so a broker that is cut off stops before another begins.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Config, Election, Error};
use crate::coord::{self, Session, Term};

/// This broker's candidacy.
pub(super) struct Office {
    term: watch::Receiver<Option<Term>>,
    session: Session,
    standing: JoinHandle<Result<(), coord::Error>>,
}

/// Takes the term away when the work of leading is dropped.
struct Leading(watch::Sender<Option<Term>>);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

impl Office {
    /// Stands in the election, in a local task.
    pub(super) async fn stand(election: &Election, config: &Config) -> Result<Self, Error> {
        let session = Session::open(election.session.clone()).await?;
        let own = format!("{:?} {}", config.role, config.bind);
        let candidate = coord::Election::new(&session, election.path.clone(), own);
        let (sender, term) = watch::channel(None);
        let standing = tokio::task::spawn_local(async move {
            candidate
                .run(async |term| {
                    sender.send_replace(Some(term));
                    let _leading = Leading(sender.clone());
                    std::future::pending().await
                })
                .await
        });
        Ok(Self { term, session, standing })
    }

    /// Whether this broker is elected for sure at this moment.
    pub(super) fn is_held(&self) -> bool {
        self.term.borrow().as_ref().is_some_and(Term::is_certain)
    }

    /// Resolves when that may have changed.
    ///
    /// # Errors
    /// ZooKeeper refuses the candidacy.
    pub(super) async fn changed(&mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            changed = self.term.changed() => {
                // The sender is gone only once the candidacy has ended, which the other branch tells.
                if changed.is_ok() {
                    return Ok(());
                }
            }
            ended = &mut self.standing => return ended.unwrap_or(Ok(())).map_err(Error::from),
        }
        (&mut self.standing).await.unwrap_or(Ok(())).map_err(Error::from)
    }

    /// Gives it up, so that another is elected at once.
    pub(super) async fn resign(self) {
        self.standing.abort();
        self.session.close().await;
    }
}
