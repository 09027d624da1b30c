//! The document of the API against the server: every path in it answers as it says, with bodies of the shape that it says,
//! and no path of the server is missing. A schema tester (Schemathesis) then asks whatever the document allows and forbids.

use std::process::Command;

use serde_json::{Value, json};

use super::web::{Answer, Web, cluster};
use crate::common::eventually;

/// Why a value is none of a schema; nothing if it is one. As much of JSON Schema as the document uses.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is not there"));
        return wrong(document, schema, value, at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let all: Vec<_> = any.iter().map(|schema| wrong(document, schema, value, at)).collect();
        return if all.contains(&None) { None } else { all.into_iter().flatten().next() };
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    };
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => vec![one.as_str().unwrap_or_else(|| panic!("{at}: {schema} has no type"))],
    };
    if !types.iter().any(|name| is(name)) {
        return Some(format!("{at}: {value} is none of {types:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            return Some(format!("{at}: {name} is missing in {value}"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Some(format!("{at} is not in the document")),
            (Value::Null, Value::Object(_)) => {
                if let found @ Some(_) = wrong(document, &schema["additionalProperties"], member, &at) {
                    return found;
                }
            }
            (Value::Null, _) => {}
            (schema, _) => {
                if let found @ Some(_) = wrong(document, schema, member, &at) {
                    return found;
                }
            }
        }
    }
    let items = value.as_array().into_iter().flatten().enumerate();
    items
        .filter(|_| schema.get("items").is_some())
        .find_map(|(k, item)| wrong(document, &schema["items"], item, &format!("{at}[{k}]")))
}

/// Holds an answer to what the document says of the operation.
fn hold(document: &Value, path: &str, method: &str, answer: &Answer) {
    let operation = &document["paths"][path][method];
    let response = &operation["responses"][answer.status.to_string()];
    assert!(response.is_object(), "{method} {path} answers {}, which is not in the document", answer.status);
    let kind = answer.head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    let content = &response["content"][kind];
    assert!(content.is_object(), "{method} {path} answers {kind}, which is not in the document");
    if kind == "application/json" {
        assert_eq!(
            wrong(document, &content["schema"], &answer.json(), path),
            None,
            "{method} {path} {}",
            answer.status
        );
    }
}

fn fill(web: &Web) {
    for n in 0..3 {
        assert_eq!(web.post("/api/v1/messages?source=esp7", "text/plain", &format!("temp={n}.5C hum=4")).status, 201);
    }
    assert_eq!(web.get("/nuevo?dato=83.5").status, 200);
    assert_eq!(web.post("/api/v1/messages", "text/plain", "hola\u{1b}").status, 201);
}

#[test]
fn the_document_is_what_the_server_does() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _node, web) = cluster(dir.path(), &[]);
    fill(&web);
    let mut device = head.named("esp7");
    assert!(device.ask("temp=20").ends_with("recibido"));
    let answer = web.get("/api/v1/connections?source=esp7").json();
    let [one] = &answer["connections"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!(
        (&one["dialect"], &one["messages"], &one["name"]),
        (&json!("line"), &json!(1), &json!("esp7")),
        "{answer}"
    );
    let document = web.get("/api/v1/openapi.json").json();
    eventually("the board has them", || {
        (web.get("/api/v1/sources").json()["sources"].as_array()?.len() >= 2).then_some(())
    });
    let questions: [(&str, &[&str]); 8] = [
        ("/api/v1/openapi.json", &[""]),
        ("/api/v1/sources", &[""]),
        (
            "/api/v1/messages",
            &[
                "",
                "?last=2",
                "?source=esp7&limit=1",
                "?source=&partial=1",
                "?since=1h&until=now",
                "?fields=temp",
                "?long=1",
                "?every=1m&aggregate=max",
                "?format=ndjson",
                "?format=csv&download=1",
                "?format=excel",
                "?format=excel-point",
                "?format=text",
                "?format=raw",
                "?format=line",
                "?format=influx",
                "?format=parquet",
                "?limit=x",
                "?nada=1",
                "?after=1",
                "?format=raw&fields=a",
                "?limit=10001",
                "?limit=10001&format=csv",
                "?partial=0",
                "?download=0",
            ],
        ),
        (
            "/api/v1/series",
            &[
                "?source=esp7",
                "?field=hum&since=2m&every=30s",
                "?until=now&partial=0",
                "?every=x",
                "?since=1970-01-01&every=1s",
                "",
            ],
        ),
        ("/api/v1/live", &["?nada=1", "?source=a+b"]),
        ("/api/v1/connections", &["?source=esp7", "", "?nada=1"]),
        ("/api/v1/status", &[""]),
        ("/api/v1/values", &["", "?last=1", "?last=x"]),
    ];
    let paths: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut asked: Vec<&str> = questions.iter().map(|(path, _)| *path).collect();
    asked.sort_unstable();
    assert_eq!(paths, asked, "every path of the document is asked");
    for (path, queries) in questions {
        for query in queries {
            let answer = web.get(&format!("{path}{query}"));
            hold(&document, path, "get", &answer);
            let named = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
            for (name, _) in named.filter(|_| answer.status == 200) {
                let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|parameter| parameter["name"] == json!(name)), "{path}: {name}");
            }
        }
        let known = document["paths"][path]["get"]["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in &known {
            let value = parameter["schema"]["enum"][0].as_str().unwrap_or("1");
            let name = parameter["name"].as_str().unwrap();
            if path != "/api/v1/live" {
                let answer = web.get(&format!("{path}?{name}={value}"));
                assert!(!answer.body.contains("there is no field"), "{path}: {name} is not taken");
            }
        }
    }
    let json = "application/json";
    for (path, kind, body) in [
        ("/api/v1/messages", json, r#"{"text": "x"}"#),
        ("/api/v1/messages", json, r#"{"source": "esp7", "text": "x"}"#),
        ("/api/v1/messages", "text/plain", "x"),
        ("/api/v1/messages", json, "{"),
        ("/api/v1/messages", "application/octet-stream", &"x".repeat(1024 * 1024 + 1)),
        ("/api/v1/values", json, r#"{"value": 1.5}"#),
        ("/api/v1/values", json, r#"{"value": "x"}"#),
        ("/api/v1/values", json, &"x".repeat(5000)),
    ] {
        hold(&document, path, "post", &web.post(path, kind, body));
    }
    // What the document does not know, the server does not do.
    let methods: Vec<&str> =
        document["paths"]["/api/v1/messages"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(methods, ["get", "post"]);
    assert_eq!(web.post("/api/v1/sources", json, "{}").status, 405);
    assert_eq!(web.get("/api/v1/nada").status, 404);
}

#[test]
fn a_schema_tester_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, web) = cluster(dir.path(), &[]);
    fill(&web);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/schemathesis.toml");
    let document = format!("http://{}/api/v1/openapi.json", web.address);
    // The seed makes a failure come again.
    let run = Command::new("python3")
        .args(["-m", "schemathesis.cli", "--config-file", config, "run", &document, "--seed", "15"])
        .args(["--max-examples", "20", "--no-color"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let operations = said.lines().find_map(|line| line.trim().strip_prefix("Tested: ")).map(str::trim);
    // All but that which gives the document.
    assert_eq!(operations, Some("9"), "{said}");
}

#[test]
fn while_no_head_answers_it_says_so_as_the_document_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::start(dir.path(), "127.0.0.1:1", &["--keep-for", "200ms"]);
    let document = web.get("/api/v1/openapi.json").json();
    for path in ["/api/v1/sources", "/api/v1/messages", "/api/v1/series", "/api/v1/status", "/api/v1/values"] {
        let answer = web.get(path);
        hold(&document, path, "get", &answer);
        assert!(answer.status == 503 || path == "/api/v1/sources", "{path} {}", answer.status);
    }
    hold(&document, "/api/v1/messages", "post", &web.post("/api/v1/messages", "text/plain", "x"));
    assert!(web.get("/").body.contains("127.0.0.1:1"), "the page says which");
}
