//! `acopio zk tree`: what there is, and with `--follow` what comes and goes.

use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;
use tokio_util::sync::CancellationToken;

use super::super::{Outcome, print, runtime};
use super::quick;
use crate::coord::{Change, Config, Session, TreeWatch, Znode, ZnodePath, python};
use crate::limits;

/// The tree of znodes, with owner, version and data
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  acopio zk tree
  acopio zk tree /mediciones --follow    + is made, * has changed, - is gone")]
pub(crate) struct Tree {
    /// The top of it
    #[arg(default_value = "/")]
    path: ZnodePath,
    /// Go on with what changes
    #[arg(long, short, env = "ACOPIO_ZK_FOLLOW", value_parser = BoolishValueParser::new())]
    follow: bool,
}

impl Tree {
    pub(crate) fn run(self, config: Config) -> Result<Outcome> {
        if !self.follow {
            return quick(config, async |session| show(&session.tree(&self.path).await?));
        }
        runtime::run_role(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |shutdown| {
            let session = Session::open(config).await?;
            let result = self.follow(&session, &shutdown).await;
            session.close().await;
            result.map(runtime::done)
        })
    }

    async fn follow(&self, session: &Session, shutdown: &CancellationToken) -> Result<()> {
        let (mut watch, tree) = TreeWatch::new(session, self.path.clone()).await?;
        show(&tree)?;
        while let Some(change) = shutdown.run_until_cancelled(watch.next()).await {
            let (sign, node) = match change? {
                Change::Made(node) => ('+', node),
                Change::Set(node) => ('*', node),
                Change::Gone(node) => ('-', node),
            };
            print::out("the change", &format!("{sign} {}{}\n", node.path, details(&node)))?;
        }
        Ok(())
    }
}

fn show(tree: &[Znode]) -> Result<()> {
    let depth = |path: &ZnodePath| if path.as_str() == "/" { 0 } else { path.as_str().matches('/').count() };
    let top = tree.first().map_or(0, |node| depth(&node.path));
    let mut text = String::new();
    for (n, node) in tree.iter().enumerate() {
        let name = if n == 0 { node.path.as_str() } else { node.path.name() };
        text.push_str(&"  ".repeat(depth(&node.path).saturating_sub(top)));
        text.push_str(name);
        text.push_str(&details(node));
        text.push('\n');
    }
    print::out("the tree", &text)
}

fn details(node: &Znode) -> String {
    let owner = match node.stat.ephemeral_owner {
        0 => String::new(),
        owner => format!("  ephemeral of {owner:#x}"),
    };
    let data = match &node.data {
        None => "  (its ACL hides what it holds)".to_owned(),
        Some(data) if data.is_empty() => String::new(),
        Some(data) => match data.get(..limits::ZK_TREE_DATA_BYTES_MAX) {
            Some(first) => format!("  {}... {} bytes", python::bytes(first), data.len()),
            None => format!("  {}", python::bytes(data)),
        },
    };
    format!("{owner}  v{}{data}", node.stat.version)
}
