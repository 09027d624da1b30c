//! What `up` and `demo` show: lines of many members on one terminal, each with its name in front, the time of day in place
//! of the whole date, and cut where the terminal ends. What went wrong is never cut: what to do about it stands at its end.
//!
//! A terminal can stand still (Ctrl-S, a pager); the cluster must not. So a thread of its own writes, from a bounded
//! queue, and what does not fit is counted and told of. Everything shown is in the log files as well.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::plan::Kind;
use super::ways::Ways;
use super::{STOPPED, tail};
use crate::limits;
use crate::printable;
use crate::wire::record;

/// Width of the names' column.
const NAME_WIDTH: usize = 8;

/// Where lines are shown; clones share one queue.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
    /// Members are told to end: of each, only how that came out is shown.
    ending: Arc<AtomicBool>,
    colours: bool,
    quiet: bool,
    /// Columns of the terminal.
    columns: Option<usize>,
    /// The ways of messages, which are told in place of what clients say of them.
    ways: Option<Arc<Mutex<Ways>>>,
}

/// The thread that writes, if there is something to show.
#[derive(Debug)]
pub(crate) struct Writer(Option<JoinHandle<()>>);

impl Screen {
    /// A screen on standard output; with `quiet` it shows nothing. Colours on a terminal only.
    #[must_use]
    pub(crate) fn stdout(quiet: bool) -> (Self, Writer) {
        let columns = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self::new(io::stdout(), columns.filter(|columns| *columns > 2 * NAME_WIDTH), colours, quiet)
    }

    fn new(out: impl Write + Send + 'static, columns: Option<usize>, colours: bool, quiet: bool) -> (Self, Writer) {
        let (lines, receiver) = sync_channel(limits::SCREEN_LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let writer = (!quiet).then(|| {
            std::thread::Builder::new().name("screen".to_owned()).spawn(move || write(out, &receiver, &counted))
        });
        if let Some(Err(error)) = &writer {
            let text = format!("acopio: the system gives no thread ({error}), so nothing is shown; raise ulimit -u\n");
            drop(io::stderr().write_all(text.as_bytes()));
        }
        (
            Self { lines, lost, ending: Arc::default(), colours, quiet, columns, ways: None },
            Writer(writer.and_then(Result::ok)),
        )
    }

    /// The same one, to which clients' messages are shown by their ways.
    #[must_use]
    pub(crate) fn with_ways(&self, ways: Arc<Mutex<Ways>>) -> Self {
        Self { ways: Some(ways), ..self.clone() }
    }

    /// Shows a line of `up` itself.
    pub(crate) fn say(&self, line: impl Into<String>) {
        if !self.quiet && self.lines.try_send(line.into()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shows that the end begins; from now on a member's last line is shown, and what went wrong.
    pub(crate) fn end(&self, line: impl Into<String>) {
        self.ending.store(true, Ordering::Relaxed);
        self.say(line);
    }

    /// Shows a line of a member.
    pub(crate) fn show(&self, kind: Kind, name: &str, line: &str) {
        let ways = self.ways.as_ref().filter(|_| kind == Kind::Client);
        if !ways.is_some_and(|ways| tail::lock(ways).client_said(name, line)) {
            self.tell(kind, name, line);
        }
    }

    /// Shows a line about a member.
    pub(crate) fn tell(&self, kind: Kind, name: &str, line: &str) {
        let Some(text) = shown(line, self.ending.load(Ordering::Relaxed)) else { return };
        let room = self.columns.map(|columns| columns.saturating_sub(NAME_WIDTH + 2));
        let room = room.filter(|_| !is_trouble(split_time(line).1));
        // What somebody stored is part of it: it must not deceive the eye, either.
        self.say(format!("{} {}", prefix(kind, name, self.colours), printable::visible(&cut(&text, room))));
    }
}

impl Writer {
    /// Waits, not for long, until everything is shown; every [`Screen`] must be dropped by then.
    pub(crate) fn finish(self) {
        let end = Instant::now() + limits::SCREEN_END_TIME_MAX;
        while self.0.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < end {
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

/// A member's line as it is shown, or nothing where another one says the same; at the end only how that came out, and what
/// went wrong.
fn shown(line: &str, ending: bool) -> Option<String> {
    let (time, said) = split_time(line);
    // The heartbeat's line of a registration is shown, and the node's own.
    let is_twice = said.starts_with("dataNode ") && said.contains(" registered from ");
    let is_wanted = if ending { is_trouble(said) || time.is_some() && said.starts_with(STOPPED) } else { !is_twice };
    is_wanted.then(|| time.map_or_else(|| said.to_owned(), |time| format!("{time} {said}")))
}

/// Whether a member says that something went wrong.
fn is_trouble(said: &str) -> bool {
    ["WARN ", "ERROR ", "acopio: "].iter().any(|word| said.starts_with(word))
}

/// The time of day at the beginning of a line of a log (`2026-11-21T09:20:07.330969Z text` gives `09:20:07`), and the rest.
fn split_time(line: &str) -> (Option<&str>, &str) {
    let parts = line.split_once(' ').and_then(|(time, said)| Some((time.split_once('T')?, said)));
    match parts {
        Some(((date, time), said)) if date.len() == "2026-11-21".len() && time.ends_with('Z') => (time.get(..8), said),
        _ => (None, line),
    }
}

/// A record's line with its tag left out, if it has one.
fn untagged(line: &str) -> Option<String> {
    record::decode(line.as_bytes()).ok()?.tag?;
    let (fields, rest) = line.split_once('~')?;
    Some(format!("{fields} {}", rest.split_once(' ')?.1))
}

/// As much of a line as there is room for; of a record's the tag is the first to go.
fn cut(line: &str, room: Option<usize>) -> Cow<'_, str> {
    match room {
        Some(room) if line.chars().count() > room => {
            let untagged = untagged(line);
            let line = untagged.as_deref().unwrap_or(line);
            if line.chars().count() <= room {
                return Cow::Owned(line.to_owned());
            }
            Cow::Owned(line.chars().take(room.saturating_sub(1)).chain(['…']).collect())
        }
        _ => Cow::Borrowed(line),
    }
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
        Kind::Topics => &[31, 91],
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
    fn a_line_is_shown_with_the_time_of_day_and_fits_the_terminal() {
        let line = "2026-11-21T09:20:19.332002Z recibido en dataNode 127.0.0.4 data3 1795252819IkYAHSlsoA";
        let text = shown(line, false).unwrap();
        assert_eq!(text, "09:20:19 recibido en dataNode 127.0.0.4 data3 1795252819IkYAHSlsoA");
        assert_eq!(cut(&text, Some(70)), text);
        assert_eq!(cut(&text, Some(12)), "09:20:19 re…");
        let record = "1795252819IkYAHSlsoA q7kUjNK01f 1 1KPV9o mensaje: hola";
        assert_eq!(shown(record, false).unwrap(), record);
        assert_eq!(shown("2026-11-21T09:20:19.3Z dataNode data1 registered from 127.0.0.2:5", false), None);
    }

    #[test]
    fn what_somebody_stored_neither_moves_a_cursor_nor_turns_the_direction_of_writing() {
        let shown = shown_at(200, &["1795252819IkYAHSlsoA q7kUjNK01f 1 1KPV9o mensaje: \u{202e}\u{1b}[2J\u{9b}2Jmal"]);
        assert!(!shown.contains(['\u{202e}', '\u{1b}', '\u{9b}']) && shown.contains("mal"), "{shown:?}");
    }

    #[test]
    fn what_went_wrong_is_shown_whole_on_a_narrow_terminal() {
        let remedy =
            "acopio: the data folder logs/data4 was drained: other nodes have its records; start it with --new-id";
        let record = format!("1795252819IkYAHSlsoA q7kUjNK01f 1 1KPV9o mensaje: {}", "hola".repeat(20));
        let out = shown_at(40, &[remedy, "2026-11-21T09:20:19.3Z WARN dataNode data2 evicted: it was silent", &record]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], format!("data4   | {remedy}"));
        assert_eq!(lines[1], "data4   | 09:20:19 WARN dataNode data2 evicted: it was silent");
        assert_eq!(lines[2], "data4   | 1795252819IkYAHSlsoA q7kUjNK0…");
    }

    /// What a terminal of this width gets of a node's lines.
    fn shown_at(columns: usize, lines: &[&str]) -> String {
        struct Sent(std::sync::mpsc::Sender<Vec<u8>>);
        impl Write for Sent {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                drop(self.0.send(bytes.to_vec()));
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, sent) = std::sync::mpsc::channel();
        let (screen, writer) = Screen::new(Sent(sender), Some(columns), false, false);
        for line in lines {
            screen.show(Kind::Data, "data4", line);
        }
        drop(screen);
        writer.finish();
        String::from_utf8(sent.iter().flatten().collect()).unwrap()
    }

    #[test]
    fn where_there_is_little_room_a_record_is_shown_without_its_tag() {
        let line = "17958750044Lp-ewMDzG itW_JRUWwi 2:-.0~FfFYtpZ2MQ 2qTPsv mensaje: numero random: 7";
        let shown = shown_at(80, &[line]);
        assert_eq!(shown, "data4   | 17958750044Lp-ewMDzG itW_JRUWwi 2:-.0 2qTPsv mensaje: numero random: 7\n");
        assert!(shown_at(120, &[line]).contains("~FfFYtpZ2MQ"));
    }

    #[test]
    fn at_the_end_a_member_has_one_line_and_what_went_wrong() {
        assert_eq!(shown("2026-11-21T09:20:19.3Z stopping: no new messages", true), None);
        assert_eq!(
            shown("2026-11-21T09:20:19.3Z stopped with 2 records", true).unwrap(),
            "09:20:19 stopped with 2 records"
        );
        assert_eq!(shown("2026-11-21T09:20:19.3Z WARN the disk", true).unwrap(), "09:20:19 WARN the disk");
        assert_eq!(shown("1795252819IkYAHSlsoA q7kUjNK01f 1 1KPV9o mensaje: hola", true), None);
    }

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
        let (screen, writer) = Screen::new(Stuck(wait, shown), None, false, false);
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
