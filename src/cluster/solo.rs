//! A solo head: a head and its one data node in a process, on one thread, so that a message waits for no hand-over between
//! threads. Where many come, the node's own thread for commits writes and syncs them.
//!
//! They talk in frames as they would between machines, but within the process, so a solo head keeps messages under the same rules.

use tokio::task::{JoinError, spawn_local};
use tokio_util::sync::CancellationToken;

use crate::net::{Listener, Net, inside};
use crate::{data, head};

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
/// node dials this head, whatever `node.heads` and `node.net` say.
///
/// # Errors
/// Whichever of them ends on its own says why; the other is ended in order.
pub(crate) async fn run(
    head: head::Config,
    mut node: data::Config,
    mut doors: head::Doors,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (dialler, listener) = inside(doors.main.local_addr().map_err(Error::Start)?.port());
    node.heads = vec![listener.at().to_string()].into();
    node.net = Net::Inside(dialler);
    doors.inside = Some(Listener::Inside(listener));
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
