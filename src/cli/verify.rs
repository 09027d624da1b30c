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
        let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let result = verify::verify(&self.dirs, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let report = result?;
        let text = match self.format {
            Format::Table => report.to_string(),
            Format::Json => serde_json::to_string_pretty(&report).context("cannot write the report as JSON")? + "\n",
        };
        std::io::stdout().write_all(text.as_bytes()).context("cannot print the report; give it a standard output")?;
        Ok(if report.is_clean() { Outcome::Done } else { Outcome::Failed })
    }
}
