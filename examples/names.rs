//! A device and a gateway say whose readings these are, and some of them are read back as numbers: names of sources in a page.
//!
//! With `acopio up` running: `cargo run --no-default-features --features client --example names`. Another head: give its
//! address as an argument.

use acopio::client::reader::{Event, Query, read};
use acopio::client::{Client, devices};
use acopio::reading::{Reading, Rules};

type Anything = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Anything> {
    let head = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5000".to_owned());

    // All that it stores is of this source. A name that is none is refused here, with the rule.
    let mut oven = Client::builder().head(&head).name("taller/horno")?.build();
    let first = oven.store("temp=210.5".into()).await?.first;

    // Who speaks for many says each time whose message it is.
    let mut gateway = Client::builder().head(&head).build();
    for (sensor, reading) in [("lora/s12", "21.4"), ("lora/s13", "19.0"), ("lora/s12", "21.5")] {
        gateway.store_as(sensor.parse()?, reading.into()).await?;
    }

    // One source and a group. Data nodes open no file that has none of them.
    let query = Query { from: first, sources: "lora/s12,taller/".parse()?, ..Query::default() };
    let mut reader = read(vec![head.clone()], query);
    while let Some(event) = reader.next().await {
        if let Event::Message(message) = event? {
            let source = message.source.map(|name| name.to_string()).unwrap_or_default();
            // What it says is found out when it is read; the record keeps what was sent.
            let reading = Reading::of(&message, &Rules::default());
            let numbers: Vec<f64> = reading.fields.iter().filter_map(|field| field.number()).collect();
            println!("{source} at {}: {numbers:?} of {:?}", reading.time(), message.text());
        }
    }

    for device in devices(&head).await?.devices {
        println!("{} has {} messages, the last of {}", device.name, device.records, device.last);
    }
    Ok(())
}
