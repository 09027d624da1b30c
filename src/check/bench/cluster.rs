//! The cluster that a bench starts for itself: processes of the same program, in a folder of its own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::usage::{self, Usage};
use super::{Error, Role};
use crate::client;
use crate::cluster::child::Running;
use crate::cluster::keys;
use crate::cluster::plan::{self, Kind, Member};
use crate::cluster::screen::Screen;
use crate::limits;

/// What the cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The acopio program.
    pub(crate) program: PathBuf,
    /// Folder for everything.
    pub(crate) dir: PathBuf,
    /// Heads.
    pub(crate) heads: usize,
    /// Data nodes.
    pub(crate) nodes: usize,
    /// Copies of each message.
    pub(crate) replicas: usize,
    /// When data nodes sync, in the words of the flag.
    pub(crate) sync: String,
    /// Clients that a head has to take.
    pub(crate) clients_max: usize,
}

/// Processes that run.
pub(crate) struct Cluster {
    members: Vec<(Member, Running)>,
    /// The heads' addresses.
    pub(crate) heads: Vec<String>,
}

impl Cluster {
    /// Starts heads and data nodes, and waits until all of them are there.
    ///
    /// # Errors
    /// The folder can't be written, or a process can't be started or does not get ready.
    pub(crate) async fn start(settings: &Settings) -> Result<Self, Error> {
        let plan = plan(settings)?;
        let heads: Vec<String> = plan.head_addresses().iter().map(ToString::to_string).collect();
        // Nothing is shown: each process has its log files in its folder.
        let (screen, _ends_with_the_screen) = Screen::stdout(true);
        let mut cluster = Self { members: Vec::new(), heads };
        let members = plan.members(|ip| TcpListener::bind((ip, 0)).is_ok());
        keys::hand_out(&members)?;
        for mut member in members {
            if member.kind == Kind::Head {
                let clients = settings.clients_max.max(limits::CLIENTS_MAX_DEFAULT);
                member.args.extend(["--max-clients".into(), clients.to_string().into(), "--no-icmp".into()]);
            }
            let mut running = Running::start(&settings.program, false, &member, &screen)?;
            if !timeout(limits::UP_START_TIME_MAX, running.listens()).await.unwrap_or(false) {
                let said = running.last_error().await.unwrap_or_else(|| "it is not ready in time".to_owned());
                return Err(Error::Member { name: member.name, said });
            }
            cluster.members.push((member, running));
        }
        cluster.whole(settings.nodes).await?;
        Ok(cluster)
    }

    /// Waits until every head has every data node: one that is registered with the first may be on its way to the next.
    async fn whole(&self, nodes: usize) -> Result<(), Error> {
        let deadline = Instant::now() + limits::UP_START_TIME_MAX;
        for head in &self.heads {
            loop {
                let report = client::status(head).await.map_err(Error::Head)?;
                if report.nodes.iter().filter(|node| node.writable).count() >= nodes {
                    break;
                }
                if Instant::now() >= deadline {
                    let said = format!("it has {} of {nodes} data nodes", report.nodes.len());
                    return Err(Error::Member { name: format!("head {head}"), said });
                }
                sleep(limits::BENCH_POLL_EVERY).await;
            }
        }
        Ok(())
    }

    /// What each role has used so far, all its processes together.
    #[must_use]
    pub(crate) fn usage(&self) -> Vec<(Role, Usage)> {
        let of = |kind: Kind| {
            let pids = self.members.iter().filter(move |(member, _)| member.kind == kind);
            pids.filter_map(|(_, running)| usage::of(running.pid()?))
                .fold(Usage::default(), |sum, one| Usage { cpu: sum.cpu + one.cpu, peak: sum.peak.max(one.peak) })
        };
        vec![(Role::Head, of(Kind::Head)), (Role::Data, of(Kind::Data))]
    }

    /// Bytes of records on all data nodes.
    #[must_use]
    pub(crate) fn log_bytes(&self) -> u64 {
        let nodes = self.members.iter().filter(|(member, _)| member.kind == Kind::Data);
        nodes.map(|(member, _)| usage::log_bytes(&member.dir)).sum()
    }

    /// Ends all processes in order, heads first.
    pub(crate) async fn end(self) {
        let (heads, nodes): (Vec<_>, Vec<_>) =
            self.members.into_iter().partition(|(member, _)| member.kind == Kind::Head);
        for group in [heads, nodes] {
            let deadline = Instant::now() + limits::STOP_TIME_MAX;
            let mut ends = JoinSet::new();
            for (_, running) in group {
                ends.spawn_local(running.end(deadline));
            }
            while ends.join_next().await.is_some() {}
        }
    }
}

fn plan(settings: &Settings) -> Result<plan::Settings, Error> {
    Ok(plan::Settings {
        web: None,
        devices: None,
        dir: settings.dir.clone(),
        place: plan::Place::Machine { listen_ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: free_ports(settings.heads)? },
        heads: settings.heads,
        every: String::new(),
        heartbeat: format!("{}s", limits::HEARTBEAT_DEFAULT.as_secs()),
        sync: settings.sync.clone(),
        sync_of: BTreeMap::new(),
        repair_after: format!("{}s", limits::REPAIR_AFTER_DEFAULT.as_secs()),
        repair_rate: limits::REPAIR_RATE_DEFAULT,
        cluster: "bench".to_owned(),
        keep: None,
        keep_bytes: None,
        keep_registro: crate::daily::Keep::default(),
        replicas: settings.replicas,
        nodes: settings.nodes,
        clients: 0,
        brokers: false,
    })
}

/// The first of so many free ports in a row, below those that the system gives to connections.
fn free_ports(wanted: usize) -> Result<u16, Error> {
    let mut last = std::io::ErrorKind::AddrInUse.into();
    for _ in 0..limits::TORTURE_PORT_TRIES_MAX {
        let first = rand::random_range(limits::TORTURE_PORTS);
        let bound: Result<Vec<_>, _> =
            (first..).take(wanted).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        match bound {
            Ok(_) => return Ok(first),
            Err(error) => last = error,
        }
    }
    Err(Error::Ports(last))
}

/// Waits until a small write is synced quickly again, for after heavy writing a disk may stall for seconds: some in a row
/// within [`limits::BENCH_CALM_SYNC_MAX`]. Gives up after `within`, which is
/// not an error: some disks are never quick.
///
/// # Errors
/// The folder can't be written.
pub(crate) async fn calm(dir: &std::path::Path, within: Duration) -> std::io::Result<()> {
    let deadline = Instant::now() + within;
    let path = dir.join("calm.tmp");
    let mut file = crate::files::create(&path)?;
    let mut quick = 0;
    while quick < limits::BENCH_CALM_SYNCS && Instant::now() < deadline {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        quick = if start.elapsed() <= limits::BENCH_CALM_SYNC_MAX { quick + 1 } else { 0 };
        sleep(limits::BENCH_POLL_EVERY).await;
    }
    std::fs::remove_file(path)
}
