//! The command line: flags and environment become validated settings once, here, and then a role runs.
//!
//! One file a subcommand. Nothing of clap or anyhow leaves this folder, and nothing deeper reads the environment.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};

mod audit;
#[cfg(feature = "lab")]
mod bench;
mod client;
mod data;
#[cfg(feature = "docker")]
mod demo;
mod drain;
mod head;
mod health;
mod logging;
mod moment;
mod read;
mod runtime;
mod send;
mod status;
#[cfg(feature = "lab")]
mod torture;
mod up;
mod upkeep;
mod values;
mod verify;

/// How a command ended, when nothing kept it from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that was asked for is done.
    Done,
    /// It ran, and found damage or could not do all of it; the user has been told.
    Failed,
    /// It could not run, and found out nothing; the user has been told. For commands whose 1 is a finding.
    Unusable,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Failed => Self::FAILURE,
            Outcome::Unusable => Self::from(2),
        }
    }
}

const AFTER_HELP: &str = "\
Examples:
  acopio up                                                    a whole cluster on this machine
  acopio demo --for 30s                                        the same in containers on a docker network
  printf 'peticion\\nhola\\n' | nc -N 127.0.0.1 5000             store a message from any shell
  acopio send --head 127.0.0.1:5000 hola                       the same, and exit 0 only if it is kept
  acopio read --head 127.0.0.1:5000 --last 10 --follow         the last ten messages, then what comes
  acopio status --head 127.0.0.1:5000                          who is there, and what they keep
  acopio verify logs/data*                                     check every record on disk
  acopio audit --registro logs --data logs                     is everything there that was acknowledged?

Every flag is an environment variable too: --max-clients is ACOPIO_MAX_CLIENTS. A flag wins over its variable.

Exit codes:
  0    done
  1    something failed: the reason is on standard error (for verify: damage; for send: not all is kept;
       for read: something is missing; for audit: something acknowledged is missing; for torture: a promise was
       broken; for health: not healthy)
  2    bad usage; for audit also input that cannot be read
  130  forced to end by a second signal; as pid 1 of a container also ended by Ctrl-C, and 143 by SIGTERM";

/// A storage cluster for messages and measurements that arrive over plain TCP.
///
/// Anything that can open a socket writes to it. Once it has read `recibido`, its message is on disk, and a person
/// can read it with `tail -f data.txt`.
#[derive(Debug, Parser)]
#[command(name = "acopio", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand takes.
#[derive(Clone, Copy, Debug, Args)]
pub struct Global {
    /// Tell more on standard error and in the log files
    #[arg(long, short, global = true, env = "ACOPIO_VERBOSE", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    verbose: bool,
    /// Tell nothing but errors on standard error; the log files get everything
    #[arg(long, short, global = true, env = "ACOPIO_QUIET", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    #[cfg(feature = "docker")]
    Demo(demo::Demo),
    Head(head::Head),
    Data(data::Data),
    Client(client::Client),
    Send(send::Send),
    Read(read::Read),
    Status(status::Status),
    Health(health::Health),
    Drain(drain::Drain),
    Verify(verify::Verify),
    Audit(audit::Audit),
    #[cfg(feature = "lab")]
    Torture(torture::Torture),
    #[cfg(feature = "lab")]
    Bench(bench::Bench),
}

/// Reads the flags and variables of this process, does what they ask for, and tells how it ended.
pub fn main() -> ExitCode {
    // clap itself answers --help and --version with 0 and bad usage with 2.
    match run(Cli::parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            // Standard error may be gone; there is nobody to tell then.
            drop(writeln!(std::io::stderr(), "acopio: {}", in_words(&error)));
            Outcome::Failed.into()
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

/// Runs what was asked for.
///
/// # Errors
/// What kept it from being done, with the remedy, for one line of text.
fn run(cli: Cli) -> Result<Outcome> {
    match cli.command {
        Command::Up(args) => args.run(cli.global),
        #[cfg(feature = "docker")]
        Command::Demo(args) => args.run(cli.global),
        Command::Head(args) => args.run(cli.global),
        Command::Data(args) => args.run(cli.global),
        Command::Client(args) => args.run(cli.global),
        Command::Send(args) => args.run(cli.global),
        Command::Read(args) => args.run(cli.global),
        Command::Status(args) => args.run(cli.global),
        Command::Health(args) => args.run(cli.global),
        Command::Drain(args) => args.run(cli.global),
        Command::Verify(args) => args.run(cli.global),
        Command::Audit(args) => args.run(cli.global),
        #[cfg(feature = "lab")]
        Command::Torture(args) => args.run(cli.global),
        #[cfg(feature = "lab")]
        Command::Bench(args) => args.run(cli.global),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_an_environment_variable() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long() else { continue };
                if matches!(long, "help" | "version") || arg.is_hide_set() {
                    continue;
                }
                let wanted = format!("ACOPIO_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(wanted.as_str()), "{}", command.get_name());
                assert!(arg.get_help().is_some(), "{} --{long} has no help", command.get_name());
            }
        }
    }
}
