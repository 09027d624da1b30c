//! `acopio check`: whether each device's messages are all there, by its own counter or its own period.

mod due;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::due::{Before, Gap, Heard, Kept, kept};
use super::asked::{Asked, tell_unheard, unheard};
use super::events::{Teller, each};
use super::known::{Known, known};
use super::moment::{Zone, now_ns};
use super::readings::Readings;
use super::{Global, Outcome, logging, print, runtime, values};
use crate::limits::CHECK_MESSAGES_MAX;
use crate::reading::UnixNs;
use crate::wire::text::MENSAJE_PREFIX;

const AFTER_HELP: &str = "\
Examples:
  acopio check --since today --head 127.0.0.1:5000
      a line for each device: due, kept, missing, doubled
  acopio check --since yesterday --until today --local --format json
      the same of one day, for programs
  acopio check --dir /backup --since 2026-11-21
      out of a backup

Where each message of a device has a counter (n=17, \"seq\": 17), numbers tell
what is missing or came twice; a counter may start again. So do numbers that
all messages begin with, as those of numerado, if they count up by one. Else the
device's own period does, which is the median of its intervals: a silence of
more than 2.5 periods is a gap. Times are the device's where it says them, so
that a backlog closes its gap. A device that was there before --since owes from
then on, also if it said nothing at all. What notes hide or correct came, and
counts.

Exit codes:
  0    nothing is missing
  1    something is missing, could not be read, or nothing was heard of a
       name in --from
  2    bad usage";

/// Tells whether each device's messages are all there: due, kept, missing, doubled
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, mut_arg("dir", |arg| arg.env("ACOPIO_CHECK_DIR")))]
pub(crate) struct Check {
    #[command(flatten)]
    asked: Asked,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people
    Table,
    /// JSON for programs
    Json,
}

/// What is said of a device.
#[derive(Debug, Serialize)]
struct Line {
    source: Option<String>,
    due: u64,
    kept: u64,
    missing: u64,
    doubled: u64,
    /// `counter`, `period`, or nothing where there are too few messages.
    by: &'static str,
    period: Option<String>,
    gap_from: Option<String>,
    gap: Option<String>,
}

impl Check {
    /// Counts; fails if something is missing.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(Global { quiet: global.quiet || !global.verbose, ..global }, &[])?;
        let (zone, config) = (self.asked.zone()?, self.asked.config()?);
        let mut readings = Readings::new(self.asked.rules()?);
        let query = self.asked.query(&zone);
        let (since_ns, until_ns, sources) =
            (query.from.time_ns, query.until.time_ns.min(now_ns()), query.sources.clone());
        let mut teller = Teller::new(global.quiet, &config, false);
        runtime::run_short(async {
            let (mut devices, mut count) = (BTreeMap::<Option<String>, Vec<Heard>>::new(), 0_usize);
            each(&config, query, &mut teller, |message| {
                count += 1;
                if count > CHECK_MESSAGES_MAX {
                    return;
                }
                // A wrong reading came, too: notes are not looked for.
                let Some(reading) = readings.read(message) else { return };
                let heard = Heard {
                    time_ns: reading.time().0,
                    counter: reading.counter,
                    leading: leading(&message.payload).filter(|_| reading.device_time.is_none()),
                    payload: crc32c::crc32c(&message.payload),
                    is_dated: reading.device_time.is_some(),
                };
                devices.entry(reading.source.map(|source| source.to_string())).or_default().push(heard);
            })
            .await?;
            if count > CHECK_MESSAGES_MAX {
                bail!("more than {CHECK_MESSAGES_MAX} messages; name a shorter time with --since and --until");
            }
            let unheard = unheard(&sources, devices.keys().flatten().map(String::as_str));
            let mut before = BTreeMap::<String, Before>::new();
            for Known { name, first_ns, period_ns, .. } in known(&config, &sources).await? {
                if first_ns < since_ns {
                    devices.entry(Some(name.clone())).or_default();
                    before.insert(name, Before { since_ns: Some(since_ns), period_ns });
                }
            }
            let before = |source: &Option<String>| source.as_ref().and_then(|source| before.get(source).copied());
            let lines = devices.into_iter().map(|(source, heard)| {
                let kept = kept(heard, before(&source).unwrap_or_default(), until_ns);
                line(source, kept, &zone)
            });
            let lines: Vec<Line> = lines.collect();
            let text = match self.format {
                Format::Table => table(&lines),
                Format::Json => print::json(&lines)?,
            };
            print::out("the report", &text)?;
            tell_unheard(&unheard);
            let is_whole = teller.damaged == 0 && unheard.is_empty() && lines.iter().all(|line| line.missing == 0);
            Ok(if is_whole { Outcome::Done } else { Outcome::Failed })
        })
    }
}

/// A whole number that a message begins with, if more follows.
fn leading(payload: &[u8]) -> Option<u64> {
    let text = payload.strip_prefix(MENSAJE_PREFIX.as_bytes()).unwrap_or(payload).trim_ascii();
    let end = text.iter().position(|byte| matches!(byte, b' ' | b'\t' | b',' | b';'))?;
    let digits = text.get(..end).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn line(source: Option<String>, kept: Kept, zone: &Zone) -> Line {
    let Kept { kept, due, missing, doubled, by_counter, period, gap } = kept;
    let by = match period {
        _ if by_counter => "counter",
        Some(_) => "period",
        None => "",
    };
    // To the second, or to the millisecond where it is shorter than one: nobody's period is so exact.
    let exact = |time: Duration| match time.as_secs() {
        0 => Duration::from_millis(u64::from(time.subsec_millis())),
        seconds => Duration::from_secs(seconds),
    };
    let shown = |time: Duration| values::show(exact(time));
    Line {
        source,
        due,
        kept,
        missing,
        doubled,
        by,
        period: period.map(shown),
        gap_from: gap.map(|gap: Gap| zone.show(UnixNs(gap.from_ns), 0)),
        gap: gap.map(|gap| shown(Duration::from_nanos(gap.long_ns))),
    }
}

fn table(lines: &[Line]) -> String {
    let name = |line: &Line| line.source.clone().unwrap_or_else(|| "(no name)".to_owned());
    let wide = lines.iter().map(|line| name(line).chars().count()).max().unwrap_or(0).max("device".len());
    let mut text = format!(
        "{:wide$}  {:>9}  {:>9}  {:>9}  {:>9}  {:8}  longest gap\n",
        "device", "due", "kept", "missing", "doubled", "period"
    );
    for line in lines {
        let Line { due, kept, missing, doubled, by, period, gap_from, gap, .. } = line;
        let period = match period {
            Some(period) if *by == "counter" => format!("{period} #"),
            Some(period) => period.clone(),
            None => "-".to_owned(),
        };
        let gap = gap
            .as_ref()
            .zip(gap_from.as_ref())
            .map_or_else(|| "-".to_owned(), |(gap, from)| format!("{gap} from {from}"));
        // Writing to a string does not fail.
        writeln!(text, "{:wide$}  {due:>9}  {kept:>9}  {missing:>9}  {doubled:>9}  {period:8}  {gap}", name(line))
            .unwrap_or_default();
    }
    if lines.iter().any(|line| line.by == "counter") {
        text += "# counted by the device's own numbers\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_with_a_number_if_more_follows() {
        for (payload, number) in [
            ("mensaje: 17 21.4", Some(17)),
            ("17,21.4", Some(17)),
            ("0 x", Some(0)),
            ("17", None),
            ("21.4 40", None),
            ("-3 40", None),
            (" 5", None),
            ("", None),
            ("99999999999999999999999 1", None),
        ] {
            assert_eq!(leading(payload.as_bytes()), number, "{payload}");
        }
    }
}
