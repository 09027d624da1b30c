//! A head: takes clients and data nodes on one port, gives every message an id and a random node, answers when it is
//! kept.
//!
//! This page is the contents: [`run`] accepts, `connection` shakes hands, `text_client`, `framed_client`, `node` and
//! `text_node` are the four kinds of session (`cutter`: text in batches, `names`: who has which name), `gate` says who has to prove what, `secured` who speaks TLS, `admission` which clients are let in (`grants`: what a token lets do; `pacing`: how much each may send), `nodes` takes data nodes in, `core` decides (`placement`: which ledger a batch goes to, `open`: one that is
//! written, `window`: how much a node may have), `heartbeat` watches, `registro` remembers, `access` writes down who did what, `status` tells. `reads` answers
//! readers with what is there, put together by `merge`, and `follow` with what comes (`readers`: what they share). `cluster`
//! is what this head has heard, `known` answers out of that, `rounds` carries out what is decided about it, `relay` passes
//! copies on, `tagging` makes the tags of records and checks them, `drain` lets nodes go; `said` tells what is wrong. A head keeps no messages: data nodes do.
//!
//! `state` is what all of them share. Its tables stand in files of their own, which know nothing of it: `alarms`, `cluster`,
//! `book`, `drains`, `grants`, `guests`, `live`, `marks`, `pages`, `pulse`, `questions`, `rates`, `refusals`, `shares`,
//! `takeovers`, `visits`.

mod access;
mod admission;
mod alarms;
mod book;
mod clock;
mod cluster;
mod config;
mod connection;
pub(crate) mod core;
mod cutter;
mod devices;
mod drain;
mod drains;
mod effects;
mod faults;
mod flow;
mod follow;
mod framed_client;
#[cfg(test)]
mod fuzz;
mod gate;
mod grants;
mod guests;
mod heartbeat;
mod knocks;
mod known;
mod live;
mod marks;
pub(crate) mod merge;
mod metrics;
mod names;
mod node;
mod nodes;
mod noted;
mod open;
mod pacing;
mod pages;
mod parting;
mod places;
mod pulse;
mod questions;
mod rates;
mod readers;
mod reads;
mod refusals;
mod registered;
pub(crate) mod registro;
mod relay;
mod rounds;
mod said;
mod secured;
mod shares;
pub(crate) mod shelf;
mod state;
mod status;
mod steady;
mod tagging;
mod takeovers;
mod text_client;
mod text_node;
mod unread;
mod visits;
mod window;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(crate) use access::ACCESS;
pub(crate) use book::FILE as NAMES_FILE;
pub(crate) use config::Config;
pub(crate) use gate::Gate;
pub(crate) use grants::Admits;
pub(crate) use guests::Rules;
pub(crate) use marks::Records;
pub(crate) use shares::Share;

use crate::lock::{Lock, Role};
use crate::metrics::door;
use crate::net::{Listener, Stream, Turn};
use crate::wire::said::Said;
use crate::{files, limits};
use registro::Registro;
use shelf::Shelf;
use state::Head;
use tokio_util::sync::CancellationToken;

/// Why a head could not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The registro can't be opened.
    #[error(transparent)]
    Registro(#[from] crate::daily::Error),
    /// Another head writes its logs there.
    #[error(transparent)]
    InUse(#[from] crate::lock::Error),
}

/// Where a head listens.
pub(crate) struct Doors {
    /// For clients and data nodes, which shake hands.
    pub(crate) main: Listener,
    /// For devices that send lines and nothing else: what they would say of themselves.
    pub(crate) plain: Vec<(Listener, Said)>,
    /// For the data node of a solo head, which is in its process.
    pub(crate) inside: Option<Listener>,
    /// For who watches it, over HTTP.
    pub(crate) http: Option<door::Door>,
}

impl From<Listener> for Doors {
    fn from(main: Listener) -> Self {
        Self { main, plain: Vec::new(), inside: None, http: None }
    }
}

/// Runs a head on these doors until it is asked to stop, then finishes what it accepted. Call it inside a
/// [`LocalSet`](tokio::task::LocalSet): its tasks share one thread.
///
/// # Errors
/// The registro can't be opened.
pub(crate) async fn run(config: Config, doors: Doors, shutdown: CancellationToken) -> Result<(), Error> {
    // Two heads in one registro could not be told apart; and whoever comes second removes nothing of the first one's.
    let _lock = Lock::take(&config.logs, Role::Head, "head")?;
    if let Some(said) = files::open_to_everybody(&config.logs) {
        tracing::warn!("{said}");
    }
    let registro = Registro::open(&config.logs, config.keep_registro, config.clock.clone())?;
    let shelf = Shelf::Path(config.logs.join(cluster::FILE));
    run_on(config, registro, shelf, doors, shutdown).await;
    Ok(())
}

/// As [`run`], with a registro that is open and locked already, and a place for `head.state`.
pub(crate) async fn run_on(
    config: Config,
    registro: Registro,
    shelf: Shelf,
    doors: Doors,
    shutdown: CancellationToken,
) {
    let head = Rc::new(Head::new(config, registro, shelf));
    // Data nodes are let go only when clients have their answers.
    let finished = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut chores = JoinSet::new();
    chores.spawn_local(heartbeat::run(Rc::clone(&head), shutdown.clone()));
    chores.spawn_local(heartbeat::look(Rc::clone(&head)));
    chores.spawn_local(Rc::clone(&head).run_rounds());
    let sampled = Rc::clone(&head);
    chores.spawn_local(async move { status::sample(&sampled).await });
    let watched = Rc::clone(&head);
    chores.spawn_local(async move { said::run(&watched).await });
    chores.spawn_local(places::close_idle(Rc::clone(&head)));
    chores.spawn_local(names::follow(Rc::clone(&head)));
    chores.spawn_local(admission::follow(Rc::clone(&head)));
    chores.spawn_local(tagging::follow(Rc::clone(&head)));
    if let Some(certificates) = head.config.secured.clone() {
        chores.spawn_local(async move { certificates.follow().await });
    }
    if let Some(http) = &doors.http {
        let watched = Rc::clone(&head);
        chores.spawn_local(door::serve(http.clone(), move || metrics::snapshot(&watched)));
    }
    let places = Arc::new(Semaphore::new(head.config.clients.most + limits::CONNECTIONS_EXTRA));
    let (mut failing, mut turn) = (false, Turn::default());
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&head, &doors, &places) => accepted,
        };
        match accepted {
            Ok(Arrival { socket, peer, said, place }) => {
                failing = false;
                turn.spend(limits::TURN_BYTES / limits::TURN_ACCEPTS).await;
                let counted = match head.count_connection(peer.ip()) {
                    Err(None) => {
                        socket.reset();
                        continue;
                    }
                    Err(Some(refusal)) => Err(refusal),
                    Ok(counted) => Ok(counted),
                };
                let (head, stopping, finished) = (Rc::clone(&head), shutdown.clone(), finished.clone());
                connections.spawn_local(async move {
                    let _place = place;
                    // A session's state takes some KB, which spawning would move about.
                    match (counted, said) {
                        (Err(refusal), _) => connection::turn_away(head, socket, peer, refusal, stopping).await,
                        (Ok(_counted), None) => {
                            Box::pin(connection::serve(head, socket, peer, stopping, finished)).await;
                        }
                        (Ok(_counted), Some(said)) => {
                            Box::pin(connection::serve_plain(head, socket, peer, said, stopping)).await;
                        }
                    }
                });
            }
            Err(error) => {
                // Out of descriptors or memory: what is there goes on; accepting again at once would only spin.
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(
                        "connections cannot be accepted: {error}; raise the limit of open files (ulimit -n)"
                    );
                }
                sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
    drop(doors);
    tracing::info!("stopping: no new messages, finishing {} in flight", head.core(|core| core.counters().in_flight));
    let idle = async {
        while head.places.taken() > 0 {
            let ended = connections.join_next().await;
            debug_assert!(ended.is_some(), "a client's place outlives its session");
            if ended.is_none() {
                break;
            }
        }
    };
    if timeout(limits::DRAIN_TIME_MAX, idle).await.is_err() {
        tracing::warn!("stopping with {} messages unanswered", head.core(|core| core.counters().in_flight));
    }
    finished.cancel();
    // What no node acknowledged is refused now, and its clients read that.
    let gone = async { while connections.join_next().await.is_some() {} };
    if timeout(limits::CLOSE_TIME_MAX, gone).await.is_err() {
        tracing::debug!("some connections are cut");
    }
    chores.shutdown().await;
    head.close_registro();
    head.say_last();
    head.sum_visits(true);
    tracing::info!("stopped");
}

/// Who has come in.
struct Arrival {
    socket: Stream,
    peer: std::net::SocketAddr,
    /// It came by a plain port: what that says of it.
    said: Option<Said>,
    place: tokio::sync::OwnedSemaphorePermit,
}

async fn accept(head: &Head, doors: &Doors, places: &Arc<Semaphore>) -> io::Result<Arrival> {
    if places.available_permits() == 0 {
        head.make_way();
    }
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let handshakes = std::iter::once(&doors.main).chain(&doors.inside).map(|listener| (listener, None));
    let all = handshakes.chain(doors.plain.iter().map(|(listener, said)| (listener, Some(*said))));
    let mut all: Vec<_> = all.map(|(listener, said)| (Box::pin(listener.accept()), said)).collect();
    let (accepted, said) = poll_fn(|cx| {
        let first = all.iter_mut().find_map(|(accept, said)| match accept.as_mut().poll(cx) {
            Poll::Ready(accepted) => Some((accepted, *said)),
            Poll::Pending => None,
        });
        first.map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    let (socket, peer) = accepted?;
    Ok(Arrival { socket, peer, said, place })
}
