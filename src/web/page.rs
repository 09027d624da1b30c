//! The page: what there is to see, as a list that needs no script, and the files that bring it to life. Everything is in
//! the program; nothing comes from elsewhere.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::Value;

use super::pages::{escaped, last_values};
use super::routes::Shared;
use super::{Web, cluster};
use crate::limits;
use crate::reading::UnixNs;
use crate::table::moment::now_ns;

/// A file of the page: its name, what it is, and what is in it.
type File = (&'static str, &'static str, &'static str);

const FILES: [File; 8] = [
    ("app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("clase.js", "text/javascript; charset=utf-8", include_str!("page/clase.js")),
    ("clase.css", "text/css; charset=utf-8", include_str!("page/clase.css")),
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("dygraph.min.js", "text/javascript; charset=utf-8", include_str!("page/dygraph.min.js")),
    ("dygraph.min.css", "text/css; charset=utf-8", include_str!("page/dygraph.min.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("dygraph.LICENSE", "text/plain; charset=utf-8", include_str!("page/dygraph.LICENSE")),
];

/// The page runs its own scripts alone, and nobody shows it inside of his.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its files.
pub(crate) fn router() -> Router<Arc<Web>> {
    FILES.iter().fold(Router::new().route("/", get(page)), |router, &(name, kind, text)| {
        let fields = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=86400")];
        router.route(&format!("/page/{name}"), get(async move || (fields, text)))
    })
}

/// Where a file is; another one is elsewhere, so that no browser shows an old one.
pub(crate) fn at(name: &str) -> String {
    let sum = FILES.iter().find(|(known, ..)| *known == name).map_or(0, |(_, _, text)| crc32c::crc32c(text.as_bytes()));
    format!("/page/{name}?{sum:08x}")
}

async fn page(State(web): Shared) -> Response {
    let (cluster, devices) = tokio::join!(web.heads.cluster(), web.heads.devices());
    let sources = cluster::sources(&devices, &web.board, UnixNs(now_ns()));
    let fields: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let away = web.values.whole().err().or_else(|| web.values.away());
    let values = last_values(&web.values.last(limits::WEB_FIRST_PAGE_VALUES), away.as_deref());
    let mut page = html(&web.host, &sources, &cluster.json(), &values);
    if web.classroom.is_some() {
        page = page.replacen("</nav>", "<a href=\"/clase\">Clase</a></nav>", 1);
    }
    (fields, page).into_response()
}

fn html(host: &str, sources: &Value, cluster: &Value, values: &str) -> String {
    let list = |value: &Value, each: fn(&Value) -> String| {
        value.as_array().into_iter().flatten().map(each).collect::<String>()
    };
    let of_cluster = |path: &str| cluster.pointer(path).unwrap_or(&Value::Null);
    let parquet = if cfg!(feature = "parquet") { " data-parquet=\"1\"" } else { "" };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>acopio</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"/page/icon.svg\">\n\
         <link rel=\"stylesheet\" href=\"{}\"><link rel=\"stylesheet\" href=\"{}\">\n\
         <script src=\"{}\" defer></script><script src=\"{}\" defer></script></head>\n<body{parquet}>\n",
        at("dygraph.min.css"),
        at("style.css"),
        at("dygraph.min.js"),
        at("app.js"),
    );
    // Writing to a string does not fail.
    let mut add = |text: std::fmt::Arguments<'_>| page.write_fmt(text).unwrap_or_default();
    add(format_args!(
        "<header><h1><a href=\"/\">acopio</a></h1><nav><a href=\"/\">Sources</a><a href=\"#cluster\">Cluster</a></nav>\
         <span class=\"hint\">{}</span><span id=\"state\"></span></header>\n\
         <noscript><p class=\"hint\">Without scripts this is a list as of now; reload it to see what came.</p></noscript>\n\
         <ul id=\"alarms\">{}</ul>\n",
        escaped(host),
        list(&cluster["alarms"], |alarm| format!("<li>{}</li>", text(alarm))),
    ));
    add(format_args!(
        "<main id=\"list\"><h2>Sources</h2><p id=\"missing\">{}</p>\
         <input id=\"filter\" type=\"search\" placeholder=\"Filter by name\" aria-label=\"Filter by name\" hidden>\n\
         <div id=\"sources\">{}</div></main>\n",
        text(&sources["away"]),
        list(&sources["sources"], source),
    ));
    add(format_args!(
        "<main id=\"one\" hidden><h2 id=\"one-name\"></h2><p id=\"facts\"></p><ul id=\"connections\"></ul><div id=\"ranges\" class=\"choice\"></div>\
         <div id=\"fields\" class=\"choice\"></div>\n<div id=\"chart\"></div><p id=\"nothing\" class=\"hint\" hidden>No number \
         came in this time.</p><p id=\"under\"></p>\n<ul id=\"lacks\"></ul><p id=\"downloads\"></p>\n<h2>Messages</h2>\
         <div class=\"wide\"><table><tbody id=\"lines\"></tbody></table></div></main>\n",
    ));
    add(format_args!(
        "<section id=\"cluster\"><h2>Data nodes</h2><p id=\"copies\"></p><div class=\"wide\"><table><thead><tr><th>Name</th>\
         <th>State</th><th>Since</th><th class=\"n\">Records</th><th class=\"n\">Bytes</th><th class=\"n\">Written a day</th>\
         <th class=\"n\">Free</th></tr>\
         </thead>\n<tbody id=\"nodes\">{}{}</tbody></table></div>\n<h2>Heads</h2><div class=\"wide\"><table><thead><tr>\
         <th>Address</th><th>State</th><th class=\"n\">Clients</th><th class=\"n\">Messages/s</th><th class=\"n\">Refused</th></tr>\
         </thead>\n<tbody id=\"heads\">{}</tbody></table></div></section>\n",
        list(of_cluster("/cluster/nodes"), node),
        list(of_cluster("/cluster/members_away"), away),
        list(&cluster["heads"], head),
    ));
    add(format_args!(
        "<section><h2>Values over HTTP</h2>{values}</section>\n<p class=\"hint\"><a href=\"/api/v1/openapi.json\">The API</a>. \
         Curves are drawn by <a href=\"/page/dygraph.LICENSE\">dygraphs</a>.</p>\n</body></html>\n",
    ));
    page
}

/// A member of JSON as text of HTML; nothing where there is none.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        other => escaped(&other.to_string()),
    }
}

fn source(source: &Value) -> String {
    let (is, name) = (|name: &str| source[name].as_bool().unwrap_or(false), text(&source["name"]));
    let (class, mark) = match (is("silent"), is("out")) {
        (true, true) => ("silent out", "silent, out of range"),
        (true, false) => ("silent", "silent"),
        (false, true) => ("out", "out of range"),
        (false, false) => ("well", ""),
    };
    let fields = source["fields"].as_array().into_iter().flatten();
    let mut fields = fields.map(|field| format!("{} {}", text(&field["value"]), text(&field["unit"])));
    let value = fields.next().unwrap_or_else(|| text(&source["text"]));
    let shown = if name.is_empty() { "(no name)" } else { &name };
    let link: String =
        form_urlencoded::byte_serialize(source["name"].as_str().unwrap_or_default().as_bytes()).collect();
    format!(
        "<a class=\"source {class}\" href=\"/?source={link}\"><span class=\"name\">{shown}</span><span class=\"value\">{value}</span>\
         <span class=\"about\">{}</span><span class=\"mark\">{mark}</span></a>\n",
        text(&source["time"]),
    )
}

fn node(node: &Value) -> String {
    let cell = |name: &str| text(&node[name]);
    format!(
        "<tr><td>{}</td><td>{} {}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">–</td>\
         <td class=\"n\">{}</td></tr>\n",
        cell("name"),
        cell("state"),
        cell("reason"),
        cell("since"),
        cell("records"),
        cell("bytes"),
        cell("free"),
    )
}

fn away(node: &Value) -> String {
    let (name, since) = (text(&node["name"]), text(&node["since"]));
    format!(
        "<tr class=\"bad\"><td>{name}</td><td>no disponible</td><td>{since}</td><td></td><td></td><td></td><td></td></tr>\n"
    )
}

fn head(head: &Value) -> String {
    let cell = |name: &str| text(&head[name]);
    let state = if head["up"].as_bool() == Some(true) { "up" } else { "away" };
    format!(
        "<tr><td>{}</td><td>{state}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
        cell("address"),
        cell("clients"),
        cell("rate_10s"),
        cell("refused_messages"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_is_stored_is_text_of_the_page() {
        let bad = "<script>alert(1)</script>\"'&\u{1b}";
        let fields = json!([{ "name": bad, "value": bad, "unit": bad }]);
        let sources = json!({ "away": bad, "sources": [
            { "name": "a/b", "text": bad, "time": bad, "silent": true }, { "name": null, "fields": fields, "out": true },
        ] });
        let node = json!({ "name": bad, "state": bad, "reason": bad, "since": bad });
        let cluster = json!({ "alarms": [bad], "heads": [{ "address": bad, "up": true, "clients": bad }],
            "cluster": { "nodes": [node], "members_away": [node] } });
        let page = html(bad, &sources, &cluster, "");
        assert!(!page.contains("<script>") && !page.contains('\u{1b}') && !page.contains("'&"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 15, "{page}");
        assert!(page.contains("href=\"/?source=a%2Fb\"") && page.contains("(no name)"), "{page}");
        assert!(!page.contains("style=") && !page.contains("onclick"), "nothing inline");
    }

    #[test]
    fn a_changed_file_has_another_address() {
        assert!(at("app.js").starts_with("/page/app.js?") && at("app.js").len() == "/page/app.js?01234567".len());
        assert_ne!(at("app.js").split_once('?').unwrap().1, at("style.css").split_once('?').unwrap().1);
    }
}
