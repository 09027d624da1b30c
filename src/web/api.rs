//! The paths under `/api/v1`, which `openapi.json` beside this file describes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::live::{Gone, Wanted};
use super::question::{Fields, Question};
use super::reads::{Messages, Out, Pieces};
use super::routes::{Problem, Shared, is_json};
use super::{Web, cluster, dato, pages, series};
use crate::client;
use crate::limits;
use crate::reading::UnixNs;
use crate::table::moment::now_ns;
use crate::tokens::http::Caller;
use crate::wire::said::Who;
use crate::wire::source::SourceName;

/// The document that says what is here.
const OPENAPI: &str = include_str!("openapi.json");

/// The names of a stream's fields.
const STREAM_FIELDS: [&str; 3] = ["source", "after", "status"];

/// All paths.
pub(crate) fn router() -> Router<Arc<Web>> {
    let store = post(store).layer(DefaultBodyLimit::max(limits::WEB_MESSAGE_BODY_BYTES_MAX));
    Router::new()
        .route("/api/v1/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI)))
        .route("/api/v1/sources", get(sources))
        .route("/api/v1/messages", get(messages).merge(store))
        .route("/api/v1/series", get(series_of))
        .route("/api/v1/live", get(live))
        .route("/api/v1/values", get(values).merge(post(new_value)))
        .route("/api/v1/status", get(status))
        .route("/api/v1/connections", get(connections))
}

fn bad(text: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, text)
}

/// Each field is right, but they do not go together.
fn unfit(text: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text)
}

/// A place among those who are served at the same time.
fn place(places: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    let full = |_| Problem::away(format!("there are as many {what} under way as there may be; come again in a moment"));
    Arc::clone(places).try_acquire_owned().map_err(full)
}

async fn sources(State(web): Shared) -> Response {
    let devices = web.heads.devices().await;
    // The place first: what comes after it is in the stream, and may be here as well.
    let live = web.live.name(web.live.end());
    let mut told = cluster::sources(&devices, &web.board, UnixNs(now_ns()));
    if let Some(members) = told.as_object_mut() {
        members.insert("live".to_owned(), live.into());
    }
    Json(told).into_response()
}

async fn messages(State(web): Shared, uri: Uri) -> Response {
    match read_messages(&web, uri.query().unwrap_or_default()).await {
        Ok(response) => response,
        Err(problem) => problem.json(),
    }
}

async fn read_messages(web: &Arc<Web>, query: &str) -> Result<Response, Problem> {
    let fields = Fields::parse(query, &Question::FIELDS).map_err(bad)?;
    let question = Question::parse(&fields, SystemTime::now()).map_err(bad)?;
    let (kind, end) = question.form.kind();
    let is_file = question.download;
    let read = Messages::new(web, question, place(&web.places.reads, "reads")?).map_err(unfit)?;
    let pieces = Pieces::of(|out| read.run(out)).await.map_err(Problem::away)?;
    let mut response = ([(header::CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response();
    if is_file {
        let disposition = HeaderValue::try_from(format!("attachment; filename=\"acopio.{end}\""));
        let disposition = disposition.unwrap_or(HeaderValue::from_static("attachment"));
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

async fn series_of(State(web): Shared, uri: Uri) -> Response {
    let read = async {
        let asked = series::Asked::parse(uri.query().unwrap_or_default(), SystemTime::now()).map_err(bad)?;
        let span = asked.span().map_err(unfit)?;
        let _place = place(&web.places.reads, "reads")?;
        asked.read(&web, span).await.map_err(Problem::away)
    };
    match read.await {
        Ok(series) => Json(series).into_response(),
        Err(problem) => problem.json(),
    }
}

/// A message in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    source: Option<String>,
    text: String,
}

async fn store(
    State(web): Shared,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match keep(&web, &caller, uri.query().unwrap_or_default(), is_json(&headers), body).await {
        Ok(kept) => (StatusCode::CREATED, Json(kept)).into_response(),
        Err(problem) => problem.json(),
    }
}

/// Stores a message, and answers once it is kept.
async fn keep(
    web: &Web,
    caller: &Caller,
    query: &str,
    is_json: bool,
    body: Result<Bytes, BytesRejection>,
) -> Result<serde_json::Value, Problem> {
    let body = body.map_err(|rejection| Problem::of_body(&rejection, limits::WEB_MESSAGE_BODY_BYTES_MAX))?;
    let _place = place(&web.places.stores, "messages")?;
    let fields = Fields::parse(query, &["source"]).map_err(bad)?;
    let named = |name: &str| name.parse::<SourceName>().map_err(|error| bad(format!("source: {error}")));
    let mut name = fields.get("source").map(named).transpose()?;
    let payload = if is_json {
        let such_as = "send JSON such as {\"source\": \"esp7\", \"text\": \"temp=21.4\"}";
        let NewMessage { source, text } =
            serde_json::from_slice(&body).map_err(|error| bad(format!("{error}; {such_as}")))?;
        name = source.as_deref().map(named).transpose()?.or(name);
        Bytes::from(text)
    } else {
        body
    };
    let source = name.or(web.name);
    if source.as_ref().is_some_and(SourceName::is_of_notes) {
        return Err(bad("that is the name of notes, which 'acopio note' sends; choose another".to_owned()));
    }
    caller.may_write_as(source.map(Who::Source))?;
    let kept = web.keeper.keep_of(source, payload).await.map_err(|error| match error {
        client::Error::TooLong(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        error => Problem::away(format!("the message is not known to be kept: {error}")),
    })?;
    Ok(
        json!({ "id": kept.id.to_string(), "time": pages::rfc3339(kept.id), "source": source.map(|name| name.to_string()) }),
    )
}

/// What comes, as server-sent events.
async fn live(State(web): Shared, Extension(caller): Extension<Caller>, uri: Uri, headers: HeaderMap) -> Response {
    match stream(&web, caller, uri.query().unwrap_or_default(), &headers).await {
        Ok(response) => response,
        Err(problem) => problem.json(),
    }
}

async fn stream(web: &Arc<Web>, caller: Caller, query: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let fields = Fields::parse(query, &STREAM_FIELDS).map_err(bad)?;
    let wanted = fields.wanted().map_err(bad)?;
    let tells_status = fields.flag("status").map_err(bad)?.unwrap_or(false);
    // A browser that connects again says the last that it got, whatever it asked for first.
    let last =
        headers.get("last-event-id").map(|last| last.to_str().unwrap_or_default()).or_else(|| fields.get("after"));
    let place = place(&web.places.streams, "streams")?;
    let (place_in, web) = (last.map(|last| web.live.place(last)), Arc::clone(web));
    let run = |out: Out| async move {
        let _place = place;
        let mut events = Events { web, caller, wanted, tells_status, next: 0 };
        events.run(place_in, &out).await
    };
    let pieces = Pieces::of(run).await.map_err(Problem::away)?;
    let fields = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((fields, Body::from_stream(pieces)).into_response())
}

/// A stream of events.
struct Events {
    web: Arc<Web>,
    /// Who looks.
    caller: Caller,
    wanted: Wanted,
    tells_status: bool,
    next: u64,
}

impl Events {
    /// Sends what comes until nobody takes it, who looks may do so no more, or the role ends.
    async fn run(&mut self, from: Option<Result<u64, Gone>>, out: &Out) -> Result<(), String> {
        let stopping = self.web.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.cancelled() => Ok(()),
            ended = self.send(from, out) => ended,
        }
    }

    async fn send(&mut self, from: Option<Result<u64, Gone>>, out: &Out) -> Result<(), String> {
        match from {
            Some(Ok(next)) => {
                self.next = next;
                out.send(": going on\n\n").await?;
            }
            Some(Err(Gone)) => self.anew(self.web.live.end(), out).await?,
            None => {
                self.next = self.web.live.end();
                out.send(format!("id: {}\nevent: begun\ndata: {{}}\n\n", self.web.live.name(self.next))).await?;
            }
        }
        let web = Arc::clone(&self.web);
        let (mut status_at, mut alive_at) = (Instant::now(), Instant::now() + limits::WEB_LIVE_ALIVE_EVERY);
        // One that is revoked is noticed before the next event, and within a sign of life.
        while web.admits.still(&self.caller) {
            let given = web.live.given.notified();
            let (before, open) = (self.next, limits::WEB_STREAMS_MAX - web.places.streams.available_permits());
            let bytes = self.send_some(at_once(open), out).await?;
            let is_all = self.next == before;
            if bytes > 0 {
                alive_at = Instant::now() + limits::WEB_LIVE_ALIVE_EVERY;
            }
            if !is_all {
                // Also behind what is not wanted: else each message of others would wake all streams.
                tokio::time::sleep(pause(bytes, open)).await;
                if !web.admits.still(&self.caller) {
                    break;
                }
            }
            let now = Instant::now();
            if self.tells_status && status_at <= now {
                let cluster = web.heads.cluster().await;
                out.send(format!("event: status\ndata: {}\n\n", cluster.json())).await?;
                status_at = Instant::now() + limits::WEB_LIVE_STATUS_EVERY;
            } else if alive_at <= now {
                out.send(": here\n\n").await?;
                alive_at = now + limits::WEB_LIVE_ALIVE_EVERY;
            }
            if is_all {
                let wake = if self.tells_status { status_at } else { alive_at };
                tokio::select! {
                    () = given => {}
                    () = sleep_until(wake) => {}
                }
            }
        }
        Ok(())
    }

    /// Sends what is there, but not much more than so many bytes; how many it was.
    async fn send_some(&mut self, most: usize, out: &Out) -> Result<usize, String> {
        let mut bytes = 0;
        while bytes < most {
            let Ok(batch) = self.web.live.batch(self.next, &self.wanted) else {
                self.anew(self.web.live.onward(self.next), out).await?;
                break;
            };
            if std::mem::replace(&mut self.next, batch.next) == batch.next {
                break;
            }
            bytes += batch.text.len();
            if !batch.text.is_empty() {
                out.send(batch.text).await?;
            }
        }
        Ok(bytes)
    }

    /// What is between is not known any more: who listens has to read it.
    async fn anew(&mut self, next: u64, out: &Out) -> Result<(), String> {
        self.next = next;
        out.send(format!("id: {}\nevent: anew\ndata: {{}}\n\n", self.web.live.name(self.next))).await
    }
}

/// Bytes that a stream sends without a pause: its share of those between two looks, and as much as goes together.
fn at_once(open: usize) -> usize {
    let share = limits::WEB_LIVE_BYTES_PER_S * limits::WEB_LIVE_PACE.as_secs_f64() / open.max(1) as f64;
    limits::WEB_CHUNK_BYTES.max(share as usize)
}

/// Time until a stream that sent so many bytes sends again: all that are open share what they may send together.
fn pause(bytes: usize, open: usize) -> Duration {
    let share = bytes as f64 * open as f64 / limits::WEB_LIVE_BYTES_PER_S;
    limits::WEB_LIVE_PACE.max(Duration::from_secs_f64(share))
}

async fn values(State(web): Shared, uri: Uri) -> Response {
    let last = Fields::parse(uri.query().unwrap_or_default(), &["last"])
        .and_then(|fields| fields.number("last", 0..=limits::WEB_VALUES_MAX as u64));
    let last = match last {
        Ok(last) => last.and_then(|last| usize::try_from(last).ok()).unwrap_or(usize::MAX),
        Err(cause) => return bad(cause).json(),
    };
    if let Err(cause) = web.values.whole() {
        return Problem::away(cause).json();
    }
    let values: Vec<_> = web.values.last(last).iter().map(pages::json).collect();
    Json(json!({ "values": values, "away": web.values.away() })).into_response()
}

async fn new_value(
    State(web): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let dato = body.map_err(Problem::from).and_then(|body| Ok(dato::Dato::of_json(&body, "value")?));
    let stored = match dato {
        Ok(dato) => super::routes::store(&web, &caller, dato).await,
        Err(problem) => Err(problem),
    };
    match stored {
        Ok(value) => (StatusCode::CREATED, Json(pages::json(&value))).into_response(),
        Err(problem) => problem.json(),
    }
}

/// Who sends a source.
async fn connections(State(web): Shared, uri: Uri) -> Response {
    let source = Fields::parse(uri.query().unwrap_or_default(), &["source"])
        .and_then(|fields| fields.get("source").map(str::to_owned).ok_or_else(|| "say of which source".to_owned()));
    let (source, _place) = match (source, place(&web.places.reads, "reads")) {
        (Err(cause), _) => return bad(cause).json(),
        (_, Err(problem)) => return problem.json(),
        (Ok(source), Ok(place)) => (source, place),
    };
    let connections = web.heads.connections(&source).await;
    let connections: Vec<_> = connections.iter().map(cluster::connection).collect();
    Json(json!({ "connections": connections })).into_response()
}

async fn status(State(web): Shared) -> Response {
    let cluster = web.heads.cluster().await;
    if let Err(cause) = cluster.first() {
        return Problem::away(cause).json();
    }
    let redis = web.redis.as_ref().map(|(_, state)| state.away().unwrap_or_else(|| "ok".to_owned()));
    let listed = web.values.last(usize::MAX).len();
    let list = json!({ "values": listed, "away": web.values.whole().err().or_else(|| web.values.away()) });
    let mut told = cluster.json();
    if let Some(members) = told.as_object_mut() {
        members.insert("list".to_owned(), list);
        members.insert("redis".to_owned(), redis.into());
    }
    Json(told).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_share_what_they_may_send_and_none_sends_at_once_again() {
        assert_eq!(pause(0, 1000), limits::WEB_LIVE_PACE);
        assert_eq!(pause(limits::WEB_CHUNK_BYTES, 10), limits::WEB_LIVE_PACE, "few are not slowed");
        assert_eq!(pause(at_once(1), 1), limits::WEB_LIVE_PACE, "one alone has all of it");
        assert_eq!(at_once(1000), limits::WEB_CHUNK_BYTES);
        let sent = 1024.0 * limits::WEB_CHUNK_BYTES as f64 / pause(limits::WEB_CHUNK_BYTES, 1024).as_secs_f64();
        assert!((sent / limits::WEB_LIVE_BYTES_PER_S - 1.0).abs() < 1e-6, "{sent} bytes a second");
    }
}
