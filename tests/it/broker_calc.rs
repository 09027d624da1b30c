//! The original's calculation over the brokers, with programs of the original's shape in every part, mixed with ours.

use crate::common::topics::{ASKS, Pair};
use crate::common::{Process, acopio, eventually, ran};

struct Parts {
    pair: Pair,
    broker: Process,
}

impl Parts {
    fn new() -> Self {
        let pair = Pair::new();
        let broker = pair.alone(&[]);
        Self { pair, broker }
    }

    /// Waits until so many have subscribed since.
    fn started(&self, process: Process, ready: &str) -> Process {
        process.wait_for(ready);
        process
    }

    fn subscribed(&self, start: impl FnOnce() -> Process, ready: &str) -> Process {
        let seen = self.broker.count(ASKS);
        let process = self.started(start(), ready);
        eventually("it has subscribed", || (self.broker.count(ASKS) > seen).then_some(()));
        process
    }

    fn squares(&self) -> [Process; 2] {
        ["1", "2"].map(|leg| self.subscribed(|| self.pair.calc(&["square", leg]), "Operation Server"))
    }

    fn server(&self) -> Process {
        self.subscribed(|| self.pair.calc(&["server"]), "Calculation Server esperando pareja de catetos...")
    }

    fn client(&self, a: &str, b: &str) -> (Option<i32>, String, String) {
        let mut command = acopio();
        command.args(["calc", "client", "--broker", &self.pair.hosts.join(","), "--", a, b]);
        ran(command)
    }
}

#[test]
fn the_calculation_prints_the_originals_lines() {
    let parts = Parts::new();
    let [one, two] = parts.squares();
    let server = parts.server();
    let (code, out, error) = parts.client("12", "13");
    assert_eq!(code, Some(0), "{error}");
    let lines = [
        "→ Enviando cateto1=12 en calc.request.1",
        "→ Enviando cateto2=13 en calc.request.2",
        "← Hipotenusa recibida: 17.6918",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), lines);
    one.wait_for("Cateto1: 12² = 144");
    two.wait_for("Cateto2: 13² = 169");
    for line in ["Recibido cateto1: 12", "Recibido square2: 169", "Publicando hipotenusa: 17.6918"] {
        server.wait_for(line);
    }
    assert_eq!(server.count("no respondió"), 0);

    // Killed, one and then both: the server squares itself.
    one.kill();
    let (code, out, _) = parts.client("-5", "12");
    assert!(code == Some(0) && out.contains("13.0000"), "{out}");
    server.wait_for("⚠ op1 no respondió, calculando a² local");
    assert_eq!(server.count("op2 no respondió"), 0);
    two.kill();
    let (_, out, _) = parts.client("8", "15");
    assert!(out.contains("17.0000"), "{out}");
    server.wait_for("⚠ op2 no respondió, calculando b² local");
}

#[test]
fn large_numbers_are_exact_and_others_refused() {
    let parts = Parts::new();
    let _squares = parts.squares();
    let _server = parts.server();
    let zeros = "0".repeat(400);
    let (code, out, error) = parts.client(&format!("3{zeros}"), &format!("4{zeros}"));
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains(&format!("← Hipotenusa recibida: 5{zeros}.0000")), "{out}");
    let (code, _, error) = parts.client("1.5", "2");
    assert!(code == Some(2) && error.contains("no whole number"), "{error}");
    let (code, _, error) = parts.client(&"9".repeat(4301), "2");
    assert!(code == Some(2) && error.contains("more than 4300 digits"), "{error}");
}

#[test]
fn clients_at_once_get_their_own_answers() {
    let parts = Parts::new();
    let _squares = parts.squares();
    let server = parts.server();
    let cases = [("3", "4", "5.0000"), ("5", "12", "13.0000"), ("8", "15", "17.0000"), ("7", "24", "25.0000")];
    let clients = cases.map(|(a, b, wanted)| (parts.pair.calc(&["client", a, b]), wanted));
    for (client, wanted) in clients {
        let (code, _, said) = client.finish();
        assert!(code == Some(0) && said.contains(&format!("recibida: {wanted}")), "{wanted}: {said}");
    }
    assert_eq!(server.count("Publicando hipotenusa"), 4, "{}", server.all());
}

#[test]
fn programs_of_the_originals_shape_take_any_part() {
    let parts = Parts::new();
    let pair = &parts.pair;
    // Their squares, our server and clients.
    let _one = parts.subscribed(|| pair.python("square.py", &["1"]), "square 1 ready");
    let _two = parts.subscribed(|| pair.calc(&["square", "2"]), "Operation Server 2");
    let server = parts.server();
    let (_, out, _) = parts.client("12", "13");
    assert!(out.contains("17.6918"), "{out}");
    // Their client, and the one of the last figure, which asks for the squares itself.
    for topic in ["calc.request", "calc.square.request"] {
        let (code, _, said) = pair.python("client.py", &[topic, "6", "8"]).finish();
        assert_eq!((code, said.as_str()), (Some(0), "10.0000"));
    }
    assert_eq!(server.count("no respondió"), 0, "{}", server.all());
    server.kill();
    // Their server, our clients.
    let server = parts.subscribed(|| pair.python("server.py", &[]), "server ready");
    let (_, out, error) = parts.client("9", "12");
    assert!(out.contains("15.0000"), "{out} {error}");
    // Its numbers are doubles: what it answers to large legs is right as far as those go.
    let (_, out, error) = parts.client("98765432109876543", "12345678901234567");
    assert!(out.contains("recibida: 99534046272534416.0000"), "{out} {error}");
    let (_, _, said) = pair.python("client.py", &["calc.request", "20", "21"]).finish();
    assert_eq!(said, "29.0000");
    assert_eq!(server.count("local"), 0, "{}", server.all());
}

#[test]
fn nobody_there_is_told_with_a_remedy() {
    let pair = Pair::new();
    let (code, _, said) = pair.calc(&["client", "3", "4"]).finish();
    assert!(code == Some(1) && said.contains("no broker answers on") && said.contains("acopio broker"), "{said}");
    let _broker = pair.alone(&[]);
    let (code, _, said) = pair.calc(&["client", "3", "4", "--timeout", "300ms"]).finish();
    assert!(code == Some(1) && said.contains("see that `acopio calc server` runs"), "{said}");
}
