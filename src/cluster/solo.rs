//! A solo head: a head and its one data node in a process, a thread each.
//!
//! They talk over a local socket as they would between machines, so a solo head keeps messages under the same rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

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
    /// The address it listens on, a thread or a runtime is not to be had.
    #[error("cannot start the embedded data node: {0}; free memory or file descriptors")]
    Start(std::io::Error),
    /// The thread of the data node ended without saying why.
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
    let (ended, mut node_ended) = oneshot::channel();
    thread::Builder::new()
        .name("data".to_owned())
        .spawn({
            let shutdown = node_shutdown.clone();
            move || drop(ended.send(run_node(node, shutdown)))
        })
        .map_err(Error::Start)?;
    let mut head = std::pin::pin!(head::run(head, doors, head_shutdown.clone()));
    tokio::select! {
        result = &mut head => {
            node_shutdown.cancel();
            let node = node_ended.await.unwrap_or(Err(Error::Lost));
            result?;
            node
        }
        node = &mut node_ended => {
            head_shutdown.cancel();
            head.await?;
            node.unwrap_or(Err(Error::Lost))
        }
        () = shutdown.cancelled() => {
            head_shutdown.cancel();
            let result = head.await;
            node_shutdown.cancel();
            let node = node_ended.await.unwrap_or(Err(Error::Lost));
            result?;
            node
        }
    }
}

fn run_node(node: data::Config, shutdown: CancellationToken) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    LocalSet::new().block_on(&runtime, data::run(node, shutdown)).map_err(Error::Data)
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
