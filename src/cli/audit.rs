//! `acopio audit`: whether everything that was acknowledged is there.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::check::across::Clashing;
use crate::check::audit::{self, Report, Reused, Short, Step};
use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::key::CheckedBy;
use super::moment::{self, Moment, Zone};
use super::status::Format;
use super::{Global, Outcome, logging, print, runtime};

const AFTER_HELP: &str = "\
Examples:
  acopio audit --registro logs --data logs
      all of an `acopio up`: its heads and its nodes
  acopio audit --registro head1/logs head2/logs --data /mnt/data1 /mnt/data2
  acopio audit --registro logs --data logs --since 24h --format json

Every id in a registro has to be in a data folder. The lines of the report:
  missing           acknowledged, and no good copy in any folder: this
                    exits with 1
  fewer copies      in fewer folders than nodes acknowledged it. Usual when a
                    node was replaced or copies are being made again: name the
                    old node's folder too, or wait
  differing copies  the same id with different contents, each with the right
                    checksum
  clashing entries  entries of a ledger that are two records, each with the
                    right checksum
  checksum errors   bad lines before a good one or in a sealed file, whatever
                    time they are from; an id with another good copy is not
                    missing
  torn ends         the bad end of a data.txt, which the node cuts off when it
                    starts: no records
  not acknowledged  there, but in no registro: the head was killed before it
                    could write it down
  duplicates        lines that repeat an id in the same folder: it was put
                    again, in another ledger
  sent twice        messages of a client that are kept under two ids: it tried
                    again
  forged            with --key: records that no head with this key took; they
                    count as not there. This exits with 1, too
  unproved          with --key: without a right tag, and older than
                    --unproved-before
  let go            copies that are not there, and so old that retention may
                    have removed them (--keep of the data nodes)
  not judged        there, in no registro, and from a time whose lines were
                    let go (--keep-registro)
  numbers reused    numbers of a client that two different messages have: it
                    began to count anew under the same id. Both are kept and
                    read; give a client that begins anew a new id

Give the registros of all heads and the folders of all nodes: what is not
named counts as not there. A cluster that runs can be audited: registros are
read first, and a last line without its end is passed over. Raw data nodes
(the original's programs) have no folder that can be read, so their records
are missing here. --since leaves out what is older, on both sides: use it when
old files have been removed by hand. Nothing is changed.

Memory stays below 200 MiB. Temporary files take 24 bytes for each range of
ids in a registro and 72 for each record; they have no names and are gone with
the process.

Exit codes:
  0    every acknowledged record is there
  1    at least one is missing, or forged
  2    bad usage, or something that was named cannot be read";

/// Compares the heads' registros with the nodes' data: is everything there that was acknowledged?
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Audit {
    /// Registros, folders of heads' logs (all days in them), or a folder around such folders
    #[arg(long, env = "ACOPIO_REGISTRO", value_name = "FILE", required = true, num_args = 1..)]
    registro: Vec<PathBuf>,
    /// Folders of data nodes, or a folder around them
    #[arg(long, env = "ACOPIO_DATA", value_name = "DIR", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Leave out what is older: than a time ago (24h), a time (2026-11-21 10:00, UTC), or a record id
    #[arg(long, env = "ACOPIO_SINCE", value_name = "TIME", value_parser = moment::moment)]
    since: Option<Moment>,
    #[command(flatten)]
    checked_by: CheckedBy,
    /// Folder for temporary files [default: the system's]
    #[arg(long, env = "ACOPIO_TEMP", value_name = "DIR")]
    temp: Option<PathBuf>,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
}

impl Audit {
    /// Audits; fails if anything acknowledged is missing.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        runtime::end_by_signals_as_pid_1()?;
        let check = match self.checked_by.read() {
            Ok(check) => check,
            Err(error) => return Ok(unusable(&error)),
        };
        let settings = audit::Settings {
            registros: self.registro,
            data: self.data,
            since: self.since.map(|since| since.id(SystemTime::now(), &Zone::utc())).unwrap_or_default(),
            check,
            temp: self.temp.unwrap_or_else(std::env::temp_dir),
        };
        let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = ProgressStyle::with_template("{msg} {bar:40} {percent}%, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let mut shown = None;
        let audited = audit::audit(&settings, &mut |step, done, total| {
            let message = match step {
                Step::Registro(path) | Step::Folder(path) => path.display().to_string(),
                Step::Comparing => "comparing".to_owned(),
            };
            if shown.as_ref() != Some(&message) {
                bar.reset();
                bar.set_message(message.clone());
                shown = Some(message);
            }
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let report = match audited {
            Ok(report) => report,
            Err(error) => {
                return Ok(unusable(&error));
            }
        };
        let text = match self.format {
            Format::Table => table(&report),
            Format::Json => print::json(&report)?,
        };
        print::out("the report", &text)?;
        Ok(if report.keeps_its_word() { Outcome::Done } else { Outcome::Failed })
    }
}

/// Not through `main`: 1 is for what is missing, and nothing has been found out here.
fn unusable(error: &impl std::fmt::Display) -> Outcome {
    print::err(&format!("acopio: {error}"));
    Outcome::Unusable
}

/// A line for each number, then what was found, with its place.
pub(crate) fn table(report: &Report) -> String {
    let registros = &report.registros;
    let (records, bytes) =
        report.folders.iter().fold((0, 0), |(records, bytes), one| (records + one.records, bytes + one.bytes));
    let mut text = format!(
        "{} lines in {} registros of {} data nodes; {records} records in {} data folders, {bytes} bytes\n",
        registros.lines,
        registros.files.len(),
        registros.nodes.len(),
        report.folders.len(),
    );
    if let Some(since) = &report.since {
        text += &format!("counted from id {since} on\n");
    }
    let rows = [
        ("acknowledged", report.acknowledged),
        ("found", report.found),
        ("missing", report.missing),
        ("fewer copies", report.fewer),
        ("differing copies", report.unequal.differing),
        ("clashing entries", report.unequal.clashing),
        ("checksum errors", report.checksum_errors),
        ("torn ends", report.torn_tails),
        ("not acknowledged", report.unacknowledged),
        ("duplicates", report.duplicates),
        ("sent twice", report.sent_twice),
        ("numbers reused", report.numbers_reused),
        ("refusals", registros.refusals),
    ];
    let more = [
        ("forged", report.forged),
        ("unproved", report.unproved),
        ("let go", report.let_go),
        ("not judged", report.not_judged),
    ];
    for (what, count) in rows.into_iter().chain(more.into_iter().filter(|(_, count)| *count > 0)) {
        text += &format!("  {what:<16} {count:>12}\n");
    }
    for one in &report.missing_first {
        text += &format!("missing: {}\n", short(one));
    }
    text += &unlisted("missing", report.missing, report.missing_first.len());
    for one in &report.fewer_first {
        text += &format!("fewer copies: {}, found in {}\n", short(one), list(&one.dirs));
    }
    text += &unlisted("with fewer copies", report.fewer, report.fewer_first.len());
    let unequal = &report.unequal;
    for one in &unequal.differing_first {
        text += &format!("differing copies: {} in {}\n", one.id, list(&one.dirs));
    }
    text += &unlisted("with differing copies", unequal.differing, unequal.differing_first.len());
    for one in &unequal.clashing_first {
        text += &format!("clashing: {}\n", clashing(one));
    }
    text += &unlisted("clashing entries", unequal.clashing, unequal.clashing_first.len());
    for Reused { client, seq, ids } in &report.numbers_reused_first {
        text += &format!("number reused: {seq} of client {client}, in {} and in {}\n", ids[0], ids[1]);
    }
    text += &unlisted("reused numbers", report.numbers_reused, report.numbers_reused_first.len());
    for one in &report.damage_first {
        let what = if one.torn { "torn end" } else { "checksum error" };
        text += &format!("{what}: {} line {}: {}\n", one.file.display(), one.line, one.reason);
    }
    text += &unlisted("damaged places", report.checksum_errors + report.torn_tails, report.damage_first.len());
    for one in &report.forged_first {
        text += &format!("forged: {} line {}: {}\n", one.file.display(), one.line, one.reason);
    }
    text += &unlisted("forged records", report.forged, report.forged_first.len());
    for one in &registros.unreadable_first {
        text += &format!("not a registro's line, passed over: {} line {}\n", one.registro.display(), one.line);
    }
    text += &unlisted("such lines", registros.unreadable_lines, registros.unreadable_first.len());
    if let Some(from) = &report.judged_from {
        text += &format!(
            "older lines of a registro were let go: what is in none and from before {from} may have been acknowledged\n"
        );
    }
    if registros.torn_lines > 0 {
        text += &format!(
            "{} unfinished lines in the registros are passed over: a head was killed in the write or is writing now, or its disk was full, and no client was told\n",
            registros.torn_lines
        );
    }
    text += &match report.missing {
        0 if report.forged > 0 => "every acknowledged record is there, and others are forged\n".to_owned(),
        0 if report.let_go > 0 => "every acknowledged record is there, or was let go by retention\n".to_owned(),
        0 => "every acknowledged record is there\n".to_owned(),
        missing => format!("{missing} acknowledged records are missing\n"),
    };
    text
}

fn short(one: &Short) -> String {
    let nodes = one.nodes.join(", ");
    format!("{} acknowledged by {nodes} ({} line {})", one.id, one.registro.display(), one.line)
}

fn unlisted(what: &str, count: u64, listed: usize) -> String {
    match count.saturating_sub(listed as u64) {
        0 => String::new(),
        more => format!("  {more} more {what} are not listed\n"),
    }
}

/// An entry that is two records.
pub(crate) fn clashing(one: &Clashing) -> String {
    let Clashing { ledger, entry, ids: [first, second], dirs } = one;
    format!("entry {entry} of ledger {ledger} is {first} and {second}, in {}", list(dirs))
}

/// Folders in one line.
pub(crate) fn list(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}
