//! Keeps three readings in a cluster and reads them back: the client library in a page.
//!
//! With `acopio up` running: `cargo run --no-default-features --features client --example keep_and_read`. Other heads: give
//! their addresses as arguments.

use acopio::client::reader::{Event, Query, read};
use acopio::client::{Client, Config};

type Anything = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Anything> {
    let mut heads: Vec<String> = std::env::args().skip(1).collect();
    if heads.is_empty() {
        heads.push("127.0.0.1:5000".to_owned());
    }

    // A client goes on with the next head when one is lost, and repeats what has no answer under the same number.
    let mut client = Client::new(Config::new(heads.clone()));
    let mut first = None;
    for reading in ["temperature 21.5", "temperature 21.7", "temperature 21.6"] {
        // It returns when the reading is on the disk of a data node, or with the cause and what to do.
        let kept = client.store(reading.into()).await?;
        println!("{reading}: kept by {} as {}", kept.nodes.join(" and "), kept.first);
        first.get_or_insert(kept.first);
    }

    // From the first of them on, merged from all data nodes; a node that is away is named, not passed over.
    let mut reader = read(heads, Query { from: first.unwrap_or_default(), ..Query::default() });
    while let Some(event) = reader.next().await {
        match event? {
            Event::Message(message) => println!("read back: {} {}", message.id, message.text()),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
