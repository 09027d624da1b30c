//! Where events go: standard error for people, and files that turn over every day.
//!
//! The file being written is always found under its plain name (`heartbeat.log`; the days before are
//! `heartbeat.<day>.log`), so that `tail -F` follows it over midnight. Writing is synchronous: a line that was logged is
//! with the operating system, also before a kill -9. `registro.log` is not written here but by the head, for which its errors count.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::daily::{DailyFile, Keep, Unwritten};
use crate::limits;
use crate::printable;
use anyhow::{Context as _, Result};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Global;

/// Target of the heartbeat's events.
pub(crate) const HEARTBEAT: &str = "acopio::heartbeat";

/// Target of what goes to `clientes.log`.
pub(crate) const CLIENTES: &str = "acopio::clientes";

/// Target of the heartbeat's routine: every node, every few seconds.
const BEAT: &str = "acopio::heartbeat::beat";

/// Target of what a role has shown on standard output itself.
pub(crate) const SAID: &str = "acopio::said";

/// Target of a client's events.
pub(crate) const CLIENT: &str = "acopio::client";

/// Which events a file gets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Takes {
    /// Those of this target and the ones below it.
    Only(&'static str),
    /// All but those of these targets and the ones below them.
    AllBut(&'static [&'static str]),
    /// All of them.
    All,
}

impl Takes {
    fn takes(self, target: &str) -> bool {
        match self {
            Self::Only(one) => is_below(target, one),
            Self::AllBut(some) => !some.iter().any(|one| is_below(target, one)),
            Self::All => true,
        }
    }
}

fn is_below(target: &str, parent: &str) -> bool {
    target.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A log file: `<dir>/<name>.log`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogFile<'a> {
    /// Its folder; made if it is missing.
    pub(crate) dir: &'a Path,
    /// Its name without `.log`.
    pub(crate) name: &'static str,
    /// What goes into it.
    pub(crate) takes: Takes,
    /// It lies with data, and goes where that goes.
    pub(crate) beside_data: bool,
}

/// Starts logging for this process: standard error, and the files given.
///
/// # Errors
/// A folder that can't be made or written to.
pub(crate) fn start(global: Global, files: &[LogFile<'_>]) -> Result<()> {
    start_with(global, global.verbose, files)
}

/// As [`start`]; with `routine`, the heartbeat's is told on standard error, too.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_with(global: Global, routine: bool, files: &[LogFile<'_>]) -> Result<()> {
    let own = if global.verbose { Level::DEBUG } else { Level::INFO };
    let mut layers = Vec::with_capacity(files.len() + 1);
    for file in files {
        let takes = file.takes;
        let writer = Rolling::open(file)?;
        let wanted = filter_fn(move |meta| takes.takes(meta.target()) && interesting(meta, own));
        layers.push(layer(writer, false).with_filter(wanted).boxed());
    }
    let own = if global.quiet { Level::ERROR } else { own };
    // The heartbeat's routine is for its file; the screen gets it only when asked.
    let wanted = filter_fn(move |meta| {
        let is_routine = [BEAT, CLIENTES].iter().any(|one| is_below(meta.target(), one));
        // Whoever comes and what is refused is said beside these already.
        let is_for_files = meta.target() == SAID || is_below(meta.target(), crate::head::ACCESS);
        interesting(meta, own) && (routine || !is_routine) && !is_for_files
    });
    layers.push(layer(io::stderr, io::stderr().is_terminal()).with_filter(wanted).boxed());
    let most = LevelFilter::DEBUG;
    tracing_subscriber::registry().with(layers).with(most).try_init().context("logging was started twice; report this")
}

/// Our own events up to `own`, those of dependencies only when they warn.
fn interesting(meta: &Metadata<'_>, own: Level) -> bool {
    // It warns of each try; the session that uses it says what came of it.
    if is_below(meta.target(), "zookeeper_client") && own < Level::DEBUG {
        return false;
    }
    *meta.level() <= if is_below(meta.target(), "acopio") { own } else { own.min(Level::WARN) }
}

fn layer<S, W>(writer: W, colours: bool) -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .event_format(Line { colours })
        .with_ansi(false)
        // Its remedy is to print to standard error, which panics when that is gone; `Rolling` tells of errors itself.
        .log_internal_errors(false)
        .with_writer(writer)
}

/// One event, one line: the time in UTC, the level if it is worth a look, the message, its fields.
struct Line {
    colours: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        let (word, colour) = match *event.metadata().level() {
            Level::ERROR => ("ERROR ", "31"),
            Level::WARN => ("WARN ", "33"),
            Level::DEBUG => ("DEBUG ", "34"),
            Level::TRACE => ("TRACE ", "35"),
            Level::INFO => ("", "0"),
        };
        if self.colours {
            write!(out, "\x1b[2m{now}\x1b[0m \x1b[{colour}m{word}\x1b[0m")?;
        } else {
            write!(out, "{now} {word}")?;
        }
        let mut text = String::new();
        ctx.format_fields(Writer::new(&mut text), event)?;
        // What a peer sent may be in it: one event stays one line.
        writeln!(out, "{}", printable::visible(&text))
    }
}

/// A daily file whose failures are told on standard error.
struct Rolling {
    file: DailyFile,
    failing: AtomicBool,
}

impl Rolling {
    fn open(file: &LogFile<'_>) -> Result<Self> {
        let keep = Keep { age: Some(limits::LOG_AGE_MAX), bytes: None };
        let open = if file.beside_data { DailyFile::open_beside } else { DailyFile::open };
        Ok(Self { file: open(file.dir, file.name, keep)?, failing: AtomicBool::new(false) })
    }
}

impl<'a> MakeWriter<'a> for Rolling {
    type Writer = Told<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Told(self)
    }
}

/// One line's writer: it tells on standard error when writing begins to fail, and when it works again, not at every line.
struct Told<'a>(&'a Rolling);

impl io::Write for Told<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let result = self.0.file.write(line);
        if self.0.failing.swap(result.is_err(), Ordering::Relaxed) != result.is_err() {
            let place = self.0.file.path();
            let text = match &result {
                Ok(()) => format!("acopio: {} is written again; lines before this are missing", place.display()),
                Err(Unwritten { cause, .. }) => {
                    format!("acopio: {} cannot be written: {cause}; free space or mend the folder", place.display())
                }
            };
            drop(writeln!(io::stderr(), "{text}"));
        }
        result.map(|()| line.len()).map_err(|unwritten| unwritten.cause)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(dir: &Path, name: &str) -> Vec<String> {
        std::fs::read_to_string(dir.join(name)).unwrap().lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_file_gets_its_targets_with_time_first_and_one_line_an_event() {
        let dir = tempfile::tempdir().unwrap();
        let takes = Takes::Only(HEARTBEAT);
        let file = LogFile { dir: dir.path(), name: "heartbeat", takes, beside_data: false };
        let file = Rolling::open(&file).unwrap();
        let only = filter_fn(|meta| Takes::Only(HEARTBEAT).takes(meta.target()));
        let subscriber = tracing_subscriber::registry().with(layer(file, false).with_filter(only));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "acopio::heartbeat", name = "data1", "127.0.0.2 disponible");
            tracing::info!(target: "acopio::head", "not this");
            tracing::warn!(target: "acopio::heartbeat", "two\nlines");
        });
        let found = lines(dir.path(), "heartbeat.log");
        assert_eq!(found.len(), 2, "{found:?}");
        let (time, rest) = found[0].split_once(' ').unwrap();
        assert!(time.ends_with('Z') && humantime::parse_rfc3339(time).is_ok(), "{time}");
        assert_eq!(rest, "127.0.0.2 disponible name=\"data1\"");
        assert!(found[1].ends_with("WARN two\\nlines"), "{}", found[1]);
    }

    #[test]
    fn targets_match_whole_words() {
        assert!(Takes::Only(CLIENT).takes("acopio::client::numbers"));
        assert!(!Takes::Only(CLIENT).takes("acopio::clients"));
        assert!(Takes::AllBut(&[HEARTBEAT]).takes("acopio::head"));
        assert!(Takes::All.takes("tokio"));
    }
}
