//! Numbers and times out of payloads: what `Reading` makes of the forms in which devices write, with and without rules.
//!
//! It needs no cluster: `cargo run --no-default-features --features client --example readings`. Payloads of your own: give them
//! as arguments. For those of a cluster, `Reading::of` takes the messages of `client::reader`.

use acopio::reading::{Field, Reading, Rules, UnixNs, Value};

/// What a rule says that a payload does not: the names of its columns, a unit, the range that is right.
const CAMPOS: &str = "\
csv29: nombre t temp n
esp7: temp °C 5..45
";

fn main() {
    let (rules, wrong) = Rules::parse(CAMPOS);
    for error in wrong {
        eprintln!("campos.txt, {error}");
    }
    // 2026-11-21T04:11:00Z: the time at which a head took them.
    let taken = UnixNs(1_795_234_260_000_000_000);
    let payloads: Vec<String> = std::env::args().skip(1).collect();
    if payloads.is_empty() {
        for (source, payload) in [
            (None, "mensaje: numero random: 42"),
            (Some("horno"), r#"{"Time":"2026-11-21T04:10:58","DS18B20":{"Temperature":180.5},"TempUnit":"C"}"#),
            (Some("taller/dht"), "Humidity: 45.10%  Temperature: 21.40°C"),
            (Some("csv29"), "norte;1795234259;21,4;17"),
            (Some("esp7"), "85.0"),
            (Some("plc39"), "presion=NaN caudal=1e999"),
        ] {
            let source = source.and_then(|name: &str| name.parse().ok());
            show(payload, &Reading::new(source, payload.as_bytes(), taken, &rules));
        }
    }
    for payload in payloads {
        show(&payload, &Reading::new(None, payload.as_bytes(), taken, &rules));
    }
}

fn show(payload: &str, reading: &Reading) {
    println!("{} {payload}", reading.source.as_ref().map_or("-", |source| source.as_str()));
    if let Some(time) = reading.device_time {
        println!("    at {time}");
    }
    for Field { name, value, unit, is_out } in &reading.fields {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => format!("{text:?}, a text"),
        };
        let out = if *is_out { ", out of its range" } else { "" };
        println!("    {name} = {value} {}{out}", unit.as_deref().unwrap_or_default());
    }
}
