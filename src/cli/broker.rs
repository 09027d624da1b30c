//! `acopio broker`: flags of one of a pair of brokers, and `acopio broker keys`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::broker::star::Role;
use crate::broker::zmq::{Bounds, Slow};
use crate::broker::{self, Config, Election, Keep, Ports, keys};
use crate::coord::ZnodePath;
use crate::limits;
use anyhow::{Result, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::heads::Heads;
use super::logging::{self, LogFile, Takes};
use super::zookeeper::ZooKeeper;
use super::{Global, Outcome, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio broker --role primary --peer 10.43.103.58
      on the first machine
  acopio broker --role backup --peer 10.43.96.50
      on the second: it takes over after 3 s without a heartbeat
  acopio broker --role primary --keep calc. --head h:5000
      also stores what is published on calc.…
  acopio broker --role primary --keep '' --head h:5000 --require-kept
      a log in front of every subscriber
  acopio broker --role backup --zookeeper z1,z2,z3
      ZooKeeper decides which one is active, not silence
  acopio broker keys /etc/acopio
      makes a pair of CURVE keys, for --curve of both brokers

Publishers and subscribers connect to both, on the ports 5555 and 5556. Only
one of the two forwards: a broker that comes back stands by while the other is
active. Cut off from each other, both do, unless an election in ZooKeeper
decides (--zookeeper).";

/// Topics over ZeroMQ: one of a pair of brokers, of which one forwards; it keeps what passes
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Broker {
    #[command(subcommand)]
    command: Option<Command>,
    /// What this one is
    #[arg(long, env = "ACOPIO_ROLE", value_name = "ROLE", value_enum, required = true)]
    role: Option<RoleName>,
    /// The other broker; none for one that is alone
    #[arg(long, env = "ACOPIO_PEER", value_name = "HOST", value_parser = values::host)]
    peer: Option<String>,
    /// Address to listen on
    #[arg(long, env = "ACOPIO_BROKER_BIND", value_name = "IP", default_value = "0.0.0.0")]
    bind: IpAddr,
    #[command(flatten)]
    ports: TopicPorts,
    /// Port on which an active broker publishes its heartbeat
    #[arg(long, env = "ACOPIO_HEARTBEAT_PORT", value_name = "PORT", default_value_t = limits::BEAT_PORT_DEFAULT,
        value_parser = clap::value_parser!(u16).range(1..))]
    heartbeat_port: u16,
    #[command(flatten)]
    zookeeper: ZooKeeper,
    /// With --zookeeper: the znode of the election that decides which broker is active, the same for both
    #[arg(long, env = "ACOPIO_ELECTION", value_name = "PATH", default_value = "/acopio/broker")]
    election: ZnodePath,
    /// Time between two heartbeats
    #[arg(long, env = "ACOPIO_BROKER_HEARTBEAT", value_name = "TIME", default_value = "1s", value_parser = values::duration)]
    heartbeat: Duration,
    /// Time without a heartbeat of the peer after which this one takes over
    #[arg(long, env = "ACOPIO_DEAD_AFTER", value_name = "TIME", default_value = "3s", value_parser = values::duration)]
    dead_after: Duration,
    /// Messages that wait for one subscriber
    #[arg(long, env = "ACOPIO_QUEUE", value_name = "N", default_value_t = limits::SUBSCRIBER_QUEUE_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::SUBSCRIBER_QUEUE_MAX)))]
    queue: u32,
    /// What happens to a message whose subscriber has a full queue
    #[arg(long, env = "ACOPIO_SLOW", value_name = "POLICY", value_enum, default_value = "drop-newest")]
    slow: SlowName,
    /// Greatest message; a publisher that sends a larger one is cut off, and may come back
    #[arg(long, env = "ACOPIO_MAX_MESSAGE", value_name = "BYTES", default_value = "1MiB",
        value_parser = values::topic_message)]
    max_message: u64,
    /// Encrypt all ports with the keys in this file, which has the secret one; both brokers have the same
    #[arg(long, env = "ACOPIO_BROKER_CURVE", value_name = "FILE")]
    curve: Option<PathBuf>,
    /// Store messages of topics that begin with this, in the cluster of --head; several with commas, or the flag several
    /// times; '' is all
    #[arg(long, env = "ACOPIO_BROKER_KEEP", value_name = "PREFIX", value_delimiter = ',')]
    keep: Vec<String>,
    #[command(flatten)]
    heads: Heads,
    /// Forward a message that is to be kept only once it is
    #[arg(long, env = "ACOPIO_REQUIRE_KEPT", requires = "keep", value_parser = BoolishValueParser::new())]
    require_kept: bool,
    /// Messages that may wait to be kept while the cluster is away or slow, bytes; past it they are not kept, and that is
    /// said; with --require-kept publishers wait
    #[arg(long, env = "ACOPIO_KEEP_QUEUE", value_name = "BYTES", default_value = "64MiB",
        value_parser = values::keep_queue)]
    keep_queue: u64,
    /// Folder of the logs: broker.log
    #[arg(long, env = "ACOPIO_LOGS", value_name = "DIR", default_value = "logs/broker")]
    logs: PathBuf,
    /// Stop in order when standard input ends
    #[arg(long, hide = true, env = "ACOPIO_UNTIL_STDIN_CLOSES", value_parser = BoolishValueParser::new())]
    until_stdin_closes: bool,
}

/// The ports of topics.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TopicPorts {
    /// Port that publishers connect to
    #[arg(long, global = true, env = "ACOPIO_PUBLISHER_PORT", value_name = "PORT", default_value_t = limits::PUBLISHER_PORT_DEFAULT,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) publisher_port: u16,
    /// Port that subscribers connect to
    #[arg(long, global = true, env = "ACOPIO_SUBSCRIBER_PORT", value_name = "PORT",
        default_value_t = limits::SUBSCRIBER_PORT_DEFAULT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) subscriber_port: u16,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a pair of CURVE keys: broker.key for who connects, broker.key_secret for the brokers
    Keys {
        /// Folder for both files
        dir: PathBuf,
    },
}

/// What a broker is in its pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Active unless it was away
    Primary,
    /// Takes over
    Backup,
}

/// What happens to a message whose subscriber has a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SlowName {
    /// It is not sent to that subscriber, as in ZeroMQ
    DropNewest,
    /// The oldest that waits is not sent
    DropOldest,
    /// All wait: the slowest subscriber sets the pace, down to the publishers
    Wait,
}

impl Broker {
    /// Runs the broker until it is told to stop, or makes keys.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        if let Some(Command::Keys { dir }) = &self.command {
            let files = keys::create(dir)?;
            println!("{}: public, for who connects", files.public.display());
            println!("{}: secret, for the brokers: --curve", files.secret.display());
            return Ok(Outcome::Done);
        }
        let mut config = self.config()?;
        logging::start(global, &[LogFile { dir: &self.logs, name: "broker", takes: Takes::All, beside_data: false }])?;
        let ends_with = runtime::EndsWith::service(self.until_stdin_closes);
        runtime::run_role(limits::STOP_TIME_MAX, ends_with, async |shutdown| {
            // Heads that announce themselves are looked up only where somebody keeps something.
            if let Some(keep) = &mut config.keep {
                let Some(heads) = self.heads.followed(&shutdown).await? else { return Ok(()) };
                keep.heads = heads;
            }
            Ok(broker::run(config, shutdown).await?)
        })
        .map(runtime::done)
    }

    fn config(&self) -> Result<Config> {
        let role = match self.role {
            Some(RoleName::Backup) => Role::Backup,
            Some(RoleName::Primary) | None => Role::Primary,
        };
        let election = self.zookeeper.asked().map(|session| Election { session, path: self.election.clone() });
        if role == Role::Backup && self.peer.is_none() && election.is_none() {
            bail!("a backup needs a primary; name it with --peer");
        }
        if self.peer.as_ref().is_some_and(|peer| *peer == self.bind.to_string()) {
            bail!("--peer is this broker's own address; name the other one");
        }
        if self.dead_after < self.heartbeat * limits::BEATS_IN_SILENCE_MIN {
            bail!(
                "--dead-after {} is less than {} heartbeats of {}; raise it",
                values::show(self.dead_after),
                limits::BEATS_IN_SILENCE_MIN,
                values::show(self.heartbeat)
            );
        }
        if self.keep.len() > limits::KEEP_PREFIXES_MAX {
            bail!("{} prefixes are too many; name {} or fewer", self.keep.len(), limits::KEEP_PREFIXES_MAX);
        }
        let keep = (!self.keep.is_empty()).then(|| Keep {
            prefixes: self.keep.iter().map(|prefix| prefix.clone().into_bytes()).collect(),
            heads: Vec::new().into(),
            required: self.require_kept,
            queue_bytes: usize::try_from(self.keep_queue).unwrap_or(usize::MAX),
        });
        let slow = match self.slow {
            SlowName::DropNewest => Slow::DropNewest,
            SlowName::DropOldest => Slow::DropOldest,
            SlowName::Wait => Slow::Wait,
        };
        let message_bytes_max = usize::try_from(self.max_message).unwrap_or(usize::MAX);
        Ok(Config {
            role,
            peer: self.peer.clone(),
            bind: self.bind,
            ports: Ports {
                publishers: self.ports.publisher_port,
                subscribers: self.ports.subscriber_port,
                beat: self.heartbeat_port,
            },
            beat: self.heartbeat,
            dead_after: self.dead_after,
            bounds: Bounds { message_bytes_max, queue: self.queue, slow, curve: None },
            keys: self.curve.as_deref().map(keys::secret).transpose()?,
            keep,
            election,
        })
    }
}
