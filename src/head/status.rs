//! What `acopio status` shows: the head's state as one JSON report.

use std::time::{Duration, UNIX_EPOCH};

use super::cluster::Away;
use super::guests::Guest;
use super::registered::NodeEntry;
use super::state::Head;
use crate::ledger::roster::{Founding, Roster, Standing};
use crate::limits;
use crate::wire::frame::SyncMode;
use crate::wire::status::{
    ClientStatus, Lacking, LedgerStatus, MemberAway, NodeDialect, NodeStatus, StatusReport, TextNode,
};
use crate::wire::text::Dialect;

/// Samples the rates once a second, until the head is dropped.
pub(crate) async fn sample(head: &Head) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let acked = head.core(|core| core.counters().acked);
        head.rates.borrow_mut().sample(head.started.elapsed(), acked);
    }
}

/// What a report has beside what it always has.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Parts {
    /// Who is connected.
    pub(crate) clients: bool,
    /// Each ledger.
    pub(crate) ledgers: bool,
}

/// The report as JSON.
#[must_use]
pub(crate) fn report(head: &Head, parts: Parts) -> Vec<u8> {
    let counters = head.core(super::core::Core::counters);
    let rates = head.rates.borrow();
    let report = StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: head.config.cluster.clone(),
        incarnation: head.incarnation(),
        uptime_s: head.started.elapsed().as_secs(),
        solo: head.config.solo.is_some(),
        clients: head.places.taken(),
        connected: parts.clients.then(|| connected(head)),
        ledgers: parts.ledgers.then(|| ledgers(head)),
        clients_max: head.config.clients.most,
        nodes: head.nodes().iter().map(|node| node_status(head, node)).collect(),
        members_away: head.members_away().into_iter().map(member_away).collect(),
        text_nodes: head.unread().into_iter().map(|(name, records)| TextNode { name, records }).collect(),
        acked_messages: counters.acked,
        refused_messages: counters.refused,
        refused_for: head.refusals.borrow().all().filter(|(_, count)| *count > 0).collect(),
        in_flight: counters.in_flight,
        replicas: head.core(super::core::Core::replicas),
        copies_min: head
            .heard(|heard| heard.roster().copies().map_or(head.config.copies_min, |copies| copies.least.into())),
        short_of_copies: head.heard(crate::ledger::heard::Heard::short),
        lacking: lacking(head),
        foundings: head.heard(|heard| foundings(heard.roster())),
        devices: head.devices_summary().filter(|devices| devices.known > 0),
        problems: head.registro_refusal().map(|refusal| refusal.text).into_iter().collect(),
        rate_1s: rates.over(1),
        rate_10s: rates.over(10),
    };
    // A struct of numbers and texts has a JSON form; were it not so, the reader is told with an empty object.
    let mut json = serde_json::to_vec(&report).unwrap_or_else(|_| b"{}".to_vec());
    json.truncate(limits::STATUS_BYTES_MAX);
    json
}

/// Those that have been here longest, as many as fit.
fn connected(head: &Head) -> Vec<ClientStatus> {
    let guests = head.places.guests();
    guests.iter().take(limits::STATUS_CLIENTS_MAX).map(|guest| client_status(guest)).collect()
}

fn client_status(guest: &Guest) -> ClientStatus {
    let (token, roles) = guest.exit.bearer().unwrap_or_default();
    ClientStatus {
        address: guest.peer,
        dialect: guest.dialect.get().to_owned(),
        id: guest.client.get().map(|id| id.to_string()).unwrap_or_default(),
        name: guest.said.get().map(|said| said.to_string()).unwrap_or_default(),
        token,
        roles,
        tls: guest.exit.secured.get(),
        since: humantime::format_rfc3339_seconds(guest.since).to_string(),
        heard_s: guest.silent().as_secs(),
        messages: guest.messages.get(),
    }
}

fn member_away(away: Away) -> MemberAway {
    let since = humantime::format_rfc3339_seconds(away.since).to_string();
    MemberAway { name: away.name, id: away.node.to_string(), since }
}

/// When the cluster began. Heads that were started together may each have founded it, for the same nodes: that is one beginning.
fn foundings(roster: &Roster) -> Vec<String> {
    let mut ends = Duration::ZERO;
    let apart = roster.foundings().filter(|founding| {
        let time = Duration::from_nanos(founding.time_ns);
        let begins = time >= ends;
        ends = time + limits::FOUNDINGS_TOGETHER;
        begins
    });
    apart.map(founding).collect()
}

fn founding(founding: Founding) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(founding.time_ns);
    format!("{} at head {}", humantime::format_rfc3339_seconds(time), founding.head)
}

/// Entries that are promised and that nobody has who is here.
fn lacking(head: &Head) -> Vec<Lacking> {
    let lacking = head.heard(crate::ledger::heard::Heard::lacking);
    let lacking = lacking.into_iter().take(limits::STATUS_LACKING_MAX);
    lacking.map(|(ledger, range)| Lacking { ledger: ledger.to_string(), from: range.start, end: range.end }).collect()
}

/// The ledgers, as many as fit.
fn ledgers(head: &Head) -> Vec<LedgerStatus> {
    head.heard(|heard| {
        let all = heard.all().take(limits::STATUS_LEDGERS_MAX);
        all.map(|(ledger, summary)| LedgerStatus {
            ledger: ledger.to_string(),
            from: summary.from,
            end: summary.end,
            open: summary.open,
            holders: summary.holders,
            short: summary.short,
        })
        .collect()
    })
}

fn node_status(head: &Head, node: &NodeEntry) -> NodeStatus {
    let load = head.core(|core| core.load(node.key));
    let said = node.report.borrow();
    let pulse = node.pulse.borrow();
    let waits = node.id.and_then(|id| head.waits_to_come_in(id));
    let leaves = |id| head.heard(|heard| heard.roster().generation(id).standing()) == Standing::Leaving;
    let state = if node.id.is_some_and(|id| head.drains.borrow().contains(id) || leaves(id)) {
        "vaciando"
    } else if said.leaving {
        "saliendo"
    } else if !load.is_some_and(|load| load.writable) {
        "solo lectura"
    } else if pulse.sent > pulse.answered + 1 {
        "sin respuesta"
    } else {
        "disponible"
    };
    NodeStatus {
        name: node.name.clone(),
        ip: node.ip,
        port: node.port,
        id: node.id.map(|id| id.to_string()).unwrap_or_default(),
        dialect: match node.dialect {
            Dialect::Raw => NodeDialect::Raw,
            Dialect::Line => NodeDialect::Line,
            Dialect::Framed => NodeDialect::Framed,
        },
        state: state.to_owned(),
        since: humantime::format_rfc3339_seconds(node.since).to_string(),
        records: said.records,
        bytes: said.bytes,
        syncs: said.syncs,
        written: said.written,
        free: said.free,
        writable: load.is_some_and(|load| load.writable),
        reason: if said.reason.is_empty() { waits.unwrap_or_default() } else { said.reason.clone() },
        in_flight: load.map_or(0, |load| load.in_flight),
        acked: load.map_or(0, |load| load.acked),
        sync: sync_word(said.sync).to_owned(),
        ping_ms: pulse.took.map(|took| took.as_secs_f64() * 1000.0),
        icmp: pulse.icmp,
        refused_records: node.refused.get(),
    }
}

/// The word for a sync setting on the wire.
const fn sync_word(sync: SyncMode) -> &'static str {
    match sync {
        SyncMode::Always => "always",
        SyncMode::Interval => "interval",
        SyncMode::Never => "never",
    }
}
