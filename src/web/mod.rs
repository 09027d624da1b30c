//! The web role: takes values over HTTP and lists them. It stores and reads by the client library alone, and answers
//! 200 to a value only once the cluster keeps it.
//!
//! The paths are in `routes`, and those of the API in `api` (`question`: what is asked for, `reads` and `series`: what is
//! read for it); `door` lets in who may come,
//! `guard` keeps other sites' pages out. The cluster is followed once (`follow`) for all who look: the list
//! (`values`, shown by `pages`), the sources (`board`), the streams (`live`); `cluster` is what heads say, as JSON, and `page` shows
//! all of it. `classroom` is there in a cluster of `up` alone. Each value is handed on to Redis if one is named (`redis`). There is no database here, and nothing is written
//! to a disk.

mod api;
mod board;
mod classroom;
mod cluster;
mod dato;
mod door;
mod follow;
mod guard;
mod lag;
mod live;
mod page;
mod pages;
mod question;
mod reads;
mod redis;
mod routes;
mod series;
mod values;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::Level;

pub(crate) use self::classroom::Classroom;
pub(crate) use self::redis::Target;
use crate::client::reader;
use crate::client::{self, Keeper};
use crate::metrics::{Metrics, Value};
use crate::net::tls::served::Certificates;
use crate::peer_log::PeerLog;
use crate::reading::{Rules, UnixNs};
use crate::table::moment::now_ns;
use crate::tokens::http::{Caller, HttpDoor, Peer};
use crate::wire::source::SourceName;
use crate::{limits, net, overview};
use board::Board;
use dato::Dato;
use live::Live;
use values::Values;

/// Settings of the web role.
#[derive(Debug)]
pub(crate) struct Config {
    /// Heads, `host:port` each; the first that answers is used, the next when it is lost.
    pub(crate) heads: net::Heads,
    /// The name under which it shows itself.
    pub(crate) host: String,
    /// The name of the source under which values are kept.
    pub(crate) name: Option<SourceName>,
    /// Time a value has to be kept; then the answer is 503.
    pub(crate) keep_for: Duration,
    /// Values that are listed.
    pub(crate) values: usize,
    /// Where values are handed on to.
    pub(crate) redis: Option<Target>,
    /// What payloads mean that do not say it themselves.
    pub(crate) rules: Rules,
    /// Who is let in.
    pub(crate) admits: HttpDoor,
    /// How it speaks TLS; other machines have to, then.
    pub(crate) certificates: Option<Certificates>,
    /// How `up` is talked to, if that started it.
    pub(crate) classroom: Option<Classroom>,
}

/// What the handlers share.
struct Web {
    host: String,
    heads: overview::Heads,
    reads: reader::Config,
    keeper: Keeper,
    name: Option<SourceName>,
    rules: Rules,
    values: Values,
    board: Board,
    live: Live,
    places: Places,
    admits: HttpDoor,
    certificates: Option<Certificates>,
    redis: Option<(Target, redis::State)>,
    classroom: Option<Classroom>,
    /// The role ends: so do streams.
    stopping: CancellationToken,
}

/// Places of those who are served at the same time.
struct Places {
    reads: Arc<Semaphore>,
    stores: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let places = |most| Arc::new(Semaphore::new(most));
        let [reads, stores, streams] =
            [limits::WEB_READS_MAX, limits::WEB_STORES_MAX, limits::WEB_STREAMS_MAX].map(places);
        Self { reads, stores, streams }
    }
}

impl Web {
    /// Stores a value; returns when it is kept.
    async fn store(&self, dato: Dato) -> Result<dato::Value, client::Error> {
        let kept = self.keeper.keep_of(self.name, dato.record().into()).await?;
        let value = dato::Value { id: kept.id, from: (kept.client, kept.seq), dato: Ok(dato) };
        self.values.insert(value.clone());
        Ok(value)
    }

    /// How a read for somebody who asked is done.
    fn reads(&self) -> reader::Config {
        reader::Config { retry_for: limits::WEB_READ_RETRY_TIME, seed: rand::random(), ..self.reads.clone() }
    }

    /// The cluster's numbers, and those of who looks at it here.
    async fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        let (cluster, devices) = tokio::join!(self.heads.cluster(), self.heads.devices());
        cluster.add_to(&mut metrics);
        cluster::add_ages(&mut metrics, &devices, &self.board, UnixNs(now_ns()));
        let taken = |places: &Semaphore, most: usize| Value::Gauge((most - places.available_permits()) as f64);
        let streams = taken(&self.places.streams, limits::WEB_STREAMS_MAX);
        metrics.one("acopio_web_streams", "Streams of what comes that are open", streams);
        let reads = taken(&self.places.reads, limits::WEB_READS_MAX);
        metrics.one("acopio_web_reads", "Reads that are being answered", reads);
        metrics
    }

    /// Whether a value would be kept and the list is there.
    async fn ready(&self) -> Result<(), String> {
        let cluster = self.heads.cluster().await;
        if !cluster.first()?.nodes.iter().any(|node| node.writable) {
            return Err("no hay dataNodes: none takes messages; start one, or mend those there are".to_owned());
        }
        self.values.whole()
    }
}

/// Serves until it is asked to stop, then finishes the requests that it took.
pub(crate) async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) {
    let client = client::Config { retry_for: config.keep_for, ..client::Config::following(config.heads.clone()) };
    let reads = reader::Config::following(config.heads.clone());
    let web = Arc::new(Web {
        host: config.host,
        heads: overview::Heads::new(config.heads),
        reads: reads.clone(),
        keeper: Keeper::new(client),
        name: config.name,
        board: Board::new(config.rules.clone()),
        rules: config.rules,
        live: Live::new(rand::random()),
        places: Places::default(),
        admits: config.admits,
        certificates: config.certificates,
        values: Values::new(config.values),
        redis: config.redis.map(|target| (target, redis::State::default())),
        classroom: config.classroom,
        stopping: shutdown.clone(),
    });
    let mut chores = JoinSet::new();
    let (followed, from) = (Arc::clone(&web), reads.clone());
    chores.spawn(async move { follow::follow(&followed, from).await });
    let given = Arc::clone(&web);
    chores.spawn(async move { given.live.give_out().await });
    let handed = Arc::clone(&web);
    chores.spawn(async move {
        if let Some((target, state)) = &handed.redis {
            redis::hand_on(target, state, reads).await;
        }
    });
    let watched = Arc::clone(&web);
    chores.spawn(async move { watched.admits.follow().await });
    if let Some(certificates) = web.certificates.clone() {
        chores.spawn(async move { certificates.follow().await });
    }
    let router = routes::router(Arc::clone(&web));
    let time = config.keep_for + limits::WEB_REQUEST_TIME_EXTRA;
    serve(&web, &router, time, &listener, &shutdown).await;
    chores.shutdown().await;
    tracing::info!("stopped");
}

async fn serve(web: &Web, router: &Router, time: Duration, listener: &TcpListener, shutdown: &CancellationToken) {
    let places = Arc::new(Semaphore::new(limits::WEB_CONNECTIONS_MAX + limits::WEB_STREAMS_MAX));
    let log = Arc::new(PeerLog::default());
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.map_err(std::io::Error::other)?;
                listener.accept().await.map(|accepted| (accepted, place))
            } => accepted,
        };
        match accepted {
            Ok(((socket, peer), place)) => {
                failing = false;
                let log = Arc::clone(&log);
                let server = Server { router: router.clone(), log, time, shutdown: shutdown.clone() };
                let connection = door::connection(socket, peer.ip(), web.certificates.clone(), server);
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(
                        "connections cannot be accepted: {error}; raise the limit of open files (ulimit -n)"
                    );
                }
                sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(limits::DRAIN_TIME_MAX, ended).await.is_err() {
        tracing::warn!("stopping with requests unanswered; their values may be kept or not");
    }
}

/// What every connection is served with.
struct Server {
    router: Router,
    log: Arc<PeerLog>,
    /// Time for a request.
    time: Duration,
    shutdown: CancellationToken,
}

impl Server {
    /// Serves one connection until it ends; what is under way is finished when the role stops.
    async fn serve(self, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let Self { router, log, time, shutdown } = self;
        let service = service_fn(move |request| answer((router.clone(), Arc::clone(&log)), request, peer, time));
        let mut served = http1::Builder::new();
        served
            .timer(TokioTimer::new())
            // Who has sent its request may close its sending side, as nc does, and is answered all the same.
            .half_close(true)
            .header_read_timeout(limits::WEB_HEAD_TIME_MAX)
            .max_buf_size(limits::WEB_HEAD_BYTES_MAX)
            .max_headers(limits::WEB_FIELDS_MAX);
        let mut served = std::pin::pin!(served.serve_connection(TokioIo::new(socket), service));
        let result = tokio::select! {
            result = served.as_mut() => result,
            () = shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = result {
            tracing::debug!("{}: {error}", peer.ip);
        }
    }
}

/// One request, bounded in time and told in the log: those whose values are kept each, the others as often as one address
/// may cause lines.
async fn answer(
    (mut router, log): (Router, Arc<PeerLog>),
    mut request: Request<Incoming>,
    peer: Peer,
    time: Duration,
) -> Result<Response, std::convert::Infallible> {
    let (method, uri) = (request.method().clone(), request.uri().to_string());
    request.extensions_mut().insert(peer);
    let answered = timeout(time, router.call(request.map(Body::new))).await;
    let response = match answered {
        Ok(Ok(response)) => response,
        Err(_) => {
            let text = format!("error: the request took longer than {time:?}; send it again\n");
            (StatusCode::REQUEST_TIMEOUT, text).into_response()
        }
    };
    let (status, uri) = (response.status(), dato::cut(&uri, limits::WEB_LOGGED_BYTES_MAX));
    let (kept, status) = (status.is_success(), status.as_u16());
    let brings = method == Method::POST || uri.starts_with("/nuevo");
    let who = response.extensions().get().and_then(Caller::name).map(|name| format!(" {name}")).unwrap_or_default();
    let line = format!("{}{who} \"{method} {uri}\" {status}", peer.ip);
    if brings && kept {
        tracing::info!("{line}");
    } else if brings {
        log.say(Some(peer.ip), Level::INFO, &line);
    } else {
        tracing::debug!("{line}");
    }
    Ok(response)
}
