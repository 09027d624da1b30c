//! Topics over ZeroMQ: a pair of brokers, of which one forwards what publishers send to whoever has subscribed, and keeps in
//! the cluster what it is told to keep.
//!
//! It uses the client library of acopio, the election of [`coord`], and nothing of heads and data nodes. `docs/topics.md` is the page for its users.
//! [`star`] decides who of the pair is active, [`zmq`] is the one place where ZeroMQ is spoken, [`kept`] the form of what is
//! kept, [`calc`] the original's distributed calculation, [`replay`] publishes once more what was kept.

pub(crate) mod calc;
mod keep;
pub(crate) mod kept;
pub(crate) mod keys;
mod office;
mod pace;
mod pair;
mod pump;
pub(crate) mod replay;
pub(crate) mod star;
pub(crate) mod zmq;

use std::net::IpAddr;
use std::time::Duration;

pub(crate) use pair::run;

use crate::coord::{self, ZnodePath};
use crate::net;
use star::Role;
use zmq::{Address, Bounds, Curve, Keys};

/// Settings of a broker.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What it is in its pair.
    pub(crate) role: Role,
    /// The other one's name or address; none for a broker that is alone.
    pub(crate) peer: Option<String>,
    /// The address that it listens on.
    pub(crate) bind: IpAddr,
    /// Its ports, which are its peer's as well.
    pub(crate) ports: Ports,
    /// Time between two heartbeats.
    pub(crate) beat: Duration,
    /// Silence after which it takes over.
    pub(crate) dead_after: Duration,
    /// What its sockets hold at most.
    pub(crate) bounds: Bounds,
    /// Keys that encrypt all three ports; a pair shares them.
    pub(crate) keys: Option<Keys>,
    /// What is kept.
    pub(crate) keep: Option<Keep>,
    /// Who decides which broker is active, where it is not the brokers themselves.
    pub(crate) election: Option<Election>,
}

/// An election that brokers stand in.
#[derive(Clone, Debug)]
pub(crate) struct Election {
    /// The session over which it is held.
    pub(crate) session: coord::Config,
    /// Its znode.
    pub(crate) path: ZnodePath,
}

/// The ports of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Publishers connect to it.
    pub(crate) publishers: u16,
    /// Subscribers connect to it.
    pub(crate) subscribers: u16,
    /// The heartbeat is published on it.
    pub(crate) beat: u16,
}

/// What is kept in the cluster, and how.
#[derive(Clone, Debug)]
pub(crate) struct Keep {
    /// Topics that begin with one of these.
    pub(crate) prefixes: Vec<Vec<u8>>,
    /// Heads of the cluster, `host:port` each.
    pub(crate) heads: net::Heads,
    /// Forward a message only once it is kept.
    pub(crate) required: bool,
    /// Bytes of messages that wait to be kept.
    pub(crate) queue_bytes: usize,
}

/// A broker could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A port can't be listened on.
    #[error("{source}; {}", remedy(source))]
    Listen {
        /// Which, and why.
        #[source]
        source: zmq::Error,
    },
    /// There is no ZooKeeper, or it refuses.
    #[error(transparent)]
    Election(#[from] coord::Error),
    /// A socket can't be used.
    #[error(transparent)]
    Socket(#[from] zmq::Error),
    /// The thread that keeps messages can't be started.
    #[error("cannot start the thread that keeps messages: {0}; free memory or processes")]
    Thread(#[source] std::io::Error),
}

fn remedy(error: &zmq::Error) -> &'static str {
    match error {
        zmq::Error::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            "stop what listens there, or choose other ports or another --bind"
        }
        zmq::Error::Bind { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "choose ports above 1023"
        }
        _ => "choose an address of this machine with --bind",
    }
}

impl Config {
    fn own(&self, port: u16) -> Address {
        Address { host: self.bind.to_string(), port }
    }

    /// How its sockets that listen are set.
    fn server(&self) -> Bounds {
        Bounds { curve: self.keys.clone().map(Curve::Server), ..self.bounds.clone() }
    }

    /// How it connects to its peer, which has the same keys.
    fn client(&self) -> Bounds {
        Bounds { curve: self.keys.as_ref().map(|keys| Curve::Client(keys.public())), ..self.bounds.clone() }
    }

    fn peers(&self, port: u16) -> Option<Address> {
        self.peer.as_ref().map(|host| Address { host: host.clone(), port })
    }
}
