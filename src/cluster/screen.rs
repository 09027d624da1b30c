//! What `up` shows: lines of many processes on one terminal, each with its name in front.
//!
//! A terminal can stand still (Ctrl-S, a pager); the cluster must not. So a thread of its own writes, from a bounded
//! queue, and what does not fit is counted and told of. Everything shown is in the log files as well.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::plan::Kind;
use crate::limits;

/// Width of the names' column.
const NAME_WIDTH: usize = 8;

/// Where lines are shown; clones share one queue.
#[derive(Clone, Debug)]
pub struct Screen {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
    colours: bool,
    quiet: bool,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer(JoinHandle<()>);

impl Screen {
    /// A screen on standard output; with `quiet` it shows nothing. Colours on a terminal only.
    #[must_use]
    pub fn stdout(quiet: bool) -> (Self, Writer) {
        Self::new(io::stdout(), io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(), quiet)
    }

    fn new(out: impl Write + Send + 'static, colours: bool, quiet: bool) -> (Self, Writer) {
        let (lines, receiver) = sync_channel(limits::SCREEN_LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let writer = std::thread::spawn(move || write(out, &receiver, &counted));
        (Self { lines, lost, colours, quiet }, Writer(writer))
    }

    /// Shows a line of `up` itself.
    pub fn say(&self, line: impl Into<String>) {
        if !self.quiet && self.lines.try_send(line.into()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shows a line of a process.
    pub fn show(&self, kind: Kind, name: &str, line: &str) {
        self.say(format!("{} {line}", prefix(kind, name, self.colours)));
    }
}

impl Writer {
    /// Waits, not for long, until everything is shown; every [`Screen`] must be dropped by then.
    pub fn finish(self) {
        let end = Instant::now() + limits::SCREEN_END_TIME_MAX;
        while !self.0.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn write(mut out: impl Write, lines: &Receiver<String>, lost: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            drop(writeln!(out, "... {missing} lines are not shown; the log files have them"));
        }
        // Nobody may be looking any more; the cluster goes on.
        drop(writeln!(out, "{line}"));
    }
    drop(out.flush());
}

/// `data1   |`, coloured by what the process is.
fn prefix(kind: Kind, name: &str, colours: bool) -> String {
    let colour = colour(kind, name);
    if colours { format!("\x1b[{colour}m{name:NAME_WIDTH$}|\x1b[0m") } else { format!("{name:NAME_WIDTH$}|") }
}

/// Each member has a colour of its own, of those of its kind, as long as there are enough.
fn colour(kind: Kind, name: &str) -> u8 {
    let colours: &[u8] = match kind {
        Kind::Head => &[33, 93],
        Kind::Data => &[36, 35, 34, 96, 95, 94],
        Kind::Client => &[32, 92],
        Kind::ZooKeeper => &[37],
        Kind::Web => &[31],
        Kind::Device => &[92, 95, 96, 94, 91],
    };
    let number: usize = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(1);
    colours.iter().cycle().nth(number.saturating_sub(1) % colours.len()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_a_column() {
        assert_eq!(prefix(Kind::Head, "head", false), "head    |");
        assert_eq!(prefix(Kind::Data, "data12", false), "data12  |");
        assert_eq!(prefix(Kind::Data, "data2", true), "\x1b[35mdata2   |\x1b[0m");
        assert_eq!(prefix(Kind::Client, "client1", true), "\x1b[32mclient1 |\x1b[0m");
    }

    #[test]
    fn a_terminal_that_stands_still_holds_nobody_up() {
        struct Stuck(Receiver<()>, std::sync::mpsc::Sender<Vec<u8>>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _let_go = self.0.recv();
                drop(self.1.send(bytes.to_vec()));
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (go, wait) = std::sync::mpsc::channel();
        let (shown, seen) = std::sync::mpsc::channel();
        let (screen, writer) = Screen::new(Stuck(wait, shown), false, false);
        for i in 0..3 * limits::SCREEN_LINES_MAX {
            screen.show(Kind::Data, "data1", &i.to_string());
        }
        drop(go);
        drop(screen);
        writer.finish();
        let text = String::from_utf8(seen.iter().flatten().collect()).unwrap();
        assert!(text.contains("lines are not shown"), "{text}");
        assert!(text.lines().count() <= limits::SCREEN_LINES_MAX + 3);
    }
}
