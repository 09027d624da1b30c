//! Who is let in to the page, its API and the numbers of heads and data nodes, from this machine and from another one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::common::{Head, Process, acopio, eventually, ran};
use crate::keys::Alone;
use crate::web::{Answer, Web, cluster};

/// A token of this name in the file `tokens`; its secret.
fn token(dir: &Path, name: &str, more: &[&str]) -> String {
    let mut command = acopio();
    command.args(["token", "new", "--tokens"]).arg(dir.join("tokens")).arg(name).args(more);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    out.trim().to_owned()
}

/// Asks as what a proxy of this machine passes on: that comes from elsewhere.
fn passed_on(web: &Web, words: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{words} HTTP/1.1\r\nHost: page\r\nConnection: close\r\nX-Forwarded-For: 10.0.0.7\r\n{fields}");
    web.ask(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())
}

#[test]
fn what_comes_from_elsewhere_has_to_say_a_token_that_lets_it() {
    let dir = tempfile::tempdir().unwrap();
    let reader = token(dir.path(), "guest", &["--role", "read"]);
    let writer = token(dir.path(), "horno", &["--role", "write", "--as", "taller/*"]);
    let tokens = dir.path().join("tokens");
    let (_head, _node, web) = cluster(dir.path(), &["--tokens", tokens.to_str().unwrap()]);
    let none = passed_on(&web, "GET /api/v1/sources", "", "");
    assert!(none.status == 401 && none.head.contains("www-authenticate: basic realm=\"acopio\""), "{}", none.head);
    assert!(none.body.contains("give its secret as the password"), "{}", none.body);
    assert_eq!(passed_on(&web, "GET /healthz", "", "").status, 200, "whether it is there, everybody may know");
    let bearer = |secret: &str| format!("Authorization: Bearer {secret}\r\n");
    for path in ["/", "/api/v1/sources", "/metrics", "/readyz", "/listar"] {
        assert_eq!(passed_on(&web, &format!("GET {path}"), &bearer(&reader), "").status, 200, "{path}");
        assert_eq!(passed_on(&web, &format!("GET {path}"), &bearer(&writer), "").status, 403, "{path}");
        assert_eq!(web.get(path).status, 200, "from this machine");
    }
    let store = |secret: &str, source: &str| {
        passed_on(&web, &format!("POST /api/v1/messages?source={source}"), &bearer(secret), "21.4")
    };
    let refused = store(&reader, "taller/horno");
    assert!(refused.status == 403 && refused.body.contains("has not the role write"), "{}", refused.body);
    let refused = store(&writer, "esp7");
    assert!(refused.status == 403 && refused.body.contains("does not let write as esp7"), "{}", refused.body);
    assert_eq!(store(&writer, "taller/horno").status, 201);
    assert_eq!(passed_on(&web, "GET /nuevo?dato=1", &bearer(&writer), "").status, 403, "that is written as web");
    web.process.wait_for("127.0.0.1 horno \"POST /api/v1/messages?source=taller/horno\" 201");
    assert_eq!(web.process.count(&writer), 0, "no secret is in a log");
    // It is over at once, also for what listens.
    let mut revoke = acopio();
    revoke.args(["token", "revoke", "guest", "--tokens"]).arg(&tokens);
    assert_eq!(ran(revoke).0, Some(0));
    eventually("it is revoked", || {
        (passed_on(&web, "GET /api/v1/sources", &bearer(&reader), "").status == 401).then_some(())
    });
}

#[test]
fn a_page_for_other_machines_says_whom_it_lets_in() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("web");
    let mut command = acopio();
    command.args(["web", "--listen", "0.0.0.0:0", "--head", "127.0.0.1:1", "--logs"]).arg(logs);
    let (code, _, err) = ran(command);
    assert!(code == Some(1) && err.contains("nothing says who of them is let in; give --tokens FILE"), "{err}");
}

#[test]
fn a_proxy_names_its_users_and_another_sites_name_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let web = Web::start(dir.path(), &head.at(), &["--proxy", "127.0.0.1"]);
    assert_eq!(passed_on(&web, "GET /api/v1/sources", "", "").status, 403);
    assert_eq!(passed_on(&web, "GET /api/v1/sources", "Remote-User: ana\r\n", "").status, 200);
    let plain = Web::start(&dir.path().join("plain"), &head.at(), &[]);
    let rebound = plain.ask(b"GET /api/v1/sources HTTP/1.0\r\nHost: evil.example:8080\r\n\r\n");
    assert!(rebound.status == 403 && rebound.body.contains("open it so"), "{}", rebound.body);
    let passed = passed_on(&plain, "GET /api/v1/sources", "Remote-User: ana\r\n", "");
    assert!(passed.status == 403 && passed.body.contains("start it with --tokens FILE"), "{}", passed.body);
}

/// Asks over HTTPS with the CA in the first word: the status and the body.
const HTTPS: &str = "
import ssl, sys, urllib.request, urllib.error
ca, url, secret = sys.argv[1:]
request = urllib.request.Request(url)
if secret: request.add_header('Authorization', 'Bearer ' + secret)
context = ssl.create_default_context(cafile=ca) if url.startswith('https') else None
try:
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
";

#[test]
fn another_machine_comes_over_tls_with_a_token_and_is_asked_for_one_by_metrics_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let secret = token(dir.path(), "guest", &["--role", "read"]);
    let alone = Alone::new("page");
    let mut cert = acopio();
    cert.args(["cert", "--dir", &at("ca"), "--name", "page", "--host", Alone::ADDRESS]);
    assert_eq!(ran(cert).0, Some(0));
    let (tokens, certificate, ca) = (at("tokens"), at("ca/page.crt"), at("ca/ca.crt"));
    let (logs, solo, shown) = (at("head"), at("solo"), at("web"));
    let http = format!("{}:9100", Alone::ADDRESS);
    let words = ["head", "--no-icmp", "--logs", &logs, "--solo", "--dir", &solo, "--listen", "127.0.0.1:5000"];
    let more = ["--http", &http, "--http-tokens", &tokens];
    let head = Process::start(alone.acopio(&[&words[..], &more].concat()));
    head.wait_for("metrics at http://198.18.0.1:9100/metrics");
    let words = ["web", "--listen", "0.0.0.0:8443", "--head", "127.0.0.1:5000", "--logs", &shown, "--tokens", &tokens];
    let web = Process::start(alone.acopio(&[&words[..], &["--tls-cert", &certificate]].concat()));
    web.wait_for("listening on https://");
    let ask = |url: &str, secret: &str| ran(alone.run("python3", &["-c", HTTPS, &ca, url, secret])).1;
    let page = format!("https://{}:8443/api/v1/sources", Alone::ADDRESS);
    assert!(ask(&page, "").starts_with("401 "), "{}", ask(&page, ""));
    assert!(ask(&page, &secret).starts_with("200 "), "{}", ask(&page, &secret));
    let clear = ask(&page.replace("https", "http"), &secret);
    assert!(clear.starts_with("403 ") && clear.contains("open the same address with https://"), "{clear}");
    assert!(ask("http://127.0.0.1:8443/api/v1/sources", "").starts_with("200 "), "this machine");
    // A new certificate is shown to who comes next.
    let mut cert = acopio();
    cert.args(["cert", "--dir", &at("other"), "--name", "page", "--host", Alone::ADDRESS]);
    assert_eq!(ran(cert).0, Some(0));
    for ending in ["key", "crt"] {
        fs::rename(at(&format!("other/page.{ending}")), at(&format!("ca/page.{ending}"))).unwrap();
    }
    eventually("the other authority is believed", || {
        let said = ran(alone.run("python3", &["-c", HTTPS, &at("other/ca.crt"), &page, &secret])).1;
        said.starts_with("200 ").then_some(())
    });
    let metrics = format!("http://{http}/metrics");
    assert!(ask(&metrics, "").starts_with("401 "));
    assert!(ask(&metrics, &secret).contains("in the clear"), "{}", ask(&metrics, &secret));
    assert!(ask(&format!("http://{http}/healthz"), "").starts_with("200 ok"));
    let line = "prometheus from=198.18.0.0/16 roles=read\n";
    let text = fs::read_to_string(at("tokens")).unwrap() + line;
    fs::write(at("tokens"), text).unwrap();
    fs::set_permissions(at("tokens"), fs::Permissions::from_mode(0o600)).unwrap();
    eventually("its address lets it in", || ask(&metrics, "").starts_with("200 ").then_some(()));
}
