//! What can go wrong with ZooKeeper, in words for who has to mend it.

use std::fmt;

use zookeeper_client as zk;

use super::path::{BadPath, ZnodePath};
use super::servers::Servers;
use crate::limits;

/// Why something was not done. What passes by itself (a lost connection, an expired session) is waited for and is no
/// error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody there speaks ZooKeeper's protocol and serves.
    #[error("no ZooKeeper at {servers}: {cause}")]
    Unreachable {
        /// Where.
        servers: Servers,
        /// What was found instead, and what to do.
        cause: String,
    },
    /// The chroot that was named is not there.
    #[error("the chroot {chroot} is not there; create it with acopio zk --zookeeper {servers} create {chroot}")]
    NoChroot {
        /// The servers, without it.
        servers: Servers,
        /// The chroot.
        chroot: ZnodePath,
    },
    /// ZooKeeper refused.
    #[error("cannot {doing} {path}: {cause}")]
    Refused {
        /// A verb.
        doing: &'static str,
        /// To which znode.
        path: ZnodePath,
        /// Why.
        cause: Cause,
    },
    /// The znode belongs to another process.
    #[error("{path} belongs to another session, {owner:#x}; choose another name, or end that process")]
    Taken {
        /// Which one.
        path: ZnodePath,
        /// The session that made it; 0 for a znode that is not ephemeral.
        owner: i64,
    },
    /// The connection was lost in the middle, and nothing tells whether it was done.
    #[error("the connection was lost in the middle: whether it could {doing} {path} is not known; look at it")]
    Uncertain {
        /// A verb.
        doing: &'static str,
        /// To which znode.
        path: ZnodePath,
    },
    /// A counter that does not count.
    #[error("{path} holds {text:?}, which is no number that this counter can hold; set it with acopio zk set {path} 0")]
    NoNumber {
        /// Which one.
        path: ZnodePath,
        /// What it holds.
        text: String,
    },
    /// A path that is none.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The session was closed by this process.
    #[error("the ZooKeeper session is closed")]
    Closed,
}

/// Why ZooKeeper refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// There is no such znode.
    NoNode,
    /// There is one already.
    Exists,
    /// It has children.
    NotEmpty,
    /// Its ACL does not let this client.
    NoPermission,
    /// It has another version than was expected.
    BadVersion,
    /// The znode above is ephemeral, and has no children.
    EphemeralParent,
    /// More data than a znode holds.
    TooLarge,
    /// Anything else, in ZooKeeper's words.
    Other(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNode => "there is no such znode; see what there is with acopio zk tree /",
            Self::Exists => "there is one already; change it with acopio zk set",
            Self::NotEmpty => "it has children; remove them first, or all of it with acopio zk rm --recursive",
            Self::NoPermission => "no permission: its ACL does not let this client; ask who made it, or name --auth",
            Self::BadVersion => "it has another version by now; read it again",
            Self::EphemeralParent => "the znode above is ephemeral, and such a znode has no children",
            Self::TooLarge => return write!(f, "a znode holds at most {} bytes", limits::ZNODE_BYTES_MAX),
            Self::Other(words) => words,
        })
    }
}

impl Error {
    /// Why ZooKeeper refused, if it did.
    #[must_use]
    pub const fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Refused { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// What an operation's end means.
    pub(super) fn refused(doing: &'static str, path: &ZnodePath, error: &zk::Error) -> Self {
        let cause = match error {
            zk::Error::NoNode => Cause::NoNode,
            zk::Error::NodeExists => Cause::Exists,
            zk::Error::NotEmpty => Cause::NotEmpty,
            zk::Error::NoAuth | zk::Error::InvalidAcl => Cause::NoPermission,
            zk::Error::BadVersion => Cause::BadVersion,
            zk::Error::NoChildrenForEphemerals => Cause::EphemeralParent,
            other => Cause::Other(other.to_string()),
        };
        Self::Refused { doing, path: path.clone(), cause }
    }
}

/// Whether an operation's end says nothing about what was asked for: the connection or the session is gone, another one
/// will do. The operation may have happened.
pub(super) const fn is_passing(error: &zk::Error) -> bool {
    use zk::Error as E;
    matches!(
        error,
        // A broken socket comes as a custom error.
        E::ConnectionLoss
            | E::SessionExpired
            | E::SessionMoved
            | E::ClientClosed
            | E::Throttled
            | E::Timeout
            | E::Custom(_)
    )
}
