//! What each path answers. A handler asks for what it needs, and pages and numbers are made elsewhere.

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::json;

use super::dato::{BadDato, Dato, Value};
use super::{Web, pages};
use crate::limits;

type Shared = State<Arc<Web>>;

/// All paths.
pub(crate) fn router(web: Arc<Web>) -> Router {
    Router::new()
        .route("/", get(first))
        .route("/nuevo", get(nuevo_query).post(nuevo_body))
        .route("/listar", get(listar))
        .route("/api/v1/values", get(values).merge(post(new_value)))
        .route("/api/v1/status", get(status))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such page; see /".to_owned()))
        .layer(DefaultBodyLimit::max(limits::WEB_BODY_BYTES_MAX))
        .with_state(web)
}

/// An answer that is not what was asked for: one line, cause and remedy.
struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    const fn new(status: StatusCode, text: String) -> Self {
        Self { status, text }
    }

    const fn away(text: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// The same for programs.
    fn json(self) -> Response {
        (self.status, Json(json!({ "error": self.text }))).into_response()
    }
}

impl From<BadDato> for Problem {
    fn from(bad: BadDato) -> Self {
        Self::new(StatusCode::BAD_REQUEST, bad.to_string())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let most = limits::WEB_BODY_BYTES_MAX;
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is above {most} bytes; send one number"))
            }
            status => Self::new(status, format!("{}; send it again", rejection.body_text())),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, format!("error: {}\n", self.text)).into_response()
    }
}

async fn nuevo_query(State(web): Shared, uri: Uri) -> Result<String, Problem> {
    let dato = Dato::of_fields(uri.query().unwrap_or_default())?;
    kept(&web, dato).await
}

async fn nuevo_body(
    State(web): Shared,
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
    kept(&web, dato).await
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim().to_ascii_lowercase().starts_with("application/json")
}

/// Answers once the value is kept.
async fn kept(web: &Web, dato: Dato) -> Result<String, Problem> {
    let value = store(web, dato).await?;
    Ok(format!("recibido {}\n", value.id))
}

async fn store(web: &Web, dato: Dato) -> Result<Value, Problem> {
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

async fn first(State(web): Shared) -> Response {
    let away = web.values.whole().err().or_else(|| web.values.away());
    let values = web.values.last(limits::WEB_FIRST_PAGE_VALUES);
    (HTML, pages::first(&web.host, &values, away.as_deref())).into_response()
}

async fn values(State(web): Shared, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let last = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "last");
    let Ok(last) = last.map_or(Ok(usize::MAX), |(_, n)| n.parse()) else {
        let text = "last is no number of values; ask for /api/v1/values?last=10".to_owned();
        return Problem::new(StatusCode::BAD_REQUEST, text).json();
    };
    if let Err(cause) = web.values.whole() {
        return Problem::away(cause).json();
    }
    let values: Vec<_> = web.values.last(last).iter().map(pages::json).collect();
    Json(json!({ "values": values, "away": web.values.away() })).into_response()
}

async fn new_value(State(web): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let dato = body.map_err(Problem::from).and_then(|body| Ok(Dato::of_json(&body, "value")?));
    let stored = match dato {
        Ok(dato) => store(&web, dato).await,
        Err(problem) => Err(problem),
    };
    match stored {
        Ok(value) => (StatusCode::CREATED, Json(pages::json(&value))).into_response(),
        Err(problem) => problem.json(),
    }
}

async fn status(State(web): Shared) -> Response {
    let cluster = match web.cluster().await {
        Ok(report) => report,
        Err(cause) => return Problem::away(cause).json(),
    };
    let redis = web.redis.as_ref().map(|(_, state)| state.away().unwrap_or_else(|| "ok".to_owned()));
    let listed = web.values.last(usize::MAX).len();
    let list = json!({ "values": listed, "away": web.values.whole().err().or_else(|| web.values.away()) });
    Json(json!({ "cluster": *cluster, "list": list, "redis": redis })).into_response()
}

async fn readyz(State(web): Shared) -> Result<String, Problem> {
    web.ready().await.map_err(Problem::away)?;
    let redis = web.redis.as_ref().and_then(|(_, state)| state.away());
    Ok(redis.map_or("ready\n".to_owned(), |away| format!("ready\nredis is away, and gets the values later: {away}\n")))
}
