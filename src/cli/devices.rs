//! `acopio devices`: which sources there are, which are connected, and which are silent.

use crate::client;
use crate::printable;
use crate::wire::status::{DeviceStatus, DevicesReport};
use anyhow::{Result, bail};
use clap::Args;
use clap::builder::BoolishValueParser;

use super::heads::Heads;
use super::status::{Format, columns};
use super::{Global, Outcome, logging, print, runtime};

const AFTER_HELP: &str = "\
Examples:
  acopio devices
  acopio devices --silent
      who has not been heard for three of its own periods
  acopio devices --connected
  acopio devices --format json | jq -r '.devices[] | select(.silent) | .name'

A device is a source that says its name: peticion NAME, cliente NAME, or
acopio send --as NAME. Its period is the median of the times between its last
messages that came by this head; before there are some, the mean of all that
are kept. What is connected, and from where, is what this head knows.";

/// Which devices there are: connected, last heard, period, messages
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
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
}

impl Devices {
    /// Asks and prints.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let heads = self.heads.checked()?;
        let mut report = runtime::run_short(ask(&heads))?;
        let known = report.devices.len();
        report.devices.retain(|device| (!self.connected || device.connected) && (!self.silent || device.silent));
        let text = match self.format {
            Format::Json => print::json(&report)?,
            Format::Table => table(&report, known),
        };
        print::out("the devices", &text)?;
        if !global.quiet && !report.missing.is_empty() {
            print::err(&format!("acopio: without {}, which did not answer", report.missing.join(", ")));
        }
        Ok(Outcome::Done)
    }
}

/// Asks one head after the other; what became of each, if none answers.
async fn ask(heads: &[String]) -> Result<DevicesReport> {
    let mut troubles = Vec::new();
    for head in heads {
        match client::devices(head).await {
            Ok(report) => return Ok(report),
            Err(error) => troubles.push(error.to_string()),
        }
    }
    bail!("{}", troubles.join("; "))
}

fn table(report: &DevicesReport, known: usize) -> String {
    let mut rows = vec![["DEVICE", "STATE", "HEARD", "PERIOD", "MESSAGES", "ADDRESS"].map(str::to_owned)];
    rows.extend(report.devices.iter().map(row));
    let mut text = columns(&rows);
    if report.devices.is_empty() {
        text = match known {
            0 => "no device has said its name; begin with 'peticion NAME', or use 'acopio send --as NAME'\n".to_owned(),
            known => format!("none of {known} devices\n"),
        };
    }
    if report.unlisted {
        text.push_str("and more: data nodes count so many names and no more; 'acopio read --from NAME' finds all\n");
    }
    text
}

fn row(device: &DeviceStatus) -> [String; 6] {
    let state = match (device.connected, device.silent) {
        (true, true) => "here, silent",
        (true, false) => "here",
        (false, true) => "silent",
        (false, false) => "-",
    };
    let heard = device.heard_s.map_or_else(|| "never".to_owned(), |heard| format!("{} ago", short(heard as f64)));
    let period = device.period_s.map_or_else(|| "-".to_owned(), short);
    let address = device.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    let name = printable::visible(&device.name).into_owned();
    [name, state.to_owned(), heard, period, device.records.to_string(), address]
}

/// A time in one unit: 0.5s, 7s, 12m, 3h or 40d.
fn short(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 10.0 && seconds.fract() != 0.0 => format!("{seconds:.1}s"),
        seconds if seconds < 120.0 => format!("{seconds:.0}s"),
        seconds if seconds < 7200.0 => format!("{:.0}m", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0}h", seconds / 3600.0),
        seconds => format!("{:.0}d", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_fit_80_columns() {
        let device = DeviceStatus {
            name: "taller/horno-1".to_owned(),
            connected: true,
            address: Some("192.168.100.200:65535".parse().unwrap()),
            records: 1_234_567,
            heard_s: Some(7199),
            period_s: Some(0.5),
            silent: true,
            ..DeviceStatus::default()
        };
        let never = DeviceStatus { name: "lora/".to_owned(), ..DeviceStatus::default() };
        let report = DevicesReport { devices: vec![device, never], unlisted: true, ..DevicesReport::default() };
        let text = table(&report, 2);
        assert!(text.lines().take(3).all(|line| line.len() <= 80), "{text}");
        assert!(
            text.contains("taller/horno-1  here, silent  120m ago  0.5s    1234567   192.168.100.200:65535\n"),
            "{text}"
        );
        assert!(text.contains("lora/           -             never     -       0         -\nand more: "), "{text}");
        assert_eq!(table(&DevicesReport::default(), 3), "none of 3 devices\n");
    }

    #[test]
    fn times_take_one_unit() {
        assert_eq!(
            [0.0, 0.25, 9.0, 119.0, 600.0, 7200.0, 864_000.0].map(short),
            ["0s", "0.2s", "9s", "119s", "10m", "2h", "10d"]
        );
    }
}
