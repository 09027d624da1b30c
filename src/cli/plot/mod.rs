//! `acopio plot`: the curve of a field, in a terminal or a file of text.

mod curve;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;

pub(crate) use self::curve::{Canvas, Ink};
use super::asked::Asked;
use super::buckets::{Aggregate, Buckets, Series};
use super::events::{Teller, each, look_for_notes, say};
use super::moment::Zone;
use super::readings::Readings;
use super::{Global, Outcome, logging, print, runtime, values};
use crate::client::reader::{Config, Query};
use crate::limits::{PLOT_PLACES_MAX, PLOT_TIME_DEFAULT};
use crate::reading::{Reading, Rules, UnixNs};
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;

const AFTER_HELP: &str = "\
Examples:
  acopio plot temp --head 127.0.0.1:5000
      the last hour, as wide as the terminal
  acopio plot temp --since today --every 10m --local
      the median of each ten minutes of this day
  acopio plot temp --dir /backup/data1 --since 2026-11-21 --until 2026-11-22
      out of a backup

Each place of the curve is the median of its time, which one wrong value does
not move; where no value is, there is no curve. Where the output is no
terminal it is 80 columns of plain characters.

Exit codes:
  0    it is drawn
  1    there is no such value, or not all of it could be read
  2    bad usage";

/// Draws the curve of a field of the payloads
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, mut_arg("dir", |arg| arg.env("ACOPIO_PLOT_DIR")))]
pub(crate) struct Plot {
    /// The field; without one, the first number that each payload has
    #[arg(value_name = "FIELD")]
    field: Option<String>,
    #[command(flatten)]
    asked: Asked,
    /// Put the values of each such time together, by their median [default: as many as fit]
    #[arg(long, env = "ACOPIO_PLOT_EVERY", value_name = "TIME", value_parser = values::keep)]
    every: Option<Duration>,
}

/// Times that a place of the curve may stand for, seconds.
const NICE_S: [u64; 20] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800, 2_419_200];

impl Plot {
    /// Draws it.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(Global { quiet: global.quiet || !global.verbose, ..global }, &[])?;
        let (zone, config) = (self.asked.zone()?, self.asked.config()?);
        let mut readings = Readings::new(self.asked.rules()?);
        let canvas = canvas();
        let query = span(self.asked.query(&zone), self.asked.has_since());
        let every = self.every.unwrap_or_else(|| nice(&query, canvas.places()));
        let mut curve = Curve::new(Buckets::new(every, Aggregate::Median, zone.clone()));
        let mut teller = Teller::new(global.quiet, &config, false);
        runtime::run_short(async {
            look_for_notes(&mut readings, &config, &query, global.quiet).await?;
            each(&config, query, &mut teller, |message| {
                if let Some(reading) = readings.read(message) {
                    curve.add(&reading, self.field.as_deref());
                }
            })
            .await?;
            readings.told().iter().filter(|_| !global.quiet).for_each(|line| say(line));
            curve.finish();
            let Some(text) = curve.draw(canvas, &zone, self.field.as_deref(), every) else {
                say(&nothing(self.field.as_deref()));
                return Ok(Outcome::Failed);
            };
            print::out("the curve", &text)?;
            Ok(if teller.damaged > 0 { Outcome::Failed } else { Outcome::Done })
        })
    }
}

fn nothing(field: Option<&str>) -> String {
    let what = field.map_or_else(|| "a number".to_owned(), |field| format!("a number {field}"));
    format!("no message of that time has {what}; 'acopio read --long' shows what they have")
}

/// What the terminal has, or 80 by 24 of plain characters.
fn canvas() -> Canvas {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|_| io::stdout().is_terminal());
    let (columns, rows, ink) = match size.filter(|size| size.ws_col > 0 && size.ws_row > 0) {
        Some(size) => (usize::from(size.ws_col), usize::from(size.ws_row), Ink::Braille),
        None => (80, 24, Ink::Plain),
    };
    // The title, the axis, the times, and where the prompt stands.
    Canvas { columns: columns.min(PLOT_PLACES_MAX), rows: rows.saturating_sub(4).max(4), ink }
}

/// The curve of the first number of a source in the last hour, for so many places, and the time each stands for; what is
/// away is left out. Nothing is told meanwhile.
///
/// # Errors
/// What keeps it from being read.
pub(crate) async fn last_hour(
    config: &Config,
    source: SourceName,
    rules: Rules,
    places: usize,
) -> Result<(Curve, Duration)> {
    let sources = source.to_string().parse()?;
    let query = span(Query { sources, partial: true, ..Query::default() }, false);
    let every = nice(&query, places);
    let (mut readings, mut teller) = (Readings::new(rules), Teller::mute(config));
    each(config, Readings::of_notes(&query), &mut teller, |message| readings.take_note(message)).await?;
    let mut curve = Curve::of_medians(every);
    each(config, query, &mut teller, |message| {
        if let Some(reading) = readings.read(message) {
            curve.add(&reading, None);
        }
    })
    .await?;
    curve.finish();
    Ok((curve, every))
}

/// The last hour where no beginning is given; the end is now at the latest.
fn span(query: Query, has_since: bool) -> Query {
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(0);
    let until = query.until.min(RecordId { time_ns: now, incarnation: 0 }.next());
    let hour = u64::try_from(PLOT_TIME_DEFAULT.as_nanos()).unwrap_or(0);
    let from =
        if has_since { query.from } else { RecordId { time_ns: until.time_ns.saturating_sub(hour), incarnation: 0 } };
    Query { from, until, ..query }
}

/// The least nice time with which the whole fits into so many places.
fn nice(query: &Query, places: usize) -> Duration {
    let seconds = query.until.time_ns.saturating_sub(query.from.time_ns) / 1_000_000_000;
    let least = seconds.div_ceil(places.max(1) as u64);
    Duration::from_secs(NICE_S.into_iter().find(|nice| *nice >= least).unwrap_or(least))
}

/// Buckets on their way to a curve.
#[derive(Debug)]
pub(crate) struct Curve {
    buckets: Buckets,
    unit: Option<String>,
    /// Each bucket and its value.
    values: Vec<(u64, Option<f64>)>,
    readings: u64,
    out: u64,
}

impl Curve {
    /// Medians of each such time, UTC.
    pub(crate) fn of_medians(every: Duration) -> Self {
        Self::new(Buckets::new(every, Aggregate::Median, Zone::utc()))
    }

    const fn new(buckets: Buckets) -> Self {
        Self { buckets, unit: None, values: Vec::new(), readings: 0, out: 0 }
    }

    pub(crate) fn add(&mut self, reading: &Reading, field: Option<&str>) {
        let found = match field {
            Some(name) => reading.field(name),
            None => reading.fields.iter().find(|field| field.number().is_some()),
        };
        let Some((field, number)) = found.and_then(|field| Some((field, field.number()?))) else { return };
        self.readings += 1;
        self.out += u64::from(field.is_out);
        self.unit = self.unit.take().or_else(|| field.unit.clone());
        self.buckets.add(reading.time(), Series { source: String::new(), field: String::new() }, number);
        let values = &mut self.values;
        self.buckets.make_room(&mut |start, said| take(values, start, said));
    }

    /// All values came: the buckets that are still open are over.
    pub(crate) fn finish(&mut self) {
        let values = &mut self.values;
        self.buckets.finish(&mut |start, said| take(values, start, said));
    }

    /// The title, the curve, and the times of its ends; none if there is nothing to draw.
    pub(crate) fn draw(&self, canvas: Canvas, zone: &Zone, field: Option<&str>, every: Duration) -> Option<String> {
        let ((first, _), (last, _)) = (*self.values.first()?, *self.values.last()?);
        let unit = self.unit.as_ref().map_or_else(String::new, |unit| format!(" {unit}"));
        let mut title = format!("{}{unit}: median of each {}", field.unwrap_or("value"), values::show(every));
        let empty = self.values.iter().filter(|(_, value)| value.is_none()).count();
        // Writing to a string does not fail.
        write!(title, ", {} values", self.readings).unwrap_or_default();
        if empty > 0 {
            write!(title, ", {empty} of {} empty", self.values.len()).unwrap_or_default();
        }
        if self.out > 0 {
            write!(title, ", {} out of range", self.out).unwrap_or_default();
        }
        let only: Vec<Option<f64>> = self.values.iter().map(|(_, value)| *value).collect();
        let (from, to) = (zone.show(UnixNs(first), 0), zone.show(UnixNs(last), 0));
        let gap = canvas.columns.saturating_sub(10 + to.len());
        let lines = [vec![title], canvas.draw(&only), vec![format!("{:10}{from:gap$}{to}", "")]].concat();
        Some(lines.join("\n") + "\n")
    }
}

/// Notes a bucket that is over. More than a terminal shows are thinned out: every other goes.
fn take(values: &mut Vec<(u64, Option<f64>)>, start: u64, said: super::buckets::Said<'_>) {
    if values.len() >= PLOT_PLACES_MAX {
        let mut stays = false;
        values.retain(|_| {
            stays = !stays;
            stays
        });
    }
    values.push((start, said.first().and_then(|(_, value)| *value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_the_curve_stands_for_a_nice_time() {
        let span = |seconds: u64| Query {
            from: RecordId { time_ns: 1_000_000_000, incarnation: 0 },
            until: RecordId { time_ns: (1 + seconds) * 1_000_000_000, incarnation: 0 },
            ..Query::default()
        };
        for (seconds, wanted) in [(60, 1), (3600, 60), (86_400, 1800), (31_536_000, 604_800), (0, 1)] {
            assert_eq!(nice(&span(seconds), 70), Duration::from_secs(wanted), "{seconds}");
        }
        assert_eq!(nice(&span(3600), 0), Duration::from_secs(3600));
    }

    #[test]
    fn the_title_says_what_is_drawn() {
        let (rules, _) = Rules::parse("*: temp °C 5..45");
        let mut curve = Curve::of_medians(Duration::from_secs(60));
        for (minute, payload) in [(0, "21.5"), (0, "85"), (0, "22"), (1, "hola mundo"), (2, "23")] {
            let taken = UnixNs((1_795_234_260 + 60 * minute) * 1_000_000_000);
            curve.add(&Reading::new(None, payload.as_bytes(), taken, &rules), Some("temp"));
        }
        curve.finish();
        let canvas = Canvas { columns: 60, rows: 4, ink: Ink::Plain };
        let text = curve.draw(canvas, &Zone::utc(), Some("temp"), Duration::from_secs(60)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "temp °C: median of each 1m, 4 values, 1 of 3 empty, 1 out of range");
        assert!(lines[1].starts_with("   23.00 |") && lines[4].starts_with("   22.00 |"), "{text}");
        assert_eq!(lines[6], "          2026-11-21T04:11:00Z          2026-11-21T04:13:00Z");
        let empty = Curve::of_medians(Duration::from_secs(60));
        assert_eq!(empty.draw(canvas, &Zone::utc(), None, Duration::from_secs(60)), None);
    }
}
