//! `acopio device`: flags of a measuring device.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::BoolishValueParser;
use tokio::sync::watch;

use super::heads::{Access, HeadList, Heads};
use super::logging::{self, LogFile, SAID, Takes};
use super::zookeeper::ZooKeeper;
use super::{Global, Outcome, heads, runtime, values};
use crate::cluster::screen::Screen;
use crate::device::{self, ApiUrl, Config, Console, Source};
use crate::limits;

const AFTER_HELP: &str = "\
Examples:
  acopio device 1
      a random value each round, as the original's devices
  acopio device 2 --zookeeper zk:2181 --api http://web-api:4000/ --period 8s
  acopio device cellar --command 'cat /sys/class/thermal/thermal_zone0/temp'
  acopio device app1
      publishes each period and waits at no barrier

Each device measures, writes the value to /mediciones/ID in ZooKeeper, and
waits at the barrier. One of them leads: it collects the values each period,
sends their mean to the web API (GET …/nuevo?dato=MEAN) and opens the barrier.
When it is lost, another one leads. `acopio zk set /config/sampling_period 8`
changes the period of all at once, and /config/api_url the web API; they go
before the flags.

ZK_HOST, API_URL and SAMPLING_PERIOD (in seconds) are understood as well;
ACOPIO_ variables go before them. With --head, each measurement and each mean
with how it came about is kept in the cluster:
  acopio read --grep '\"kind\"'";

/// What the seeds' programs ask for, and say without it.
const ASK: &str = "Introduce un identificador: ";
const MISSING: &str = "Error: Se requiere un identificador como argumento.";

/// A measuring device: a sensor and a candidate for leadership, coordinated over ZooKeeper
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Device {
    /// Its id, one word, another one for each device [default: asked for on a terminal]
    #[arg(value_name = "ID", value_parser = id)]
    id: Option<String>,
    #[command(flatten)]
    zookeeper: ZooKeeper,
    /// The web API that the leader sends means to [default: http://127.0.0.1:8080/]
    #[arg(long, env = "ACOPIO_API", value_name = "URL")]
    api: Option<ApiUrl>,
    /// Time the web API has to answer
    #[arg(long, env = "ACOPIO_API_TIMEOUT", value_name = "TIME", default_value = "2s", value_parser = values::duration)]
    api_timeout: Duration,
    /// Time between two measurements [default: 5s]
    #[arg(long, env = "ACOPIO_PERIOD", value_name = "TIME", value_parser = values::duration)]
    period: Option<Duration>,
    /// Heads of the cluster, which keeps measurements and means; several with commas [default: they are kept nowhere]
    #[arg(long, env = "ACOPIO_HEAD", value_name = "HOST:PORT", value_delimiter = ',', value_parser = heads::head)]
    pub(super) head: Vec<String>,
    #[command(flatten)]
    access: Access,
    /// Take values from this shell command: the first word that it prints
    #[arg(long, env = "ACOPIO_COMMAND", value_name = "CMD", conflicts_with_all = ["file", "stdin"])]
    command: Option<String>,
    /// Take values from this file: its first word
    #[arg(long, env = "ACOPIO_DEVICE_FILE", value_name = "PATH", conflicts_with = "stdin")]
    file: Option<PathBuf>,
    /// Take values from standard input, one a line; the device ends with it
    #[arg(long, env = "ACOPIO_STDIN", conflicts_with = "until_stdin_closes", value_parser = BoolishValueParser::new())]
    stdin: bool,
    /// Folder of the logs: device.log [default: logs/device-ID]
    #[arg(long, env = "ACOPIO_LOGS", value_name = "DIR")]
    logs: Option<PathBuf>,
    /// Stop in order when standard input ends
    #[arg(long, hide = true, env = "ACOPIO_UNTIL_STDIN_CLOSES", value_parser = BoolishValueParser::new())]
    until_stdin_closes: bool,
}

fn id(text: &str) -> Result<String, String> {
    if matches!(text, "." | "..") || text.contains('/') {
        return Err("an id is the name of a znode, one word without a slash; give another".to_owned());
    }
    values::name(text)
}

impl Device {
    /// Measures until it is told to stop.
    pub(crate) fn run(mut self, global: Global) -> Result<Outcome> {
        let Some(id) = self.id.clone().map_or_else(ask_for_id, |id| Ok(Some(id)))? else {
            writeln!(std::io::stdout(), "{MISSING}").context("cannot print; give it a standard output")?;
            return Ok(Outcome::Failed);
        };
        let logs = self.logs.clone().unwrap_or_else(|| PathBuf::from(format!("logs/device-{id}")));
        logging::start(global, &[LogFile { dir: &logs, name: "device", takes: Takes::All, beside_data: false }])?;
        let zookeeper = self.zookeeper.config()?;
        let list = HeadList { head: std::mem::take(&mut self.head) };
        let heads = Heads { list, access: std::mem::take(&mut self.access) };
        let api = self.api.clone().map_or_else(|| variable("API_URL", str::parse, DEFAULT_API), Ok)?;
        let period = self.period.map_or_else(|| variable("SAMPLING_PERIOD", device::period, DEFAULT_PERIOD), Ok)?;
        let source = self.source();
        // A terminal that stands still must not hold up the device, which would lose its session.
        let (screen, writer) = Screen::stdout(global.quiet);
        let console = Console::new(move |line| {
            screen.say(line);
            if !line.is_empty() {
                tracing::info!(target: SAID, "{line}");
            }
        });
        let api_time = self.api_timeout;
        let ends_with = runtime::EndsWith::service(self.until_stdin_closes);
        let ran = runtime::run_role(limits::STOP_TIME_MAX, ends_with, async |shutdown| {
            let heads = match heads.list.head.is_empty() {
                true => None,
                false => match heads.followed(&shutdown).await? {
                    None => return Ok(()),
                    heads => heads,
                },
            };
            let config = Config { id, zookeeper, heads, api, api_time, period, source, console };
            Ok(device::run(config, shutdown).await?)
        });
        writer.finish();
        ran.map(runtime::done)
    }

    fn source(&self) -> Source {
        match (&self.command, &self.file) {
            (Some(command), _) => Source::Command(command.clone()),
            (_, Some(path)) => Source::File(path.clone()),
            _ if self.stdin => Source::Lines(lines_of_stdin()),
            _ => Source::random(rand::random()),
        }
    }
}

const DEFAULT_API: &str = "http://127.0.0.1:8080/";
const DEFAULT_PERIOD: &str = "5";

/// What a variable of the seeds' programs says, or what holds without it.
fn variable<T, E>(name: &'static str, parse: fn(&str) -> Result<T, E>, without: &str) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) => parse(&text).with_context(|| format!("the variable {name}")),
        Err(_) => Ok(parse(without)?),
    }
}

/// Asks for an id, if there is somebody to ask.
fn ask_for_id() -> Result<Option<String>> {
    let mut stdin = std::io::stdin().lock();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let mut stdout = std::io::stdout();
    stdout.write_all(ASK.as_bytes()).and_then(|()| stdout.flush()).context("cannot ask for an id; give one")?;
    let mut line = String::new();
    stdin.read_line(&mut line).context("cannot read the id; give it as an argument")?;
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    id(line).map(Some).map_err(anyhow::Error::msg)
}

/// The last line of standard input. A thread of its own reads it.
fn lines_of_stdin() -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut line = Vec::new();
        loop {
            line.clear();
            let most = u64::try_from(limits::DEVICE_VALUE_BYTES_MAX).unwrap_or(u64::MAX);
            // A line that never ends comes in pieces.
            match std::io::Read::take(&mut stdin, most).read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            sender.send_replace(String::from_utf8_lossy(&line).into_owned());
        }
    });
    receiver
}
