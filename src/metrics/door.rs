//! The door of a head or a data node for those who watch it: `/metrics`, `/healthz` and `/readyz` over HTTP. It takes
//! nothing in; connections, their time and their bytes are bounded, and it runs on its role's own thread. Who is let in is
//! [`HttpDoor`]'s; whether the process is there, `/healthz` tells everybody.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Metrics, Snapshot, readiness};
use crate::limits;
use crate::tokens::Role;
use crate::tokens::http::{Denied, HttpDoor, Peer};

/// Makes snapshots, once a second at most.
struct Snapshots<F> {
    make: F,
    last: RefCell<Option<(Instant, Snapshot)>>,
}

impl<F: Fn() -> Snapshot> Snapshots<F> {
    fn now(&self) -> Snapshot {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((at, snapshot)) if at.elapsed() < limits::METRICS_FRESH => snapshot.clone(),
            _ => last.insert((Instant::now(), (self.make)())).1.clone(),
        }
    }
}

/// Where it listens, and whom it lets in; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// The socket.
    pub(crate) listener: Arc<TcpListener>,
    /// Who is let in.
    pub(crate) admits: Arc<HttpDoor>,
}

/// Serves until it is dropped.
pub(crate) async fn serve(door: Door, make: impl Fn() -> Snapshot + 'static) {
    tokio::select! {
        () = accept(&door, make) => {}
        // It ends where there is no file to read.
        () = async { door.admits.follow().await; pending().await } => {}
    }
}

async fn accept(Door { listener, admits }: &Door, make: impl Fn() -> Snapshot + 'static) {
    let snapshots = Rc::new(Snapshots { make, last: RefCell::new(None) });
    let places = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, peer)) => {
                let (snapshots, admits) = (Rc::clone(&snapshots), Arc::clone(admits));
                connections.spawn_local(async move {
                    let peer = Peer { ip: peer.ip(), secured: false };
                    connection(socket, peer, &admits, &snapshots).await;
                    drop(place);
                });
            }
            // Out of descriptors: those who store messages have them, and somebody watches again soon.
            Err(_) => sleep(limits::ACCEPT_PAUSE).await,
        }
    }
}

async fn connection<F: Fn() -> Snapshot>(socket: TcpStream, peer: Peer, door: &HttpDoor, snapshots: &Snapshots<F>) {
    if socket2::SockRef::from(&socket).set_tcp_user_timeout(Some(limits::WEB_UNREAD_TIME_MAX)).is_err() {
        return;
    }
    let service = service_fn(async |request: Request<Incoming>| {
        let admitted = match request.uri().path() {
            "/healthz" => Ok(()),
            _ => door.admit(peer, request.headers()).await.and_then(|caller| caller.may(Role::Read)),
        };
        Ok::<_, Infallible>(admitted.map_or_else(|denied| refusal(&denied), |()| answer(&request, snapshots)))
    });
    let mut served = http1::Builder::new();
    served
        .timer(TokioTimer::new())
        .half_close(true)
        .header_read_timeout(limits::HTTP_HEAD_TIME_MAX)
        .max_buf_size(limits::HTTP_HEAD_BYTES_MAX)
        .max_headers(limits::HTTP_FIELDS_MAX);
    // Who asks and goes away is no matter.
    drop(served.serve_connection(TokioIo::new(socket), service).await);
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn refusal(denied: &Denied) -> Response<Full<Bytes>> {
    let mut refused = response(denied.status, PLAIN, format!("error: {}\n", denied.text));
    if let Some(challenge) = denied.challenge() {
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    refused
}

fn answer<F: Fn() -> Snapshot>(request: &Request<Incoming>, snapshots: &Snapshots<F>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "error: ask with GET\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let Snapshot { metrics, .. } = snapshots.now();
            let (kind, text) = Metrics::text(metrics, accept);
            response(StatusCode::OK, kind, text)
        }
        "/healthz" => response(StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" => {
            let (is_ready, text) = readiness(&snapshots.now().ready);
            response(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, PLAIN, text)
        }
        _ => {
            let text = "error: there is no such path; there are /metrics, /healthz and /readyz\n".to_owned();
            response(StatusCode::NOT_FOUND, PLAIN, text)
        }
    }
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
