//! What each path answers. A handler asks for what it needs, and pages and numbers are made elsewhere.

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{from_fn_with_state, map_request, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde_json::json;

use super::dato::{BadDato, Dato, Value};
use super::{Web, api, classroom, door, guard, page, pages};
use crate::limits;
use crate::tokens::http::{Caller, Denied};
use crate::wire::said::Who;

/// What a handler is given of the role.
pub(crate) type Shared = State<Arc<Web>>;

/// All paths.
pub(crate) fn router(web: Arc<Web>) -> Router {
    let classroom = if web.classroom.is_some() { classroom::router() } else { Router::new() };
    Router::new()
        .merge(classroom)
        .route("/nuevo", get(nuevo_query).post(nuevo_body))
        .route("/listar", get(listar))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(page::router())
        .merge(api::router())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such page; see /".to_owned()))
        .layer(DefaultBodyLimit::max(limits::WEB_BODY_BYTES_MAX))
        .layer(map_request(own_pages_alone))
        .layer(from_fn_with_state(Arc::clone(&web), door::admit))
        .layer(map_response(safe))
        .with_state(web)
}

/// Lets no page of another site change anything.
async fn own_pages_alone(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    if guard::is_foreign(&parts) {
        let text = "a page of another site may change nothing here; open the page of this address".to_owned();
        return Err(Problem::new(StatusCode::FORBIDDEN, text));
    }
    Ok(Request::from_parts(parts, body))
}

/// What a browser may make of an answer: what it is said to be, and nothing that leads elsewhere.
async fn safe(mut response: Response) -> Response {
    let fields = [(header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (header::REFERRER_POLICY, "no-referrer")];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An answer that is not what was asked for: one line, cause and remedy.
pub(crate) struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    pub(crate) const fn new(status: StatusCode, text: String) -> Self {
        Self { status, text }
    }

    pub(crate) const fn away(text: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// A body that was not taken; it may have so many bytes.
    pub(crate) fn of_body(rejection: &BytesRejection, most: usize) -> Self {
        match rejection.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, format!("the body is above {most} bytes; send less"))
            }
            status => Self::new(status, format!("{}; send it again", rejection.body_text())),
        }
    }

    /// The same for programs.
    pub(crate) fn json(self) -> Response {
        (self.status, Json(json!({ "error": self.text }))).into_response()
    }
}

impl From<BadDato> for Problem {
    fn from(bad: BadDato) -> Self {
        Self::new(StatusCode::BAD_REQUEST, bad.to_string())
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self::new(denied.status, denied.text)
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        Self::of_body(&rejection, limits::WEB_BODY_BYTES_MAX)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, format!("error: {}\n", self.text)).into_response()
    }
}

async fn nuevo_query(State(web): Shared, Extension(caller): Extension<Caller>, uri: Uri) -> Result<String, Problem> {
    let dato = Dato::of_fields(uri.query().unwrap_or_default())?;
    kept(&web, &caller, dato).await
}

async fn nuevo_body(
    State(web): Shared,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<String, Problem> {
    let body = body?;
    let dato = match uri.query().unwrap_or_default() {
        query if body.is_empty() => Dato::of_fields(query)?,
        "" => Dato::of_body(&body, is_json(&headers))?,
        query if form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "dato") => Err(BadDato::Several)?,
        _ => Dato::of_body(&body, is_json(&headers))?,
    };
    kept(&web, &caller, dato).await
}

/// Whether a body is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim().to_ascii_lowercase().starts_with("application/json")
}

/// Answers once the value is kept.
async fn kept(web: &Web, caller: &Caller, dato: Dato) -> Result<String, Problem> {
    let value = store(web, caller, dato).await?;
    Ok(format!("recibido {}\n", value.id))
}

/// Stores a value, and answers once it is kept.
pub(crate) async fn store(web: &Web, caller: &Caller, dato: Dato) -> Result<Value, Problem> {
    caller.may_write_as(web.name.map(Who::Source))?;
    web.store(dato).await.map_err(|error| Problem::away(format!("the value is not known to be kept: {error}")))
}

const HTML: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'")),
];

async fn listar(State(web): Shared) -> Result<Response, Problem> {
    web.values.whole().map_err(Problem::away)?;
    let values = web.values.last(usize::MAX);
    Ok((HTML, pages::listar(&web.host, &values, web.values.away().as_deref())).into_response())
}

async fn metrics(State(web): Shared, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (kind, text) = web.metrics().await.text(accept);
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn readyz(State(web): Shared) -> Result<String, Problem> {
    web.ready().await.map_err(Problem::away)?;
    let redis = web.redis.as_ref().and_then(|(_, state)| state.away());
    Ok(redis.map_or("ok\n".to_owned(), |away| format!("ok\nredis is away, and gets the values later: {away}\n")))
}
