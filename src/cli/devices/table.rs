//! Devices as a table for people, on 80 columns.

use super::{Last, LastValue, Mean, Told};
use crate::cli::status::columns;
use crate::printable;
use crate::wire::status::{DeviceStatus, DevicesReport};
use crate::wire::text::MENSAJE_PREFIX;

/// A line for each; so many are known.
pub(super) fn table(report: &DevicesReport, told: &[Told], known: usize, mean: Option<&str>) -> String {
    let value = mean.map_or_else(|| "LAST".to_owned(), |field| format!("MEAN {field}"));
    let titles = ["DEVICE", "STATE", "HEARD", "PERIOD", "TODAY", "ADDRESS"].map(str::to_owned);
    let mut rows = vec![with(titles, value)];
    rows.extend(told.iter().map(|told| row(told, mean.is_some())));
    let wide = |rows: &[[String; 7]]| columns(rows).lines().map(|line| line.chars().count()).max().unwrap_or(0);
    // What a device said takes what is left of a line.
    let all = wide(&rows);
    let said = rows.iter().map(|row| row[6].chars().count()).max().unwrap_or(0);
    let room = LINE_CHARS.saturating_sub(all - said).max(SAID_CHARS_MIN);
    for row in &mut rows {
        if row[6].chars().count() > room {
            row[6] = row[6].chars().take(room - 1).chain(['…']).collect();
        }
    }
    let mut text = columns(&rows);
    if told.is_empty() {
        text = match known {
            0 => "no device has said its name; begin with 'peticion NAME', or use 'acopio send --as NAME'\n".to_owned(),
            known => format!("none of {known} devices\n"),
        };
    } else if !report.today_since.contains("T00:00:00.000000") {
        let since = report.today_since.get(..19).unwrap_or_default();
        text.push_str(&format!("today: what came by this head, which counts since {since}Z\n"));
    }
    if report.unlisted {
        text.push_str("and more: data nodes count so many names and no more; 'acopio read --from NAME' finds all\n");
    }
    text
}

/// Characters of a line.
const LINE_CHARS: usize = 80;

/// Least characters of what a device said.
const SAID_CHARS_MIN: usize = 10;

fn with([name, state, heard, period, today, address]: [String; 6], said: String) -> [String; 7] {
    [name, state, heard, period, today, address, said]
}

fn row(Told { device, last, mean }: &Told, is_of_means: bool) -> [String; 7] {
    let state = match (device.connected, device.silent) {
        (true, true) => "here, silent",
        (true, false) => "here",
        (false, true) => "silent",
        (false, false) => "-",
    };
    let heard = device.heard_s.map_or_else(|| "never".to_owned(), |heard| short(heard as f64));
    let period = device.period_s.map_or_else(|| "-".to_owned(), short);
    let address = device.address.map_or_else(|| "-".to_owned(), |address| address.ip().to_string());
    let name = printable::visible(&device.name).into_owned();
    let today = device.today.to_string();
    let said = match mean {
        Some(Mean { mean, .. }) => shown(*mean),
        None if is_of_means => "-".to_owned(),
        None => said(device, last),
    };
    with([name, state.to_owned(), heard, period, today, address], said)
}

/// The last values, or else the last message as it is.
pub(super) fn said(device: &DeviceStatus, last: &[Last]) -> String {
    let values = last.iter().map(|Last { field, value, unit }| {
        let value = match value {
            LastValue::Number(number) => shown(*number),
            LastValue::Text(text) => text.clone(),
        };
        format!("{field}={value}{}", unit.as_deref().unwrap_or_default())
    });
    let values: Vec<String> = values.collect();
    let text = match device.last_text.as_deref() {
        Some(_) if !values.is_empty() => values.join(" "),
        Some(text) => text.strip_prefix(MENSAJE_PREFIX).unwrap_or(text).to_owned(),
        None => "-".to_owned(),
    };
    printable::visible(&text).into_owned()
}

/// A number with six digits: more tell nothing in a table.
fn shown(number: f64) -> String {
    format!("{number:.5e}").parse::<f64>().unwrap_or(number).to_string()
}

/// A time in one unit: 0.5s, 7s, 12m, 3h or 40d.
pub(crate) fn short(seconds: f64) -> String {
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
    use crate::reading::{Reading, Rules, UnixNs};

    fn told(device: DeviceStatus) -> Told {
        Told { device, ..Told::default() }
    }

    #[test]
    fn devices_fit_80_columns() {
        let device = DeviceStatus {
            name: "taller/horno-1".to_owned(),
            connected: true,
            address: Some("192.168.100.200:65535".parse().unwrap()),
            records: 1_234_567,
            today: 86_400,
            heard_s: Some(7199),
            period_s: Some(0.5),
            silent: true,
            last_text: Some("mensaje: temp=21.4C hum=40%".to_owned()),
            ..DeviceStatus::default()
        };
        let reading = Reading::new(None, b"temp=21.4C hum=40%", UnixNs(0), &Rules::default());
        let last = reading.fields.into_iter().map(Last::from).collect();
        let never = told(DeviceStatus { name: "lora/".to_owned(), ..DeviceStatus::default() });
        let all = [Told { last, ..told(device.clone()) }, never];
        let report = DevicesReport {
            unlisted: true,
            today_since: "2026-11-21T08:30:00.000000Z".to_owned(),
            ..DevicesReport::default()
        };
        let text = table(&report, &all, 2, None);
        assert!(text.lines().take(3).all(|line| line.chars().count() <= 80), "{text}");
        let line = "taller/horno-1  here, silent  120m   0.5s    86400  192.168.100.200  temp=21.4C…\n";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("lora/           -             never  -       0      -                -\ntoday: "),
            "{text}"
        );
        assert!(text.contains("since 2026-11-21T08:30:00Z\nand more: "), "{text}");
        assert_eq!(table(&DevicesReport::default(), &[], 3, None), "none of 3 devices\n");
        let mean = Some(Mean { mean: 21.437_512_345, values: 3 });
        let text = table(&report, &[Told { mean, ..told(device.clone()) }, told(device)], 2, Some("temp"));
        assert!(text.contains("MEAN temp\n") && text.contains("  21.4375\n"), "{text}");
        assert!(text.lines().nth(2).unwrap().ends_with(" -"), "it has no mean: {text}");
    }

    #[test]
    fn what_was_said_last_is_its_values_or_its_text() {
        let of = |text: &str| {
            let device = DeviceStatus { last_text: Some(text.to_owned()), ..DeviceStatus::default() };
            let reading = Reading::new(None, text.as_bytes(), UnixNs(0), &Rules::default());
            let last: Vec<Last> = reading.fields.into_iter().map(Last::from).collect();
            said(&device, &last)
        };
        assert_eq!(of("mensaje: 21.4 °C"), "value=21.4°C");
        assert_eq!(of("{\"t\":21.123456789,\"ok\":\"si\"}"), "t=21.1235 ok=si");
        assert_eq!(of("mensaje: hola \u{1b}[31m mundo"), "hola \\u{1b}[31m mundo");
    }

    #[test]
    fn times_take_one_unit() {
        assert_eq!(
            [0.0, 0.25, 9.0, 119.0, 600.0, 7200.0, 864_000.0].map(short),
            ["0s", "0.2s", "9s", "119s", "10m", "2h", "10d"]
        );
    }
}
