//! `acopio verify`: checks folders of data nodes offline.

use std::path::PathBuf;

use crate::check::across::{self, Checked, Copies};
use crate::check::verify;
use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::status::Format;
use super::{Global, Outcome, audit, logging, print, runtime};

const AFTER_HELP: &str = "\
Examples:
  acopio verify logs/data1
  acopio verify logs/data* --format json

Of several folders it also says how many copies of each record there are,
which records have fewer than their own line names nodes (no fault: not every
folder may be named), and which copies differ (a fault). What is missing
everywhere only `acopio audit` can tell.

A rotten line whose record the node has fetched again from a copy, and has, is
no fault.

Nothing is changed. A node that runs may be writing its last line: then that
line can look torn.";

/// Checks every record's checksum and order; says what is torn or rotten, and where
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Verify {
    /// Folders of data nodes
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
    /// Folder for temporary files, 20 bytes for a record; used for several folders only [default: the system's]
    #[arg(long, env = "ACOPIO_TEMP", value_name = "DIR")]
    temp: Option<PathBuf>,
}

impl Verify {
    /// Checks every folder; fails if there is damage in any.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        runtime::end_by_signals_as_pid_1()?;
        let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = "{msg} {bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let temp = self.temp.unwrap_or_else(std::env::temp_dir);
        let report = across::verify(self.dirs, &temp, &mut |dir, done, total| {
            bar.set_message(dir.display().to_string());
            bar.set_length(total);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        let text = match self.format {
            Format::Table => {
                report.folders.iter().map(table).chain(report.copies.as_ref().map(together)).collect::<String>()
            }
            Format::Json => print::json(&report)?,
        };
        print::out("the report", &text)?;
        Ok(if report.is_clean() { Outcome::Done } else { Outcome::Failed })
    }
}

/// What the folders hold together.
fn together(all: &Copies) -> String {
    let mut text = format!("together: {} different records", all.ids);
    for (copies, ids) in &all.by_copies {
        text += &format!("; {ids} with {copies} {}", if *copies == 1 { "copy" } else { "copies" });
    }
    text += "\n";
    if all.short > 0 {
        text += &format!("  {} have fewer copies here than their own line names nodes\n", all.short);
    }
    for one in &all.short_first {
        text += &format!("    {} names {} nodes and is in {}\n", one.id, one.named, audit::list(&one.dirs));
    }
    if all.differing > 0 {
        text += &format!("  {} have copies that differ: a fault\n", all.differing);
    }
    for one in &all.differing_first {
        text += &format!("    {} in {}\n", one.id, audit::list(&one.dirs));
    }
    text
}

/// A line for the folder, what is usual, and then every fault with its place.
fn table(one: &Checked) -> String {
    let Checked { dir, report } = one;
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
    if report.mended > 0 {
        text +=
            &format!("  {} rotten lines are mended: their records were fetched again, and are here\n", report.mended);
    }
    if report.foreign > 0 {
        text += &format!("  {} lines between records were written by somebody else, no fault\n", report.foreign);
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
