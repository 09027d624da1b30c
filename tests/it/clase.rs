//! `/clase` in a real browser: buttons that break the cluster of `acopio up`, what becomes of its processes and files, and
//! what the page says of it. What it looked like lies in `target/screenshots`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, kill_process};

use super::page::Browser;
use super::web::{self, Answer, Web};
use crate::common::{Port, Signal, acopio, eventually};

/// A cluster with its page, ended in order when it is dropped.
struct Up {
    child: Child,
    logs: PathBuf,
    web: Port,
    _port: Port,
}

impl Up {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let (port, web, logs) = (Port::reserve(), Port::reserve(), dir.join("logs"));
        let mut command = acopio();
        command.args(["up", "--port", &port.number().to_string(), "--web-port", &web.number().to_string()]);
        command.arg("--dir").arg(&logs).args(more).stdin(Stdio::null());
        command.stdout(File::create(dir.join("out")).unwrap()).stderr(Stdio::inherit());
        let child = command.spawn().unwrap();
        let up = Self { child, logs, web, _port: port };
        eventually("the page is served", || up.ask("GET", "/clase", "127.0.0.1", "").filter(|said| said.status == 200));
        up
    }

    fn ask(&self, method: &str, path: &str, host: &str, more: &str) -> Option<Answer> {
        self.send(method, path, host, more, "")
    }

    fn send(&self, method: &str, path: &str, host: &str, more: &str, body: &str) -> Option<Answer> {
        let mut socket = TcpStream::connect(self.web.at()).ok()?;
        let fields = format!("Host: {host}\r\n{more}Connection: close\r\nContent-Length: {}", body.len());
        socket.write_all(format!("{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n{body}").as_bytes()).ok()?;
        Some(web::answer(socket))
    }

    fn order(&self, host: &str, more: &str) -> u16 {
        self.send("POST", "/clase/orders", host, more, "k1").unwrap().status
    }

    fn orders(&self, orders: &[&str]) {
        for order in orders {
            assert_eq!(self.send("POST", "/clase/orders", &self.web.at(), "", order).unwrap().status, 202, "{order}");
        }
    }

    fn said(&self, what: &str) {
        let out = self.logs.with_file_name("out");
        eventually(what, || fs::read_to_string(&out).ok()?.contains(what).then_some(()));
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.logs.join(name)).unwrap_or_default()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _gone_already = kill_process(Pid::from_child(&self.child), Signal::TERM);
        drop(self.child.wait());
    }
}

/// How the system says a process is: `T` stopped; nothing if it is gone.
fn state(pid: i32) -> Option<char> {
    let mut stat = String::new();
    File::open(format!("/proc/{pid}/stat")).ok()?.read_to_string(&mut stat).ok()?;
    stat.rsplit_once(") ")?.1.chars().next().filter(|state| *state != 'Z')
}

/// The card of a member.
fn card(name: &str) -> String {
    format!("document.querySelector('.member[data-name={name}]')")
}

fn says(browser: &Browser, name: &str, what: &str) {
    browser.sees(&format!("{}?.querySelector('.is').textContent === '{what}'", card(name)));
}

fn pid(browser: &Browser, name: &str) -> i32 {
    let text = browser.run(&format!("return {}.querySelector('.facts').textContent", card(name)));
    let text = text.as_str().unwrap();
    text.split_once("pid ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
}

fn press(browser: &Browser, order: &str) {
    browser.run(&format!("document.querySelector('button[data-order={order}]').click()"));
}

fn number(browser: &Browser, count: &str) -> u64 {
    let text = browser.run(&format!("return document.getElementById('{count}').textContent"));
    text.as_str().unwrap().parse().unwrap_or_default()
}

#[test]
fn buttons_break_the_cluster_and_the_page_shows_what_becomes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--clients", "3", "--every", "500ms", "--restart-after", "3s", "--sync-of", "data3=never"];
    let up = Up::start(dir.path(), &more);
    let browser = Browser::start(dir.path());
    browser.screen(1280);
    browser.open(&format!("http://{}/clase", up.web.at()));
    browser.sees("document.getElementById('state').textContent === 'live'");
    for name in ["client1", "client3", "head", "data1", "data2", "data3"] {
        says(&browser, name, "up");
    }
    browser.sees("Number(document.getElementById('kept').textContent) > 5");
    browser.sees("document.querySelectorAll('#ways tr').length === 8");
    browser.sees("document.getElementById('ways').textContent.includes('line ')");
    browser.sees("document.querySelector('.dot')");
    browser.screenshot("clase-1280");

    let first = pid(&browser, "data2");
    press(&browser, "k2");
    says(&browser, "data2", "killed");
    assert_eq!(state(first), None);
    browser.sees("document.getElementById('heartbeat').textContent.includes('eliminado name=data2')");
    says(&browser, "data2", "up");
    assert_ne!(pid(&browser, "data2"), first);

    let paused = pid(&browser, "data1");
    press(&browser, "p1");
    says(&browser, "data1", "paused");
    assert_eq!(state(paused), Some('T'));
    browser.sees("[...document.querySelectorAll('.late')].some((late) => /^no answer for [0-9]+ s, [0-9] in flight$/.test(late.textContent))");
    browser.screenshot("clase-paused-1280");
    press(&browser, "c2");
    says(&browser, "data2", "cut");
    press(&browser, "r");
    says(&browser, "data1", "up");
    says(&browser, "data2", "up");

    press(&browser, "h1");
    browser.sees("document.getElementById('said').textContent.includes('was killed by signal 9')");
    says(&browser, "head", "up");
    browser.sees("document.getElementById('lost').textContent === '0'");
    loses(&up, &browser);

    browser.screen(390);
    browser.sees("document.documentElement.scrollWidth <= 390");
    browser.screenshot("clase-390");
    browser.run("window.scrollTo(0, 900)");
    browser.screenshot("clase-390-below");
    // While the head was dead its page was asked for all the same; nothing else is complained of.
    browser.complains_of_nothing();
}

/// Who never syncs loses what it acknowledged with its power, and who always does loses nothing.
fn loses(up: &Up, browser: &Browser) {
    press(browser, "b1");
    says(browser, "data1", "no power");
    says(browser, "data1", "up");
    browser.sees("document.getElementById('away').textContent === '0'");
    browser.sees("document.getElementById('lost').textContent === '0'");
    let acknowledged = number(browser, "kept");
    press(browser, "b3");
    says(browser, "data3", "no power");
    browser.sees(
        "document.getElementById('said').textContent.includes('data3 lost its power: gone is what it had not synced')",
    );
    says(browser, "data3", "up");
    browser.sees("Number(document.getElementById('lost').textContent) > 0");
    assert!(number(browser, "lost") <= acknowledged + 60);
    assert!(up.log("data3/node.log").contains(" the node starts as "));
    assert!(!up.log("data1/node.log").contains(" the node starts as "));
    browser.sees("document.getElementById('alarms').textContent.includes('data3')");
    browser.screenshot("clase-lost-1280");
}

#[test]
fn only_a_page_of_this_address_gives_orders() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["--clients", "0", "--nodes", "1"]);
    let own = up.web.at();
    for (host, more, status) in [
        ("evil.example", "", 403),
        (&*own, "Origin: http://evil.example\r\n", 403),
        (&*own, "Sec-Fetch-Site: cross-site\r\n", 403),
        (&*own, "Sec-Fetch-Site: same-origin\r\n", 202),
    ] {
        assert_eq!(up.order(host, more), status, "{host} {more}");
    }
    up.said("data1 (pid ");
    let page = up.ask("GET", "/", "x", "").unwrap();
    assert!(page.body.contains("href=\"/clase\""));
}

#[test]
fn orders_one_after_the_other_are_all_obeyed_and_what_is_paused_goes_on_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["--clients", "1", "--nodes", "1", "--restart-after", "1h"]);
    // While it dies of the one it is told the other.
    up.orders(&["k1", "r"]);
    up.said("data1 runs again, pid ");
    up.orders(&["p1", "p1"]);
    up.said("data1 is paused already; r has it go on");
    drop(up);
    let said = fs::read_to_string(dir.path().join("out")).unwrap();
    let (_, end) = said.split_once("stopping: clients").unwrap();
    assert!(end.contains("data1 goes on (SIGCONT)") && end.contains("| ") && end.contains(" stopped with "), "{end}");
    assert!(!end.contains("WARN"), "{end}");
}

#[test]
fn a_web_that_up_did_not_start_has_no_classroom() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::start(dir.path(), "127.0.0.1:1", &[]);
    for path in ["/clase", "/clase/events"] {
        assert_eq!(web.get(path).status, 404, "{path}");
    }
    assert_eq!(web.post("/clase/orders", "text/plain", "k1").status, 404);
    assert!(!web.get("/").body.contains("/clase"));
}
