//! `acopio status`: what a head knows, as a table or as JSON.

use std::time::Duration;

use crate::client;
use crate::limits;
use crate::printable;
use crate::wire::status::{NodeStatus, StatusReport};
use anyhow::Result;
use clap::{Args, ValueEnum};

use super::heads::Heads;
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio status --head 127.0.0.1:5000
  acopio status --head 127.0.0.1:5000 --format json | jq '.nodes[].name'";

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What a head knows: clients, data nodes, messages and rates
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Status {
    #[command(flatten)]
    heads: Heads,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
    /// Time a head has to answer
    #[arg(long, env = "ACOPIO_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    timeout: Duration,
}

impl Status {
    /// Asks and prints.
    pub fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let heads = self.heads.checked()?;
        let report = runtime::run_short(ask(&heads, self.timeout))?;
        let text = match self.format {
            Format::Table => table(&report),
            Format::Json => print::json(&report)?,
        };
        print::out("the report", &text)?;
        Ok(Outcome::Done)
    }
}

/// Asks one head after the other; the error of the last one, if none answers.
async fn ask(heads: &[String], timeout: Duration) -> Result<StatusReport> {
    let mut result = Err(anyhow::anyhow!("no head was named; give one with --head"));
    for head in heads {
        result = match tokio::time::timeout(timeout, client::status(head)).await {
            Ok(Ok(report)) => return Ok(report),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(anyhow::anyhow!("head {head} did not answer within {timeout:?}; see whether it still runs")),
        };
    }
    result
}

fn table(report: &StatusReport) -> String {
    let solo = if report.solo { ", solo" } else { "" };
    let mut text = format!(
        "head       acopio {}, cluster {}, up {}{solo}\nclients    {} of {}\nmessages   {} acknowledged, {} refused, {} in flight\n\
         rate       {:.1} messages/s over the last second, {:.1} over the last ten\n",
        plain(&report.version),
        plain(&report.cluster),
        humantime::format_duration(Duration::from_secs(report.uptime_s)),
        report.clients,
        report.clients_max,
        report.acked_messages,
        report.refused_messages,
        report.in_flight,
        report.rate_1s,
        report.rate_10s,
    );
    if report.replicas > 1 || report.short_of_copies > 0 {
        let (replicas, least, short) = (report.replicas, report.copies_min, report.short_of_copies);
        text.push_str(&format!("copies     {replicas}, at least {least}; {short} records are short of copies\n"));
    }
    for problem in &report.problems {
        text.push_str(&format!("problem    it takes no messages: {}\n", plain(problem)));
    }
    if report.nodes.is_empty() {
        text.push_str("\nno hay dataNodes: start one with 'acopio data --head <this head>'\n");
        text.push_str(&away(report));
        return text;
    }
    let titles = ["NODE", "IP", "STATE", "SINCE", "RECORDS", "SHORT", "BYTES", "WRITABLE", "SYNC", "IN FLIGHT", "PING"];
    let mut rows = vec![titles.map(str::to_owned)];
    rows.extend(report.nodes.iter().map(row));
    text.push('\n');
    text.push_str(&columns(&rows));
    for node in report.nodes.iter().filter(|node| !node.reason.is_empty()) {
        text.push_str(&format!("{}: {}\n", plain(&node.name), plain(&node.reason)));
    }
    text.push_str(&away(report));
    text
}

/// The data nodes that were there once.
fn away(report: &StatusReport) -> String {
    if report.members_away.is_empty() {
        return String::new();
    }
    let mut rows = vec![["AWAY", "ID", "STATE", "SINCE"].map(str::to_owned)];
    rows.extend(
        report
            .members_away
            .iter()
            .map(|member| [plain(&member.name), plain(&member.id), "no disponible".to_owned(), plain(&member.since)]),
    );
    format!("\n{}", columns(&rows))
}

fn row(node: &NodeStatus) -> [String; 11] {
    [
        plain(&node.name),
        node.ip.to_string(),
        plain(&node.state),
        plain(&node.since),
        node.records.to_string(),
        node.short.to_string(),
        indicatif::HumanBytes(node.bytes).to_string(),
        if node.writable { "yes" } else { "no" }.to_owned(),
        plain(&node.sync),
        node.in_flight.to_string(),
        node.ping_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms")),
    ]
}

/// Text of others, as a cell of a table: visible, on one line, and no longer than a text of the wire.
fn plain(text: &str) -> String {
    let end = text.floor_char_boundary(limits::TEXT_BYTES_MAX);
    let (shown, rest) = text.split_at(end);
    printable::visible(shown).into_owned() + if rest.is_empty() { "" } else { "…" }
}

/// Rows as columns, each as wide as its longest text.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_text() {
        let rows = [["NODE", "IP"], ["a", "127.0.0.2"], ["longer", "x"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "NODE    IP\na       127.0.0.2\nlonger  x\n");
    }

    #[test]
    fn what_a_head_says_takes_one_line_and_moves_no_cursor() {
        assert_eq!(plain("a\x1b[31mb\n"), "a\\u{1b}[31mb\\n");
        let long = plain(&"ñ".repeat(limits::STATUS_BYTES_MAX / 2));
        assert_eq!(long.len(), limits::TEXT_BYTES_MAX + "…".len());
    }
}
