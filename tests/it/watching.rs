//! What heads, data nodes and the page say to those who watch them: over bare sockets, and to a real Prometheus, to which
//! every question of the dashboard and of the alarms is put.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::web::{Web, in_docker, yaml};
use crate::common::{Head, PATIENCE, Port, Process, eventually, need};

/// The address of a role's door.
fn door(process: &Process) -> String {
    let line = process.wait_for("metrics at http://");
    line.split("http://").nth(1).unwrap().trim_end_matches("/metrics").to_owned()
}

/// Status, fields in small letters, and body.
fn ask(address: &str, request: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
    (status, head.to_lowercase(), body.to_owned())
}

fn get(address: &str, path: &str) -> (u16, String) {
    let (status, _, body) = ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"));
    (status, body)
}

/// The number of a line of metrics.
fn number(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Whether promtool finds nothing wrong with metrics.
fn checked(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

struct Cluster {
    head: Head,
    node: Process,
    second: Process,
    web: Web,
}

fn cluster(dir: &Path) -> Cluster {
    need("promtool", Command::new("promtool").arg("--version"));
    let more = ["--http", "127.0.0.1:0"];
    let head =
        Head::start(dir, &[&more[..], &["--replicas", "2", "--min-copies", "1", "--heartbeat", "500ms"]].concat());
    let node = head.node(dir, 1, &more);
    let second = head.node(dir, 2, &more);
    head.wait_in_cluster(2);
    let web = Web::start(dir, &head.at(), &[]);
    web.wait_ready();
    for n in 0..5 {
        assert_eq!(web.post("/api/v1/messages?source=esp7", "text/plain", &format!("temp=2{n}")).status, 201);
    }
    Cluster { head, node, second, web }
}

#[test]
fn each_role_says_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let Cluster { head, node, second, web } = cluster(dir.path());
    let (at_head, at_node) = (door(&head.process), door(&node));
    for at in [&at_head, &at_node, &web.address] {
        assert_eq!(get(at, "/healthz"), (200, "ok\n".to_owned()), "{at}");
        assert_eq!(get(at, "/readyz"), (200, "ok\n".to_owned()), "{at}");
        checked(&get(at, "/metrics").1);
        let accepts = "GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n";
        let (status, fields, text) = ask(at, accepts);
        assert!(status == 200 && fields.contains("content-type: application/openmetrics-text"), "{fields}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
    let text = get(&at_head, "/metrics").1;
    assert!(number(&text, "acopio_messages_total").unwrap() >= 5.0, "{text}");
    assert_eq!(number(&text, "acopio_node_up{node=\"data2\"}"), Some(1.0), "{text}");
    assert!(number(&text, "acopio_source_age_seconds{source=\"esp7\"}").is_some_and(|age| age < 60.0), "{text}");
    let text = get(&at_node, "/metrics").1;
    assert!(number(&text, "acopio_sync_seconds_count").unwrap() >= 1.0, "{text}");
    assert!(number(&text, "acopio_written_bytes_total").unwrap() > 100.0, "{text}");
    let is_free = |text: &str, name: &str| assert!(number(text, name).is_some_and(|free| free > 1.0), "{text}");
    is_free(&text, "acopio_disk_free_bytes");
    let text = web.get("/metrics").body;
    for text in [&text, &get(&at_head, "/metrics").1] {
        is_free(text, "acopio_disk_free_bytes{node=\"data1\"}");
        is_free(text, "acopio_disk_free_bytes{node=\"data2\"}");
    }
    assert!(text.contains(&format!("acopio_head_up{{head=\"{}\"}} 1.0", head.at())), "{text}");

    // A door takes nothing in.
    assert_eq!(ask(&at_head, "POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n").0, 405);
    assert_eq!(get(&at_node, "/nada").0, 404);
    assert!(ask(&at_node, &format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(20_000))).0 >= 400);
    let idle: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(&at_head).unwrap()).collect();
    assert_eq!(get(&at_head, "/healthz").0, 200, "who says nothing holds up nobody");
    drop(idle);

    assert!(head.nc(b"peticion\nhola\n").contains("recibido"));
    node.kill();
    eventually("data1 is away", || {
        (number(&get(&at_head, "/metrics").1, "acopio_node_up{node=\"data1\"}")? == 0.0).then_some(())
    });
    second.kill();
    eventually("nobody takes messages", || get(&at_head, "/readyz").1.contains("no hay dataNodes").then_some(()));
    assert_eq!(get(&at_head, "/readyz").0, 503);
    assert!(head.nc(b"peticion\nhola\n").contains("no hay dataNodes"));
    eventually("it is counted by its cause", || {
        (number(&get(&at_head, "/metrics").1, "acopio_refused_total{cause=\"no_nodes\"}")? >= 1.0).then_some(())
    });
    eventually("the page has the cause, too", || {
        let text = get(&web.address, "/metrics").1;
        let name = format!("acopio_refused_total{{head=\"{}\",cause=\"no_nodes\"}}", head.at());
        (number(&text, &name)? >= 1.0).then_some(())
    });
    let alone = head.start_node(dir.path(), 3, &["--http", "127.0.0.1:0"]);
    let at = door(&alone);
    head.process.kill();
    eventually("it has no head", || get(&at, "/readyz").1.contains("registered with no head").then_some(()));
}

/// A Prometheus that asks the cluster every half second, with the rules that are shipped.
fn prometheus(dir: &Path, port: &Port, targets: &[(&str, Vec<String>)]) -> Process {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/watch/alerts.yml");
    let jobs = targets.iter().map(|(job, targets)| {
        format!(
            "  - job_name: {job}\n    static_configs:\n      - targets: {}\n",
            serde_json::to_string(targets).unwrap()
        )
    });
    let config: PathBuf = dir.join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\nrule_files: [{}]\nscrape_configs:\n{}",
        rules.display(),
        jobs.collect::<String>()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display())).arg(format!("--web.listen-address={}", port.at()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()));
    let process = Process::start(command);
    eventually("Prometheus is ready", || {
        TcpStream::connect(port.at()).ok()?;
        (get(&port.at(), "/-/ready").0 == 200).then_some(())
    });
    process
}

/// What Prometheus answers to an expression.
fn query(port: &Port, expression: &str) -> Vec<Value> {
    let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
    let (status, body) = get(&port.at(), &format!("/api/v1/query?query={query}"));
    let answer: Value = serde_json::from_str(&body).expect(&body);
    assert!(status == 200 && answer["status"] == "success", "{expression}: {body}");
    answer["data"]["result"].as_array().unwrap().clone()
}

#[test]
fn a_real_prometheus_has_an_answer_to_every_question() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    for (what, file) in [("config", "prometheus.yml"), ("rules", "alerts.yml")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/watch").join(file);
        need("rules that promtool takes", Command::new("promtool").args(["check", what]).arg(path));
    }
    let port = Port::reserve();
    let nodes = [&cluster.node, &cluster.second].map(door).to_vec();
    let targets =
        [("head", vec![door(&cluster.head.process)]), ("data", nodes), ("web", vec![cluster.web.address.clone()])];
    let _prometheus = prometheus(dir.path(), &port, &targets);
    eventually("all are asked twice", || {
        let up = query(&port, "count_over_time(up[1m]) > 1 and up == 1");
        (up.len() == 4).then_some(())
    });
    let dashboard: Value = serde_json::from_str(&in_docker("watch/grafana/dashboards/acopio.json")).unwrap();
    let source = yaml("watch/grafana/provisioning/datasources/prometheus.yml")["datasources"][0].clone();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    for target in targets {
        assert_eq!(target["datasource"]["uid"], source["uid"], "{target}");
        let expression = target["expr"].as_str().unwrap();
        eventually(expression, || (!query(&port, expression).is_empty()).then_some(()));
    }
    let rules = yaml("watch/alerts.yml")["groups"][0]["rules"].as_array().unwrap().clone();
    for rule in &rules {
        let expression = rule["expr"].as_str().unwrap();
        query(&port, expression);
        // What it compares is there, whether the alarm is due or not.
        let compared = expression.rsplit_once(" > ").or_else(|| expression.rsplit_once(" < "));
        let (compared, _) = compared.or_else(|| expression.rsplit_once(" == ")).expect(expression);
        eventually(expression, || (!query(&port, compared).is_empty()).then_some(()));
    }
    let compose = yaml("compose.yml");
    let mounts = compose["services"]["grafana"]["volumes"].to_string()
        + &compose["services"]["prometheus"]["volumes"].to_string();
    for file in ["grafana/provisioning", "grafana/dashboards", "prometheus.yml", "alerts.yml"] {
        assert!(mounts.contains(&format!("./watch/{file}:")), "{file}: {mounts}");
    }

    cluster.second.kill();
    let due = |alarm: &str| query(&port, &format!("ALERTS{{alertname=\"{alarm}\"}}"));
    eventually("the alarm of the node is on its way", || {
        due("AcopioNodeAway").iter().any(|alert| alert["metric"]["node"] == "data2").then_some(())
    });
    assert!(due("AcopioTakesNothing").is_empty(), "the other one takes them");
}
