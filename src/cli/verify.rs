//! `acopio verify`: checks folders of data nodes offline.

use std::io::Write as _;
use std::path::PathBuf;

use acopio::check::verify;
use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::status::Format;
use super::{Global, Outcome, logging};

const AFTER_HELP: &str = "\
Examples:
  acopio verify logs/data1
  acopio verify logs/data* --format json

Nothing is changed. A node that runs may be writing its last line: then that line can look torn.";

/// Checks every record's checksum and order; says what is torn or rotten, and where
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Verify {
    /// Folders of data nodes
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// How to print what is found
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
}

impl Verify {
    /// Checks every folder; fails if there is damage in any.
    pub fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = "{msg} {bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let mut checked = Vec::new();
        for dir in self.dirs {
            bar.set_message(dir.display().to_string());
            let report = verify::verify(&dir, &mut |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            })?;
            checked.push(Checked { dir, report });
        }
        bar.finish_and_clear();
        let clean = checked.iter().all(|one| one.report.is_clean());
        let text = match self.format {
            Format::Table => checked.iter().map(table).collect(),
            Format::Json => serde_json::to_string_pretty(&checked).context("cannot write the report as JSON")? + "\n",
        };
        std::io::stdout().write_all(text.as_bytes()).context("cannot print the report; give it a standard output")?;
        Ok(if clean { Outcome::Done } else { Outcome::Failed })
    }
}

/// A folder and what was found in it.
#[derive(serde::Serialize)]
struct Checked {
    dir: PathBuf,
    #[serde(flatten)]
    report: verify::Report,
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
    if let Some(holder) = &report.running {
        let growing = report.growing_bytes;
        text += &format!("  a node is writing here ({holder}); {growing} bytes at the end are under way\n");
    }
    for fault in &report.problems {
        let verify::Problem { file, line, offset, len, reason, kind } = fault;
        text += &format!("  {kind:?} in {dir}/{file} line {line}, {len} bytes from byte {offset}: {reason}\n");
    }
    let unlisted = report.problem_count.saturating_sub(report.problems.len() as u64);
    if unlisted > 0 {
        text += &format!("  {unlisted} more faults are not listed\n");
    }
    text
}
