//! `/clase`: the cluster of `acopio up` on a projector, and buttons that break it. It is there only where `up` started this
//! process: the state comes over one pipe of its, and orders go back over another.
//!
//! An order is taken from a page of this address alone, by its loopback name: neither another site's page nor a name that
//! leads here breaks anything.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Web;
use super::page::{POLICY, at};
use super::reads::{Out, Pieces};
use super::routes::{Problem, Shared};
use crate::limits;

/// The two pipes.
#[derive(Clone, Debug)]
pub(crate) struct Classroom {
    /// The state as `up` tells it, JSON in one line; empty before the first one.
    pub(crate) state: watch::Receiver<String>,
    /// Orders for `up`.
    pub(crate) orders: mpsc::Sender<String>,
}

/// The page. Its files are those of `page`.
const PAGE: &str = include_str!("page/clase.html");

/// All paths.
pub(crate) fn router() -> Router<Arc<Web>> {
    Router::new().route("/clase", get(page)).route("/clase/events", get(events)).route("/clase/orders", post(order))
}

async fn page() -> Response {
    let files = ["style.css", "clase.css", "clase.js", "icon.svg"];
    let page = files.iter().fold(PAGE.to_owned(), |page, name| page.replace(&format!("/page/{name}"), &at(name)));
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (fields, page).into_response()
}

/// Whether a request names this machine by an address that leads nowhere else.
fn is_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(host, _)| host);
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

async fn order(
    State(web): Shared,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let Some(classroom) = &web.classroom else { return Err(nothing()) };
    if !is_loopback(&headers) {
        let text = "orders are taken at a loopback address alone; open http://127.0.0.1 on this machine".to_owned();
        return Err(Problem::new(StatusCode::FORBIDDEN, text));
    }
    let body = body?;
    let order = std::str::from_utf8(&body).ok().map(str::trim).filter(|order| {
        (1..=limits::UP_ORDER_BYTES_MAX).contains(&order.len()) && order.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    let Some(order) = order else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "send a key of 'acopio up', such as k2".to_owned()));
    };
    match classroom.orders.try_send(order.to_owned()) {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(_) => Err(Problem::away("as many orders wait as may; try again in a moment".to_owned())),
    }
}

fn nothing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such page; see /".to_owned())
}

/// The state of `up` and that of the heads, as they change.
async fn events(State(web): Shared) -> Result<Response, Problem> {
    let Some(classroom) = web.classroom.clone() else { return Err(nothing()) };
    let full = |_| Problem::away("as many look as may; come again in a moment".to_owned());
    let place = Arc::clone(&web.places.streams).try_acquire_owned().map_err(full)?;
    let run = |out: Out| async move {
        let _place = place;
        let stopping = web.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.cancelled() => Ok(()),
            ended = send(&web, classroom.state, &out) => ended,
        }
    };
    let pieces = Pieces::of(run).await.map_err(Problem::away)?;
    let mut response = Body::from_stream(pieces).into_response();
    for (name, value) in [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

async fn send(web: &Web, mut state: watch::Receiver<String>, out: &Out) -> Result<(), String> {
    let mut status_at = Instant::now();
    state.mark_changed();
    loop {
        tokio::select! {
            changed = state.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let line = state.borrow_and_update().clone();
                if !line.is_empty() {
                    out.send(format!("event: state\ndata: {line}\n\n")).await?;
                }
            }
            () = sleep_until(status_at) => {
                let cluster = web.heads.cluster().await;
                out.send(format!("event: status\ndata: {}\n\n", cluster.json())).await?;
                status_at = Instant::now() + limits::WEB_CLASSROOM_STATUS_EVERY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_taken() {
        let is = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            is_loopback(&headers)
        };
        for host in ["127.0.0.1:8080", "127.0.0.1", "localhost:8080", "localhost", "[::1]:8080", "127.0.0.2:1"] {
            assert!(is(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "10.0.0.7:8080", "127.0.0.1.evil.example", "", "[::2]:80"] {
            assert!(!is(host), "{host}");
        }
        assert!(!is_loopback(&HeaderMap::new()));
    }

    #[test]
    fn the_page_has_nothing_inline() {
        assert!(!PAGE.contains("style=") && !PAGE.contains(" on") && !PAGE.contains("<script>"), "{PAGE}");
    }
}
