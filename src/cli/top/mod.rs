//! `acopio top`: the cluster in a terminal. What heads told is `told`, how it is looked at is `view`, what is drawn where is
//! `screen`, all of them pure; here are the terminal, the keys and the questions.

mod screen;
#[cfg(test)]
mod tests;
mod told;
mod view;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::told::Told;
use self::view::{Act, View};
use super::events::Teller;
use super::heads::Heads;
use super::plot::Curve;
use super::runtime::{self, EndsWith};
use super::{Global, Outcome, asked, devices, plot};
use crate::client::reader::Config;
use crate::limits::{
    DEVICES_LAST_READ_MAX, TOP_EVERY, TOP_KEYS_MAX, TOP_READ_TIME_MAX, TOP_SYNCS_TIME_MAX, TOP_SYNCS_TIME_MIN,
    TOP_TEXT_BYTES_MAX, WEB_STATUS_TIME_MAX,
};
use crate::net;
use crate::overview::{self, Paces};
use crate::reading::Rules;
use crate::wire::status::{DeviceStatus, DevicesReport};

const AFTER_HELP: &str = "\
Examples:
  acopio top
  acopio top --head h1:5000,h2:5000 --rules campos.txt
      with the ranges in campos.txt: what is out of them comes first
  acopio status --watch
      the same without a terminal, as text

Left: data nodes, those that are away first; syncs a second, bytes written a
day at the pace of now, what their disks have left; records, where the terminal
is wider. Right: sources, silent and out of range first; what each said last,
how long ago, how often it speaks. Below: what somebody has to act on.

Keys:
  up, down, k, j  choose a source      enter  its last hour as a curve
  s               another order        /      only names with what is typed
  esc             back, no filter      q      end, and so does Ctrl-C

Exit codes:
  0    it was ended by q, Ctrl-C or SIGTERM
  1    there is no terminal, or it went away
  2    bad usage";

/// Time it has to end in order.
const STOP_TIME: Duration = Duration::from_secs(5);

/// The cluster in a terminal: data nodes, sources, alarms, curves
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Top {
    #[command(flatten)]
    heads: Heads,
    /// What payloads mean that do not say it themselves: a file with a line for each device, such as 'esp7: temp °C 5..45'
    #[arg(long, env = "ACOPIO_RULES", value_name = "FILE")]
    rules: Option<PathBuf>,
}

impl Top {
    /// Shows it until somebody ends it. Nothing is logged: it would stand in the middle of the screen.
    pub(crate) fn run(self, _: Global) -> Result<Outcome> {
        if !io::stdout().is_terminal() {
            bail!("standard output is no terminal; 'acopio status --watch' prints text to whatever there is");
        }
        let rules = self.rules.as_deref().map_or_else(|| Ok(Rules::default()), asked::rules)?;
        let shown = runtime::run_role(STOP_TIME, EndsWith::Terminal, async |shutdown| {
            let Some(heads) = self.heads.followed(&shutdown).await? else { return Ok(()) };
            look(heads, rules, shutdown).await
        });
        shown.map(runtime::done)
    }
}

/// The terminal while it is ours. It is given back however this ends; a panic does so before it says what happened.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Self> {
        let taken = ratatui::try_init().inspect_err(|_| ratatui::restore());
        taken.map(Self).context("cannot draw on this terminal; 'acopio status --watch' needs less of it")
    }

    fn draw(&mut self, told: &Told, view: &View) -> Result<()> {
        let drawn = self.0.draw(|frame| screen::draw(frame, told, view));
        drawn.map(drop).context("cannot draw: the terminal is gone; start acopio top again in another")
    }

    /// Places of a curve as wide as the terminal: two in a column of braille, beside the labels.
    fn places(&self) -> usize {
        let columns = self.0.size().map_or(80, |size| usize::from(size.width));
        plot::Canvas { columns, rows: 1, ink: plot::Ink::Braille }.places()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What was read for the curve of a source.
type Read = (String, Result<(Curve, Duration), String>);

async fn look(heads: net::Heads, rules: Rules, shutdown: CancellationToken) -> Result<()> {
    let mut config = Config::following(heads.clone());
    config.retry_for = TOP_READ_TIME_MAX;
    let mut told = Told::asking(&config.heads());
    let (answers_in, mut answers) = mpsc::channel(1);
    let mut asking = JoinSet::new();
    asking.spawn_local(ask(heads, config.clone(), rules.clone(), answers_in));
    let (mut view, mut reads) = (View::default(), JoinSet::<Read>::new());
    let mut screen = Screen::take()?;
    let mut events = watch_keys()?;
    loop {
        screen.draw(&told, &view)?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            event = events.recv() => match event.context("the terminal is gone; start acopio top again in another")? {
                Event::Key(key) if key.is_press() => match view.key(key, &told) {
                    Act::End => return Ok(()),
                    Act::Closed => reads.abort_all(),
                    Act::Nothing => {}
                },
                _ => {}
            },
            answer = answers.recv() => told = answer.context("nobody asks the heads any more; start acopio top again")?,
            Some(read) = reads.join_next() => match read {
                Ok((source, read)) => view.take(&source, read),
                Err(error) if error.is_cancelled() => {}
                Err(error) => bail!("the read of a curve broke off: {error}"),
            },
        }
        if let Some(source) = view.due(&told, Instant::now()) {
            let places = screen.places();
            reads.spawn_local(read(config.clone(), source, rules.clone(), places));
        }
    }
}

async fn read(config: Config, source: String, rules: Rules, places: usize) -> Read {
    let read = async {
        let name = source.parse().with_context(|| format!("{source} is no name of a source"))?;
        timeout(TOP_READ_TIME_MAX, plot::last_hour(&config, name, rules, places)).await.context("it takes too long")?
    };
    let read = read.await.map_err(|error| format!("{error:#}"));
    (source, read)
}

/// Keys and sizes of the terminal. A thread waits for them; it ends with the process.
fn watch_keys() -> Result<mpsc::Receiver<Event>> {
    let (events_in, events) = mpsc::channel(TOP_KEYS_MAX);
    runtime::thread("keys", move || {
        while let Ok(event) = event::read()
            && events_in.blocking_send(event).is_ok()
        {}
    })?;
    Ok(events)
}

/// Asks the heads again and again, as long as somebody takes what they say.
async fn ask(heads: net::Heads, config: Config, rules: Rules, answers: mpsc::Sender<Told>) {
    let heads = overview::Heads::new(heads);
    let (mut syncs, mut lasts) = (Paces::new(TOP_SYNCS_TIME_MIN, TOP_SYNCS_TIME_MAX), Lasts::default());
    loop {
        let (cluster, devices) = tokio::join!(heads.cluster(), heads.devices());
        let now = Instant::now();
        let nodes = cluster.first().map(|report| report.nodes.as_slice()).unwrap_or_default();
        let paces = nodes.iter().filter_map(|node| Some((node.name.clone(), syncs.of(&node.name, node.syncs, now)?)));
        let paces: BTreeMap<String, f64> = paces.collect();
        let mut devices = devices.map(|report| DevicesReport::clone(&report));
        if let Ok(report) = &mut devices {
            lasts.fill(report);
        }
        let told = Told::new(&cluster, devices.as_ref().map_err(String::as_str), &paces, &rules);
        if answers.send(told).await.is_err() {
            return;
        }
        if let Ok(report) = &devices
            && lasts.read(&config, report).await
        {
            continue;
        }
        sleep(TOP_EVERY).await;
    }
}

/// Last messages that no head knows, by the names of their sources: the id, and the text if it is there. Each is read once.
#[derive(Default)]
struct Lasts(BTreeMap<String, (String, Option<String>)>);

impl Lasts {
    /// Fills in what is known.
    fn fill(&mut self, report: &mut DevicesReport) {
        for device in report.devices.iter_mut().filter(|device| device.last_text.is_none()) {
            let known = self.0.get(&device.name).filter(|(id, _)| *id == device.last_id);
            device.last_text = known.and_then(|(_, text)| text.clone());
        }
        // They come in the order of their names.
        self.0.retain(|name, _| report.devices.binary_search_by(|device| device.name.cmp(name)).is_ok());
    }

    /// Reads some of those that are still missing; whether there were any. What takes too long is tried again.
    async fn read(&mut self, config: &Config, report: &DevicesReport) -> bool {
        let is_known = |device: &DeviceStatus| self.0.get(&device.name).is_some_and(|(id, _)| *id == device.last_id);
        let missing = report.devices.iter().filter(|device| !is_known(device));
        let missing: Vec<_> = missing.filter_map(|device| Some((device, devices::unheard(device)?))).collect();
        let some: Vec<_> = missing.into_iter().take(DEVICES_LAST_READ_MAX).collect();
        let asked = some.iter().map(|(_, unheard)| *unheard);
        let read = timeout(WEB_STATUS_TIME_MAX, devices::last_texts(config, asked, Teller::mute)).await;
        let Ok(Ok(mut texts)) = read else { return false };
        for (device, _) in &some {
            let text = texts.remove(&device.name).map(|mut text| {
                text.truncate(text.floor_char_boundary(TOP_TEXT_BYTES_MAX));
                text
            });
            self.0.insert(device.name.clone(), (device.last_id.clone(), text));
        }
        !some.is_empty()
    }
}
