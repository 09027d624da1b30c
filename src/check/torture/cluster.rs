//! The cluster under torture: its processes, the links between them, and what is done to both.
//!
//! Processes are those of `acopio up`: the same program, in process groups of their own, ending by themselves when
//! their standard input closes. Signals go to processes that this one started and has not yet waited for, nobody else.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Error;

use crate::client;
use crate::cluster::child::Running;
use crate::cluster::link::{Link, Relay};
use crate::cluster::plan::{Kind as MemberKind, Member};
use crate::cluster::screen::Screen;
use crate::limits;

/// What the cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The acopio program.
    pub(crate) program: PathBuf,
    /// Folder for everything.
    pub(crate) dir: PathBuf,
    /// Number of heads.
    pub(crate) heads: usize,
    /// Number of data nodes.
    pub(crate) nodes: usize,
    /// Copies of each message; a message with fewer is refused.
    pub(crate) replicas: usize,
    /// Time between two heartbeats.
    pub(crate) heartbeat: Duration,
    /// Size at which data files are sealed.
    pub(crate) segment_bytes: u64,
}

/// One process, and whether it is meant to run.
struct Process {
    member: Member,
    running: Option<Running>,
    wanted: bool,
}

impl Process {
    fn new(member: Member) -> Self {
        Self { member, running: None, wanted: true }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.running.as_ref().and_then(Running::pid);
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // It is not waited for yet, so the id is its own; it may be gone all the same.
            let _gone_already = kill_process(pid, signal);
        }
    }

    /// How it ended, if it has.
    async fn ended_now(&mut self) -> Option<String> {
        let running = self.running.as_mut()?;
        let ended = timeout(Duration::ZERO, running.ended()).await.ok()?.words;
        let said = running.last_error().await;
        self.running = None;
        Some(said.map_or(ended.clone(), |said| format!("{ended}, and said: {said}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A paused process would not notice that its standard input closes.
        self.signal(Signal::KILL);
    }
}

/// The processes and the links.
pub(crate) struct Cluster {
    settings: Settings,
    screen: Screen,
    heads: Vec<Process>,
    nodes: Vec<Process>,
    /// For each node, its link to each head.
    links: Vec<Vec<Relay>>,
    addresses: Vec<SocketAddr>,
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The head at this place.
    Head(usize),
    /// The data node at this place.
    Node(usize),
}

impl Cluster {
    /// Starts heads, links and data nodes. They may not be registered yet: see [`whole`](Self::whole).
    ///
    /// # Errors
    /// A process can't be started, or a head does not listen.
    pub(crate) async fn start(settings: Settings) -> Result<Self, Error> {
        // Nothing is shown: each process has its log files in its folder.
        let (screen, _ends_with_the_screen) = Screen::stdout(true);
        let addresses = free_addresses(settings.heads)?;
        let heads = addresses.iter().zip(1..).map(|(address, k)| Process::new(head(&settings, k, *address))).collect();
        let mut cluster = Self { settings, screen, heads, nodes: Vec::new(), links: Vec::new(), addresses };
        for k in 0..cluster.heads.len() {
            cluster.run(Victim::Head(k))?;
            let Some(running) = cluster.heads.get_mut(k).and_then(|head| head.running.as_mut()) else { continue };
            if !timeout(limits::UP_START_TIME_MAX, running.listens()).await.unwrap_or(false) {
                let said = running.last_error().await.unwrap_or_else(|| "it does not listen in time".to_owned());
                return Err(Error::Head(said));
            }
        }
        for k in 1..=cluster.settings.nodes {
            let from = node_ip(k).filter(|ip| TcpListener::bind((*ip, 0)).is_ok()).map(IpAddr::V4);
            let mut links = Vec::new();
            for address in &cluster.addresses {
                links.push(Relay::start(*address, from).await.map_err(Error::Link)?);
            }
            let member = node(&cluster.settings, k, &links);
            cluster.links.push(links);
            cluster.nodes.push(Process::new(member));
            cluster.run(Victim::Node(k - 1))?;
        }
        Ok(cluster)
    }

    /// Where the heads listen.
    #[must_use]
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.iter().map(ToString::to_string).collect()
    }

    /// The folder of a data node.
    #[must_use]
    pub(crate) fn folder(&self, node: usize) -> PathBuf {
        folder(&self.settings.dir, node + 1)
    }

    /// What a process is called.
    #[must_use]
    pub(crate) fn name(&self, victim: Victim) -> &str {
        self.process(victim).map_or("nobody", |process| &process.member.name)
    }

    fn process(&self, victim: Victim) -> Option<&Process> {
        match victim {
            Victim::Head(k) => self.heads.get(k),
            Victim::Node(k) => self.nodes.get(k),
        }
    }

    fn process_mut(&mut self, victim: Victim) -> Option<&mut Process> {
        match victim {
            Victim::Head(k) => self.heads.get_mut(k),
            Victim::Node(k) => self.nodes.get_mut(k),
        }
    }

    /// Starts a process unless it runs.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn run(&mut self, victim: Victim) -> Result<(), Error> {
        let (program, screen) = (self.settings.program.clone(), self.screen.clone());
        if let Some(process) = self.process_mut(victim) {
            process.wanted = true;
            if process.running.is_none() {
                process.running = Some(Running::start(&program, false, &process.member, &screen)?);
            }
        }
        Ok(())
    }

    /// Kills a process with -9 and waits until it is gone.
    pub(crate) async fn kill(&mut self, victim: Victim) {
        if let Some(process) = self.process_mut(victim) {
            process.wanted = false;
            process.signal(Signal::KILL);
            if let Some(mut running) = process.running.take() {
                running.ended().await;
            }
        }
    }

    /// Pauses a process.
    pub(crate) fn pause(&self, victim: Victim) {
        if let Some(process) = self.process(victim) {
            process.signal(Signal::STOP);
        }
    }

    /// Has a paused process go on.
    pub(crate) fn unpause(&self, victim: Victim) {
        if let Some(process) = self.process(victim) {
            process.signal(Signal::CONT);
        }
    }

    /// Changes the links of a data node, to one head or to all.
    pub(crate) fn link(&self, node: usize, head: Option<usize>, link: Link) {
        for (k, relay) in self.links.get(node).into_iter().flatten().enumerate() {
            if head.is_none_or(|head| head == k) {
                relay.set(link);
            }
        }
    }

    /// Undoes all that was done: links carry, processes go on, the dead are started again.
    ///
    /// # Errors
    /// A process can't be started.
    pub(crate) fn heal(&mut self) -> Result<(), Error> {
        for victim in self.all() {
            if let Victim::Node(k) = victim {
                self.link(k, None, Link::Open);
            }
            self.unpause(victim);
            self.run(victim)?;
        }
        Ok(())
    }

    fn all(&self) -> Vec<Victim> {
        let heads = (0..self.heads.len()).map(Victim::Head);
        heads.chain((0..self.nodes.len()).map(Victim::Node)).collect()
    }

    /// Processes that ended though nobody killed them, and how. They are started again.
    ///
    /// # Errors
    /// One can't be started.
    pub(crate) async fn ended_by_themselves(&mut self) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for victim in self.all() {
            let Some(process) = self.process_mut(victim).filter(|process| process.wanted) else { continue };
            if let Some(how) = process.ended_now().await {
                found.push(format!("{} {how}", process.member.name));
                self.run(victim)?;
            }
        }
        Ok(found)
    }

    /// What is missing until every head has every data node, writable, and with `settled` nothing in flight, either;
    /// with `copies` no entry that lacks a copy, or that nobody has. None if nothing is.
    pub(crate) async fn missing(&self, settled: bool, copies: bool) -> Option<String> {
        for (address, head) in self.addresses.iter().zip(&self.heads) {
            let name = &head.member.name;
            let report = match timeout(limits::TORTURE_STATUS_TIME_MAX, client::status(&address.to_string())).await {
                Ok(Ok(report)) => report,
                Ok(Err(error)) => return Some(format!("{name}: {error}")),
                Err(_) => return Some(format!("{name} does not answer")),
            };
            for node in &self.nodes {
                let node = &node.member.name;
                match report.nodes.iter().find(|one| one.name == *node) {
                    None => return Some(format!("{node} is not registered with {name}")),
                    Some(one) if !one.writable => {
                        return Some(format!("{node} does not take messages: {}", one.reason));
                    }
                    Some(_) => {}
                }
            }
            if settled && report.in_flight > 0 {
                return Some(format!("{name} has {} messages in flight", report.in_flight));
            }
            if copies && report.short_of_copies > 0 {
                return Some(format!("{name} has {} records short of copies", report.short_of_copies));
            }
            if copies && let Some(lacking) = report.lacking.first() {
                return Some(format!("{name} has nobody for entry {} of ledger {}", lacking.from, lacking.ledger));
            }
        }
        None
    }

    /// Waits until nothing is [`missing`](Self::missing), starting again what ended by itself; with `copies`, until so for
    /// [`limits::TORTURE_COPIES_CALM`], for heads hear of copies some time after they are lost.
    ///
    /// # Errors
    /// A process can't be started. Inside, what is still missing at the deadline; `ended` is told who ended, and how.
    pub(crate) async fn whole(
        &mut self,
        settled: bool,
        copies: bool,
        deadline: Instant,
        mut ended: impl FnMut(String),
    ) -> Result<Result<(), String>, Error> {
        let calm = if copies { limits::TORTURE_COPIES_CALM } else { Duration::ZERO };
        let mut since = None;
        loop {
            self.ended_by_themselves().await?.into_iter().for_each(&mut ended);
            match self.missing(settled, copies).await {
                None if since.get_or_insert_with(Instant::now).elapsed() >= calm => return Ok(Ok(())),
                None => {}
                Some(missing) if Instant::now() >= deadline => return Ok(Err(missing)),
                Some(_) => since = None,
            }
            sleep(limits::TORTURE_POLL_EVERY).await;
        }
    }

    /// Ends all processes in order, heads first; who does not end in time is killed and named.
    pub(crate) async fn end(mut self) -> Vec<String> {
        let mut late = Vec::new();
        for processes in [&mut self.heads, &mut self.nodes] {
            let deadline = Instant::now() + limits::STOP_TIME_MAX;
            let mut ends = JoinSet::new();
            for process in processes {
                process.wanted = false;
                if let Some(running) = process.running.take() {
                    let name = process.member.name.clone();
                    ends.spawn_local(async move { (name, running.end(deadline).await) });
                }
            }
            while let Ok(Some(ended)) = timeout_at(deadline + limits::CLOSE_TIME_MAX, ends.join_next()).await {
                if let Ok((name, false)) = ended {
                    late.push(name);
                }
            }
        }
        late
    }
}

/// The folder of data node `k`, counted from 1.
#[must_use]
pub(crate) fn folder(dir: &Path, k: usize) -> PathBuf {
    dir.join(format!("data{k}"))
}

fn head(settings: &Settings, k: usize, address: SocketAddr) -> Member {
    let name = format!("head{k}");
    let dir = settings.dir.join(&name);
    let replicas = settings.replicas.to_string();
    let flags = [
        ("--listen", address.to_string()),
        ("--heartbeat", humantime::format_duration(settings.heartbeat).to_string().replace(' ', "")),
        ("--replicas", replicas.clone()),
        // What is acknowledged has all its copies, so that one of them may be lost.
        ("--min-copies", replicas),
        ("--repair-after", humantime::format_duration(limits::TORTURE_REPAIR_AFTER).to_string()),
    ];
    let mut args: Vec<OsString> = vec!["head".into(), "--until-stdin-closes".into(), "--no-icmp".into()];
    args.extend(flags.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]));
    args.extend(["--logs".into(), dir.clone().into()]);
    Member { kind: MemberKind::Head, name, dir, args }
}

fn node(settings: &Settings, k: usize, links: &[Relay]) -> Member {
    let name = format!("data{k}");
    let dir = folder(&settings.dir, k);
    let heads: Vec<String> = links.iter().map(|relay| relay.address.to_string()).collect();
    let flags = [
        ("--head", heads.join(",")),
        ("--name", name.clone()),
        ("--segment-bytes", settings.segment_bytes.to_string()),
    ];
    let mut args: Vec<OsString> = vec!["data".into(), "--until-stdin-closes".into()];
    args.extend(flags.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]));
    args.extend(["--dir".into(), dir.clone().into()]);
    Member { kind: MemberKind::Data, name, dir, args }
}

/// The loopback address by which heads know data node `k`, counted from 1.
fn node_ip(k: usize) -> Option<Ipv4Addr> {
    let last = u8::try_from(k + 1).ok().filter(|&last| last < u8::MAX)?;
    Some(Ipv4Addr::new(127, 0, 0, last))
}

/// Addresses for heads that are free and stay so while a head is away: below the ports that the system gives to
/// connections.
fn free_addresses(wanted: usize) -> Result<Vec<SocketAddr>, Error> {
    let mut rng = rand::rng();
    let mut found = Vec::new();
    let mut last = None;
    for _ in 0..limits::TORTURE_PORT_TRIES_MAX {
        if found.len() == wanted {
            return Ok(found);
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rng.random_range(limits::TORTURE_PORTS)));
        match TcpListener::bind(address) {
            Ok(_) if !found.contains(&address) => found.push(address),
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(Error::Link(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into())))
}
