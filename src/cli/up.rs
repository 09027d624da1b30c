//! `acopio up`: flags of a whole cluster on this machine.

use std::net::IpAddr;
#[cfg(feature = "web")]
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use crate::{cluster, limits};
use anyhow::{Context as _, Result};
use clap::Args;

use super::upkeep::{KeepRegistro, RepairAfter, Upkeep};
use super::{Global, Outcome, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio up
      one head, three data nodes, one client that sends a number every 3 s, and
      a page that shows them: its address is printed first
  acopio up --for 20s
      the same for a while: it ends by itself with a summary
  acopio up --nodes 5 --clients 0 --port 6000 --dir /tmp/lab
  acopio up --broker --clients 0
      also topics over ZeroMQ, and the calculation of a hypotenuse over them
  acopio up --devices 3
      with a ZooKeeper and three measuring devices, one of which leads

While it runs, on its own terminal: a key with a number, then Enter
  k2   kill data2 (-9)              p2   pause data2 (SIGSTOP)
  c2   cut data2 from the network   w2   wipe data2: kill it, remove its folder
  b2   cut the power of data2: what it had not synced is gone (--sync-of)
  h1   kill head 1 (-9)             r    mend everything       ?   these keys
or with buttons, for a projector, at /clase of the page.

  acopio up --clients 3 --sync-of data3=never
      then b3 and b1: data3 loses what it acknowledged, data1 does not

While it runs, from another terminal:
  printf 'peticion\\nhola\\n' | nc -N 127.0.0.1 5000
  tail -F logs/head/heartbeat.log
  kill -9 <pid of data2>
      no acknowledged message is lost, and data2 is started again

A second `acopio up` on the same folder goes on with its data.";

/// The whole cluster on this machine: a head, data nodes and clients, as separate processes
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Up {
    /// Folder for all files of the cluster: head/, data1/ …, client1/ …
    #[arg(long, env = "ACOPIO_UP_DIR", value_name = "DIR", default_value = "logs")]
    dir: PathBuf,
    /// Heads, all active; each has a port of its own, one after the other
    #[arg(long, env = "ACOPIO_HEADS", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=limits::HEADS_MAX as u64))]
    heads: u64,
    /// Port of the (first) head
    #[arg(long, env = "ACOPIO_UP_PORT", value_name = "PORT", default_value_t = 5000,
        value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Address the head listens on; 0.0.0.0 lets other machines in
    #[arg(long, env = "ACOPIO_LISTEN_IP", value_name = "IP", default_value = "127.0.0.1")]
    listen_ip: IpAddr,
    /// Name of the cluster: data nodes whose records belong to another are refused
    #[arg(long, env = "ACOPIO_CLUSTER", value_name = "NAME", default_value = limits::CLUSTER_DEFAULT,
        value_parser = values::cluster)]
    cluster: String,
    /// Time between two messages, of each client
    #[arg(long, env = "ACOPIO_EVERY", value_name = "TIME", default_value = "3s", value_parser = values::duration)]
    every: Duration,
    /// Data nodes, each on a loopback address of its own where the system has them
    #[arg(long, env = "ACOPIO_NODES", value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(0..=limits::UP_NODES_MAX as u64))]
    nodes: u64,
    /// Copies of each message, each on another data node
    #[arg(long, env = "ACOPIO_REPLICAS", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=limits::REPLICAS_MAX as u64))]
    replicas: u64,
    /// Clients that send random numbers
    #[arg(long, env = "ACOPIO_CLIENTS", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(0..=limits::UP_CLIENTS_MAX as u64))]
    clients: u64,
    /// Also a pair of brokers on 127.0.1.1 and 127.0.1.2 that keeps what passes, and the calculation of a hypotenuse over them
    #[cfg(feature = "broker")]
    #[arg(long, env = "ACOPIO_UP_BROKER", value_parser = clap::builder::BoolishValueParser::new())]
    broker: bool,
    /// Port of the page and of the web API on 127.0.0.1 [default: 8080, or a free one if that is taken]
    #[cfg(feature = "web")]
    #[arg(long, env = "ACOPIO_WEB_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    web_port: Option<u16>,
    /// Without the page and the web API
    #[cfg(feature = "web")]
    #[arg(long, env = "ACOPIO_NO_WEB", conflicts_with = "web_port", value_parser = clap::builder::BoolishValueParser::new())]
    no_web: bool,
    #[cfg(all(feature = "device", feature = "web"))]
    #[command(flatten)]
    devices: super::up_devices::UpDevices,
    /// Stop by itself after this time [default: run until Ctrl-C]
    #[arg(long = "for", env = "ACOPIO_FOR", value_name = "TIME", value_parser = values::duration)]
    run_for: Option<Duration>,
    /// Time between two heartbeats of the data nodes
    #[arg(long, env = "ACOPIO_HEARTBEAT", value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    heartbeat: Duration,
    /// When to sync: always (before every answer), an interval such as 50ms, or never
    #[arg(long, env = "ACOPIO_SYNC", value_name = "WHEN", default_value = "always", value_parser = values::sync)]
    sync: values::Sync,
    /// When one data node syncs, if not as the others; several with commas
    #[arg(long, env = "ACOPIO_SYNC_OF", value_name = "NODE=WHEN", value_delimiter = ',', value_parser = sync_of)]
    sync_of: Vec<SyncOf>,
    #[command(flatten)]
    repair_after: RepairAfter,
    #[command(flatten)]
    upkeep: Upkeep,
    #[command(flatten)]
    registro: KeepRegistro,
    /// Time after which a process that died is started again, or never
    #[arg(long, env = "ACOPIO_RESTART_AFTER", value_name = "TIME", default_value = "5s",
        value_parser = values::or_never)]
    restart_after: values::OrNever,
}

/// When one data node syncs.
#[derive(Clone, Copy, Debug)]
struct SyncOf {
    node: usize,
    sync: values::Sync,
}

fn sync_of(text: &str) -> Result<SyncOf, String> {
    let such_as = || format!("{text:?}: write the name of a data node and when it syncs, as in data3=never");
    let (node, sync) = text.split_once('=').ok_or_else(such_as)?;
    let node = node.strip_prefix("data").and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    Ok(SyncOf { node: node.ok_or_else(such_as)?, sync: values::sync(sync).map_err(|error| error.to_string())? })
}

/// Where the page is, unless something else is there.
#[cfg(feature = "web")]
const WEB: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

impl Up {
    /// Where the page is to be, if at all.
    #[cfg(feature = "web")]
    fn web(&self) -> Option<SocketAddr> {
        let free = |address| TcpListener::bind(address).and_then(|listener| listener.local_addr());
        let place = match self.web_port {
            Some(port) => SocketAddr::new(WEB.ip(), port),
            None => free(WEB).or_else(|_| free(SocketAddr::new(WEB.ip(), 0))).unwrap_or(WEB),
        };
        (!self.no_web).then_some(place)
    }

    /// Runs the cluster until it is told to stop.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        if u64::from(self.port) + self.heads - 1 > u64::from(u16::MAX) {
            anyhow::bail!(
                "{} heads need as many ports and there are none after 65535; choose a lower --port",
                self.heads
            );
        }
        let nodes = usize::try_from(self.nodes).unwrap_or(usize::MAX);
        if let Some(other) = self.sync_of.iter().find(|other| other.node > nodes) {
            anyhow::bail!("--sync-of: there is no data{}; there are {nodes} data nodes, raise --nodes", other.node);
        }
        #[cfg(feature = "web")]
        let web = self.web();
        #[cfg(not(feature = "web"))]
        let web = None;
        #[cfg(all(feature = "device", feature = "web"))]
        let devices = match self.devices.plan(web.unwrap_or(WEB))? {
            Some(_) if web.is_none() => {
                anyhow::bail!("devices send what they measure to the web API; leave out --no-web")
            }
            devices => devices,
        };
        #[cfg(not(all(feature = "device", feature = "web")))]
        let devices = None;
        let program = std::env::current_exe().context("cannot find the acopio program; start it by its full path")?;
        let settings = cluster::up::Settings {
            program,
            quiet: global.quiet,
            verbose: global.verbose,
            run_for: self.run_for,
            restart_after: self.restart_after.0,
            plan: cluster::plan::Settings {
                dir: self.dir,
                place: cluster::plan::Place::Machine { listen_ip: self.listen_ip, port: self.port },
                heads: usize::try_from(self.heads).unwrap_or(usize::MAX),
                every: values::show(self.every),
                heartbeat: values::show(self.heartbeat),
                sync: self.sync.to_string(),
                sync_of: self.sync_of.iter().map(|other| (other.node, other.sync.to_string())).collect(),
                repair_after: values::show(self.repair_after.repair_after),
                repair_rate: self.upkeep.repair_rate,
                cluster: self.cluster,
                keep: self.upkeep.keep.map(values::show),
                keep_bytes: self.upkeep.keep_bytes,
                keep_registro: self.registro.keep(),
                replicas: usize::try_from(self.replicas).unwrap_or(usize::MAX),
                nodes,
                clients: usize::try_from(self.clients).unwrap_or(usize::MAX),
                #[cfg(feature = "broker")]
                brokers: self.broker,
                #[cfg(not(feature = "broker"))]
                brokers: false,
                web,
                devices,
            },
        };
        let groups = u32::try_from(cluster::plan::Kind::STOP_ORDER.len()).unwrap_or(u32::MAX);
        let stop_time = limits::STOP_TIME_MAX + limits::UP_GROUP_STOP_TIME_MIN * groups;
        runtime::run_role(stop_time, runtime::EndsWith::Terminal, async |shutdown| {
            Ok(cluster::up::run(settings, shutdown).await?)
        })
        .map(runtime::done)
    }
}
