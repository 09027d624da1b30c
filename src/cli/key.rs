//! `acopio key`: makes the files with the keys of a cluster and of its data nodes; and `--key` of the commands that need one.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Global, Outcome, logging, print, values};
use crate::client::Change;
use crate::key::file::{self as key, KeyFile, Keys, NodeKey};
use crate::key::record::RecordCheck;
use crate::table::moment::{self, Moment, Zone};

const AFTER_HELP: &str = "\
Examples:
  acopio key new cluster.key
      for the heads: acopio head --key cluster.key
  acopio key node cellar cellar.key --key cluster.key
      for the data node cellar: acopio data --name cellar --key cellar.key
  acopio key node cellar --key cluster.key | ssh cellar 'umask 077; cat > k'
      the same, put where it is needed

A head that is started without --key makes a key itself, cluster.key in the
folder of its logs, and asks for it whoever comes from another machine. From a
data node's key neither the cluster's nor another node's can be told.";

/// Makes the files with the keys of a cluster and of its data nodes
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the key of a cluster, in a file for its user alone
    New {
        /// The file; it is not there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Makes the key of one data node out of the cluster's
    Node {
        /// Name of the data node
        #[arg(value_name = "NAME", value_parser = values::name)]
        name: String,
        /// The file for it, for its user alone; it is not there yet [default: standard output]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// File with the cluster's key
        #[arg(long, env = "ACOPIO_KEY_FILE", value_name = "FILE")]
        key: PathBuf,
    },
}

impl Key {
    /// Makes what was asked for.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        match self.command {
            Command::New { file } => key::write_new(&file, &KeyFile::Cluster(Keys::of(key::random()?)))?,
            Command::Node { name, file, key } => {
                let cluster = KeyFile::read_cluster(&key)?;
                let made = KeyFile::Node(name.clone(), cluster.node(&name));
                match file {
                    Some(file) => key::write_new(&file, &made)?,
                    None => print::out("the key", &made.to_text())?,
                }
            }
        }
        Ok(Outcome::Done)
    }
}

/// Which records may lack the tag of a head.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Unproved {
    /// Believe records that are older, whatever their tag: than a time ago (24h), a time (2026-11-21 10:00, UTC), or a record id.
    /// They are of versions that made none, or of a key that was lost
    #[arg(long, env = "ACOPIO_UNPROVED_BEFORE", value_name = "TIME", value_parser = moment::moment)]
    unproved_before: Option<Moment>,
}

impl Unproved {
    /// Tells records that heads with these keys took from others.
    pub(crate) fn check(self, keys: &Keys) -> RecordCheck {
        let before = self.unproved_before.map(|before| before.id(SystemTime::now(), &Zone::utc()));
        RecordCheck::new(keys.records()).with_unproved_before(before.unwrap_or_default().time_ns)
    }
}

/// `--key` and what goes with it, of commands that check records offline.
#[derive(Debug, Default, Args)]
pub(crate) struct CheckedBy {
    /// File with the cluster's key, which is in cluster.key beside a head's logs: tell records that its heads took from
    /// others
    #[arg(long, env = "ACOPIO_KEY_FILE", value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    unproved: Unproved,
}

impl CheckedBy {
    /// What checks records, if a key was given.
    pub(crate) fn read(&self) -> Result<Option<RecordCheck>> {
        let Some(path) = &self.key else { return Ok(None) };
        Ok(Some(self.unproved.check(&KeyFile::read_keys(path)?)))
    }
}

/// `--key` of a command that may have to prove something.
#[derive(Debug, Default, Args)]
pub(crate) struct KeyArg {
    /// File with the cluster's key, or for a data node with its own; heads have to prove then that they have it, too
    #[arg(long, env = "ACOPIO_KEY_FILE", value_name = "FILE")]
    key: Option<PathBuf>,
}

impl KeyArg {
    /// What the data node of this name proves its right with.
    pub(crate) fn for_node(&self, name: &str) -> Result<Option<NodeKey>> {
        Ok(self.key.as_deref().map(|path| NodeKey::in_file(path, name)).transpose()?)
    }

    /// A change, with the key that was given for it.
    pub(crate) fn given_to(&self, change: Change) -> Result<Change> {
        Ok(match &self.key {
            Some(path) => change.with_key(&KeyFile::read_cluster(path)?),
            None => change,
        })
    }
}
