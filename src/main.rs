//! The `acopio` command: parse, run, exit code. Everything else is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

mod cli;

fn main() -> ExitCode {
    // clap itself answers --help and --version with 0 and bad usage with 2.
    let command = cli::Cli::parse();
    match cli::run(command) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            // Standard error may be gone; there is nobody to tell then.
            drop(writeln!(std::io::stderr(), "acopio: {}", in_words(&error)));
            cli::Outcome::Failed.into()
        }
    }
}

/// The error and its causes on one line; a cause that is told already is not told twice.
fn in_words(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
