//! Who is there: a list of members, each with a word about itself.
//!
//! Source: kazoo's `Party` (`kazoo/recipe/party.py`): `path/<uuid>__party__`, ephemeral, with the member's id as data.
//!
//! Invariants: a member is in the list while its session lives; the last list told is what is there, once no more changes
//! are made; it is sorted.

use std::time::Duration;

use super::ephemeral::Ephemeral;
use super::error::{Cause, Error};
use super::path::ZnodePath;
use super::session::Session;
use super::watch::ChildrenWatch;

const MARK: &str = "__party__";

/// A list of members.
#[derive(Clone, Debug)]
pub struct Party {
    session: Session,
    dir: ZnodePath,
}

impl Party {
    /// The list at this path.
    #[must_use]
    pub fn new(session: &Session, path: ZnodePath) -> Self {
        Self { session: session.clone(), dir: path }
    }

    /// Joins it under this id. [`Ephemeral::keep`] keeps the member there over lost sessions; dropped, it leaves.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn join(&self, id: &str) -> Result<Ephemeral, Error> {
        let path = self.dir.child(&format!("{:032x}{MARK}", rand::random::<u128>()))?;
        Ephemeral::claim(&self.session, path, id.as_bytes(), Duration::ZERO).await
    }

    /// The ids of the members, sorted.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn members(&self) -> Result<Vec<String>, Error> {
        match self.session.children(&self.dir).await {
            Err(error) if error.cause() == Some(&Cause::NoNode) => Ok(Vec::new()),
            children => self.ids(&children?).await,
        }
    }

    /// Watches who is there.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn watch(&self) -> Result<PartyWatch, Error> {
        self.session.ensure(&self.dir).await?;
        let children = ChildrenWatch::new(&self.session, self.dir.clone());
        Ok(PartyWatch { party: self.clone(), children })
    }

    async fn ids(&self, children: &[String]) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        for name in children.iter().filter(|name| name.ends_with(MARK)) {
            match self.session.get(&self.dir.listed(name)).await {
                Ok((data, _)) => ids.push(String::from_utf8_lossy(&data).into_owned()),
                Err(error) if error.cause() == Some(&Cause::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

/// Watches a party.
#[derive(Debug)]
pub struct PartyWatch {
    party: Party,
    children: ChildrenWatch,
}

impl PartyWatch {
    /// The ids of the members, at once the first time, later when some have come or gone.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::Closed`].
    pub async fn next(&mut self) -> Result<Vec<String>, Error> {
        loop {
            if let Some(children) = self.children.next().await? {
                return self.party.ids(&children).await;
            }
            // Somebody deleted the list.
            *self = self.party.watch().await?;
        }
    }
}
