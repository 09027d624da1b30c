//! `acopio bench`: flags of a measurement, its progress and its report.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::check::bench::{self, Check, Progress, Report, Role, STAMP_BYTES, Settings, Target};
use crate::wire::text::Dialect;
use crate::{files, limits};
use anyhow::{Context as _, Result, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::heads::{self, Access};
use super::status::{Format, columns};
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio bench
      100 framed connections, 64 messages in flight each
  acopio bench --clients 1 --in-flight 1
      how long one message takes
  acopio bench --nodes 3 --replicas 2 --sync 1s
  acopio bench --rate 50000 --histogram latency.hgrm
      times at a rate, corrected for coordinated omission
  acopio bench --dialect line --clients 8 --format json | jq .messages_per_s
  acopio bench --head 10.0.0.5:5000 --for 30s --token-file load.token
      a cluster that runs: its messages stay there, and reading them back takes
      a token for write,read

Its own cluster is in a folder below the one for temporary files, which may be
no real disk: name another with --dir. It is removed in the end unless it was
named. The exit code is 1 if something that was acknowledged cannot be read
back, or if messages were refused.";

/// Measures a cluster of its own, or one that runs: rate, latency, CPU and memory
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Bench {
    /// Heads of a cluster that runs [default: a cluster of its own]; several with commas, or the flag several times
    #[arg(long, env = "ACOPIO_BENCH_HEAD", value_name = "HOST:PORT", value_delimiter = ',', value_parser = heads::head)]
    head: Vec<String>,
    #[command(flatten)]
    access: Access,
    /// Connections; they go to the heads in turn
    #[arg(long, env = "ACOPIO_BENCH_CLIENTS", value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u64).range(1..=limits::BENCH_CLIENTS_MAX as u64))]
    clients: u64,
    /// Messages that each connection has in flight [default: 64, and in the raw dialect 1, which is all it can]
    #[arg(long, env = "ACOPIO_IN_FLIGHT", value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=limits::BENCH_IN_FLIGHT_MAX as u64))]
    in_flight: Option<u64>,
    /// Bytes of a message; the first 24 say which it is
    #[arg(long, env = "ACOPIO_SIZE", value_name = "SIZE", default_value = "100", value_parser = values::bytes)]
    size: u64,
    /// What the connections speak
    #[arg(long, env = "ACOPIO_DIALECT", value_name = "DIALECT", value_enum, default_value = "framed")]
    dialect: Spoken,
    /// Messages a second, of all connections together [default: as many as fit]
    #[arg(long, env = "ACOPIO_RATE", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// Time that is measured
    #[arg(long = "for", env = "ACOPIO_BENCH_FOR", value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    run_for: Duration,
    /// Time before that, which does not count
    #[arg(long, env = "ACOPIO_WARM_UP", value_name = "TIME", default_value = "1s", value_parser = values::duration)]
    warm_up: Duration,
    /// Heads, all active; of its own cluster
    #[arg(long, env = "ACOPIO_HEADS", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=limits::HEADS_MAX as u64))]
    heads: u64,
    /// Data nodes, of its own cluster
    #[arg(long, env = "ACOPIO_NODES", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=limits::UP_NODES_MAX as u64))]
    nodes: u64,
    /// Copies of each message, in its own cluster
    #[arg(long, env = "ACOPIO_REPLICAS", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=limits::REPLICAS_MAX as u64))]
    replicas: u64,
    /// Longest wait for a disk that syncs quickly, before its own cluster starts: after heavy writing disks stall
    #[arg(long, env = "ACOPIO_CALM_WITHIN", value_name = "TIME", default_value = "30s",
        value_parser = values::duration)]
    calm_within: Duration,
    /// When to sync: always (before every answer), an interval such as 1s, or never; for data nodes of its own cluster
    #[arg(long, env = "ACOPIO_SYNC", value_name = "WHEN", default_value = "always", value_parser = values::sync)]
    sync: values::Sync,
    /// Folder for its own cluster, which is kept; it has to be empty [default: one below the folder for temporary files]
    #[arg(long, env = "ACOPIO_BENCH_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Do not read everything back in the end
    #[arg(long, env = "ACOPIO_NO_CHECK", value_parser = BoolishValueParser::new())]
    no_check: bool,
    /// Write the distribution of times there, for HdrHistogram's plotter
    #[arg(long, env = "ACOPIO_HISTOGRAM", value_name = "FILE")]
    histogram: Option<PathBuf>,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
}

/// A dialect, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Spoken {
    /// One message, one answer, as in the original
    Raw,
    /// A message a line
    Line,
    /// Frames
    Framed,
}

impl Bench {
    /// Measures and prints the report.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let (format, histogram) = (self.format, self.histogram.clone());
        let named = self.dir.is_some();
        let settings = self.settings()?;
        let own = match &settings.target {
            Target::Own { dir, .. } => Some(dir.clone()),
            Target::Running(_) => None,
        };
        let bar = bar(global);
        let stop_time = limits::BENCH_DRAIN_TIME_MAX + limits::READER_RETRY_TIME_DEFAULT + limits::STOP_TIME_MAX * 3;
        let report = runtime::run_role(stop_time, runtime::EndsWith::Terminal, async |shutdown| {
            Ok(bench::run(settings, shutdown, |progress| show(&bar, progress)).await?)
        });
        bar.finish_and_clear();
        let report = report?;
        if let Some(path) = &histogram {
            let written = files::create(path).and_then(|mut file| file.write_all(report.histogram.as_bytes()));
            written.with_context(|| {
                format!("cannot write {}; name a file in a folder that is there with --histogram", path.display())
            })?;
        }
        let text = match format {
            Format::Table => table(&report),
            Format::Json => print::json(&report)?,
        };
        print::out("the report", &text)?;
        if let Check::Bad(cause) = &report.check {
            tracing::error!(
                "{cause}{}",
                own.map(|dir| format!("; its files are in {}", dir.display())).unwrap_or_default()
            );
            return Ok(Outcome::Failed);
        }
        if report.messages == 0 {
            tracing::error!(
                "nothing was acknowledged while it was measured, so there is no rate to tell; see that a data node takes \
                 messages, or measure longer (--for)"
            );
            return Ok(Outcome::Failed);
        }
        if let Some(dir) = own.filter(|_| !named) {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}; do so by hand", dir.display()))?;
        }
        Ok(if report.refused == 0 { Outcome::Done } else { Outcome::Failed })
    }

    fn settings(self) -> Result<Settings> {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (dialect, most, default) = match self.dialect {
            Spoken::Raw => (Dialect::Raw, limits::RAW_READ_BYTES_MAX, 1),
            Spoken::Line => (Dialect::Line, limits::LINE_BYTES_MAX, 64),
            Spoken::Framed => (Dialect::Framed, limits::MESSAGE_BYTES_MAX, 64),
        };
        let (size, in_flight, clients) =
            (number(self.size), number(self.in_flight.unwrap_or(default)), number(self.clients));
        if !(STAMP_BYTES..=most).contains(&size) {
            bail!("--size {size} is not between {STAMP_BYTES} and {most}, the bounds of this dialect; choose another");
        }
        if dialect == Dialect::Raw && in_flight > 1 {
            bail!("a raw client waits for the answer to each message; leave out --in-flight or choose --dialect line");
        }
        let access = self.access.read()?;
        if dialect == Dialect::Raw && access.token.is_some() {
            bail!(
                "a raw connection of this measurement says no token; leave out --token-file or choose --dialect line"
            );
        }
        if clients.saturating_mul(in_flight) > limits::BENCH_IN_FLIGHT_ALL_MAX {
            let most = limits::BENCH_IN_FLIGHT_ALL_MAX;
            bail!("--clients times --in-flight is more than {most}; lower one of them");
        }
        if self.run_for + self.warm_up > limits::BENCH_TIME_MAX {
            bail!("--for and --warm-up together are longer than {:?}; lower them", limits::BENCH_TIME_MAX);
        }
        let target = if self.head.is_empty() {
            if self.nodes < self.replicas {
                bail!("{} data nodes can't keep {} copies; raise --nodes", self.nodes, self.replicas);
            }
            let name = format!("acopio-bench-{}", std::process::id());
            Target::Own {
                program: std::env::current_exe()
                    .context("cannot find the acopio program; start it by its full path")?,
                dir: self.dir.unwrap_or_else(|| std::env::temp_dir().join(name)),
                heads: number(self.heads),
                nodes: number(self.nodes),
                replicas: number(self.replicas),
                sync: self.sync.to_string(),
            }
        } else {
            Target::Running(heads::resolve(self.head)?)
        };
        Ok(Settings {
            target,
            access,
            clients,
            in_flight,
            size,
            dialect,
            rate: self.rate.map(|rate| rate as f64),
            run_for: self.run_for,
            warm_up: self.warm_up,
            check: !self.no_check,
            calm_within: self.calm_within,
        })
    }
}

/// A line that tells how it goes, on a terminal only.
fn bar(global: Global) -> ProgressBar {
    if global.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(match progress {
        Progress::Starting => "waiting for a calm disk, then starting".to_owned(),
        Progress::Running { counts, elapsed, rate } => {
            let what = if counts { "measuring" } else { "warming up" };
            format!("{what}, {:.0} s: {rate:.0} messages/s", elapsed.as_secs_f64())
        }
        Progress::Checking => "reading everything back".to_owned(),
    });
    bar.tick();
}

fn table(report: &Report) -> String {
    let latency = &report.latency_us;
    let some = |number: Option<f64>, unit: &str| number.map_or_else(|| "-".to_owned(), |n| format!("{n:.1}{unit}"));
    let check = match &report.check {
        Check::Good => "all that was acknowledged was read back".to_owned(),
        Check::Skipped => "not read back".to_owned(),
        Check::Bad(cause) => cause.clone(),
    };
    let rows = [
        ["messages/s", &format!("{:.0}", report.messages_per_s)],
        ["payload", &format!("{:.1} MB/s", report.payload_mb_per_s)],
        ["to disk", &some(report.log_mb_per_s, " MB/s")],
        ["syncs/s", &some(report.syncs_per_s, "")],
        ["messages a sync", &some(report.messages_per_sync, "")],
        ["latency p50", &micros(latency.p50)],
        ["latency p90", &micros(latency.p90)],
        ["latency p99", &micros(latency.p99)],
        ["latency p99.9", &micros(latency.p999)],
        ["latency max", &micros(latency.max)],
        ["measured", &format!("{} messages in {:.1} s", report.messages, report.seconds)],
        [
            "whole run",
            &format!("{} sent, {} acknowledged, {} refused", report.sent, report.acknowledged, report.refused),
        ],
        ["check", &check],
    ];
    let mut text = columns(&rows.map(|row| row.map(str::to_owned)));
    if let Some(cause) = &report.refusal {
        text.push_str(&format!("first refusal: {cause}\n"));
    }
    if !report.cost.is_empty() {
        let titles = ["ROLE", "CORES", "CPU A MESSAGE", "PEAK MEMORY"].map(str::to_owned);
        let rows = report.cost.iter().map(|cost| {
            let role = match cost.role {
                Role::Load => "load",
                Role::Head => "head",
                Role::Data => "data",
            };
            let (cores, cpu) = (format!("{:.2}", cost.cores), format!("{:.2} us", cost.cpu_us_per_message));
            [role.to_owned(), cores, cpu, format!("{:.1} MiB", cost.peak_mib)]
        });
        let rows: Vec<_> = std::iter::once(titles).chain(rows).collect();
        text.push_str(&format!("\n{}", columns(&rows)));
    }
    text
}

fn micros(time: f64) -> String {
    if time < 10_000.0 { format!("{time:.0} us") } else { format!("{:.1} ms", time / 1000.0) }
}
