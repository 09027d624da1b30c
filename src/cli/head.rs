//! `acopio head`: flags of a headNode, and a solo head.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::head::{Admits, Gate};
use crate::key::Nonces;
use crate::key::file::{self as key, KeyFile, Keys, NodeKey};
use crate::net::network::Network;
use crate::net::tls::served::{Certificates, Files};
use crate::net::{Listener, Net};
use crate::{cluster, data, head, limits};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::BoolishValueParser;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "coord")]
use super::announced;
use super::door::Door;
use super::key::Unproved;
use super::logging::{self, CLIENTES, HEARTBEAT, LogFile, Takes};
use super::plain::Plain;
use super::upkeep::{KeepRegistro, RepairAfter};
use super::{Global, Outcome, plain, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio head
      a head on port 5000; data nodes dial it
  acopio head --listen 127.0.0.1:5001 --logs /tmp/h
      elsewhere
  acopio head --plain 5001=plc39,cr,callado --plain 5514=syslog,varios
      and lines without a handshake from a PLC on port 5001, and from syslog
  acopio head --key /etc/acopio/cluster.key --text-nodes 10.0.7.0/24
      data nodes have to have this key; those that speak text come from there
  acopio head --clients token --tokens tokens
      clients have to have a token of this file, which 'acopio token' makes
  acopio head --clients tls --tls-cert ca/head.crt --tls-ca ca/ca.crt
      clients have to have a certificate, which 'acopio cert' makes
  acopio head --solo
      no data nodes: it keeps the messages itself, and echoes them

Files in the folder of the logs: registro.log (who keeps what), heartbeat.log
(the state of the nodes), clientes.log (who connects), access.log (who did what,
or was refused it), head.log, head.state (the data nodes of its cluster),
cluster.key (what data nodes of other
machines have to have, unless --key names another). nombres.txt may lie there:
names for devices that say none, by their addresses.";

/// Name of the data node of a solo head.
const SOLO: &str = "solo";

/// A headNode: takes messages from clients and has data nodes keep them
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Head {
    /// Address and port to listen on, for clients and data nodes; port 0 takes a free one
    #[arg(long, env = "ACOPIO_LISTEN", value_name = "HOST:PORT", default_value = "0.0.0.0:5000",
        value_parser = values::listen)]
    listen: String,
    /// A port that takes lines without a handshake, for devices that can't shake hands, and the name of what sends there;
    /// behind it callado, cr, numerado or varios. Such as 5001=plc39,cr,callado; several times for several ports
    #[arg(long, env = "ACOPIO_PLAIN", value_name = "[IP:]PORT=NAME[,OPTION...]", value_delimiter = ' ')]
    plain: Vec<Plain>,
    /// Whom to let in as a client: everybody (open), who has a token of the file --tokens (token), or who speaks TLS (tls);
    /// that one has to have a token, or a certificate of --tls-ca, if one of them is given
    #[arg(long, env = "ACOPIO_HEAD_CLIENTS", value_name = "WHO", default_value = "open")]
    clients: Clients,
    /// File of tokens, which 'acopio token' makes; it is read whenever it changes, and at SIGHUP
    #[arg(long, env = "ACOPIO_TOKENS", value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Take tokens from other machines, too, though whoever sees the network can read them there
    #[arg(long, env = "ACOPIO_TOKENS_IN_THE_CLEAR", value_parser = BoolishValueParser::new())]
    tokens_in_the_clear: bool,
    /// File with the head's certificate, PEM, behind it those of the authorities between; with it, the head speaks TLS beside
    /// all else on its port. 'acopio cert' makes one. It is read whenever it changes, and at SIGHUP
    #[arg(long, env = "ACOPIO_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// File with the key of the certificate [default: beside it, with the ending .key]
    #[arg(long, env = "ACOPIO_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File with the authority whose certificates let clients in, by the name in them: to write and read, or to what the line
    /// of that name in --tokens says
    #[arg(long, env = "ACOPIO_TLS_CA", value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
    /// Clients served at the same time; one more is told that the head is full
    #[arg(long, env = "ACOPIO_MAX_CLIENTS", value_name = "N", default_value_t = limits::CLIENTS_MAX_DEFAULT as u64,
        value_parser = clap::value_parser!(u64).range(1..=10_000))]
    max_clients: u64,
    /// Clients of one address served at the same time, and reads from there; without it, as many as there are places
    #[arg(long, env = "ACOPIO_MAX_PER_ADDRESS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    max_per_address: Option<u64>,
    /// Messages a second that each name (of a token or a certificate) may send, and each address without one; it is read no
    /// faster, and refused with the time to wait where much waits already
    #[arg(long, env = "ACOPIO_SHARE_MESSAGES", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    share_messages: Option<u32>,
    /// The same in bytes of messages a second
    #[arg(long, env = "ACOPIO_SHARE_BYTES", value_name = "SIZE", value_parser = values::bytes)]
    share_bytes: Option<u64>,
    /// Bytes a second that each name may read of what is there; what comes to who follows does not count
    #[arg(long, env = "ACOPIO_SHARE_READS", value_name = "SIZE", value_parser = values::bytes)]
    share_reads: Option<u64>,
    /// Connections of one address, of data nodes and for handshakes, too, and four times as many new ones a second; without
    /// it, as many as there are places
    #[arg(long, env = "ACOPIO_SHARE_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    share_connections: Option<u64>,
    /// Close clients that have said nothing for so long; without it, they may be silent for ever
    #[arg(long, env = "ACOPIO_IDLE_AFTER", value_name = "TIME", value_parser = values::duration)]
    idle_after: Option<Duration>,
    /// Silence after which a client gives up its place to another of its address, where there is no other place
    #[arg(long, hide = true, env = "ACOPIO_SILENT_AFTER", value_name = "TIME", default_value = "60s",
        value_parser = values::duration)]
    silent_after: Duration,
    /// Name of the cluster: data nodes whose records belong to another are refused
    #[arg(long, env = "ACOPIO_CLUSTER", value_name = "NAME", default_value = limits::CLUSTER_DEFAULT,
        value_parser = values::cluster)]
    cluster: String,
    /// File with the cluster's key, which is then asked of everybody who registers as a data node or changes the cluster;
    /// without it, the head makes a key of its own and asks only peers that come from other machines
    #[arg(long, env = "ACOPIO_KEY_FILE", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where the key lies that the head makes itself [default: cluster.key in the folder of the logs]
    #[arg(long, env = "ACOPIO_OWN_KEY", value_name = "FILE", conflicts_with = "key")]
    own_key: Option<PathBuf>,
    #[command(flatten)]
    unproved: Unproved,
    /// Addresses and networks of data nodes that speak text (raw or line), which can't have a key; without --key, those of
    /// this machine are let in, too
    #[arg(long, env = "ACOPIO_TEXT_NODES", value_name = "IP[/BITS]", value_delimiter = ',',
        value_parser = values::network)]
    text_nodes: Vec<Network>,
    /// Copies of each message, each on another data node, drawn at random; with fewer nodes there are fewer copies
    #[arg(long, env = "ACOPIO_REPLICAS", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=limits::REPLICAS_MAX as u64))]
    replicas: u64,
    /// Copies without which a message is refused; at most --replicas [default: as many]
    #[arg(long, env = "ACOPIO_MIN_COPIES", value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=limits::REPLICAS_MAX as u64))]
    min_copies: Option<u64>,
    #[command(flatten)]
    repair_after: RepairAfter,
    /// Most bytes that a data node which speaks text (raw or line) is sent as one message, "mensaje: " included; longer
    /// ones go to nodes that speak frames, or are refused
    #[arg(long, env = "ACOPIO_NODE_BYTES", value_name = "BYTES", default_value_t = limits::TEXT_NODE_BYTES_DEFAULT as u64,
        value_parser = clap::value_parser!(u64).range(limits::TEXT_NODE_BYTES_MIN as u64..=limits::MESSAGE_BYTES_MAX as u64))]
    node_bytes: u64,
    #[command(flatten)]
    door: Door,
    /// Time between two heartbeats of the data nodes
    #[arg(long, env = "ACOPIO_HEARTBEAT", value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    heartbeat: Duration,
    /// Folder of the logs: registro.log, heartbeat.log and head.log
    #[arg(long, env = "ACOPIO_LOGS", value_name = "DIR", default_value = "logs/head")]
    logs: PathBuf,
    #[command(flatten)]
    registro: KeepRegistro,
    /// Keep the messages in this process, with an embedded data node, and echo each to text clients
    #[arg(long, env = "ACOPIO_SOLO", value_parser = BoolishValueParser::new())]
    solo: bool,
    /// Folder for data.txt, of a solo head
    #[arg(long, env = "ACOPIO_DIR", value_name = "DIR", default_value = "logs/head")]
    dir: PathBuf,
    /// Give the folder a new identity, once, on a solo head: its log was lost, or it is a copy. What it holds stays
    #[arg(long, env = "ACOPIO_NEW_ID", value_parser = BoolishValueParser::new())]
    new_id: bool,
    /// When to sync: always (before every answer), an interval, or never; on a solo head
    #[arg(long, env = "ACOPIO_SYNC", value_name = "WHEN", default_value = "always", value_parser = values::sync)]
    sync: values::Sync,
    /// Send no ICMP echoes; data nodes that speak frames are pinged inside the protocol anyway
    #[arg(long, env = "ACOPIO_NO_ICMP", value_parser = BoolishValueParser::new())]
    no_icmp: bool,
    /// ZooKeeper servers, at which this head announces itself below the path; others find it there by --head zk://
    #[cfg(feature = "coord")]
    #[arg(long, env = "ACOPIO_ZOOKEEPER", value_name = "HOST:PORT[,...][/CHROOT]")]
    zookeeper: Option<crate::coord::Servers>,
    /// The address that it announces [default: the one it listens on]
    #[cfg(feature = "coord")]
    #[arg(long, env = "ACOPIO_ADVERTISE", value_name = "HOST:PORT", value_parser = values::address)]
    advertise: Option<String>,
    /// Time after which a peer that is gone without a goodbye is given up
    #[arg(long, hide = true, env = "ACOPIO_PEER_SILENCE", value_name = "TIME", default_value = "20s",
        value_parser = values::duration)]
    peer_silence: Duration,
    /// Tell of each heartbeat on standard error, too
    #[arg(long, hide = true, env = "ACOPIO_SHOW_HEARTBEATS", value_parser = BoolishValueParser::new())]
    show_heartbeats: bool,
    /// Stop in order when standard input ends
    #[arg(long, hide = true, env = "ACOPIO_UNTIL_STDIN_CLOSES", value_parser = BoolishValueParser::new())]
    until_stdin_closes: bool,
}

/// Who is let in as a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Clients {
    /// Everybody
    Open,
    /// Who has a token
    Token,
    /// Who speaks TLS
    Tls,
}

impl Head {
    /// The address at which this machine reaches it.
    pub(crate) fn reached_at(&self) -> Result<String> {
        let (host, port) = self.listen.rsplit_once(':').unwrap_or((&self.listen, "0"));
        if port == "0" {
            bail!("the head with pid 1 listens on a port that nobody chose; name it with --ask");
        }
        let host = match host {
            "0.0.0.0" => "127.0.0.1",
            "[::]" => "[::1]",
            host => host,
        };
        Ok(format!("{host}:{port}"))
    }

    /// Runs the head until it is told to stop.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start_with(
            global,
            global.verbose || self.show_heartbeats,
            &[
                LogFile { dir: &self.logs, name: "heartbeat", takes: Takes::Only(HEARTBEAT), beside_data: false },
                LogFile { dir: &self.logs, name: "clientes", takes: Takes::Only(CLIENTES), beside_data: false },
                LogFile { dir: &self.logs, name: "access", takes: Takes::Only(head::ACCESS), beside_data: false },
                LogFile {
                    dir: &self.logs,
                    name: "head",
                    takes: Takes::AllBut(&[HEARTBEAT, CLIENTES, head::ACCESS]),
                    beside_data: false,
                },
            ],
        )?;
        let ends_with = runtime::EndsWith::service(self.until_stdin_closes);
        runtime::run_role(limits::STOP_TIME_MAX, ends_with, async |shutdown| self.serve(shutdown).await)
            .map(runtime::done)
    }

    async fn serve(self, shutdown: CancellationToken) -> Result<()> {
        if let Some(least) = self.min_copies.filter(|least| *least > self.replicas) {
            let replicas = self.replicas;
            bail!("--min-copies {least} is more than --replicas {replicas}; raise --replicas or lower --min-copies");
        }
        if self.solo && self.replicas > 1 {
            bail!("a solo head keeps one copy; leave out --replicas, or --solo");
        }
        let listener = Listener::bind(&self.listen)
            .await
            .map_err(|error| values::cannot_listen(&self.listen, "--listen", &error))?;
        let address = listener.local_addr().context("cannot tell the address listened on; start the head again")?;
        #[cfg(feature = "coord")]
        let announcing = shutdown.child_token();
        #[cfg(feature = "coord")]
        let announced = self.announce(address, &announcing)?;
        let served = self.serve_on(listener, address, shutdown).await;
        #[cfg(feature = "coord")]
        if let Some(announced) = announced {
            announcing.cancel();
            // It bounds its end itself.
            drop(announced.await);
        }
        served
    }

    /// Tells others where it is, until the end.
    #[cfg(feature = "coord")]
    fn announce(
        &self,
        listening: std::net::SocketAddr,
        shutdown: &CancellationToken,
    ) -> Result<Option<tokio::task::JoinHandle<()>>> {
        let Some(servers) = &self.zookeeper else { return Ok(None) };
        let address = match &self.advertise {
            Some(address) => address.clone(),
            None => announced::reached_at(listening, servers)?,
        };
        announced::announce(servers, address, shutdown.clone()).map(Some)
    }

    async fn serve_on(
        self,
        listener: Listener,
        address: std::net::SocketAddr,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let (keys, everybody) = self.keys(address)?;
        let records = self.records(&keys);
        let gate = self.gate(&keys, everybody)?;
        let mut config = self.config(gate, records, self.admits(address)?, self.secured()?);
        let plain = plain::open(&self.plain, address.ip()).await?;
        let doors =
            head::Doors { main: listener, plain, inside: None, http: self.door.open(self.tokens.as_deref()).await? };
        if !self.solo {
            tracing::info!("{}{address}", cluster::LISTENING);
            return Ok(head::run(config, doors, shutdown).await?);
        }
        let mut node = self.embedded(NodeKey::in_file(&self.key_file(), SOLO)?);
        let identity = Arc::new(OnceLock::new());
        config.solo = Some(Arc::clone(&identity));
        node.identity = Some(identity);
        tracing::info!("{}{address}, solo: messages are kept in {}", cluster::LISTENING, node.dir.display());
        Ok(cluster::solo::run(config, node, doors, shutdown).await?)
    }

    /// The file of the cluster's keys.
    fn key_file(&self) -> PathBuf {
        let own = || self.own_key.clone().unwrap_or_else(|| self.logs.join(key::CLUSTER_FILE));
        self.key.clone().unwrap_or_else(own)
    }

    /// The cluster's keys, and whether they are asked of everybody: those that were given, or one of its own.
    fn keys(&self, address: std::net::SocketAddr) -> Result<(Keys, bool)> {
        let path = self.key_file();
        if self.key.is_some() {
            tracing::info!("data nodes and who changes the cluster have to have the key in {}", path.display());
            return Ok((KeyFile::read_keys(&path)?, true));
        }
        let (keys, made) = key::read_or_make(&path)?;
        if made {
            tracing::info!("{}", key::of_a_new_one(&path));
        } else if !address.ip().is_loopback() {
            tracing::info!("data nodes of other machines have to have the key in {}", path.display());
        }
        Ok((keys, false))
    }

    /// Whom it lets in.
    fn gate(&self, keys: &Keys, everybody: bool) -> Result<Gate> {
        if self.text_nodes.len() > limits::TEXT_NODE_NETWORKS_MAX {
            let most = limits::TEXT_NODE_NETWORKS_MAX;
            bail!("--text-nodes names more than {most} addresses and networks; name larger networks");
        }
        let keys = Rc::new(RefCell::new(keys.proofs().cloned().collect()));
        Ok(Gate { keys, everybody, text_nodes: self.text_nodes.clone(), nonces: Nonces::System })
    }

    /// With what it marks and checks records.
    fn records(&self, keys: &Keys) -> head::Records {
        head::Records { key: keys.current.records(), check: self.unproved.check(keys) }
    }

    /// Which clients it lets in.
    fn admits(&self, address: std::net::SocketAddr) -> Result<Admits> {
        match self.clients {
            Clients::Open if self.tokens.is_some() => {
                bail!("--tokens says nothing while clients are open; add --clients token, or tls")
            }
            Clients::Open if self.tls_ca.is_some() => {
                bail!("--tls-ca says nothing while clients are open; add --clients tls, or token")
            }
            Clients::Open if !address.ip().is_loopback() => tracing::warn!(
                "clients are asked for nothing: whoever reaches {address} can send and read messages; where others \
                 reach it, start the head with --clients token --tokens FILE"
            ),
            Clients::Open => {}
            Clients::Token if self.tokens.is_none() => {
                bail!("--clients token needs --tokens FILE; 'acopio token new' makes one")
            }
            Clients::Token => {}
            Clients::Tls if self.tls_cert.is_none() => {
                bail!("--clients tls needs --tls-cert FILE; 'acopio cert' makes one")
            }
            Clients::Tls if self.tokens.is_none() && self.tls_ca.is_none() => tracing::warn!(
                "clients have to speak TLS, and are asked for nothing else: whoever reaches {address} can send and read \
                 messages; start the head with --tls-ca FILE or --tokens FILE"
            ),
            Clients::Tls => {}
        }
        let read = |path: &PathBuf| -> Result<_> { Ok((path.clone(), crate::tokens::file::read(path)?.0)) };
        Ok(Admits {
            tokens: self.tokens.as_ref().map(read).transpose()?,
            certificates: self.tls_ca.is_some(),
            in_the_clear: self.tokens_in_the_clear,
            tls_alone: self.clients == Clients::Tls,
        })
    }

    /// How it speaks TLS.
    fn secured(&self) -> Result<Option<Certificates>> {
        let Some(certificate) = &self.tls_cert else { return Ok(None) };
        let files = Files::new(certificate, self.tls_key.as_deref(), self.tls_ca.as_deref());
        Ok(Some(Certificates::read(files)?))
    }

    fn config(
        &self,
        gate: Gate,
        records: head::Records,
        admits: Admits,
        secured: Option<Certificates>,
    ) -> head::Config {
        head::Config {
            logs: self.logs.clone(),
            names: Some(self.logs.join(head::NAMES_FILE)),
            keep_registro: self.registro.keep(),
            clients: head::Rules {
                most: usize::try_from(self.max_clients).unwrap_or(usize::MAX),
                per_address: self.max_per_address.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
                silent_after: self.silent_after,
                idle_after: self.idle_after,
            },
            peer_silence: self.peer_silence,
            heartbeat: self.heartbeat,
            icmp: !self.no_icmp,
            solo: None,
            admits,
            secured,
            share: head::Share {
                messages: self.share_messages,
                bytes: self.share_bytes,
                reads: self.share_reads,
                connections: self.share_connections.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            },
            gate,
            records: Some(records),
            key_file: Some(self.key_file()),
            cluster: self.cluster.clone(),
            replicas: usize::try_from(self.replicas).unwrap_or(usize::MAX),
            text_node_bytes: usize::try_from(self.node_bytes).unwrap_or(usize::MAX),
            copies_min: usize::try_from(self.min_copies.unwrap_or(self.replicas)).unwrap_or(usize::MAX),
            repair_after: self.repair_after.repair_after,
            clock: Clock::System,
            seed: rand::random(),
        }
    }

    /// The data node of a solo head; whom it dials is set by who starts it.
    fn embedded(&self, key: NodeKey) -> data::Config {
        data::Config {
            dir: self.dir.clone(),
            name: SOLO.to_owned(),
            heads: Vec::new().into(),
            bind: None,
            key: Some(key),
            nonces: Nonces::System,
            net: Net::Tcp,
            sync: super::data::policy(self.sync),
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            repair: data::fetching::Settings::default(),
            clock: crate::clock::Clock::default(),
            retention: data::retention::Policy::default(),
            new_id: self.new_id,
            boot: data::boot_id(),
            notes_syncs: false,
            identity: None,
            http: None,
            seed: rand::random(),
        }
    }
}
