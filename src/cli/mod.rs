//! The command line: flags and environment become validated settings once, here, and then a role runs.
//!
//! One file a subcommand. Nothing of clap or anyhow leaves this folder, and nothing deeper reads the environment.

use std::process::ExitCode;

use anyhow::Result;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use crate::table::{buckets, moment, readings};

#[cfg(feature = "coord")]
mod announced;
mod asked;
mod audit;
#[cfg(feature = "lab")]
mod bench;
#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "broker")]
mod calc;
mod cert;
mod check;
mod client;
mod collect;
mod copies;
mod data;
#[cfg(feature = "docker")]
mod demo;
#[cfg(feature = "device")]
mod device;
mod devices;
mod door;
mod drain;
mod events;
mod head;
mod heads;
mod health;
mod key;
mod known;
mod logging;
mod note;
mod plain;
mod plot;
mod print;
mod read;
#[cfg(feature = "broker")]
mod replay;
mod runtime;
mod send;
mod status;
mod token;
#[cfg(feature = "top")]
mod top;
#[cfg(feature = "lab")]
mod torture;
mod up;
#[cfg(all(feature = "device", feature = "web"))]
mod up_devices;
mod upkeep;
mod values;
mod verify;
mod watch;
#[cfg(feature = "web")]
mod web;
#[cfg(feature = "coord")]
mod zk;
#[cfg(feature = "coord")]
mod zookeeper;

/// How a command ended, when nothing kept it from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All that was asked for is done.
    Done,
    /// It ran, and found damage or could not do all of it; the user has been told.
    Failed,
    /// It could not run, and found out nothing; the user has been told. For commands whose 1 is a finding.
    Unusable,
    /// With the exit code of a command that was run.
    Command(u8),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Failed => Self::FAILURE,
            Outcome::Unusable => Self::from(2),
            Outcome::Command(code) => Self::from(code),
        }
    }
}

const AFTER_HELP: &str = "\
Examples:
  acopio up
      a whole cluster on this machine
  acopio demo --for 30s
      the same in containers on a docker network
  printf 'peticion\\nhola\\n' | nc -N 127.0.0.1 5000
      store a message from any shell
  acopio send --head 127.0.0.1:5000 hola
      the same, and exit 0 only if it is kept
  acopio collect /dev/ttyUSB0 --as balanza
      what an instrument says at a serial line
  acopio read --head 127.0.0.1:5000 --last 10 --follow
      the last ten messages, then what comes
  acopio status --head 127.0.0.1:5000
      who is there, and what they keep
  acopio devices --silent
      which device has not been heard for long
  acopio key new cluster.key
      a key without which nobody is let in as a data node
  acopio token new --tokens tokens --role read guest
      a token that lets read, where a head asks clients for one
  acopio cert --dir ca --name head --host 10.0.0.5
      a certificate, with which a head speaks TLS
  acopio verify logs/data*
      check every record on disk
  acopio audit --registro logs --data logs
      is everything there that was acknowledged?
  acopio broker --role primary --keep '' --head 127.0.0.1:5000
      topics over ZeroMQ, kept in the cluster
  acopio zk lock /LOCKS -- ./critical.sh
      one at a time on all machines, over ZooKeeper

Every flag is an environment variable too: --max-clients is
ACOPIO_MAX_CLIENTS. Where commands mean different things by a flag, the
command's name is in it: ACOPIO_READ_COUNT. The command's --help names them. A
flag wins over its variable.

Exit codes:
  0    done
  1    something failed: the reason is on standard error (for verify: damage;
       for send: not all is kept; for collect: something is lost; for read:
       something is missing; for audit: something acknowledged is missing; for
       torture: a promise was broken; for health: not healthy)
  2    bad usage; for audit also input that cannot be read
  130  forced to end by a second signal; as pid 1 of a container also ended by
       Ctrl-C, and 143 by SIGTERM";

/// A storage cluster for messages and measurements that arrive over plain TCP.
///
/// Anything that can open a socket writes to it. Once it has read `recibido`, its message is on disk, and a person
/// can read it with `tail -f data.txt`.
#[derive(Debug, Parser)]
#[command(name = "acopio", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where the help of a command shows what every command takes: behind its own flags, before `--help`.
const BEHIND_ITS_OWN: usize = 900;

/// What every subcommand takes.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Global {
    /// Tell more on standard error and in the log files
    #[arg(long, short, global = true, display_order = BEHIND_ITS_OWN, env = "ACOPIO_VERBOSE", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    verbose: bool,
    /// Tell nothing but errors on standard error; the log files get everything
    #[arg(long, short, global = true, display_order = BEHIND_ITS_OWN + 1, env = "ACOPIO_QUIET", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    #[cfg(feature = "docker")]
    Demo(demo::Demo),
    Head(Box<head::Head>),
    Data(data::Data),
    Client(client::Client),
    #[cfg(feature = "broker")]
    Broker(broker::Broker),
    #[cfg(feature = "broker")]
    Calc(calc::Calc),
    #[cfg(feature = "broker")]
    Replay(replay::Replay),
    #[cfg(feature = "web")]
    Web(web::Web),
    #[cfg(feature = "device")]
    Device(device::Device),
    Send(send::Send),
    Collect(collect::Collect),
    Read(read::Read),
    Plot(plot::Plot),
    Check(check::Check),
    Note(note::NoteArgs),
    Watch(watch::Watch),
    Status(status::Status),
    #[cfg(feature = "top")]
    Top(top::Top),
    Devices(devices::Devices),
    Health(health::Health),
    Drain(drain::Drain),
    Copies(copies::Copies),
    Key(key::Key),
    Token(token::Token),
    Cert(cert::Cert),
    Verify(verify::Verify),
    Audit(audit::Audit),
    #[cfg(feature = "lab")]
    Torture(torture::Torture),
    #[cfg(feature = "lab")]
    Bench(bench::Bench),
    #[cfg(feature = "coord")]
    Zk(zk::Zk),
}

/// Reads the flags and variables of this process, does what they ask for, and tells how it ended.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // --help and --version.
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
            let is_set = |variable: &str| std::env::var_os(variable).is_some();
            print::errors(&with_variables(error.render().to_string(), &words, is_set));
            return Outcome::Unusable.into();
        }
    };
    match run(cli) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            print::err(&format!("acopio: {}", in_words(&error)));
            Outcome::Failed.into()
        }
    }
}

/// The text of bad usage, in which a flag that nobody wrote is called by its variable, too.
fn with_variables(mut text: String, words: &[String], is_set: impl Fn(&str) -> bool) -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut command = &cli;
    for word in words.iter().skip(1) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    for arg in command.get_arguments() {
        let (Some(long), Some(variable)) = (arg.get_long(), arg.get_env().and_then(|name| name.to_str())) else {
            continue;
        };
        let flag = format!("--{long}");
        let is_written = |word: &String| *word == flag || word.starts_with(&format!("{flag}="));
        if is_set(variable) && !words.iter().any(is_written) {
            let quoted = format!("'{arg}'");
            text = text.replacen(&quoted, &format!("{quoted} (variable {variable})"), 1);
        }
    }
    text
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
        #[cfg(feature = "broker")]
        Command::Broker(args) => args.run(cli.global),
        #[cfg(feature = "broker")]
        Command::Calc(args) => args.run(cli.global),
        #[cfg(feature = "broker")]
        Command::Replay(args) => args.run(cli.global),
        #[cfg(feature = "web")]
        Command::Web(args) => args.run(cli.global),
        #[cfg(feature = "device")]
        Command::Device(args) => args.run(cli.global),
        Command::Send(args) => args.run(cli.global),
        Command::Collect(args) => args.run(cli.global),
        Command::Read(args) => args.run(cli.global),
        Command::Plot(args) => args.run(cli.global),
        Command::Check(args) => args.run(cli.global),
        Command::Note(args) => args.run(cli.global),
        Command::Watch(args) => args.run(cli.global),
        Command::Status(args) => args.run(cli.global),
        #[cfg(feature = "top")]
        Command::Top(args) => args.run(cli.global),
        Command::Devices(args) => args.run(cli.global),
        Command::Health(args) => args.run(cli.global),
        Command::Drain(args) => args.run(cli.global),
        Command::Copies(args) => args.run(cli.global),
        Command::Key(args) => args.run(cli.global),
        Command::Token(args) => args.run(cli.global),
        Command::Cert(args) => args.run(cli.global),
        Command::Verify(args) => args.run(cli.global),
        Command::Audit(args) => args.run(cli.global),
        #[cfg(feature = "lab")]
        Command::Torture(args) => args.run(cli.global),
        #[cfg(feature = "lab")]
        Command::Bench(args) => args.run(cli.global),
        #[cfg(feature = "coord")]
        Command::Zk(args) => args.run(cli.global),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// All commands and those below them, with the name of the first.
    fn commands(cli: &clap::Command) -> Vec<(&str, &clap::Command)> {
        let mut all: Vec<_> = cli.get_subcommands().map(|command| (command.get_name(), command)).collect();
        let mut n = 0;
        while let Some((name, command)) = all.get(n).copied() {
            all.extend(command.get_subcommands().map(|below| (name, below)));
            n += 1;
        }
        all.retain(|(name, command)| *name != "help" && command.get_name() != "help");
        all
    }

    #[test]
    fn what_stands_below_the_flags_fits_a_terminal_of_80_columns() {
        let mut cli = Cli::command();
        cli.build();
        let all = commands(&cli).into_iter().map(|(_, command)| command).chain([&cli]);
        for command in all {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                // Longer ones are broken where it happens to be, and examples with them.
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn what_every_command_takes_stands_behind_its_own_flags() {
        let mut cli = Cli::command();
        cli.build();
        // What stands below a `help` takes nothing.
        for (_, command) in commands(&cli).into_iter().filter(|(_, command)| command.get_arguments().count() > 0) {
            let help = command.clone().after_help("").render_long_help().to_string();
            let flags: Vec<&str> = help.lines().map(str::trim).filter(|line| line.starts_with('-')).collect();
            let last: Vec<&str> = flags.iter().rev().take(3).map(|flag| flag.split(' ').next().unwrap()).collect();
            assert_eq!(last, ["-h,", "-q,", "-v,"], "{}: {flags:?}", command.get_name());
        }
    }

    #[test]
    fn every_flag_is_an_environment_variable() {
        let mut cli = Cli::command();
        cli.build();
        for (name, command) in commands(&cli) {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long() else { continue };
                if matches!(long, "help" | "version") || arg.is_hide_set() {
                    continue;
                }
                let plain = long.replace('-', "_").to_uppercase();
                let own = format!("ACOPIO_{}_{plain}", name.to_uppercase());
                let variable = arg.get_env().and_then(|env| env.to_str()).unwrap_or_default();
                // What stands in it is the name of a file, not a key.
                let names_key = long == "key" && variable == "ACOPIO_KEY_FILE";
                assert!(
                    variable == format!("ACOPIO_{plain}") || variable == own || names_key,
                    "{own} or without the command, not {variable}"
                );
                assert!(arg.get_help().is_some(), "{} --{long} has no help", command.get_name());
            }
        }
    }

    #[test]
    fn a_variable_means_the_same_to_every_command() {
        let mut cli = Cli::command();
        cli.build();
        let mut meanings: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (_, command) in commands(&cli) {
            for arg in command.get_arguments() {
                let Some(variable) = arg.get_env().and_then(|env| env.to_str()) else { continue };
                // Kubernetes sets these in every container, for a service that is called acopio.
                assert!(!variable.starts_with("ACOPIO_SERVICE_"), "{variable}");
                assert!(variable != "ACOPIO_PORT" && !variable.starts_with("ACOPIO_PORT_"), "{variable}");
                // What it is for is in the help up to its first comma; what follows may be of one command alone.
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                let gist = help.split([',', ';', ':', '.', '[', '(']).next().unwrap_or_default().trim().to_owned();
                let values: Vec<_> =
                    arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
                let meaning = format!(
                    "{gist} | {arg} {:?} {:?} {:?} {values:?}",
                    arg.get_action(),
                    arg.get_num_args(),
                    arg.get_value_delimiter()
                );
                let (first, before) = meanings
                    .entry(variable.to_owned())
                    .or_insert_with(|| (command.get_name().to_owned(), meaning.clone()));
                assert_eq!(*before, meaning, "{variable} of {first} and of {}", command.get_name());
            }
        }
    }

    #[test]
    fn a_bad_value_of_a_variable_is_told_with_its_name() {
        let words = |line: &str| line.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        let told = |line: &str, set: &str| {
            let text = "error: invalid value 'x' for '--heartbeat <TIME>': no".to_owned();
            with_variables(text, &words(line), |name| name == set)
        };
        let named = "error: invalid value 'x' for '--heartbeat <TIME>' (variable ACOPIO_HEARTBEAT): no";
        assert_eq!(told("acopio -v head", "ACOPIO_HEARTBEAT"), named);
        for (line, set) in
            [("acopio head --heartbeat x", "ACOPIO_HEARTBEAT"), ("acopio head", "ACOPIO_LOGS"), ("acopio", "")]
        {
            assert!(!told(line, set).contains("variable"), "{line}");
        }
    }
}
