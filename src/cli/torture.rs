//! `acopio torture`: flags of a cluster that is tortured, and its report.

use std::path::PathBuf;
use std::time::Duration;

use crate::check::torture::plan::{Kind, Mix};
use crate::check::torture::verdict::Verdict;
use crate::check::torture::{self, Report, Settings};
use crate::limits;
use anyhow::{Context as _, Result, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::status::{Format, columns};
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio torture --for 2m
      faults of every kind, at random
  acopio torture --for 2m --seed 7
      the same faults in the same order again
  acopio torture --for 1m --faults kill,cut --mix alone
  acopio torture --for 10m --format json > report.json

Faults:
  kill       a data node is killed (-9) and started again
  stop       a data node is paused (SIGSTOP) and goes on
  cut        a data node's connections are closed and refused, to one head or
             all
  stall      a data node's connections carry nothing and stay open, to one
             head or all
  full       a data node's disk is full (needs root: a small disk is mounted
             for it)
  flip       a bit flips in a sealed file, always of the same data node
  wipe       that data node is killed and loses all its files
  head       a head is killed (-9) and started again
  head-stop  a head is paused (SIGSTOP) and goes on

Nothing outside its own processes and folder is touched. Ctrl-C ends the
faults early and checks what was done. If every promise was kept, the folder
is removed and the exit code is 0; if not, the history around the first broken
ones is printed, the folder is kept and the exit code is 1.";

/// Starts a cluster of its own, loads it, kills, pauses, cuts, fills and flips, and checks that nothing was lost
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Torture {
    /// Time for which faults come; starting, healing and checking take some more
    #[arg(long = "for", env = "ACOPIO_TORTURE_FOR", value_name = "TIME", default_value = "2m", value_parser = values::duration)]
    run_for: Duration,
    /// Seed of the faults: the same one gives the same faults in the same order [default: a random one, which is told]
    #[arg(long, env = "ACOPIO_SEED", value_name = "N")]
    seed: Option<u64>,
    /// Kinds of faults, with commas [default: all; with one replica, all but flip and wipe]
    #[arg(long, env = "ACOPIO_FAULTS", value_name = "KIND", value_delimiter = ',', value_parser = fault)]
    faults: Vec<Kind>,
    /// Whether a fault of a data node and one of a head may come together
    #[arg(long, env = "ACOPIO_MIX", value_name = "HOW", value_enum, default_value = "random")]
    mix: FaultMix,
    /// Heads, all active
    #[arg(long, env = "ACOPIO_HEADS", value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=limits::HEADS_MAX as u64))]
    heads: u64,
    /// Data nodes: more than --replicas, since one may be away
    #[arg(long, env = "ACOPIO_NODES", value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u64).range(2..=limits::TORTURE_PROCESSES_MAX as u64))]
    nodes: u64,
    /// Copies of each message; a message with fewer is refused
    #[arg(long, env = "ACOPIO_REPLICAS", value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=limits::REPLICAS_MAX as u64))]
    replicas: u64,
    /// Time between two heartbeats of the data nodes; faults last some of these
    #[arg(long, env = "ACOPIO_HEARTBEAT", value_name = "TIME", default_value = "1s", value_parser = values::duration)]
    heartbeat: Duration,
    /// Clients of the library
    #[arg(long, env = "ACOPIO_TORTURE_CLIENTS", value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(0..=limits::TORTURE_CLIENTS_MAX as u64))]
    clients: u64,
    /// Text clients, a message a line
    #[arg(long, env = "ACOPIO_LINE_CLIENTS", value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(0..=limits::TORTURE_CLIENTS_MAX as u64))]
    line_clients: u64,
    /// Messages a second, of all clients together
    #[arg(long, env = "ACOPIO_RATE", value_name = "N", default_value_t = 500,
        value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Size at which data.txt is sealed: only sealed files have bits flipped
    #[arg(long, env = "ACOPIO_SEGMENT_BYTES", value_name = "SIZE", default_value = "16KiB",
        value_parser = values::segment_bytes)]
    segment_bytes: u64,
    /// What an acknowledgement may take longer than promised, for the pauses of a shared machine
    #[arg(long, env = "ACOPIO_SLACK", value_name = "TIME", default_value = "2s", value_parser = values::duration)]
    slack: Duration,
    /// Time after the faults within which every record has to have all its copies again, or never to not judge that
    #[arg(long, env = "ACOPIO_COPIES_WITHIN", value_name = "TIME", default_value = "60s",
        value_parser = values::or_never)]
    copies_within: values::OrNever,
    /// Folder for all files, which is kept; it has to be empty [default: one below the folder for temporary files]
    #[arg(long, env = "ACOPIO_TORTURE_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the folder also if every promise was kept
    #[arg(long, env = "ACOPIO_TORTURE_KEEP", value_parser = BoolishValueParser::new())]
    keep: bool,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
}

/// A kind of fault, by its name.
fn fault(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("no such fault; write {}", names()))
}

/// How faults come.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FaultMix {
    /// Only one at a time
    Alone,
    /// Every kind alone at first, then some together
    Random,
}

impl Torture {
    /// Tortures, prints the report; fails if a promise was broken.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let (keep, format) = (self.keep || self.dir.is_some(), self.format);
        let settings = self.settings()?;
        let dir = settings.dir.clone();
        tracing::info!("seed {}; all files are in {}", settings.seed, dir.display());
        // The end of a run is bounded by its own waits: the load's, the healing's and the processes'.
        let stop_time = limits::TORTURE_RETRY_TIME + limits::TORTURE_WHOLE_TIME_MAX * 3 + limits::STOP_TIME_MAX * 3;
        let heads = u32::try_from(settings.heads).unwrap_or(u32::MAX);
        let reads = limits::TORTURE_READ_RETRY_TIME * 2 * heads + limits::TORTURE_FOLLOW_TIME_MAX;
        let stop_time = stop_time + settings.copies_within.unwrap_or_default() * 2 + reads;
        let report = runtime::run_role(stop_time, runtime::EndsWith::Terminal, async |shutdown| {
            Ok(torture::run(settings, shutdown).await?)
        })?;
        let text = match format {
            Format::Table => table(&report),
            Format::Json => print::json(&report)?,
        };
        print::out("the report", &text)?;
        if !report.good {
            tracing::error!("a promise was broken, seed {}; all data and logs are in {}", report.seed, dir.display());
        } else if !keep {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}; do so by hand", dir.display()))?;
        }
        Ok(if report.good { Outcome::Done } else { Outcome::Failed })
    }

    fn settings(self) -> Result<Settings> {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (nodes, replicas) = (self.nodes, self.replicas);
        if nodes <= replicas {
            bail!("{nodes} data nodes, one of which may be away, can't keep {replicas} copies; raise --nodes");
        }
        if self.clients + self.line_clients == 0 {
            bail!("there is no client, so nothing is sent; raise --clients or --line-clients");
        }
        let messages = self.rate.saturating_mul(self.run_for.as_secs());
        if messages > limits::TORTURE_MESSAGES_MAX {
            let most = limits::TORTURE_MESSAGES_MAX;
            bail!("--rate times --for makes {messages} messages, more than the {most} that are checked; lower --rate");
        }
        let mut faults = self.faults;
        faults.sort_unstable();
        faults.dedup();
        if faults.is_empty() {
            faults = Kind::ALL.into_iter().filter(|kind| replicas > 1 || !kind.takes_copies()).collect();
        }
        let seed = self.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        let name = format!("acopio-torture-{seed}-{}", std::process::id());
        Ok(Settings {
            program: std::env::current_exe().context("cannot find the acopio program; start it by its full path")?,
            dir: self.dir.unwrap_or_else(|| std::env::temp_dir().join(name)),
            run_for: self.run_for,
            seed,
            faults,
            mix: match self.mix {
                FaultMix::Alone => Mix::Alone,
                FaultMix::Random => Mix::Random,
            },
            heads: number(self.heads),
            nodes: number(nodes),
            replicas: number(replicas),
            heartbeat: self.heartbeat,
            segment_bytes: self.segment_bytes,
            clients: number(self.clients),
            lines: number(self.line_clients),
            rate: self.rate,
            slack: self.slack,
            copies_within: self.copies_within.0,
        })
    }
}

fn table(report: &Report) -> String {
    let messages = &report.messages;
    let mut counts = Vec::new();
    let mut count = |what: &str, count: String| counts.push([what.to_owned(), count]);
    count("MESSAGES", String::new());
    count("sent", messages.sent.to_string());
    count("acknowledged", messages.acknowledged.to_string());
    count("refused", messages.refused.to_string());
    count("without an answer", messages.unknown.to_string());
    count("", String::new());
    count("AFTER HEALING", String::new());
    let judged = if report.copies_judged { "" } else { " (not judged)" };
    count("short of copies", format!("{}{judged}", report.short_of_copies));
    count("of these, rotten by a flip", report.rotten_by_flip.to_string());
    let copies = |s: f64| format!("{s:.1} s");
    count("longest until all copies were made again", report.copies_s.map_or_else(|| "-".to_owned(), copies));
    count("longest delivery to the follower", format!("{:.3} s", report.follow.longest_s));
    count("lines that are no good record", report.bad_lines.to_string());
    count("other troubles", report.trouble_count.to_string());
    let mut text =
        format!("seed {}, {:.0} s of faults\n\n{}\n", report.seed, report.seconds, columns(&promises(report)));
    text.push_str(&format!("{}\n", columns(&counts)));
    text.push_str(&columns(&times(report)));
    for left_out in &report.left_out {
        text.push_str(&format!("\nleft out: {left_out}\n"));
    }
    if !report.good {
        text.push('\n');
        for (name, verdict) in verdicts(report) {
            for finding in &verdict.findings {
                text.push_str(&format!("{name}: {}\n", finding.text));
            }
        }
        for trouble in &report.troubles {
            text.push_str(&format!("{trouble}\n"));
        }
        text.push_str("\nWhat happened around it, in seconds from the start:\n");
        for line in &report.history {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text.push_str(if report.good { "\nEvery promise was kept.\n" } else { "\nNot every promise was kept.\n" });
    text
}

/// What was read, and whence.
fn verdicts(report: &Report) -> [(&'static str, &Verdict); 3] {
    [("read", &report.read), ("follow", &report.follow.verdict), ("files", &report.files)]
}

/// Every promise, and how often it was broken to whom.
fn promises(report: &Report) -> Vec<[String; 4]> {
    let all = verdicts(report).map(|(_, verdict)| verdict);
    let not_judged = || "not judged".to_owned();
    let row = |what: &str, count: &dyn Fn(&Verdict) -> String| {
        let [read, follow, files] = all.map(count);
        [what.to_owned(), read, follow, files]
    };
    vec![
        ["PROMISE", "READ", "FOLLOW", "FILES"].map(str::to_owned),
        row("messages", &|verdict| verdict.read.to_string()),
        row("acknowledged and lost", &|verdict| verdict.lost.to_string()),
        row("read twice", &|verdict| verdict.read_twice.to_string()),
        row("read, never sent", &|verdict| verdict.never_sent.to_string()),
        row("out of order within a client", &|verdict| {
            verdict.out_of_order.map_or_else(not_judged, |count| count.to_string())
        }),
    ]
}

/// The faults, with the longest time that each kind kept a message waiting.
fn times(report: &Report) -> Vec<[String; 7]> {
    let titles = ["FAULT", "ALONE", "LONGEST WAIT", "BOUND", "TOO LATE", "MIXED", "LONGEST WAIT MIXED"];
    let mut rows = vec![titles.map(str::to_owned)];
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.3} s"));
    rows.extend(report.faults.iter().map(|fault| {
        [
            fault.kind.to_string(),
            fault.alone.to_string(),
            time(fault.longest_s),
            time(fault.bound_s),
            fault.too_late.to_string(),
            fault.mixed.to_string(),
            time(fault.longest_mixed_s),
        ]
    }));
    rows
}
