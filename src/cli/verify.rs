//! `acopio verify`: checks folders of data nodes offline.

use std::path::PathBuf;

use crate::check::across::{self, Checked, Complete, Copies, Lacking, Member};
use crate::check::verify;
use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::key::CheckedBy;
use super::status::Format;
use super::{Global, Outcome, audit, logging, print, runtime};

const AFTER_HELP: &str = "\
Examples:
  acopio verify logs/data1
  acopio verify logs/data* --format json
  acopio verify logs/data* --key logs/head/cluster.key
      whether the heads of the cluster took these records

Each folder alone: every line's checksum, and whether the entries of ledgers
that its identity promises (node.state) are in its files. A rotten line is no
fault where none of them lacks: its record was fetched again.

All of them together: whether they have everything that their cluster
acknowledged. That can be said if fewer folders of its nodes were not given
than each record has copies, and every entry that one of them promises is in
one of them. Otherwise what lacks is named, and whose folders were not given.
Copies of a record that differ are a fault. Records of format 1 are in no
ledger: they are read and compared, and not counted.

With the cluster's key, the tag of every record is checked: one that no head
with this key took is a fault, and counts as not there, unless it is older than
--unproved-before: those are counted. Who has the cluster's key can forge.

Exit codes:
  0    no folder has a fault, and all of them together are complete
  1    otherwise

Nothing is changed. A node that runs may be writing its last line: then that
line can look torn.";

/// Checks every record's checksum, and whether folders have what their cluster owes; says what lacks
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Verify {
    /// Folders of data nodes
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    checked_by: CheckedBy,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
    /// Folder for temporary files, 40 bytes for a record [default: the system's]
    #[arg(long, env = "ACOPIO_TEMP", value_name = "DIR")]
    temp: Option<PathBuf>,
}

impl Verify {
    /// Checks every folder; fails if there is damage in any, or something lacks.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        runtime::end_by_signals_as_pid_1()?;
        let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = "{msg} {bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let temp = self.temp.unwrap_or_else(std::env::temp_dir);
        let check = self.checked_by.read()?;
        let report = across::verify(self.dirs, check.as_ref(), &temp, &mut |dir, done, total| {
            bar.set_message(dir.display().to_string());
            bar.set_length(total);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        let text = match self.format {
            Format::Table => {
                let copies = report.copies.as_ref().map(copies);
                report.folders.iter().map(table).chain(copies).chain([complete(&report.together)]).collect::<String>()
            }
            Format::Json => print::json(&report)?,
        };
        print::out("the report", &text)?;
        Ok(if report.is_clean() { Outcome::Done } else { Outcome::Failed })
    }
}

/// The copies in the folders.
fn copies(all: &Copies) -> String {
    let mut text = format!("together: {} different records", all.ids);
    for (copies, ids) in &all.by_copies {
        text += &format!("; {ids} with {copies} {}", if *copies == 1 { "copy" } else { "copies" });
    }
    text += "\n";
    let unequal = &all.unequal;
    if unequal.differing > 0 {
        text += &format!("  {} have copies that differ: a fault\n", unequal.differing);
    }
    for one in &unequal.differing_first {
        text += &format!("    {} in {}\n", one.id, audit::list(&one.dirs));
    }
    if unequal.clashing > 0 {
        text += &format!("  {} entries of ledgers are two records: a fault\n", unequal.clashing);
    }
    for one in &unequal.clashing_first {
        text += &format!("    {}\n", audit::clashing(one));
    }
    text
}

/// Whether the folders have everything, and what they lack.
fn complete(all: &Complete) -> String {
    let name = |one: &Member| match one.name.as_str() {
        "" => one.identity.clone(),
        name => format!("{name} ({})", one.identity),
    };
    let names = |of: &[Member]| of.iter().map(name).collect::<Vec<_>>().join(", ");
    let mut text = match (all.complete, all.lacking) {
        (true, _) => "complete: everything that was acknowledged is here, or was let go by retention\n".to_owned(),
        (false, 0) => format!("NOT complete: {} folders or more were not given, or can't be relied on\n", all.least),
        (false, lacking) => format!("NOT complete: {lacking} entries that are promised are in no folder\n"),
    };
    if !all.not_given.is_empty() {
        text += &format!("  not given, or not to be relied on: the folders of {}\n", names(&all.not_given));
    }
    for Lacking { ledger, from, end, wanted } in &all.lacking_first {
        let wanted = if wanted.is_empty() { "no folder that is missing".to_owned() } else { names(wanted) };
        text += &format!("  lacking: entries {from} to {} of ledger {ledger}; they may be with {wanted}\n", end - 1);
    }
    text
}

/// A line for the folder, what is usual, and then every fault with its place.
fn table(one: &Checked) -> String {
    let Checked { dir, report, .. } = one;
    let dir = dir.display();
    let verdict = match report.problem_count {
        0 => "clean".to_owned(),
        faults => format!("{faults} faults"),
    };
    let mut text =
        format!("{dir}: {} records in {} files, {} bytes: {verdict}\n", report.records, report.files, report.bytes);
    if let (Some(first), Some(last)) = (&report.first_id, &report.last_id) {
        text += &format!("  ids {first} to {last}\n");
    }
    if report.out_of_order + report.repeated > 0 {
        let (late, twice) = (report.out_of_order, report.repeated);
        text += &format!(
            "  {late} records are older than the one before them, {twice} repeat it: sent again after a loss, no fault\n"
        );
    }
    if let Some(identity) = &report.identity {
        text += &format!("  it is {identity}, and promises {} ledgers\n", report.ledgers);
    }
    if report.unplaced > 0 {
        text += &format!("  {} records of format 1 are in no ledger: they are not counted\n", report.unplaced);
    }
    if report.unproved > 0 {
        text += &format!(
            "  {} records have no right tag of a head, and are old enough for that: unproved\n",
            report.unproved
        );
    }
    if report.forged > 0 {
        text += &format!("  {} records are forged: no head with this key took them\n", report.forged);
    }
    if report.mended > 0 {
        text += &format!("  {} lines are rotten, and nothing that is promised lacks: no fault\n", report.mended);
    }
    if report.parts > 0 {
        let first: Vec<String> =
            report.parts_first.iter().map(|part| format!("{} ({} entries)", part.ledger, part.entries)).collect();
        text += &format!("  left over, and not promised: {} ledgers: {}\n", report.parts, first.join(", "));
    }
    if let Some(holder) = &report.running {
        let growing = match report.growing_bytes {
            0 => String::new(),
            bytes => format!("; {bytes} bytes at the end are not whole yet"),
        };
        text += &format!("  a node is writing here ({holder}){growing}\n");
    }
    for fault in &report.problems {
        let verify::Problem { file, line, offset, len, reason, kind } = fault;
        let line = if *line > 0 { format!(" line {line}") } else { String::new() };
        text += &format!("  {kind:?} in {dir}/{file}{line}, {len} bytes from byte {offset}: {reason}\n");
    }
    let unlisted = report.problem_count.saturating_sub(report.problems.len() as u64);
    if unlisted > 0 {
        text += &format!("  {unlisted} more faults are not listed\n");
    }
    text
}
