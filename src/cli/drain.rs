//! `acopio drain`: moves the records of a data node away and lets it go.

use std::time::Duration;

use crate::client::{self, Asker, Change, Leaving};
use crate::limits;
use crate::wire::status::{NodeStatus, StatusReport};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::BoolishValueParser;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::heads::Heads;
use super::key::KeyArg;
use super::{Global, Outcome, logging, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio drain data2 --head 127.0.0.1:5000
      returns when data2 has ended and its records are elsewhere
  acopio drain data2 --head h1:5000,h2:5000
      name every head, so that none gives it new messages
  acopio drain data3 --head 127.0.0.1:5000 --gone
      data3 never comes back: do not wait for it
  acopio drain data3 --head 127.0.0.1:5000 --gone --lose
      and give up what it alone kept

  acopio drain data2 --head h1:5000 --key cluster.key
      from another machine

Ctrl-C ends the waiting, not the drain. A drain is noted by the data nodes: it
goes on whatever is started anew. Without --lose, what a node that is given up
kept alone stays lacking: reads say so until it is back.";

/// Moves the records of a dataNode to others and lets it go
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Drain {
    /// Name or identity of the dataNode, as in status
    #[arg(value_name = "NODE", value_parser = values::name, allow_hyphen_values = true)]
    node: String,
    #[command(flatten)]
    heads: Heads,
    #[command(flatten)]
    key: KeyArg,
    /// Give up a node that is away for good
    #[arg(long, env = "ACOPIO_GONE", value_parser = BoolishValueParser::new())]
    gone: bool,
    /// Give up what it alone kept, too: those records are lost
    #[arg(long, requires = "gone", env = "ACOPIO_LOSE", value_parser = BoolishValueParser::new())]
    lose: bool,
    /// Time to go on trying, while a head cannot be asked, or forever; all have to know of it
    #[arg(long, env = "ACOPIO_RETRY_FOR", value_name = "TIME", default_value = "30s", value_parser = values::or_forever)]
    retry_for: Duration,
}

impl Drain {
    /// Asks every head, then waits until the node is gone.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let access = self.heads.access.read()?;
        let asker = Asker::over(&access);
        let heads = self.heads.checked()?;
        let change = self.key.given_to(Change::drain(&self.node, self.leaving()))?.over(&access);
        runtime::run_short(async {
            self.ask(&heads, &change).await?;
            if self.gone && !self.lose {
                tracing::info!(
                    "{} is given up; if reads still name it, it alone kept something: --lose gives that up, too",
                    self.node
                );
            } else if self.gone {
                self.wait(&asker, &heads).await?;
                tracing::info!("{} is given up, with what only it kept", self.node);
            } else {
                self.wait(&asker, &heads).await?;
                tracing::info!("{} is drained: its records are on other nodes, and it has ended", self.node);
                self.look_back(&asker, &heads).await;
            }
            Ok(Outcome::Done)
        })
    }

    const fn leaving(&self) -> Leaving {
        match (self.gone, self.lose) {
            (false, _) => Leaving::Drained,
            (true, false) => Leaving::Gone,
            (true, true) => Leaving::GoneWithItsRecords,
        }
    }

    /// All heads have to know, or one would go on sending messages there. They are told at the same time, so that one that
    /// is away keeps it from no other.
    async fn ask(&self, heads: &[String], change: &Change) -> Result<()> {
        let mut telling = JoinSet::new();
        for head in heads {
            telling.spawn(tell(head.clone(), change.clone(), self.retry_for));
        }
        let mut troubles = Vec::new();
        while let Some(told) = telling.join_next().await {
            troubles.extend(told.context("a head was not told; report this")?.err());
        }
        if !troubles.is_empty() {
            bail!("{}", troubles.join("; "));
        }
        Ok(())
    }

    /// Says so if the nodes that are left are too few for all copies. That the node is drained holds all the same.
    async fn look_back(&self, asker: &Asker, heads: &[String]) {
        for head in heads {
            match asker.status(head).await {
                Ok(report) => {
                    if let Some(text) = too_few(&report) {
                        tracing::warn!("head {head}: {text}");
                    }
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    async fn wait(&self, asker: &Asker, heads: &[String]) -> Result<()> {
        let mut said = String::new();
        let mut all_heard = Instant::now();
        loop {
            let mut news = String::new();
            let mut here = false;
            let mut lost = Vec::new();
            for head in heads {
                match asker.status(head).await {
                    Ok(report) => {
                        let node = report.nodes.iter().find(|node| node.name == self.node);
                        let away =
                            report.members_away.iter().any(|member| member.name == self.node || member.id == self.node);
                        here |= away || node.is_some() && !self.gone;
                        news = progress(&report, node, away, self.gone).unwrap_or(news);
                    }
                    Err(error) => {
                        here = true;
                        news = error.to_string();
                        lost.push(news.clone());
                    }
                }
            }
            if !here {
                return Ok(());
            }
            if lost.is_empty() {
                all_heard = Instant::now();
            } else if all_heard.elapsed() >= self.retry_for {
                bail!("{}; the draining of {} goes on, unwatched: drain again to watch it", lost.join("; "), self.node);
            }
            if !news.is_empty() && news != said {
                tracing::info!("{}: {news}", self.node);
                said = news;
            }
            tokio::time::sleep(limits::DRAIN_LOOK_EVERY).await;
        }
    }
}

/// Tells one head, trying again while it cannot be reached; what is wrong if it was not told.
async fn tell(head: String, change: Change, retry_for: Duration) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let left = retry_for.saturating_sub(begun.elapsed());
        let error = match tokio::time::timeout(left, change.ask(&head)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => return Err(format!("head {head} did not answer within {}", values::show(retry_for))),
        };
        let is_lost = matches!(error, client::Error::Head { is_lost: true, .. });
        if !is_lost || begun.elapsed() + limits::DRAIN_LOOK_EVERY >= retry_for {
            return Err(error.to_string());
        }
        tokio::time::sleep(limits::DRAIN_LOOK_EVERY).await;
    }
}

fn progress(report: &StatusReport, node: Option<&NodeStatus>, away: bool, gone: bool) -> Option<String> {
    if gone {
        return away.then(|| {
            "the other nodes have to note that it is given up; those that are away have to come back".to_owned()
        });
    }
    if away {
        return Some("it went away before all was copied; start it again, or give it up with --gone".to_owned());
    }
    let node = node?;
    let others = report.nodes.iter().filter(|other| !other.id.is_empty() && other.name != node.name).count();
    let (least, away) = (report.copies_min, report.members_away.len());
    Some(if others < least {
        format!("without it there are {others} dataNodes, and {least} have to keep each message; start others")
    } else if away >= least {
        format!("{away} dataNodes are away, and may be missing what it has; start them, or give them up with --gone")
    } else {
        format!("{} records have to be copied yet", report.short_of_copies)
    })
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
        assert!(progress(&report, None, true, false).is_some_and(|said| said.contains("--gone")));
        assert_eq!(progress(&report, None, false, false), None);
    }

    #[test]
    fn what_a_drain_waits_for_is_told() {
        let node = |name: &str| NodeStatus {
            name: name.to_owned(),
            ip: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 1,
            id: name.to_owned(),
            dialect: crate::wire::status::NodeDialect::Framed,
            state: "vaciando".to_owned(),
            since: String::new(),
            records: 0,
            bytes: 0,
            syncs: 0,
            written: 0,
            free: None,
            writable: true,
            reason: String::new(),
            in_flight: 0,
            acked: 0,
            sync: String::new(),
            ping_ms: None,
            icmp: None,
            refused_records: 0,
        };
        let away = |name: &str| crate::wire::status::MemberAway {
            name: name.to_owned(),
            id: String::new(),
            since: String::new(),
        };
        let said = |others: &[&str], gone: &[&str]| {
            let nodes = others.iter().chain(&["a"]).map(|name| node(name)).collect();
            let members_away = gone.iter().map(|name| away(name)).collect();
            let report =
                StatusReport { nodes, members_away, copies_min: 2, short_of_copies: 7, ..StatusReport::default() };
            progress(&report, Some(&node("a")), false, false).unwrap_or_default()
        };
        assert!(said(&["b"], &[]).starts_with("without it there are 1 dataNodes, and 2 have to keep"));
        assert!(said(&["b", "c"], &["d", "e"]).starts_with("2 dataNodes are away"));
        assert_eq!(said(&["b", "c"], &["d"]), "7 records have to be copied yet");
    }

    #[test]
    fn too_few_nodes_for_all_copies_are_told_of() {
        let report = StatusReport { replicas: 2, ..StatusReport::default() };
        assert!(too_few(&report).is_some_and(|said| said.starts_with("0 dataNodes are left for 2 copies")));
        assert_eq!(too_few(&StatusReport { replicas: 0, ..report }), None);
    }
}
