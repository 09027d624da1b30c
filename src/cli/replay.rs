//! `acopio replay`: flags of publishing once more what a broker kept.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::broker::zmq::{Address, Bounds, Curve};
use crate::broker::{keys, replay};
use crate::client::reader;
use crate::limits;
use crate::wire::id::RecordId;
use anyhow::Result;
use clap::Args;

use super::heads::Heads;
use super::moment::{self, Moment, Zone};
use super::{Global, Outcome, logging, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio replay --head 127.0.0.1:5000 --topic calc. --to tcp://127.0.0.1:5555
      all of calc.…, at its own pace
  acopio replay --head 127.0.0.1:5000 --since 10m --speed 10 --to tcp://b:5555
      ten minutes in one
  acopio replay --head 127.0.0.1:5000 --speed max --to tcp://b:5555
      as fast as it is taken

It ends behind what is kept when it begins. A broker that keeps these topics
keeps them once more.

Exit codes:
  0    all that was asked for is published
  1    it could not be read whole, or who took it is gone: standard error says
       where to go on
  2    bad usage";

/// Publishes once more, over ZeroMQ, what `acopio broker --keep` kept
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Replay {
    #[command(flatten)]
    heads: Heads,
    /// Only topics that begin with this; several with commas, or the flag several times [default: all]
    #[arg(long, env = "ACOPIO_TOPIC", value_name = "PREFIX", value_delimiter = ',')]
    topic: Vec<String>,
    /// Leave out what is older: than a time ago (10m), a time (2026-11-21 10:00, UTC), or a record id
    #[arg(long, env = "ACOPIO_SINCE", value_name = "TIME", value_parser = moment::moment)]
    since: Option<Moment>,
    /// Only messages before this: as --since
    #[arg(long, env = "ACOPIO_UNTIL", value_name = "TIME", value_parser = moment::moment)]
    until: Option<Moment>,
    /// Where to publish: a broker's port for publishers
    #[arg(long, env = "ACOPIO_TO", value_name = "tcp://HOST:PORT", value_parser = endpoint)]
    to: Address,
    /// How many times faster than the messages came, or max
    #[arg(long, env = "ACOPIO_SPEED", value_name = "FACTOR", default_value = "1", value_parser = speed)]
    speed: Speed,
    /// The broker's public key, from either file of `acopio broker keys`
    #[arg(long, env = "ACOPIO_CURVE", value_name = "FILE")]
    curve: Option<PathBuf>,
    /// Time to go on trying, while no head answers or data nodes are away
    #[arg(long, env = "ACOPIO_RETRY_FOR", value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    retry_for: Duration,
}

/// A factor, or as fast as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Speed(Option<f64>);

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0);
    factor.map(|factor| Speed(Some(factor))).ok_or_else(|| "no factor above 0; write 1, 0.5, 10 or max".to_owned())
}

fn endpoint(text: &str) -> Result<Address, String> {
    let wanted = || "not an endpoint; write tcp://HOST:PORT, such as tcp://127.0.0.1:5555".to_owned();
    let address = text.strip_prefix("tcp://").and_then(|text| values::address(text).ok()).ok_or_else(wanted)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(wanted)?;
    Ok(Address { host: values::host(host)?, port: port.parse().map_err(|_| wanted())? })
}

impl Replay {
    /// Publishes what is asked for.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let heads = self.heads.fixed()?;
        let now = SystemTime::now();
        let curve = self.curve.as_deref().map(keys::public).transpose()?.map(Curve::Client);
        let config = replay::Config {
            reader: reader::Config { retry_for: self.retry_for, ..reader::Config::following(heads) },
            from: self.since.map_or(RecordId::ZERO, |since| since.id(now, &Zone::utc())),
            until: self.until.map_or(RecordId::MAX, |until| until.id(now, &Zone::utc())),
            prefixes: self.topic.into_iter().map(String::into_bytes).collect(),
            to: self.to,
            bounds: Bounds { curve, message_bytes_max: limits::TOPIC_MESSAGE_BYTES_MAX, ..Bounds::default() },
            speed: self.speed.0,
        };
        runtime::run_short(async {
            let report = replay::run(config).await?;
            tracing::info!("{} messages published; {} records are something else", report.published, report.others);
            Ok(Outcome::Done)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_tcp_and_speeds_above_nothing() {
        assert_eq!(endpoint("tcp://b-1:5555"), Ok(Address { host: "b-1".to_owned(), port: 5555 }));
        assert_eq!(endpoint("tcp://[::1]:5555"), Ok(Address { host: "::1".to_owned(), port: 5555 }));
        for text in ["b:5555", "ipc:///tmp/x", "tcp://b", "tcp://*:5555", "tcp://b:0"] {
            assert!(endpoint(text).is_err(), "{text}");
        }
        assert_eq!((speed("max"), speed("0.5")), (Ok(Speed(None)), Ok(Speed(Some(0.5)))));
        for text in ["0", "-1", "nan", "inf", "fast"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }
}
