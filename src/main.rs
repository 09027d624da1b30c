//! The `acopio` command: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    match cli::run(cli::parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            cli::print::err(&format!("acopio: {}", in_words(&error)));
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
