//! Coordination over Apache ZooKeeper: a session that outlives what happens to it, and the recipes on it.
//!
//! The recipes have the znodes of [kazoo](https://kazoo.readthedocs.io) (2.11), so that programs of this library and
//! Python programs take part in the same lock, election, barrier or counter. Nothing here knows of heads, data nodes or
//! measurements; the rooms that do are handed what they need.
//!
//! | recipe | znodes, as kazoo has them |
//! |---|---|
//! | [`Lock`] | `path/<uuid>__lock__<seq>`, ephemeral and sequential; the lowest holds it |
//! | [`Election`] | the same; the data is the candidate's id |
//! | [`Barrier`] | `path`; up while it exists |
//! | [`DoubleBarrier`] | `path/<uuid>`, ephemeral, and `path/ready` |
//! | [`Counter`] | `path`, with a number in ASCII |
//! | [`Party`] | `path/<uuid>__party__`, ephemeral; the data is the member's id |
//! | [`DataWatch`], [`ChildrenWatch`] | none of their own |
//! | [`Ephemeral`] | one ephemeral znode that belongs to this process |
//!
//! # What holds for all of them
//! - A lost connection and an expired session are waited for, not errors: every call goes on where a new connection or a
//!   new session allows it. An error is what ZooKeeper refused, or [`Error::Closed`] after [`Session::close`].
//! - Every call may be dropped while it waits (`select!`, a timeout): what it had made is deleted.
//! - A lock or a leadership counts only while the connection does: see [`Held::doubted`] and [`Held::lost`]. Whoever
//!   writes somewhere else under one hands the [`Fence`] on, which only grows.
//!
//! ```no_run
//! # async fn example() -> Result<(), acopio::coord::Error> {
//! use acopio::coord::{Config, Election, Session};
//!
//! let session = Session::open(Config::new("127.0.0.1:2181".parse().unwrap())).await?;
//! let election = Election::new(&session, "/election".parse()?, "device-1");
//! election.run(async |term| println!("leading, term {}", term.fence())).await?;
//! session.close().await;
//! # Ok(())
//! # }
//! ```

mod barrier;
mod counter;
mod double_barrier;
mod election;
mod ephemeral;
mod error;
mod lock;
mod party;
mod path;
mod probe;
pub mod python;
mod servers;
mod session;
mod tree;
mod turn;
mod watch;
mod znodes;

pub use barrier::Barrier;
pub use counter::{Counter, Number};
pub use double_barrier::{DoubleBarrier, Member};
pub use election::{Election, Term};
pub use ephemeral::{Ephemeral, Written};
pub use error::{Cause, Error};
pub use lock::{Contender, Fence, Held, Lock, Waiting};
pub use party::{Party, PartyWatch};
pub use path::{BadPath, ZnodePath};
pub use servers::{BadServers, Servers};
pub use session::{Config, Login, Session, State, States};
pub use tree::{Change, TreeWatch, Znode};
pub use turn::Layout;
pub use watch::{ChildrenWatch, Data, DataWatch};
pub use znodes::Kind;
pub use zookeeper_client::Stat;
