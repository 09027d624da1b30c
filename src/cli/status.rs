//! `acopio status`: what a head knows, as a table or as JSON.

use std::time::Duration;

use crate::client;
use crate::limits;
use crate::printable;
use crate::wire::status::{ClientStatus, NodeStatus, StatusReport, TextNode};
use anyhow::{Result, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::heads::Heads;
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio status --head 127.0.0.1:5000
  acopio status --head 127.0.0.1:5000 --clients      who is connected, and for how long each was silent
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
    /// Tell of the clients that are connected in place of the data nodes: at most 1000, those that came first
    #[arg(long, env = "ACOPIO_STATUS_CLIENTS", value_parser = BoolishValueParser::new())]
    clients: bool,
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
        let report = runtime::run_short(ask(&heads, self.clients, self.timeout))?;
        let text = match self.format {
            Format::Table => table(&report),
            Format::Json => print::json(&report)?,
        };
        print::out("the report", &text)?;
        Ok(Outcome::Done)
    }
}

/// Asks one head after the other; what became of each, if none answers.
async fn ask(heads: &[String], clients: bool, timeout: Duration) -> Result<StatusReport> {
    let mut troubles = Vec::new();
    for head in heads {
        let asked =
            async { if clients { client::status_with_clients(head).await } else { client::status(head).await } };
        troubles.push(match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(report)) => return Ok(report),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("head {head} did not answer within {timeout:?}; see whether it still runs"),
        });
    }
    bail!("{}", troubles.join("; "))
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
    if let Some(clients) = &report.connected {
        text.push_str(&connected(clients, report.clients));
        return text;
    }
    if report.nodes.is_empty() {
        text.push_str("\nno hay dataNodes: start one with 'acopio data --head <this head>'\n");
        text.push_str(&away(report));
        text.push_str(&unread(report));
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
    text.push_str(&unread(report));
    text
}

/// Who is connected, in 80 columns.
fn connected(clients: &[ClientStatus], all: usize) -> String {
    let ago = |seconds| format!("{} ago", short(seconds));
    let since = |client: &ClientStatus| {
        let since = humantime::parse_rfc3339(&client.since).ok().and_then(|since| since.elapsed().ok());
        since.map_or_else(|| "-".to_owned(), |since| ago(since.as_secs()))
    };
    let row = |client: &ClientStatus| {
        let id = if client.id.is_empty() { "-" } else { &client.id };
        let (since, heard) = (since(client), ago(client.heard_s));
        [client.address.to_string(), plain(&client.dialect), plain(id), since, heard, client.messages.to_string()]
    };
    let mut rows = vec![["ADDRESS", "DIALECT", "CLIENT", "SINCE", "HEARD", "MESSAGES"].map(str::to_owned)];
    rows.extend(clients.iter().map(row));
    let more = all.saturating_sub(clients.len());
    let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
    format!("\n{}{more}", columns(&rows))
}

/// A time in one unit: 7s, 12m, 3h or 40d.
fn short(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What no read gives back.
fn unread(report: &StatusReport) -> String {
    let line =
        |node: &TextNode| format!("{} keeps {} records that no read gives back\n", plain(&node.name), node.records);
    let lines: String = report.text_nodes.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
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
    fn clients_fit_80_columns() {
        let client = ClientStatus {
            address: "255.255.255.255:65535".parse().unwrap(),
            dialect: "framed".to_owned(),
            id: "K4wpXXWq-X".to_owned(),
            since: "2026-11-21T09:20:07Z".to_owned(),
            heard_s: 7199,
            messages: 1_234_567_890,
        };
        let table = connected(&[client], 3);
        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
        assert!(table.contains("  K4wpXXWq-X  ") && table.contains("  119m ago  1234567890\nand 2 more\n"), "{table}");
        assert_eq!([0, 119, 120, 7200, 172_800].map(short), ["0s", "119s", "2m", "2h", "2d"]);
    }

    #[test]
    fn what_a_head_says_takes_one_line_and_moves_no_cursor() {
        assert_eq!(plain("a\x1b[31mb\n"), "a\\u{1b}[31mb\\n");
        let long = plain(&"ñ".repeat(limits::STATUS_BYTES_MAX / 2));
        assert_eq!(long.len(), limits::TEXT_BYTES_MAX + "…".len());
    }
}
