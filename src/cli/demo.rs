//! `acopio demo`: flags of a whole cluster in containers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::check::drill::{self, Row};
use crate::cluster::docker::{self, engine::Engine};
use crate::cluster::plan::{self, Place};
use crate::limits;
use anyhow::{Context as _, Result};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::status::columns;
use super::upkeep::KeepRegistro;
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio demo
      a head, three data nodes and a client in containers, until Ctrl-C
  acopio demo --for 30s
      the same for a while
  acopio demo --publish 5000
      clients of this machine reach the head at 127.0.0.1:5000
  acopio demo --script failures
      a guided run of failures: stops, pauses, cuts off, kills, and checks
      each time
  acopio demo --down
      remove what a demo left behind that was killed
  acopio demo --image-only
      build the image 'acopio', for docker/compose.yml for example

It needs a docker engine, 20.10 or newer, and neither a registry nor the
docker command. What it makes has the label acopio.demo=NAME; that, and
nothing else, is removed in the end. The files stay.";

/// The whole cluster on a docker network of its own: a container for each head, data node and client
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Demo {
    /// Folder of this machine for all files: head/, data1/ …, client1/ …
    #[arg(long, env = "ACOPIO_DEMO_DIR", value_name = "DIR", default_value = "logs/demo")]
    dir: PathBuf,
    /// A guided run in place of one that just goes on
    #[arg(long, env = "ACOPIO_SCRIPT", value_name = "SCRIPT", value_enum, conflicts_with = "run_for")]
    script: Option<Script>,
    /// Heads, all active [default: 1; 2 with --script]
    #[arg(long, env = "ACOPIO_HEADS", value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=limits::DEMO_HEADS_MAX as u64))]
    heads: Option<u64>,
    /// Data nodes
    #[arg(long, env = "ACOPIO_NODES", value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(0..=limits::DEMO_NODES_MAX as u64))]
    nodes: u64,
    /// Clients that send random numbers
    #[arg(long, env = "ACOPIO_CLIENTS", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(0..=limits::DEMO_CLIENTS_MAX as u64))]
    clients: u64,
    /// Copies of each message, each on another data node [default: 1; 2 with --script]
    #[arg(long, env = "ACOPIO_REPLICAS", value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=limits::REPLICAS_MAX as u64))]
    replicas: Option<u64>,
    /// Port of this machine at which clients reach the head, further heads at the next ones; 0 takes free ones. On
    /// loopback, unless an address stands before it: 0.0.0.0:5000
    #[arg(long, env = "ACOPIO_PUBLISH", value_name = "[IP:]PORT", value_parser = published)]
    publish: Option<SocketAddr>,
    /// Time between two messages, of each client [default: 3s; 500ms with --script]
    #[arg(long, env = "ACOPIO_EVERY", value_name = "TIME", value_parser = values::duration)]
    every: Option<Duration>,
    /// Time between two heartbeats of the data nodes [default: 5s; 2s with --script]
    #[arg(long, env = "ACOPIO_HEARTBEAT", value_name = "TIME", value_parser = values::duration)]
    heartbeat: Option<Duration>,
    #[command(flatten)]
    registro: KeepRegistro,
    /// Stop by itself after this time [default: run until Ctrl-C]
    #[arg(long = "for", env = "ACOPIO_FOR", value_name = "TIME", value_parser = values::duration)]
    run_for: Option<Duration>,
    /// Name of the network; those of the containers begin with it
    #[arg(long, env = "ACOPIO_DEMO_NAME", value_name = "NAME", default_value = "acopio-demo", value_parser = name)]
    name: String,
    /// Use this image, which is there, in place of building one; with --image-only, the one to build [there: acopio]
    #[arg(long, env = "ACOPIO_IMAGE", value_name = "IMAGE")]
    image: Option<String>,
    /// Build the image of this program and do nothing else
    #[arg(long, env = "ACOPIO_IMAGE_ONLY", value_parser = BoolishValueParser::new(), conflicts_with = "down")]
    image_only: bool,
    /// Remove the containers, the network and the image of a demo that was killed; files stay
    #[arg(long, env = "ACOPIO_DOWN", value_parser = BoolishValueParser::new())]
    down: bool,
    /// Socket of the docker engine [default: the one of DOCKER_HOST, or /var/run/docker.sock]
    #[arg(long, env = "ACOPIO_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What a guided run shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Script {
    /// Data nodes are stopped, paused and cut off, and a head is killed; each time all is read back
    Failures,
}

impl Demo {
    /// Does what was asked for.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let socket = match self.socket.clone() {
            Some(socket) => socket,
            None => Engine::default_socket(std::env::var("DOCKER_HOST").ok().as_deref())?,
        };
        // Also if a newer one was built in its place.
        let program = PathBuf::from("/proc/self/exe");
        if self.down {
            let removed = runtime::run_short(async { Ok(docker::down(&socket, &self.name).await?) })?;
            return say(&removed);
        }
        if self.image_only {
            let image = self.image.unwrap_or_else(|| "acopio".to_owned());
            runtime::run_short(async { Ok(docker::build(&socket, program, &image).await?) })?;
            return say(&format!("built the image {image}"));
        }
        let (script, dir) = (self.script, self.dir.clone());
        let settings = self.settings(global, socket, program)?;
        runtime::run_role(stop_time(), runtime::EndsWith::Terminal, async |shutdown| match script {
            None => {
                docker::run(settings, shutdown, async |_, shutdown| shutdown.cancelled().await).await?;
                Ok(Outcome::Done)
            }
            Some(Script::Failures) => {
                let rows = docker::run(settings, shutdown, async |demo, _| drill::run(demo).await).await?;
                match rows {
                    Some(rows) => verdict(&rows, &dir),
                    None => {
                        say("the script was stopped before its end: there is no verdict")?;
                        Ok(Outcome::Failed)
                    }
                }
            }
        })
    }

    fn settings(self, global: Global, socket: PathBuf, program: PathBuf) -> Result<docker::Settings> {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let guided = self.script.is_some();
        let heads = self.heads.unwrap_or(if guided { 2 } else { 1 });
        let replicas = self.replicas.unwrap_or(if guided { 2 } else { 1 });
        if guided && (heads < 2 || replicas < 2 || self.nodes <= replicas || self.clients == 0) {
            anyhow::bail!(
                "a script needs two heads, two copies, a client and more data nodes than copies; leave out --heads, \
                 --replicas, --clients and --nodes, or raise them"
            );
        }
        // What reads everything back runs on this machine.
        let publish = self.publish.or_else(|| guided.then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)));
        let last = publish.map_or(0, |publish| u64::from(publish.port()) + heads - 1);
        if last > u64::from(u16::MAX) {
            anyhow::bail!("{heads} heads need as many ports and there are none after 65535; choose a lower --publish");
        }
        let time = |given: Option<Duration>, plain, in_script| {
            values::show(given.unwrap_or(Duration::from_millis(if guided { in_script } else { plain })))
        };
        Ok(docker::Settings {
            program,
            socket,
            name: self.name,
            image: self.image,
            publish,
            quiet: global.quiet,
            run_for: self.run_for,
            plan: plan::Settings {
                web: None,
                devices: None,
                dir: self.dir,
                place: Place::Containers,
                heads: number(heads),
                every: time(self.every, 3000, 500),
                heartbeat: time(self.heartbeat, 5000, 2000),
                sync: "always".to_owned(),
                sync_of: BTreeMap::new(),
                repair_after: "60s".to_owned(),
                repair_rate: 10_000_000,
                cluster: limits::CLUSTER_DEFAULT.to_owned(),
                replicas: number(replicas),
                keep: None,
                keep_bytes: None,
                keep_registro: self.registro.keep(),
                nodes: number(self.nodes),
                clients: number(self.clients),
                brokers: false,
            },
        })
    }
}

/// The audit of the files, and a table of the steps.
fn verdict(rows: &[Row], dir: &std::path::Path) -> Result<Outcome> {
    let report = drill::verdict(dir, std::env::temp_dir()).context("the audit could not be done")?;
    let mut table = vec![["", "DID", "EXPECTED", "SAW"].map(str::to_owned)];
    table.extend(rows.iter().map(|row| {
        let word = if row.good { "ok" } else { "FAILED" };
        [word.to_owned(), row.did.clone(), row.expected.clone(), row.saw.clone()]
    }));
    let good = report.keeps_its_word() && !rows.is_empty() && rows.iter().all(|row| row.good);
    say(&format!("\nThe audit of {}:\n{}\n{}", dir.display(), super::audit::table(&report), columns(&table)))?;
    say(&format!("{} lost", report.missing))?;
    Ok(if good { Outcome::Done } else { Outcome::Failed })
}

/// Time from a signal until a demo is gone: an image that is being built is waited for, then three kinds of containers
/// end one after the other, and are removed.
fn stop_time() -> Duration {
    limits::ENGINE_BUILD_TIME_MAX + limits::CONTAINER_STOP_TIME_MAX * 3 + limits::ENGINE_TIME_MAX
}

fn say(text: &str) -> Result<Outcome> {
    print::out("the table", &format!("{text}\n"))?;
    Ok(Outcome::Done)
}

/// `5000` or `0.0.0.0:5000`.
fn published(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    port.or_else(|_| text.parse()).map_err(|_| "not a port; write 5000 or 0.0.0.0:5000".to_owned())
}

/// A name that the engine takes for networks, containers and images.
fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = text.chars().all(fits) && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-');
    if !good || text.contains("--") || text.len() > limits::DEMO_NAME_BYTES_MAX {
        let most = limits::DEMO_NAME_BYTES_MAX;
        return Err(format!("a name takes 1 to {most} of a-z, 0-9 and single - in between; give another"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_port_is_on_loopback_unless_told_otherwise() {
        assert_eq!(published("5000"), Ok("127.0.0.1:5000".parse().unwrap()));
        assert_eq!(published("0.0.0.0:70"), Ok("0.0.0.0:70".parse().unwrap()));
        for text in ["", "host:5000", "70000", "5000/udp"] {
            assert!(published(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_one_that_the_engine_takes() {
        assert!(name("acopio-demo").is_ok() && name("a").is_ok());
        for text in ["", "Lab", "a_b", "-a", "a-", "a--b", &"x".repeat(41)] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
