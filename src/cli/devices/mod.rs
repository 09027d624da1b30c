//! `acopio devices`: which sources there are, which are connected, which are silent, and what they say.

mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::client::Asker;
use crate::client::reader::{Config, Message, Query};
use crate::limits::{DEVICES_LAST_READ_MAX, DEVICES_LAST_READS_AT_ONCE, PLOT_TIME_DEFAULT};
use crate::reading::{Field, Reading, Rules, UnixNs, Value};
use crate::wire::filter::SourceFilter;
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;
use crate::wire::status::{DeviceStatus, DevicesReport};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Serialize;
use tokio::task::JoinSet;

pub(crate) use self::table::short;
use self::table::table;
use super::asked;
use super::events::{Teller, alone, each, look_for_notes, record, say};
use super::heads::Heads;
use super::moment::{self, Moment, Zone};
use super::readings::Readings;
use super::status::Format;
use super::{Global, Outcome, logging, print, runtime};

const AFTER_HELP: &str = "\
Examples:
  acopio devices
  acopio devices --silent
      who has not been heard for three of its own periods
  acopio devices --connected
  acopio devices --mean temp --since today
      the mean of a field of each, of the last hour unless told otherwise
  acopio devices --format json | jq -r '.devices[] | select(.silent) | .name'

A device is a source that says its name: peticion NAME, cliente NAME, or
acopio send --as NAME. Its period is the median of the times between its last
messages that came by this head; before there are some, the mean of all that
are kept. What is connected, from where, and how many messages came today (UTC,
or since this head started) is what this head knows. The last value is read
where the head has not heard it, of 64 devices at most. --mean reads the
messages since --since.";

/// Which devices there are: connected, last heard, period, messages today, last value
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Devices {
    #[command(flatten)]
    heads: Heads,
    /// Only those that are connected to this head
    #[arg(long, env = "ACOPIO_DEVICES_CONNECTED", value_parser = BoolishValueParser::new())]
    connected: bool,
    /// Only those that were heard last more than three of their own periods ago
    #[arg(long, env = "ACOPIO_DEVICES_SILENT", value_parser = BoolishValueParser::new())]
    silent: bool,
    /// Only these: names with commas between them; one that ends in / is a group
    #[arg(long, env = "ACOPIO_DEVICES_FROM", value_name = "NAMES")]
    from: Option<SourceFilter>,
    /// The mean of this field of each device, in place of its last value
    #[arg(long, env = "ACOPIO_DEVICES_MEAN", value_name = "FIELD")]
    mean: Option<String>,
    /// With --mean: of the messages since then [default: an hour ago]
    #[arg(long, env = "ACOPIO_DEVICES_SINCE", value_name = "TIME", requires = "mean", value_parser = moment::moment)]
    since: Option<Moment>,
    /// What payloads mean that do not say it themselves: a file with a line for each device, such as 'esp7: temp °C 5..45'
    #[arg(long, env = "ACOPIO_RULES", value_name = "FILE")]
    rules: Option<PathBuf>,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
}

/// A device, and what it says.
#[derive(Debug, Default, Serialize)]
struct Told {
    #[serde(flatten)]
    device: DeviceStatus,
    /// Its last values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    last: Vec<Last>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<Mean>,
}

/// A field of a device's last message.
#[derive(Debug, PartialEq, Serialize)]
struct Last {
    field: String,
    value: LastValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum LastValue {
    Number(f64),
    Text(String),
}

/// The mean of a field, and of how many values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Mean {
    mean: f64,
    values: u64,
}

impl Mean {
    /// Takes a value, without a sum that is infinite where no value is.
    fn add(&mut self, value: f64) {
        self.values += 1;
        let n = self.values as f64;
        self.mean += value / n - self.mean / n;
    }
}

/// All of them, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    devices: &'a [Told],
    unlisted: bool,
    missing: &'a [String],
    copies: usize,
    today_since: &'a str,
}

impl Devices {
    /// Asks and prints.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(Global { quiet: global.quiet || !global.verbose, ..global }, &[])?;
        let heads = self.heads.fixed()?;
        let rules = self.rules.as_deref().map_or_else(|| Ok(Rules::default()), asked::rules)?;
        runtime::run_short(async {
            let config = Config::following(heads);
            let mut report = ask(&config.asker(), &config.heads()).await?;
            let known = report.devices.len();
            let mut told: Vec<Told> = std::mem::take(&mut report.devices)
                .into_iter()
                .filter(|device| self.wants(device))
                .map(|device| Told { device, ..Told::default() })
                .collect();
            match &self.mean {
                Some(field) => self.add_means(&config, &mut told, field, rules, global.quiet).await?,
                None => add_last(&config, &mut told, &rules).await?,
            }
            let text = match self.format {
                Format::Json => print::json(&as_json(&report, &told))?,
                Format::Table => table(&report, &told, known, self.mean.as_deref()),
            };
            print::out("the devices", &text)?;
            if !global.quiet && !report.missing.is_empty() {
                print::err(&format!("acopio: without {}, which did not answer", report.missing.join(", ")));
            }
            Ok(Outcome::Done)
        })
    }

    fn wants(&self, device: &DeviceStatus) -> bool {
        let is_named = self.from.as_ref().is_none_or(|from| {
            let name = device.name.trim_end_matches('/');
            name.parse().is_ok_and(|name: SourceName| from.matches(Some(&name)))
        });
        is_named && (!self.connected || device.connected) && (!self.silent || device.silent)
    }

    /// The mean of a field of each, of the messages since a time.
    async fn add_means(
        &self,
        config: &Config,
        told: &mut [Told],
        field: &str,
        rules: Rules,
        quiet: bool,
    ) -> Result<()> {
        let since = self.since.unwrap_or(Moment::Ago(PLOT_TIME_DEFAULT));
        let sources = self.from.clone().unwrap_or_default();
        let from = since.id(SystemTime::now(), &Zone::utc());
        let query = Query { from, sources, partial: true, ..Query::default() };
        let mut readings = Readings::new(rules);
        look_for_notes(&mut readings, config, &query, quiet).await?;
        let mut means = BTreeMap::<String, Mean>::new();
        each(config, query, &mut Teller::new(quiet, config, false), |message| {
            let Some(reading) = readings.read(message) else { return };
            if let (Some(source), Some(value)) = (reading.source, reading.number(field)) {
                means.entry(source.to_string()).or_default().add(value);
            }
        })
        .await?;
        told.iter_mut().for_each(|told| told.mean = means.get(&told.device.name).copied());
        readings.told().iter().filter(|_| !quiet).for_each(|line| say(line));
        if means.is_empty() {
            say(&format!("no message in this time has a field {field}; 'acopio read --long' shows what there is"));
        }
        Ok(())
    }
}

/// What each said last: as the head heard it, or, of some, read by its id.
async fn add_last(config: &Config, told: &mut [Told], rules: &Rules) -> Result<()> {
    let unheard: Vec<_> = told.iter().filter_map(|told| unheard(&told.device)).collect();
    let mut texts = last_texts(config, unheard, |config| Teller::new(true, config, false)).await?;
    for Told { device, last, .. } in told {
        device.last_text = device.last_text.take().or_else(|| texts.remove(&device.name));
        *last = fields(device, rules).into_iter().map(Last::from).collect();
    }
    Ok(())
}

/// What a device says, if its last text is known.
pub(crate) fn fields(device: &DeviceStatus, rules: &Rules) -> Vec<Field> {
    let Some(text) = &device.last_text else { return Vec::new() };
    Reading::new(device.name.parse().ok(), text.as_bytes(), UnixNs(device.last_ns), rules).fields
}

/// A device whose last message the head does not know, and that message.
pub(crate) fn unheard(device: &DeviceStatus) -> Option<(SourceName, RecordId)> {
    let is_unheard = device.last_text.is_none() && device.records > 0;
    is_unheard.then(|| Some((device.name.parse().ok()?, device.last_id.parse().ok()?)))?
}

/// The texts of these messages by their sources, of so many as are read at most.
pub(crate) async fn last_texts(
    config: &Config,
    unheard: impl IntoIterator<Item = (SourceName, RecordId)>,
    teller: fn(&Config) -> Teller,
) -> Result<BTreeMap<String, String>> {
    let mut asked = unheard.into_iter().take(DEVICES_LAST_READ_MAX);
    let (mut reads, mut texts) = (JoinSet::new(), BTreeMap::new());
    loop {
        while reads.len() < DEVICES_LAST_READS_AT_ONCE
            && let Some((name, id)) = asked.next()
        {
            let config = config.clone();
            reads.spawn(async move {
                let query = Query { sources: name.to_string().parse()?, partial: true, ..alone(id) };
                let message = record(&config, query, &mut teller(&config)).await?;
                anyhow::Ok(message.map(|message| (name.to_string(), text_of(&message))))
            });
        }
        let Some(read) = reads.join_next().await else { return Ok(texts) };
        texts.extend(read.context("a read of a last message")??);
    }
}

/// A payload as one line.
fn text_of(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).replace(char::is_control, " ")
}

impl From<Field> for Last {
    fn from(field: Field) -> Self {
        let value = match field.value {
            Value::Number(number) => LastValue::Number(number),
            Value::Text(text) => LastValue::Text(text),
        };
        Self { field: field.name, value, unit: field.unit }
    }
}

/// The same as one line of text, or the message as it is.
pub(crate) fn said(device: &DeviceStatus, fields: Vec<Field>) -> String {
    table::said(device, &fields.into_iter().map(Last::from).collect::<Vec<_>>())
}

/// Asks one head after the other; what became of each, if none answers.
pub(crate) async fn ask(asker: &Asker, heads: &[String]) -> Result<DevicesReport> {
    let mut troubles = Vec::new();
    for head in heads {
        match asker.devices(head).await {
            Ok(report) => return Ok(report),
            Err(error) => troubles.push(error.to_string()),
        }
    }
    bail!("{}", troubles.join("; "))
}

fn as_json<'a>(report: &'a DevicesReport, devices: &'a [Told]) -> Report<'a> {
    let DevicesReport { unlisted, missing, copies, today_since, .. } = report;
    Report { devices, unlisted: *unlisted, missing, copies: *copies, today_since }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_great_numbers_is_one() {
        let mut mean = Mean::default();
        [f64::MAX, f64::MAX].into_iter().for_each(|value| mean.add(value));
        assert_eq!(mean, Mean { mean: f64::MAX, values: 2 });
    }
}
