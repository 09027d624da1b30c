//! What is done about an event: a command, a request. Each is bounded in time, and all of them in number: one that hangs holds
//! up no other for long, and never the watch.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cli::events::say;
use crate::limits;
use crate::net::Net;

/// An event as a command and a request are told of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Told {
    /// `silent`, `back`, `out` or `in`.
    pub(super) event: &'static str,
    pub(super) source: String,
    pub(super) time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<f64>,
    /// The same in words.
    pub(super) text: String,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) struct Webhook(Uri);

/// Parses `http://HOST[:PORT]/PATH`.
pub(crate) fn webhook(text: &str) -> Result<Webhook, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}; write http://HOST:PORT/PATH"))?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(Webhook(uri)),
        Some("https") => {
            Err("https is not spoken; write --exec 'curl -d \"$ACOPIO_TEXT\" https://…', or name an http:// URL"
                .to_owned())
        }
        _ => Err("write http://HOST:PORT/PATH".to_owned()),
    }
}

/// What is to be done about events.
#[derive(Clone, Debug)]
pub(super) struct Acts {
    pub(super) exec: Option<String>,
    pub(super) webhook: Option<Webhook>,
}

/// What is being done.
#[derive(Debug)]
pub(super) struct Doing {
    acts: Acts,
    running: JoinSet<()>,
    places: Arc<Semaphore>,
    /// Events that found the queue full.
    left_out: u64,
}

impl Doing {
    pub(super) fn new(acts: Acts) -> Self {
        Self { acts, running: JoinSet::new(), places: Arc::new(Semaphore::new(limits::WATCH_ACTS_MAX)), left_out: 0 }
    }

    /// Begins what is to be done about an event, or queues it.
    pub(super) fn begin(&mut self, told: &Told) {
        while self.running.try_join_next().is_some() {}
        if self.running.len() >= limits::WATCH_QUEUE_MAX {
            self.left_out += 1;
            if self.left_out.is_power_of_two() {
                say(&format!(
                    "{} events were not handed on: what --exec or --webhook does takes too long",
                    self.left_out
                ));
            }
            return;
        }
        if let Some(command) = self.acts.exec.clone() {
            self.run("exec", exec(command, told.clone()));
        }
        if let Some(webhook) = self.acts.webhook.clone() {
            self.run("webhook", post(webhook, told.clone()));
        }
    }

    fn run(&mut self, what: &'static str, act: impl Future<Output = Result<()>> + Send + 'static) {
        let places = Arc::clone(&self.places);
        self.running.spawn(async move {
            let _place = places.acquire().await;
            if let Err(error) = act.await {
                say(&format!("--{what}: {error:#}"));
            }
        });
    }

    /// Waits for what is being done, so long at most; what is not done by then is killed.
    pub(super) async fn end(mut self, patience: Duration) {
        let all = async { while self.running.join_next().await.is_some() {} };
        if timeout(patience, all).await.is_err() {
            say("ended before --exec or --webhook were done with the last events");
        }
    }
}

/// A command that runs, with what it has started: all of it is killed with this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Who is gone already is no error.
            kill_process_group(group, Signal::KILL).unwrap_or_default();
        }
    }
}

/// Runs a command of a shell, with the event in its environment.
async fn exec(command: String, told: Told) -> Result<()> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).kill_on_drop(true);
    shell.env("ACOPIO_EVENT", told.event).env("ACOPIO_SOURCE", &told.source).env("ACOPIO_TIME", &told.time);
    shell.env("ACOPIO_FIELD", told.field.unwrap_or_default()).env("ACOPIO_TEXT", &told.text);
    shell.env("ACOPIO_VALUE", told.value.map(|value| value.to_string()).unwrap_or_default());
    let mut child = shell.spawn().context("cannot start /bin/sh")?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    if let Ok(ended) = timeout(limits::WATCH_EXEC_TIME_MAX, child.wait()).await {
        group.0 = None;
        let ended: ExitStatus = ended.context("cannot wait for the command")?;
        if !ended.success() {
            bail!("{command:?} ended with {ended}");
        }
        return Ok(());
    }
    drop(group);
    drop(child.wait().await);
    bail!("{command:?} took longer than {:?} and was killed", limits::WATCH_EXEC_TIME_MAX)
}

/// Posts the event as JSON, some times if need be.
async fn post(webhook: Webhook, told: Told) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        let posted = timeout(limits::WATCH_WEBHOOK_TIME_MAX, ask(&webhook.0, &told)).await;
        let failed = match posted {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("no answer within {:?}", limits::WATCH_WEBHOOK_TIME_MAX),
        };
        if tries >= limits::WATCH_WEBHOOK_TRIES {
            return Err(failed.context(format!("{} was not told, after {tries} tries", webhook.0)));
        }
        sleep(limits::WATCH_WEBHOOK_PAUSE).await;
    }
}

async fn ask(uri: &Uri, told: &Told) -> Result<()> {
    let host = uri.host().unwrap_or_default();
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let socket = Net::Tcp.dial(&address, None).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, uri.authority().map_or(host, |authority| authority.as_str()))
        .header(header::USER_AGENT, concat!("acopio/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(serde_json::to_vec(told)?)))?;
    let answer = async {
        let status = sender.send_request(request).await?.status();
        if status.is_success() { Ok(()) } else { bail!("it answers {status}") }
    };
    // The connection moves while the answer is waited for, and ends with it.
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = connection => {
            ended?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn told() -> Told {
        Told { event: "out", source: "esp7".to_owned(), value: Some(85.0), text: "a b".to_owned(), ..Told::default() }
    }

    #[test]
    fn a_webhook_is_http() {
        assert!(webhook("http://127.0.0.1:80/x?y=1").is_ok() && webhook("http://h").is_ok());
        assert!(webhook("https://h/x").unwrap_err().contains("--exec"));
        for text in ["", "h", "/x", "ftp://h/", "http:///x"] {
            assert!(webhook(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_request_has_the_event() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = webhook(&format!("http://{}/hook?x=1", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            while !asked.ends_with('}') {
                let mut bytes = [0; 1024];
                let n = socket.read(&mut bytes).await.unwrap();
                asked.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
            }
            socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            asked
        });
        post(hook, told()).await.unwrap();
        let asked = server.await.unwrap();
        assert!(asked.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{asked}");
        let (_, body) = asked.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["event"], &body["source"], &body["value"]), (&"out".into(), &"esp7".into(), &85.0.into()));
        assert!(body.get("field").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = webhook(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let error = format!("{:#}", post(hook, told()).await.unwrap_err());
        assert!(error.contains("was not told, after 3 tries"), "{error}");
    }

    #[tokio::test]
    async fn a_command_has_the_event_in_its_environment() {
        exec("test \"$ACOPIO_EVENT $ACOPIO_SOURCE $ACOPIO_VALUE $ACOPIO_TEXT\" = 'out esp7 85 a b'".to_owned(), told())
            .await
            .unwrap();
        let error = exec("exit 3".to_owned(), told()).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[tokio::test]
    async fn more_events_than_can_be_handed_on_are_counted() {
        let mut doing = Doing::new(Acts { exec: Some("true".to_owned()), webhook: None });
        for _ in 0..limits::WATCH_QUEUE_MAX + 5 {
            doing.begin(&told());
        }
        assert_eq!(doing.left_out, 5);
        doing.end(Duration::from_secs(60)).await;
    }
}
