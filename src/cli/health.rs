//! `acopio health`: whether a role does its work, as an exit code. For health checks of containers, which have no shell.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::client::Asker;
use crate::printable;
use crate::wire::status::StatusReport;
use anyhow::{Context as _, Result};
use clap::{Args, Parser as _};

use super::heads::{self, Access};
use super::{Cli, Command, Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio health
      in a container: is its main process well?
  acopio health --ask 127.0.0.1:5000
      does this head take messages?
  acopio health --ask h1:5000,h2:5000 --node cellar

Without flags it looks at the process with pid 1, which is the role that the
container was started for; where that is another program, it asks the head at
127.0.0.1:5000:
  head     healthy if it answers on its port and takes messages
  data     healthy if one of its heads says that it is registered and takes
           messages
  client   healthy if one of its heads answers and takes messages, and so for
           web
  device   the same; without heads it is healthy if it runs

Exit codes:
  0    healthy
  1    not: standard output says why
  2    bad usage";

/// Tells by its exit code whether a head, a data node, a client, a web or a device does its work
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Health {
    /// Heads to ask; several with commas, or the flag several times [default: those of the process with pid 1,
    /// or 127.0.0.1:5000]
    // Not --head: its variable is there in a container, and meant for the role.
    #[arg(long, env = "ACOPIO_ASK", value_name = "HOST:PORT", value_delimiter = ',', value_parser = values::address)]
    ask: Vec<String>,
    /// The data node that has to be registered there [default: the one with pid 1, if it is one]
    #[arg(long, env = "ACOPIO_NODE", value_name = "NAME", value_parser = values::name, requires = "ask")]
    node: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Time a head has to answer
    #[arg(long, env = "ACOPIO_TIMEOUT", value_name = "TIME", default_value = "3s", value_parser = values::duration)]
    timeout: Duration,
}

/// Whose health it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Heads to ask.
    pub(crate) heads: Vec<String>,
    /// The data node that one of them has to know.
    pub(crate) node: Option<String>,
}

impl Health {
    /// Asks, and says what came of it.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(Global { quiet: !global.verbose, ..global }, &[])?;
        let subject = if self.ask.is_empty() {
            let line = fs::read("/proc/1/cmdline").context("cannot look at pid 1; name a head with --ask")?;
            subject(&line)?.unwrap_or_else(|| Subject { heads: vec![heads::DEFAULT.to_owned()], node: None })
        } else {
            Subject { heads: self.ask, node: self.node }
        };
        let subject = Subject { heads: heads::resolve(subject.heads)?, ..subject };
        let found = runtime::run_short(ask(&subject, &Asker::over(&self.access.read()?), self.timeout))?;
        let (word, text, outcome) = match found {
            Ok(text) => ("healthy", text, Outcome::Done),
            Err(text) => ("not healthy", text, Outcome::Failed),
        };
        print::out("it", &format!("{word}: {}\n", printable::visible(&text)))?;
        Ok(outcome)
    }
}

/// What the command line of a role, its words ended by zeros, has to be asked; nothing for other programs.
fn subject(line: &[u8]) -> Result<Option<Subject>> {
    let words = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).map(std::borrow::Cow::into_owned);
    let mut words: Vec<String> = words.collect();
    words.pop();
    // An init that the engine was told to put in front, as in '/sbin/docker-init -- /acopio head', has no words of ours.
    let program = |word: &String| Path::new(word).file_name().is_some_and(|name| name == "acopio");
    let from = words.iter().position(program).unwrap_or_default();
    let Ok(cli) = Cli::try_parse_from(words.split_off(from)) else { return Ok(None) };
    Ok(match cli.command {
        Command::Head(head) => Some(Subject { heads: vec![head.reached_at()?], node: None }),
        Command::Data(data) => Some(Subject { heads: data.heads.head.clone(), node: Some(data.name()) }),
        Command::Client(client) => Some(Subject { heads: client.heads.list.head, node: None }),
        #[cfg(feature = "web")]
        Command::Web(web) => Some(Subject { heads: web.heads.list.head, node: None }),
        #[cfg(feature = "device")]
        Command::Device(device) => Some(Subject { heads: device.head, node: None }),
        _ => None,
    })
}

/// Asks one head after the other until one is content; else what each of them said.
async fn ask(subject: &Subject, asker: &Asker, time: Duration) -> Result<std::result::Result<String, String>> {
    if subject.heads.is_empty() {
        return Ok(Ok("it runs, and needs no head".to_owned()));
    }
    let mut said = Vec::new();
    for head in &subject.heads {
        let judged = match tokio::time::timeout(time, asker.status(head)).await {
            Ok(Ok(report)) => judge(&report, subject.node.as_deref()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it did not answer within {}", values::show(time))),
        };
        match judged {
            Ok(text) => return Ok(Ok(format!("head {head}: {text}"))),
            Err(text) => said.push(format!("head {head}: {text}")),
        }
    }
    Ok(Err(said.join("; ")))
}

/// What a head's report says of itself or of a data node.
fn judge(report: &StatusReport, node: Option<&str>) -> Result<String, String> {
    let Some(name) = node else {
        return match &report.problems[..] {
            [] => Ok(format!("it answers, with {} data nodes", report.nodes.len())),
            problems => Err(format!("it takes no messages: {}", problems.join("; "))),
        };
    };
    match report.nodes.iter().find(|node| node.name == name) {
        None => Err(format!("data node {name} is not registered")),
        Some(node) if !node.writable => {
            Err(format!("data node {name} takes no messages: {} {}", node.state, node.reason))
        }
        Some(node) => Ok(format!("data node {name} is {} with {} records", node.state, node.records)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::{NodeDialect, NodeStatus};

    fn of(line: &str) -> Option<Subject> {
        subject(format!("{}\0", line.replace(' ', "\0")).as_bytes()).unwrap()
    }

    #[test]
    fn a_roles_command_line_tells_whom_to_ask() {
        let heads = |list: &[&str]| list.iter().map(|&head| head.to_owned()).collect::<Vec<_>>();
        let head = of("/acopio --verbose head --listen 0.0.0.0:6000 --logs /data").unwrap();
        assert_eq!(head, Subject { heads: heads(&["127.0.0.1:6000"]), node: None });
        assert_eq!(of("/acopio head --listen [::]:6000").unwrap().heads, ["[::1]:6000"]);
        let data = of("/acopio data --head h1:5000,h2:5000 --name cellar --dir /data").unwrap();
        assert_eq!(data, Subject { heads: heads(&["h1:5000", "h2:5000"]), node: Some("cellar".to_owned()) });
        assert_eq!(of("/acopio data --head h1:5000").unwrap().node, Some(values::host_name()));
        assert_eq!(of("/acopio client --head h:5000").unwrap(), Subject { heads: heads(&["h:5000"]), node: None });
        assert_eq!(of("/sbin/docker-init -- /acopio client --head h:5000").unwrap().heads, ["h:5000"]);
        assert_eq!(of("/sbin/init splash"), None);
        assert_eq!(of("/acopio up"), None);
        let free = subject(b"/acopio\0head\0--listen\x00127.0.0.1:0\0").unwrap_err().to_string();
        assert!(free.contains("--ask"), "{free}");
    }

    #[test]
    fn a_data_node_is_healthy_if_it_is_registered_and_takes_messages() {
        let mut node = NodeStatus {
            name: "cellar".to_owned(),
            ip: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 1,
            id: String::new(),
            dialect: NodeDialect::Framed,
            state: "disponible".to_owned(),
            since: String::new(),
            records: 7,
            syncs: 0,
            written: 0,
            free: None,
            bytes: 0,
            writable: true,
            reason: String::new(),
            in_flight: 0,
            acked: 0,
            sync: String::new(),
            ping_ms: None,
            icmp: None,
            refused_records: 0,
        };
        let report = |node: &NodeStatus| StatusReport { nodes: vec![node.clone()], ..StatusReport::default() };
        assert_eq!(
            judge(&report(&node), Some("cellar")),
            Ok("data node cellar is disponible with 7 records".to_owned())
        );
        assert!(judge(&report(&node), Some("attic")).unwrap_err().contains("not registered"));
        node.writable = false;
        node.reason = "the disk is full".to_owned();
        assert!(judge(&report(&node), Some("cellar")).unwrap_err().contains("the disk is full"));
        assert!(judge(&report(&node), None).is_ok());
        let full = StatusReport { problems: vec!["the disk is full".to_owned()], ..report(&node) };
        assert!(judge(&full, None).unwrap_err().contains("takes no messages: the disk is full"));
    }
}
