//! What is shown: values to HTML and JSON. Pure; whatever bytes are stored, they come out as text.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::dato::Value;
use crate::printable::is_hidden;
use crate::wire::id::RecordId;

/// The last second that has four digits for its year.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// The list in the form of the original: the host, then a line for each value, the newest last.
pub(crate) fn listar(host: &str, values: &[Value], away: Option<&str>) -> String {
    let mut page = format!("<h2>Hostname : {}</h2>\n", escaped(host));
    if let Some(away) = away {
        append(&mut page, format_args!("<p>{}</p>\n", escaped(away)));
    }
    for (n, value) in values.iter().enumerate() {
        let between = if n == 0 { "" } else { "<br>\n" };
        append(&mut page, format_args!("{between}<b>{} ----> {} °C </b>", time(value.id), shown(value)));
    }
    page.push('\n');
    page
}

/// The last values as a part of the page, and where to go from there.
pub(crate) fn last_values(values: &[Value], away: Option<&str>) -> String {
    let mut part = String::new();
    if let Some(away) = away {
        append(&mut part, format_args!("<p>{}</p>\n", escaped(away)));
    }
    if !values.is_empty() {
        part.push_str("<table><tr><th>Time (UTC)</th><th>Value</th></tr>\n");
        for value in values.iter().rev() {
            append(&mut part, format_args!("<tr><td>{}</td><td>{} °C</td></tr>\n", time(value.id), shown(value)));
        }
        part.push_str("</table>\n");
    }
    part.push_str(
        "<p><a href=\"/listar\">All values</a>, <a href=\"/api/v1/values\">as JSON</a>. Store one: \
         <code>GET /nuevo?dato=83.0</code></p>\n",
    );
    part
}

/// A value for programs: what is no number is text.
pub(crate) fn json(value: &Value) -> serde_json::Value {
    let (id, time) = (value.id.to_string(), rfc3339(value.id));
    match &value.dato {
        Ok(dato) => json!({ "id": id, "time": time, "value": dato.number() }),
        Err(text) => json!({ "id": id, "time": time, "text": text }),
    }
}

/// The time of a record, RFC 3339, to the microsecond.
pub(crate) fn rfc3339(id: RecordId) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(id.time_ns).min(LAST_SECOND)).to_string()
}

/// The same in the form of the original, to the second: `2025-12-21 16:26:19`.
fn time(id: RecordId) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(id.time_ns).min(LAST_SECOND);
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', "")
}

fn shown(value: &Value) -> String {
    match &value.dato {
        Ok(dato) => dato.to_string(),
        Err(text) => escaped(text),
    }
}

/// Text for HTML, in elements and in attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if is_hidden(c) => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

fn append(page: &mut String, text: std::fmt::Arguments<'_>) {
    let written = page.write_fmt(text);
    debug_assert!(written.is_ok(), "a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::super::dato::Dato;
    use super::*;
    use crate::wire::id::ClientId;

    fn value(second: u64, dato: Result<f64, &str>) -> Value {
        let id = RecordId { time_ns: (1_766_334_379 + second) * 1_000_000_000 + 123_456_789, incarnation: 0 };
        let dato = dato.map(|number| Dato::new(number).unwrap()).map_err(ToOwned::to_owned);
        Value { id, from: (ClientId(1), second), dato }
    }

    #[test]
    fn the_list_is_the_originals_line_for_line() {
        let values = [value(0, Ok(250.0 / 3.0)), value(5, Ok(81.0))];
        assert_eq!(
            listar("5b14c092545a", &values, None),
            "<h2>Hostname : 5b14c092545a</h2>\n<b>2025-12-21 16:26:19 ----> 83.33333333333333 °C </b><br>\n\
             <b>2025-12-21 16:26:24 ----> 81 °C </b>\n"
        );
        assert_eq!(listar("h", &[], None), "<h2>Hostname : h</h2>\n\n");
    }

    #[test]
    fn no_stored_byte_becomes_markup() {
        let values = [value(0, Err("<script>\"&'\u{1b}\\n"))];
        let safe = "&lt;script&gt;&quot;&amp;&#39;\u{fffd}\\n";
        for page in [listar("<h>", &values, Some("<i>")), last_values(&values, Some("<i>"))] {
            assert!(page.contains(safe) && page.contains("&lt;i&gt;"), "{page}");
            assert!(!page.contains("<script>") && !page.contains("<i>"), "{page}");
        }
        assert!(listar("<h>", &values, None).contains("&lt;h&gt;"));
    }

    #[test]
    fn programs_get_numbers_as_numbers() {
        let number = json(&value(0, Ok(81.0)));
        assert_eq!((&number["value"], &number["time"]), (&json!(81.0), &json!("2025-12-21T16:26:19.123456Z")));
        assert_eq!(json(&value(0, Err("x")))["text"], "x");
        let far = Value { id: RecordId::MAX, ..value(0, Ok(1.0)) };
        assert_eq!(json(&far)["time"], "2286-11-20T17:46:39.999999Z");
    }
}
