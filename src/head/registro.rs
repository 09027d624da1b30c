//! `registro.log`: one line for each acknowledgement of a data node and for each refusal.
//!
//! A line is handed to the operating system before the client is told, so that a kill -9 of the head cannot separate
//! the two: the writer is synchronous and its errors count (this is why the lines do not go through `tracing`, which
//! swallows them). While it cannot be written, what data nodes acknowledge waits for it, and refusals are counted; their
//! clients are told to try again. Its files turn over every day. What the lines say is in docs/logs.md.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::daily::{self, DailyFile, Keep, Unwritten};
use crate::limits;
use crate::printable;
use crate::repeats::{Repeats, Saying};
use crate::wire::id::{self, ClientId, RecordId};
use crate::wire::text::{DE_CLIENTE, VECES};

/// Room for a client's id in a line, and what names it.
const CLIENT_CHARS: usize = 32;

/// Name of the file that says up to when lines were let go, in the folder of the logs.
pub(crate) const GONE: &str = "registro-gone.txt";

/// Where the lines go.
enum Sink {
    Files(Box<DailyFile>),
    /// The text of a simulated head's registro.
    #[cfg(feature = "simulation")]
    Memory(std::sync::Arc<std::sync::Mutex<String>>),
}

impl Sink {
    fn write(&self, lines: &str) -> Result<(), Unwritten> {
        match self {
            Self::Files(file) => file.write(lines.as_bytes()),
            #[cfg(feature = "simulation")]
            Self::Memory(text) => {
                text.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_str(lines);
                Ok(())
            }
        }
    }

    fn look(&self) -> io::Result<()> {
        match self {
            Self::Files(file) => file.look(),
            #[cfg(feature = "simulation")]
            Self::Memory(_) => Ok(()),
        }
    }
}

/// A refusal that is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused<'a> {
    /// Whose message it was.
    pub(crate) client: ClientId,
    /// Where it came from; none if that is not known any more.
    pub(crate) peer: Option<IpAddr>,
    /// The sequence number of the first message.
    pub(crate) first_seq: u64,
    /// How many messages.
    pub(crate) count: u32,
    /// Why.
    pub(crate) cause: &'a str,
}

/// What changed for the registro, for the head's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It cannot be written from now on: cause and remedy.
    Fails(String),
    /// It is written again.
    Goes(String),
}

/// It cannot be written.
#[derive(Debug)]
struct Failure {
    cause: String,
    since: Instant,
    /// Messages whose acknowledgement by a data node gets no line.
    dropped: u64,
}

/// The head's acknowledgement log.
pub(crate) struct Registro {
    folder: PathBuf,
    sink: Sink,
    clock: Clock,
    lines: String,
    /// Refusals, by whose they are; the numbers are those of the last message of each.
    refusals: Repeats<(u64, u64)>,
    failure: Option<Failure>,
}

impl Registro {
    /// Opens `registro.log` in `folder`.
    ///
    /// # Errors
    /// The folder can't be made or written.
    pub(crate) fn open(folder: &Path, keep: Keep, clock: Clock) -> Result<Self, daily::Error> {
        let file = DailyFile::open_accounted(folder, "registro", keep, GONE)?;
        Ok(Self::new(folder.to_owned(), Sink::Files(Box::new(file)), clock))
    }

    /// A registro that is added to a text.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub(crate) fn in_memory(text: std::sync::Arc<std::sync::Mutex<String>>, clock: Clock) -> Self {
        Self::new(PathBuf::from("memory"), Sink::Memory(text), clock)
    }

    const fn new(folder: PathBuf, sink: Sink, clock: Clock) -> Self {
        let refusals = Repeats::new(limits::REGISTRO_REPEAT_EVERY);
        Self { folder, sink, clock, lines: String::new(), refusals, failure: None }
    }

    /// Why it cannot be written, with the remedy, while it can't.
    #[must_use]
    pub(crate) fn failing(&self) -> Option<String> {
        let cause = &self.failure.as_ref()?.cause;
        let folder = self.folder.display();
        Some(format!(
            "the registro in {folder} cannot be written: {cause}; free space or mend the folder, and the head goes on by itself"
        ))
    }

    /// Notes that a data node keeps these ranges of ids. Nothing is on its way to the disk until [`write`](Self::write).
    pub(crate) fn kept(&mut self, ip: &str, name: &str, ranges: &[(RecordId, u32)]) {
        if let Some(failure) = &mut self.failure
            && self.lines.len() >= limits::REGISTRO_PENDING_BYTES_MAX
        {
            failure.dropped += ranges.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
            return;
        }
        for part in ranges.chunks(limits::REGISTRO_RANGES_MAX) {
            self.start_line();
            self.lines.push_str("recibido en dataNode ");
            self.lines.push_str(ip);
            self.lines.push(' ');
            self.lines.push_str(name);
            let mut part = part.iter().copied().peekable();
            while let Some((first, mut count)) = part.next() {
                // Batches that follow each other without a gap are one range.
                while let Some((_, more)) = part.next_if(|(next, _)| *next == first.plus(u64::from(count))) {
                    count += more;
                }
                self.lines.push(' ');
                self.push_id(first);
                if count > 1 {
                    self.lines.push_str("..+");
                    self.push_number(count - 1);
                }
            }
            self.lines.push('\n');
        }
    }

    /// Notes that a message of a client was not kept, and why. The same again is counted.
    pub(crate) fn refused(&mut self, refused: Refused<'_>, now: Instant) {
        let Refused { client, peer, first_seq, count, cause } = refused;
        // The cause may be a peer's words: one refusal stays one line.
        let mut text = printable::visible(cause).into_owned();
        text.truncate(text.floor_char_boundary(limits::LOG_TEXT_BYTES_MAX - CLIENT_CHARS));
        text += DE_CLIENTE;
        text += &client.to_string();
        let numbers = (first_seq, first_seq + u64::from(count) - 1);
        if self.failure.is_some() {
            self.refusals.count(peer, &text, numbers, now);
        } else if let Some(saying) = self.refusals.note(peer, &text, numbers, now) {
            self.push_refusal(&saying);
        }
    }

    /// Sees to what was counted, and tries again to write what could not be written; to be called once in a while.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<News> {
        if self.failure.is_none() {
            let due = self.refusals.due(now);
            due.iter().for_each(|saying| self.push_refusal(saying));
            self.look(now).or_else(|| self.write(now))
        } else {
            self.try_again(now)
        }
    }

    /// Writes down what was counted, at the end.
    pub(crate) fn close(&mut self, now: Instant) {
        let last = self.refusals.last_words();
        last.iter().for_each(|saying| self.push_refusal(saying));
        let _nothing_comes_after = self.try_again(now);
    }

    /// Hands the lines to the operating system. While that fails they wait: [`tick`](Self::tick) tries again, and until then
    /// nothing is acknowledged, since nothing could be traced.
    pub(crate) fn write(&mut self, now: Instant) -> Option<News> {
        if self.failure.is_some() || self.lines.is_empty() {
            return None;
        }
        let Err(unwritten) = self.sink.write(&self.lines) else {
            self.lines.clear();
            return None;
        };
        self.lines.drain(..unwritten.written);
        self.fails(&unwritten.cause, now)
    }

    fn fails(&mut self, cause: &io::Error, now: Instant) -> Option<News> {
        self.failure = Some(Failure { cause: cause.to_string(), since: now, dropped: 0 });
        self.failing().map(News::Fails)
    }

    /// A registro that was moved away is made anew, also while there is nothing to write.
    fn look(&mut self, now: Instant) -> Option<News> {
        self.sink.look().err().and_then(|cause| self.fails(&cause, now))
    }

    /// Whatever the cause was, a write that works now is as good as one before it: the lines are with the system again.
    fn try_again(&mut self, now: Instant) -> Option<News> {
        let tried = if self.lines.is_empty() {
            self.sink.look().map_err(Unwritten::from)
        } else {
            self.sink.write(&self.lines)
        };
        if let Err(unwritten) = tried {
            self.lines.drain(..unwritten.written);
            if let Some(failure) = &mut self.failure {
                failure.cause = unwritten.cause.to_string();
            }
            return None;
        }
        self.lines.clear();
        let Failure { since, dropped, .. } = self.failure.take()?;
        let after = humantime::format_duration(Duration::from_secs(now.duration_since(since).as_secs()));
        let mut text = format!("the registro in {} is written again, after {after}", self.folder.display());
        if dropped > 0 {
            // A String takes whatever is written to it.
            let _infallible = write!(
                text,
                "; {dropped} messages that data nodes keep have no line in it, and no client was told of them"
            );
        }
        Some(News::Goes(text))
    }

    fn push_refusal(&mut self, saying: &Saying<(u64, u64)>) {
        self.start_line();
        self.lines.push_str("Problema: mensaje no fue guardado en dataNode: ");
        self.lines.push_str(&saying.text);
        let (first, last) = saying.detail;
        let _infallible = write!(self.lines, " seq={}..{}", seq_text(first), seq_text(last));
        if saying.times > 0 {
            let _infallible = write!(self.lines, "{VECES}{}", saying.times);
        }
        self.lines.push('\n');
    }

    fn start_line(&mut self) {
        let now = humantime::format_rfc3339_micros(self.clock.now());
        let _infallible = write!(self.lines, "{now} ");
    }

    fn push_id(&mut self, id: RecordId) {
        self.lines.push_str(std::str::from_utf8(&id.to_text()).unwrap_or_default());
    }

    fn push_number(&mut self, number: u32) {
        let _infallible = write!(self.lines, "{number}");
    }
}

/// A sequence number as it stands in `data.txt`.
fn seq_text(seq: u64) -> String {
    let mut digits = vec![b'-'; id::digits(seq)];
    id::put_fixed(&mut digits, seq);
    String::from_utf8(digits).unwrap_or_default()
}

impl std::fmt::Debug for Registro {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registro").field("folder", &self.folder).field("failure", &self.failure).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientId = ClientId(9);

    fn open(dir: &Path) -> Registro {
        Registro::open(dir, Keep::default(), Clock::System).unwrap()
    }

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 1 }
    }

    fn refused(first_seq: u64, count: u32) -> Refused<'static> {
        Refused { client: CLIENT, peer: None, first_seq, count, cause: "no hay\ndataNodes" }
    }

    /// The lines without their times.
    fn lines(dir: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(dir.join("registro.log")).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_line_names_the_node_and_the_ids_as_ranges() {
        let dir = tempfile::tempdir().unwrap();
        let (mut registro, now) = (open(dir.path()), Instant::now());
        registro.kept("127.0.0.2", "data1", &[(id(0), 1)]);
        registro.kept("127.0.0.2", "data1", &[(id(1), 2), (id(3), 16), (id(100), 1)]);
        registro.refused(refused(7, 2), now);
        assert_eq!(registro.write(now), None);
        let wanted = [
            format!("recibido en dataNode 127.0.0.2 data1 {}", id(0)),
            format!("recibido en dataNode 127.0.0.2 data1 {}..+17 {}", id(1), id(100)),
            r"Problema: mensaje no fue guardado en dataNode: no hay\ndataNodes cliente=---------8 seq=6..7".to_owned(),
        ];
        assert_eq!(lines(dir.path()), wanted);
    }

    #[test]
    fn refusals_that_go_on_are_counted_and_none_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (mut registro, mut now) = (open(dir.path()), Instant::now());
        for k in 0..100_000 {
            registro.refused(refused(k, 1), now);
            registro.write(now);
            if k % 1000 == 0 {
                now += Duration::from_secs(1);
                registro.tick(now);
            }
        }
        registro.close(now);
        let lines = lines(dir.path());
        let times = |line: &String| line.split_once(VECES).map_or(1, |(_, times)| times.parse::<u64>().unwrap());
        assert_eq!(lines.iter().map(times).sum::<u64>(), 100_000);
        assert!(lines.len() < 20, "{lines:#?}");
    }

    #[test]
    fn a_full_disk_is_waited_for_and_what_nodes_kept_gets_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registro.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let (mut registro, now) = (open(dir.path()), Instant::now());
        registro.kept("127.0.0.2", "data1", &[(id(0), 1)]);
        let Some(News::Fails(text)) = registro.write(now) else { panic!("it is full") };
        assert!(text.contains("No space left on device") && text.contains("; free space or mend"), "{text}");
        registro.kept("127.0.0.2", "data1", &[(id(1), 1)]);
        registro.refused(refused(7, 1), now);
        assert_eq!((registro.write(now), registro.tick(now)), (None, None), "it is said once");
        assert!(registro.failing().is_some());
        let many: Vec<_> = (0..200_000).map(|k| (id(10 * k), 1)).collect();
        registro.kept("127.0.0.2", "data1", &many);
        registro.kept("127.0.0.2", "data1", &[(id(2), 3)]);
        assert!(registro.lines.len() < 2 * limits::REGISTRO_PENDING_BYTES_MAX);
        std::fs::remove_file(&path).unwrap();
        let now = now + Duration::from_secs(9);
        let Some(News::Goes(text)) = registro.tick(now) else { panic!("there is room") };
        assert!(text.contains("after 9s; 3 messages that data nodes keep have no line"), "{text}");
        registro.tick(now);
        let lines = lines(dir.path());
        assert!(lines[0].ends_with(&id(0).to_string()) && lines[1].ends_with(&id(1).to_string()), "{lines:?}");
        assert!(lines.last().unwrap().ends_with("cliente=---------8 seq=6..6 veces=1"), "{lines:?}");
        assert!(registro.failing().is_none());
    }

    #[test]
    fn half_a_line_of_a_killed_head_stays_on_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        for _ in 0..2 {
            let mut registro = open(dir.path());
            registro.kept("127.0.0.2", "data1", &[(id(0), 1)]);
            registro.write(now);
        }
        let path = dir.path().join("registro.log");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 3]).unwrap();
        let mut registro = open(dir.path());
        registro.kept("127.0.0.2", "data1", &[(id(0), 1)]);
        registro.write(now);
        let lines = lines(dir.path());
        assert!(lines.len() == 3 && lines[2].ends_with(&id(0).to_string()), "{lines:?}");
    }
}
