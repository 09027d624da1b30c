//! What a page of somebody else may make a browser do here: nothing. Browsers say where a request comes from; programs
//! that say nothing are let in as always.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, header};

/// Where a request comes from, as browsers put it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request changes something: `/nuevo` stores by GET, as the original does.
pub(super) fn changes(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || path == "/nuevo"
}

/// Whether a request is one that another site's page made and that would change something.
pub(crate) fn is_foreign(parts: &Parts) -> bool {
    changes(&parts.method, parts.uri.path()) && comes_from_elsewhere(&parts.headers)
}

fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let said = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = said(&FETCH_SITE) {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = said(&header::ORIGIN) else { return false };
    let host = origin.split_once("://").map(|(_scheme, host)| host);
    host.is_none() || host != said(&header::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn foreign(method: &str, path: &str, fields: &[(&str, &str)]) -> bool {
        let request = Request::builder().method(method).uri(path).header("host", "lab:8080");
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        is_foreign(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        for path in ["/api/v1/messages", "/nuevo"] {
            assert!(!foreign("POST", path, &[]), "a program");
            assert!(!foreign("POST", path, &[("origin", "http://lab:8080")]));
            assert!(!foreign("POST", path, &[("origin", "http://lab:8080"), ("sec-fetch-site", "same-origin")]));
            for fields in [
                &[("origin", "http://evil")][..],
                &[("origin", "null")],
                &[("origin", "http://lab:8081")],
                &[("sec-fetch-site", "cross-site")],
                &[("sec-fetch-site", "same-site"), ("origin", "http://lab:8080")],
            ] {
                assert!(foreign("POST", path, fields), "{path} {fields:?}");
            }
        }
        assert!(foreign("GET", "/nuevo", &[("sec-fetch-site", "cross-site")]), "a picture that stores");
        assert!(!foreign("GET", "/nuevo", &[("sec-fetch-site", "none")]), "who types it");
        assert!(!foreign("GET", "/", &[("sec-fetch-site", "cross-site")]), "a link");
    }
}
