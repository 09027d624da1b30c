//! `acopio data`: flags of a dataNode.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::data::log::SyncPolicy;
use crate::key::Nonces;
use crate::{data, limits};
use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;

use super::door::Door;
use super::heads::{HeadList, TlsArgs};
use super::key::KeyArg;
use super::logging::{self, LogFile, Takes};
use super::upkeep::Upkeep;
use super::{Global, Outcome, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio data --head 10.0.0.1:5000
      keeps data.txt in logs/data
  acopio data --head h1:5000,h2:5000 --dir /var/acopio --name cellar
  acopio data --head h1:5000 --keep 30d --keep-bytes 100GB
  acopio data --head h1:5000 --sync 50ms
      faster on a slow disk; up to 50 ms can be lost with the power

  acopio data --head h1:5000 --name cellar --key cellar.key
      where the head asks for the cluster's key

A lost head is dialled again until it is back. Files in the folder: data.txt,
data-<first id>.txt, node.state, node.log.";

/// A dataNode: keeps the messages that a head hands it
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Data {
    #[command(flatten)]
    pub(super) heads: HeadList,
    /// Folder for data.txt, and for the node's identity
    #[arg(long, env = "ACOPIO_DIR", value_name = "DIR", default_value = "logs/data")]
    dir: PathBuf,
    /// Name in the logs and in status [default: this machine's name]
    #[arg(long, env = "ACOPIO_NAME", value_name = "NAME", value_parser = values::name)]
    name: Option<String>,
    #[command(flatten)]
    key: KeyArg,
    #[command(flatten)]
    tls: TlsArgs,
    /// When to sync: always (before every answer), an interval such as 50ms, or never
    #[arg(long, env = "ACOPIO_SYNC", value_name = "WHEN", default_value = "always", value_parser = values::sync)]
    sync: values::Sync,
    /// Size at which data.txt is sealed and a new one begun
    #[arg(long, env = "ACOPIO_SEGMENT_BYTES", value_name = "SIZE", default_value = "256MiB",
        value_parser = values::segment_bytes)]
    segment_bytes: u64,
    #[command(flatten)]
    upkeep: Upkeep,
    /// Give the folder a new identity, once: its log was lost, it was drained, or it is a copy. What it holds stays
    #[arg(long, env = "ACOPIO_NEW_ID", value_parser = BoolishValueParser::new())]
    new_id: bool,
    #[command(flatten)]
    door: Door,
    /// Local address to dial from, which is the one the head knows the node by [default: what the system picks]
    #[arg(long, env = "ACOPIO_BIND", value_name = "IP")]
    bind: Option<IpAddr>,
    /// Note in the folder how far its files are synced, for `acopio up`, which cuts the power of its nodes when it is told to
    #[arg(long, hide = true, env = "ACOPIO_NOTE_SYNCS", value_parser = BoolishValueParser::new())]
    note_syncs: bool,
    /// The system's run, where that is not the one that the system tells
    #[arg(long, hide = true, env = "ACOPIO_BOOT_ID", value_name = "WORD", value_parser = values::name)]
    boot_id: Option<String>,
    /// Stop in order when standard input ends
    #[arg(long, hide = true, env = "ACOPIO_UNTIL_STDIN_CLOSES", value_parser = BoolishValueParser::new())]
    until_stdin_closes: bool,
}

impl Data {
    /// Its name: the one given, or this machine's.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(values::host_name)
    }

    /// Runs the data node until it is told to stop.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        let name = self.name();
        logging::start(global, &[LogFile { dir: &self.dir, name: "node", takes: Takes::All, beside_data: true }])?;
        let heads = self.heads;
        let key = self.key.for_node(&name)?;
        let mut config = data::Config {
            dir: self.dir,
            name,
            heads: Vec::new().into(),
            bind: self.bind,
            key,
            nonces: Nonces::System,
            net: self.tls.net()?,
            sync: policy(self.sync),
            segment_bytes: self.segment_bytes,
            repair: data::fetching::Settings { bytes_per_second: self.upkeep.repair_rate },
            clock: crate::clock::Clock::default(),
            retention: data::retention::Policy { keep: self.upkeep.keep, keep_bytes: self.upkeep.keep_bytes },
            new_id: self.new_id,
            boot: self.boot_id.unwrap_or_else(data::boot_id),
            notes_syncs: self.note_syncs,
            identity: None,
            http: None,
            seed: rand::random(),
        };
        let ends_with = runtime::EndsWith::service(self.until_stdin_closes);
        runtime::run_role(limits::STOP_TIME_MAX, ends_with, async |shutdown| {
            let Some(heads) = heads.followed(&shutdown).await? else { return Ok(()) };
            config.heads = heads;
            config.http = self.door.open(None).await?;
            Ok(data::run(config, shutdown).await?)
        })
        .map(runtime::done)
    }
}

/// The flag's words as the log takes them.
pub(crate) const fn policy(sync: values::Sync) -> SyncPolicy {
    match sync {
        values::Sync::Always => SyncPolicy::Always,
        values::Sync::Every(interval) => SyncPolicy::Every(interval),
        values::Sync::Never => SyncPolicy::Never,
    }
}
