//! `acopio calc`: the original's distributed calculation, one of its programs each.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::calc::legs::Whole;
use crate::broker::calc::{Brokers, Side, client, server, square};
use crate::broker::keys;
use crate::broker::zmq::{Address, Bounds, Curve};
use crate::limits;
use anyhow::{Result, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::broker::TopicPorts;
use super::{Global, Outcome, logging, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio calc server --broker 10.43.96.50,10.43.103.58
      the calculation server, connected to both brokers
  acopio calc square 1 --broker 10.43.96.50,10.43.103.58
      the operation server of the first leg
  acopio calc square 2 --broker 10.43.96.50,10.43.103.58
      and of the second
  acopio calc client 12 13 --broker 10.43.96.50,10.43.103.58
      prints the hypotenuse, 17.6918

Programs of the original's shape take any of these parts; docs/topics.md has
the topics.

Exit codes of the client:
  0    the answer is printed
  1    there is none in time
  2    bad usage";

/// The distributed calculation of a hypotenuse over a pair of brokers
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Calc {
    #[command(subcommand)]
    part: Part,
    /// Brokers to connect to, all of them; several with commas, or the flag several times
    #[arg(long, global = true, env = "ACOPIO_BROKER", value_name = "HOST", value_delimiter = ',',
        default_value = "127.0.0.1", value_parser = values::host)]
    broker: Vec<String>,
    /// The broker's public key, from either file of `acopio broker keys`
    #[arg(long, global = true, env = "ACOPIO_CURVE", value_name = "FILE")]
    curve: Option<PathBuf>,
    #[command(flatten)]
    ports: TopicPorts,
    /// Stop in order when standard input ends
    #[arg(long, global = true, hide = true, env = "ACOPIO_UNTIL_STDIN_CLOSES", value_parser = BoolishValueParser::new())]
    until_stdin_closes: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Takes pairs of legs, has them squared, and publishes the hypotenuse
    Server {
        /// Time to wait for squares before they are computed here
        #[arg(long, env = "ACOPIO_CALC_WAIT", value_name = "TIME", default_value = "2s", value_parser = values::duration)]
        wait: Duration,
    },
    /// Squares the first or the second leg
    Square {
        /// Which leg: 1 or 2
        #[arg(value_parser = side)]
        leg: Side,
    },
    /// Asks for the hypotenuse of two legs
    Client {
        /// The first leg, a whole number
        #[arg(allow_negative_numbers = true, value_parser = leg)]
        a: Whole,
        /// The second leg
        #[arg(allow_negative_numbers = true, value_parser = leg)]
        b: Whole,
        /// Time to wait for the answer
        #[arg(long, env = "ACOPIO_CALC_TIMEOUT", value_name = "TIME", default_value = "15s", value_parser = values::duration)]
        timeout: Duration,
        /// Ask again and again, this often, until stopped
        #[arg(long, env = "ACOPIO_CALC_EVERY", value_name = "TIME", value_parser = values::duration)]
        every: Option<Duration>,
    },
}

fn side(text: &str) -> Result<Side, String> {
    match text {
        "1" => Ok(Side::One),
        "2" => Ok(Side::Two),
        _ => Err("a triangle has the legs 1 and 2".to_owned()),
    }
}

fn leg(text: &str) -> Result<Whole, String> {
    Whole::leg(text.as_bytes()).map_err(|refused| refused.to_string())
}

/// The brokers that a program of topics connects to.
pub(crate) fn brokers(hosts: &[String], ports: TopicPorts, curve: Option<&PathBuf>) -> Result<Brokers> {
    if hosts.len() > limits::CALC_BROKERS_MAX {
        bail!("{} brokers are too many; name {} or fewer", hosts.len(), limits::CALC_BROKERS_MAX);
    }
    let at = |port| hosts.iter().map(|host| Address { host: host.clone(), port }).collect();
    let curve = curve.map(|file| keys::public(file)).transpose()?.map(Curve::Client);
    Ok(Brokers {
        publish: at(ports.publisher_port),
        subscribe: at(ports.subscriber_port),
        bounds: Bounds { curve, ..Bounds::default() },
    })
}

impl Calc {
    /// Runs one of its programs.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let brokers = brokers(&self.broker, self.ports, self.curve.as_ref())?;
        let part = self.part;
        let ends_with = runtime::EndsWith::service(self.until_stdin_closes);
        runtime::run_role(limits::STOP_TIME_MAX, ends_with, async |shutdown| {
            match part {
                Part::Server { wait } => server::run(&brokers, wait, &shutdown).await?,
                Part::Square { leg } => square::run(&brokers, leg, &shutdown).await?,
                Part::Client { a, b, timeout, every } => {
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => {}
                        asked = ask(&brokers, &a, &b, timeout, every, &shutdown) => asked?,
                    }
                }
            }
            Ok(Outcome::Done)
        })
    }
}

async fn ask(
    brokers: &Brokers,
    a: &Whole,
    b: &Whole,
    timeout: Duration,
    every: Option<Duration>,
    shutdown: &CancellationToken,
) -> Result<()> {
    let Some(every) = every else {
        let mut client = client::Client::connect(brokers).await?;
        client.ask(a, b, timeout).await?;
        client.close().await;
        return Ok(());
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shutdown.is_cancelled() {
        ticks.tick().await;
        // Brokers and servers may be away for a while.
        let asked = async {
            let mut client = client::Client::connect(brokers).await?;
            client.ask(a, b, timeout).await?;
            client.close().await;
            Ok::<(), client::Error>(())
        };
        if let Err(error) = asked.await {
            tracing::warn!("{error}");
        }
    }
    Ok(())
}
