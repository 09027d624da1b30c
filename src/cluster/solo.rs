//! A solo head: a head and its one data node in a process, on one thread, so that a message waits for no hand-over between
//! threads. Where many come, the node's own thread for commits writes and syncs them.
//!
//! They talk over a local socket as they would between machines, so a solo head keeps messages under the same rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::task::{JoinError, spawn_local};

use crate::{data, head};
use tokio_util::sync::CancellationToken;

/// A solo head ended on its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its head did.
    #[error(transparent)]
    Head(#[from] head::Error),
    /// Its data node did.
    #[error(transparent)]
    Data(data::Error),
    /// The address it listens on is not to be had.
    #[error("cannot start the embedded data node: {0}; free memory or file descriptors")]
    Start(std::io::Error),
    /// The data node ended without saying why.
    #[error("the embedded data node broke off; start the head again, which checks its folder")]
    Lost,
}

/// Runs a head and its data node until told to stop: the head first, so that the node keeps what is under way. The
/// node dials the listener, whatever `node.heads` names.
///
/// # Errors
/// Whichever of them ends on its own says why; the other is ended in order.
pub(crate) async fn run(
    head: head::Config,
    mut node: data::Config,
    doors: head::Doors,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    node.heads = vec![dialled(doors.main.local_addr().map_err(Error::Start)?).to_string()].into();
    let head_shutdown = CancellationToken::new();
    let node_shutdown = CancellationToken::new();
    // The node ends in order, too, if this is given up.
    let _given_up = node_shutdown.clone().drop_guard();
    let mut node = spawn_local(data::run(node, node_shutdown.clone()));
    let mut head = std::pin::pin!(head::run(head, doors, head_shutdown.clone()));
    tokio::select! {
        result = &mut head => {
            node_shutdown.cancel();
            let node = ended(node.await);
            result?;
            node
        }
        node = &mut node => {
            head_shutdown.cancel();
            head.await?;
            ended(node)
        }
        () = shutdown.cancelled() => {
            head_shutdown.cancel();
            let result = head.await;
            node_shutdown.cancel();
            let node = ended(node.await);
            result?;
            node
        }
    }
}

/// What became of the data node.
fn ended(node: Result<Result<(), data::Error>, JoinError>) -> Result<(), Error> {
    node.map_err(|_| Error::Lost)?.map_err(Error::Data)
}

/// The address at which this process reaches a listener of its own.
fn dialled(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listener.port())
}
