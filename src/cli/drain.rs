//! `acopio drain`: moves the records of a data node away and lets it go.

use crate::client;
use crate::limits;
use crate::wire::status::{NodeStatus, StatusReport};
use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;

use super::heads::{self, Heads};
use super::{Global, Outcome, logging, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio drain data2 --head 127.0.0.1:5000            returns when data2 has ended and its records are elsewhere
  acopio drain data2 --head h1:5000,h2:5000           name every head, so that none gives it new messages
  acopio drain data3 --head 127.0.0.1:5000 --gone     data3 never comes back: do not wait for it

Ctrl-C ends the waiting, not the drain. A head that is started anew has forgotten it: drain again.
What lay on one node alone and is given up with --gone is lost.";

/// Moves the records of a dataNode to others and lets it go
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Drain {
    /// Name of the dataNode, as in status
    #[arg(value_name = "NODE", value_parser = values::name)]
    node: String,
    #[command(flatten)]
    heads: Heads,
    /// Give up a node that is away for good
    #[arg(long, env = "ACOPIO_GONE", value_parser = BoolishValueParser::new())]
    gone: bool,
}

impl Drain {
    /// Asks every head, then waits until the node is gone.
    pub fn run(mut self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        self.heads.head = heads::resolve(self.heads.head)?;
        runtime::run_short(async {
            self.ask().await?;
            if self.gone {
                tracing::info!("{} is given up", self.node);
            } else {
                self.wait().await?;
                tracing::info!("{} is drained: its records are on other nodes, and it has ended", self.node);
                self.look_back().await;
            }
            Ok(Outcome::Done)
        })
    }

    /// All heads have to know, or one would go on sending messages there.
    async fn ask(&self) -> Result<()> {
        for head in &self.heads.head {
            client::drain(head, &self.node, self.gone).await?;
        }
        Ok(())
    }

    /// Says so if the nodes that are left are too few for all copies. That the node is drained holds all the same.
    async fn look_back(&self) {
        for head in &self.heads.head {
            match client::status(head).await {
                Ok(report) => {
                    if let Some(text) = too_few(&report) {
                        tracing::warn!("head {head}: {text}");
                    }
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    async fn wait(&self) -> Result<()> {
        let mut said = String::new();
        loop {
            let mut news = String::new();
            let mut here = false;
            for head in &self.heads.head {
                match client::status(head).await {
                    Ok(report) => {
                        let node = report.nodes.iter().find(|node| node.name == self.node);
                        let away = report.members_away.iter().any(|member| member.name == self.node);
                        here |= node.is_some() || away;
                        news = progress(&report, node, away).unwrap_or(news);
                        if node.is_some_and(|node| node.state != DRAINING) {
                            // The head was started anew.
                            client::drain(head, &self.node, false).await?;
                        }
                    }
                    Err(error) => {
                        here = true;
                        news = error.to_string();
                    }
                }
            }
            if !here {
                return Ok(());
            }
            if !news.is_empty() && news != said {
                tracing::info!("{}: {news}", self.node);
                said = news;
            }
            tokio::time::sleep(limits::DRAIN_LOOK_EVERY).await;
        }
    }
}

/// The state of a node that is drained, in `status`.
const DRAINING: &str = "vaciando";

fn progress(report: &StatusReport, node: Option<&NodeStatus>, away: bool) -> Option<String> {
    if away {
        return Some("it went away before all was copied; start it again, or give it up with --gone".to_owned());
    }
    node.map(|_| format!("{} records have to be copied yet", report.short_of_copies))
}

/// What is wrong if nodes are missing for the copies that a head wants.
fn too_few(report: &StatusReport) -> Option<String> {
    let (nodes, copies) = (report.nodes.len(), report.replicas);
    (nodes < copies).then(|| {
        format!("{nodes} dataNodes are left for {copies} copies: records stay short of copies until you start others")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_goes_away_is_told_of() {
        let report = StatusReport { short_of_copies: 7, ..StatusReport::default() };
        assert!(progress(&report, None, true).is_some_and(|said| said.contains("--gone")));
        assert_eq!(progress(&report, None, false), None);
    }

    #[test]
    fn too_few_nodes_for_all_copies_are_told_of() {
        let report = StatusReport { replicas: 2, ..StatusReport::default() };
        assert!(too_few(&report).is_some_and(|said| said.starts_with("0 dataNodes are left for 2 copies")));
        assert_eq!(too_few(&StatusReport { replicas: 0, ..report }), None);
    }
}
