//! `acopio zk ls`, `get`, `set`, `create`, `rm`: single znodes by hand.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::BoolishValueParser;

use super::super::{Outcome, print, runtime};
use super::in_time;
use crate::coord::{Config, Error, Kind, Session, Stat, ZnodePath};
use crate::limits;

/// The names of a znode's children, one a line
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Which znode
    #[arg(default_value = "/")]
    path: ZnodePath,
}

impl Ls {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        let children: String = session.children(&self.path).await?.iter().map(|child| format!("{child}\n")).collect();
        print::out("the children", &children)
    }
}

/// What a znode holds
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Which znode
    path: ZnodePath,
    /// Its numbers as well: versions, times, owner
    #[arg(long, env = "ACOPIO_ZK_STAT", value_parser = BoolishValueParser::new())]
    stat: bool,
}

impl Get {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        let (data, stat) = session.get(&self.path).await?;
        if std::io::stdout().is_terminal() {
            print::out("the data", &String::from_utf8_lossy(&data))?;
        } else {
            std::io::stdout().write_all(&data).context("cannot print the data; give it a standard output")?;
        }
        print::out("its numbers", &if self.stat { format!("\n{}", numbers(&stat)) } else { "\n".to_owned() })
    }
}

fn numbers(stat: &Stat) -> String {
    let time = |millis: i64| {
        let since = std::time::Duration::from_millis(u64::try_from(millis).unwrap_or_default());
        humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since)
    };
    let Stat { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, .. } = *stat;
    let owner = match stat.ephemeral_owner {
        0 => "none, it is persistent".to_owned(),
        owner => format!("session {owner:#x}"),
    };
    format!(
        "created      {}, transaction {czxid:#x}\nmodified     {}, transaction {mzxid:#x}\nchildren     {}, transaction {pzxid:#x}\n\
         versions     data {version}, children {cversion}, ACL {aversion}\nowner        {owner}\n",
        time(ctime),
        time(mtime),
        stat.num_children
    )
}

/// Writes into a znode that is there
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Which znode
    path: ZnodePath,
    /// What it will hold
    data: String,
    /// Only if its data has still this version
    #[arg(long, env = "ACOPIO_ZK_VERSION", value_name = "N")]
    version: Option<i32>,
}

impl Set {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        session.set(&self.path, self.data.as_bytes(), self.version).await?;
        Ok(())
    }
}

/// Makes a znode, and prints its path
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Which znode
    path: ZnodePath,
    /// What it holds
    #[arg(default_value = "")]
    data: String,
    /// Ephemeral: it lives until this command is ended
    #[arg(long, env = "ACOPIO_ZK_EPHEMERAL", value_parser = BoolishValueParser::new())]
    ephemeral: bool,
    /// ZooKeeper adds a number that only grows
    #[arg(long, env = "ACOPIO_ZK_SEQUENTIAL", value_parser = BoolishValueParser::new())]
    sequential: bool,
    /// Make the znodes above it, too
    #[arg(long, env = "ACOPIO_ZK_PARENTS", value_parser = BoolishValueParser::new())]
    parents: bool,
}

impl Create {
    pub(crate) fn run(self, config: Config) -> Result<Outcome> {
        if !self.ephemeral {
            return super::quick(config, async |session| self.make(session).await);
        }
        runtime::run_role(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |shutdown| {
            let session = Session::open(config).await?;
            in_time(self.make(&session)).await?;
            let mut states = session.states();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = async { while states.next().await.is_some_and(|state| state != crate::coord::State::Lost) {} } => {
                    bail!("the session was lost, and {} with it", self.path);
                }
            }
            session.close().await;
            Ok(())
        })
        .map(runtime::done)
    }

    async fn make(&self, session: &Session) -> Result<()> {
        if let (true, Some(parent)) = (self.parents, self.path.parent()) {
            session.ensure(&parent).await?;
        }
        let kind = match (self.ephemeral, self.sequential) {
            (false, false) => Kind::Persistent,
            (false, true) => Kind::PersistentSequential,
            (true, false) => Kind::Ephemeral,
            (true, true) => Kind::EphemeralSequential,
        };
        let path = session.create(&self.path, self.data.as_bytes(), kind).await?;
        print::out("its path", &format!("{path}\n"))
    }
}

/// Deletes a znode
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Which znode
    path: ZnodePath,
    /// With all below it
    #[arg(long, short, env = "ACOPIO_ZK_RECURSIVE", value_parser = BoolishValueParser::new())]
    recursive: bool,
    /// Only if its data has still this version
    #[arg(long, env = "ACOPIO_ZK_VERSION", value_name = "N", conflicts_with = "recursive")]
    version: Option<i32>,
}

impl Rm {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        if self.recursive {
            remove_below(session, &self.path).await?;
        }
        if !session.delete(&self.path, self.version).await? {
            bail!("cannot delete {}: there is no such znode; see what there is with acopio zk tree /", self.path);
        }
        Ok(())
    }
}

/// Deletes what is below a znode, the deepest first, without a stack as deep as the tree.
async fn remove_below(session: &Session, path: &ZnodePath) -> Result<(), Error> {
    let mut open = vec![path.clone()];
    while let Some(top) = open.last().cloned() {
        let children = match session.children(&top).await {
            // Somebody else was faster.
            Err(error) if error.cause() == Some(&crate::coord::Cause::NoNode) => Vec::new(),
            children => children?,
        };
        if let Some(child) = children.first() {
            open.push(top.child(child)?);
            continue;
        }
        open.pop();
        if !open.is_empty() {
            session.delete(&top, None).await?;
        }
    }
    Ok(())
}
