//! A status report as tables for people, on 80 columns.

use crate::limits;
use crate::printable;
use crate::wire::status::{ClientStatus, DevicesSummary, LedgerStatus, NodeStatus, StatusReport, TextNode};

/// Characters of a node's name that a table shows; JSON has all of it.
const NAME_SHOWN: usize = 16;

/// What this head told: itself, then its data nodes, or its clients where they were asked for.
pub(super) fn table(head: &str, report: &StatusReport) -> String {
    let mut text = summary(head, report);
    if let Some(clients) = &report.connected {
        text.push_str(&connected(clients, report.clients));
        return text;
    }
    if let Some(all) = &report.ledgers {
        text.push_str(&ledgers(all));
        return text;
    }
    text.push('\n');
    if report.nodes.is_empty() {
        text.push_str("no hay dataNodes: start one with 'acopio data --head <this head>'\n");
    } else {
        text.push_str(&nodes(report));
    }
    text.push_str(&away(report));
    text.push_str(&unread(report));
    text
}

fn summary(head: &str, report: &StatusReport) -> String {
    let solo = if report.solo { ", solo" } else { "" };
    let mut text = format!(
        "head       {}, acopio {}, cluster {}, up {}{solo}\nclients    {} of {}\nmessages   {} acknowledged, {} refused, {} in flight\n\
         rate       {:.1} messages/s over the last second, {:.1} over the last ten\n",
        plain(head),
        plain(&report.version),
        plain(&report.cluster),
        short(report.uptime_s),
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
    if report.foundings.len() > 1 {
        let foundings: Vec<String> = report.foundings.iter().map(|founding| plain(founding)).collect();
        text.push_str(&format!("clusters   {} met that began apart: {}\n", foundings.len(), foundings.join("; ")));
    }
    text.extend(report.devices.as_ref().map(devices));
    for lacking in &report.lacking {
        let (ledger, last) = (plain(&lacking.ledger), lacking.end.saturating_sub(1));
        text.push_str(&format!(
            "lacking    records {} to {last} of ledger {ledger}: nobody has them who is here\n",
            lacking.from
        ));
    }
    for problem in &report.problems {
        text.push_str(&format!("problem    it takes no messages: {}\n", plain(problem)));
    }
    text
}

/// The line of devices: who fell silent last, who has been so longest first.
fn devices(devices: &DevicesSummary) -> String {
    let DevicesSummary { known, here, silent, last_silent, is_partial } = devices;
    let least = if *is_partial { "at least " } else { "" };
    let mut text = format!("devices    {least}{known} known, {here} here");
    if *silent > 0 {
        let named = last_silent.iter().map(|device| format!("{} {}", plain(&device.name), short(device.heard_s)));
        let mut named: Vec<String> = named.collect();
        let more = silent.saturating_sub(last_silent.len() as u64);
        named.extend((more > 0).then(|| format!("and {more} for longer")));
        text.push_str(&format!(", {silent} silent ({})", named.join(", ")));
    }
    text + "\n"
}

/// The data nodes by name, and below them whatever is not as usual.
fn nodes(report: &StatusReport) -> String {
    let mut nodes: Vec<&NodeStatus> = report.nodes.iter().collect();
    nodes.sort_by(|one, other| (&one.name, one.ip).cmp(&(&other.name, other.ip)));
    let titles = ["NODE", "STATE", "SINCE", "RECORDS", "BYTES", "WRITTEN", "FREE", "IP"];
    let mut rows = vec![titles.map(str::to_owned)];
    rows.extend(nodes.iter().map(|node| row(node)));
    let mut text = columns(&rows);
    for node in nodes {
        let name = plain(&node.name);
        if !node.writable || !node.reason.is_empty() {
            text.push_str(&format!("{name} takes no messages: {}\n", plain(&node.reason)));
        }
        if node.refused_records > 0 {
            let count = node.refused_records;
            text.push_str(&format!(
                "{name} sent {count} records that no head of this cluster took: see 'acopio verify --key'\n"
            ));
        }
        if !matches!(node.sync.as_str(), "" | "always") {
            let sync = plain(&node.sync);
            text.push_str(&format!("{name} runs with --sync {sync}: a power cut may take what it acknowledged\n"));
        }
    }
    text
}

fn row(node: &NodeStatus) -> [String; 8] {
    [
        shown(&node.name),
        plain(&node.state),
        since(&node.since).map_or_else(|| "-".to_owned(), short),
        node.records.to_string(),
        bytes(node.bytes),
        bytes(node.written),
        node.free.map_or_else(|| "-".to_owned(), bytes),
        node.ip.to_string(),
    ]
}

/// A name in a cell.
fn shown(name: &str) -> String {
    let name = plain(name);
    let mut chars = name.chars();
    let start: String = chars.by_ref().take(NAME_SHOWN).collect();
    start + if chars.next().is_some() { "…" } else { "" }
}

/// Bytes in one unit, with three digits or so.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 999.5 && units.len() > 0 {
        value /= 1024.0;
        unit = units.next();
    }
    let unit = unit.copied().unwrap_or_default();
    if value < 99.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// Seconds since a time in RFC 3339.
fn since(text: &str) -> Option<u64> {
    Some(humantime::parse_rfc3339(text).ok()?.elapsed().ok()?.as_secs())
}

/// Who is connected, in 80 columns.
fn connected(clients: &[ClientStatus], all: usize) -> String {
    let ago = |seconds| format!("{} ago", short(seconds));
    let since = |client: &ClientStatus| since(&client.since).map_or_else(|| "-".to_owned(), ago);
    // Where tokens or certificates are asked for, what they say tells more than ids.
    let named = clients.iter().any(|client| !client.token.is_empty());
    let row = |client: &ClientStatus| {
        if named {
            let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { plain(text) };
            let over = if client.tls { "tls" } else { "plain" };
            let (name, roles) = (or_none(&client.token), or_none(&client.roles));
            return [
                client.address.to_string(),
                name,
                roles,
                over.to_owned(),
                since(client),
                client.messages.to_string(),
            ];
        }
        let id = if client.id.is_empty() { "-" } else { &client.id };
        let (since, heard) = (since(client), ago(client.heard_s));
        [client.address.to_string(), plain(&client.dialect), plain(id), since, heard, client.messages.to_string()]
    };
    let titles = match named {
        true => ["ADDRESS", "NAME", "ROLES", "OVER", "SINCE", "MESSAGES"],
        false => ["ADDRESS", "DIALECT", "CLIENT", "SINCE", "HEARD", "MESSAGES"],
    };
    let mut rows = vec![titles.map(str::to_owned)];
    rows.extend(clients.iter().map(row));
    let more = all.saturating_sub(clients.len());
    let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
    format!("\n{}{more}", columns(&rows))
}

/// The ledgers, in 80 columns.
fn ledgers(all: &[LedgerStatus]) -> String {
    let row = |ledger: &LedgerStatus| {
        let state = if ledger.open { "open" } else { "closed" };
        let (from, end) = (ledger.from.to_string(), ledger.end.to_string());
        [plain(&ledger.ledger), state.to_owned(), from, end, ledger.holders.to_string(), ledger.short.to_string()]
    };
    let mut rows = vec![["LEDGER", "STATE", "FROM", "END", "HOLDERS", "SHORT"].map(str::to_owned)];
    rows.extend(all.iter().map(row));
    format!("\n{}", columns(&rows))
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
            .map(|member| [shown(&member.name), plain(&member.id), "no disponible".to_owned(), plain(&member.since)]),
    );
    format!("\n{}", columns(&rows))
}

/// Text of others, as a cell of a table: visible, on one line, and no longer than a text of the wire.
fn plain(text: &str) -> String {
    let end = text.floor_char_boundary(limits::TEXT_BYTES_MAX);
    let (shown, rest) = text.split_at(end);
    printable::visible(shown).into_owned() + if rest.is_empty() { "" } else { "…" }
}

/// Rows as columns, each as wide as its longest text.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
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
    use crate::wire::status::{NodeDialect, SilentDevice};

    #[test]
    fn columns_are_as_wide_as_their_longest_text() {
        let rows = [["NODE", "IP"], ["a", "127.0.0.2"], ["longer", "x"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "NODE    IP\na       127.0.0.2\nlonger  x\n");
    }

    fn node_called(name: &str) -> NodeStatus {
        NodeStatus {
            name: name.to_owned(),
            ip: "192.168.100.200".parse().unwrap(),
            port: 40_000,
            id: "0123456789abcdef".to_owned(),
            dialect: NodeDialect::Framed,
            state: "solo lectura".to_owned(),
            since: "2026-11-21T09:20:07Z".to_owned(),
            records: 123_456_789,
            bytes: 123_456_789_012,
            syncs: 7,
            written: 234_567_890_123,
            free: Some(64_000_000_000),
            writable: true,
            reason: String::new(),
            in_flight: 16,
            acked: 3,
            sync: "always".to_owned(),
            ping_ms: Some(0.4),
            icmp: None,
            refused_records: 0,
        }
    }

    #[test]
    fn nodes_stand_in_the_order_of_their_names_on_80_columns() {
        let nodes = ["data2", "data1", "a-name-of-forty-characters-that-is-too-long"].map(node_called).to_vec();
        let text = table("127.0.0.1:5000", &StatusReport { nodes, ..StatusReport::default() });
        assert!(text.starts_with("head       127.0.0.1:5000, acopio "), "{text}");
        let names: Vec<&str> = text.lines().skip(5).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["NODE", "a-name-of-forty-…", "data1", "data2"], "{text}");
        let well = NodeStatus { state: "disponible".to_owned(), ..node_called("data100") };
        let short = StatusReport { nodes: vec![well], ..StatusReport::default() };
        let text = table("127.0.0.1:5000", &short);
        assert!(text.contains("  115GiB  218GiB   59.6GiB  192.168.100.200\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn what_is_not_as_usual_stands_below_the_nodes() {
        let full = NodeStatus { writable: false, reason: "its disk is full".to_owned(), ..node_called("data1") };
        let quick = NodeStatus { sync: "never".to_owned(), ..node_called("data2") };
        let text = table("h:1", &StatusReport { nodes: vec![quick, full], ..StatusReport::default() });
        let notes: Vec<&str> = text.lines().rev().take(2).collect();
        let lost = "data2 runs with --sync never: a power cut may take what it acknowledged";
        assert_eq!(notes, [lost, "data1 takes no messages: its disk is full"], "{text}");
    }

    #[test]
    fn a_line_tells_of_devices_and_who_is_silent() {
        let silent = |name: &str, heard_s| SilentDevice { name: name.to_owned(), heard_s };
        let last_silent = vec![silent("esp13", 4 * 3600), silent("plc39", 720)];
        let summary = DevicesSummary { known: 41, here: 38, silent: 2, last_silent, is_partial: false };
        let report = StatusReport { devices: Some(summary.clone()), ..StatusReport::default() };
        let text = table("h:1", &report);
        assert!(text.contains("\ndevices    41 known, 38 here, 2 silent (esp13 4h, plc39 12m)\n"), "{text}");
        let more = DevicesSummary { silent: 9, is_partial: true, ..summary };
        assert_eq!(
            devices(&more),
            "devices    at least 41 known, 38 here, 9 silent (esp13 4h, plc39 12m, and 7 for longer)\n"
        );
        assert_eq!(
            devices(&DevicesSummary { known: 3, here: 3, ..DevicesSummary::default() }),
            "devices    3 known, 3 here\n"
        );
    }

    #[test]
    fn bytes_take_one_unit() {
        let shown = [0, 999, 1000, 11_520, 102_400, 1_048_000, 12_079_595, 123_456_789_012, u64::MAX].map(bytes);
        let right = ["0B", "999B", "1.0KiB", "11.2KiB", "100KiB", "1.0MiB", "11.5MiB", "115GiB", "16384PiB"];
        assert_eq!(shown, right);
    }

    #[test]
    fn clients_fit_80_columns() {
        let client = ClientStatus {
            address: "255.255.255.255:65535".parse().unwrap(),
            dialect: "framed".to_owned(),
            id: "K4wpXXWq-X".to_owned(),
            name: "esp7".to_owned(),
            token: String::new(),
            roles: String::new(),
            tls: true,
            since: "2026-11-21T09:20:07Z".to_owned(),
            heard_s: 7199,
            messages: 1_234_567_890,
        };
        let named = ClientStatus { token: "cellar".to_owned(), roles: "write,read,admin".to_owned(), ..client.clone() };
        let table = connected(&[client], 3);
        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
        assert!(table.contains("  K4wpXXWq-X  ") && table.contains("  119m ago  1234567890\nand 2 more\n"), "{table}");
        let table = connected(&[named], 1);
        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
        assert!(table.contains("  cellar  write,read,admin  tls   "), "{table}");
        assert_eq!([0, 119, 120, 7200, 172_800].map(short), ["0s", "119s", "2m", "2h", "2d"]);
    }

    #[test]
    fn what_a_head_says_takes_one_line_and_moves_no_cursor() {
        assert_eq!(plain("a\x1b[31mb\n"), "a\\u{1b}[31mb\\n");
        let long = plain(&"ñ".repeat(limits::STATUS_BYTES_MAX / 2));
        assert_eq!(long.len(), limits::TEXT_BYTES_MAX + "…".len());
    }
}
