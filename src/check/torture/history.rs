//! What happened, event by event: streamed to a file in the run's folder, so that memory stays flat, and counted for
//! the verdict on the way.
//!
//! A line is `<seconds> <event> …`: `sent`, `acked`, `refused` and `unknown` with a client and its message numbers, and
//! for people `fault`, `healed`, `whole`, `copies`, `note`, `reading`.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::Kind;
use super::times::Times;
use super::verdict::{Expected, Message};
use crate::client::reader::Event;
use crate::limits;
use crate::wire::id::ClientId;

/// Its name in the run's folder.
pub(crate) const FILE: &str = "history.log";

/// The messages of a client that have no answer yet; it sends them in order.
#[derive(Debug, Default)]
struct Waiting {
    first: u64,
    sent: VecDeque<Option<Duration>>,
}

/// The history of a run.
#[derive(Debug)]
pub(crate) struct History {
    began: Instant,
    out: BufWriter<File>,
    failed: Option<io::Error>,
    waiting: Vec<Waiting>,
    /// What was sent, and what became of it.
    pub(crate) expected: Expected,
    /// How long faults kept messages waiting.
    pub(crate) times: Times,
    /// Messages of which a line had a bit flipped on a node.
    pub(crate) flipped: HashSet<Message>,
    /// What went wrong on the way, in words; the first few.
    pub(crate) troubles: Vec<String>,
    /// How much did.
    pub(crate) trouble_count: u64,
}

impl History {
    /// Begins the history of a run in its folder, with these writers (see [`Expected::new`]).
    ///
    /// # Errors
    /// The file can't be made.
    pub(crate) fn begin(dir: &Path, clients: &[Option<ClientId>]) -> io::Result<Self> {
        Ok(Self {
            began: Instant::now(),
            out: BufWriter::new(crate::files::create(&dir.join(FILE))?),
            failed: None,
            waiting: clients.iter().map(|_| Waiting { first: 1, sent: VecDeque::new() }).collect(),
            expected: Expected::new(clients),
            times: Times::default(),
            flipped: HashSet::new(),
            troubles: Vec::new(),
            trouble_count: 0,
        })
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A writer's next message is sent.
    pub(crate) fn sent(&mut self, writer: usize) -> Message {
        let now = self.now();
        let message = self.expected.sent(writer);
        if let Some(waiting) = self.waiting.get_mut(writer) {
            waiting.sent.push_back(Some(now));
        }
        self.write(now, format_args!("sent {writer} {}", message.n));
        message
    }

    /// Messages of a writer are acknowledged; `how` is what is worth knowing of it.
    pub(crate) fn acked(&mut self, writer: usize, first: u64, count: u64, how: impl std::fmt::Display) {
        let now = self.now();
        for n in first..first.saturating_add(count) {
            if !self.expected.acked(Message { writer, n }) {
                self.trouble(format!("message {n} of client {writer} was acknowledged and never sent"));
                break;
            }
            if let Some(sent) = self.answered(writer, n) {
                self.times.acked(sent, now);
            }
        }
        self.write(now, format_args!("acked {writer} {} {how}", Range(first, count)));
    }

    /// Messages of a writer are refused.
    pub(crate) fn refused(&mut self, writer: usize, first: u64, count: u64, why: &str) {
        for n in first..first.saturating_add(count) {
            if !self.expected.refused(Message { writer, n }) {
                self.trouble(format!("message {n} of client {writer} was refused and never sent"));
                break;
            }
            self.answered(writer, n);
        }
        self.write(self.now(), format_args!("refused {writer} {} {}", Range(first, count), why.escape_debug()));
    }

    /// A message of a writer will have no answer.
    pub(crate) fn unknown(&mut self, writer: usize, n: u64) {
        self.answered(writer, n);
        self.write(self.now(), format_args!("unknown {writer} {n}"));
    }

    /// A fault begins.
    pub(crate) fn fault(&mut self, kind: Kind, alone: bool, text: &str) {
        let now = self.now();
        self.times.began(kind, now, alone);
        self.write(now, format_args!("fault {text}"));
        tracing::info!("{text}");
    }

    /// A bit of these messages' lines was flipped.
    pub(crate) fn flipped(&mut self, messages: &[Message]) {
        self.flipped.extend(messages);
    }

    /// A reader of the cluster has something to tell that is no message.
    pub(crate) fn reading(&mut self, who: &str, event: &Event) {
        let now = self.now();
        match event {
            Event::Waiting { nodes } if nodes.is_empty() => self.write(now, format_args!("reading {who} goes on")),
            Event::Waiting { nodes } => self.write(now, format_args!("reading {who} waits for {}", nodes.join(", "))),
            Event::Lost { head, cause } => self.write(now, format_args!("reading {who} leaves {head}: {cause}")),
            Event::Message(_) | Event::End { .. } => {}
        }
    }

    /// A fault of this kind is undone.
    pub(crate) fn over(&mut self, kind: Kind, text: &str) {
        let now = self.now();
        self.times.over(kind, now);
        self.write(now, format_args!("healed {text}"));
        tracing::info!("{text}");
    }

    /// Something that people want to know, after one word of the kinds above.
    pub(crate) fn note(&mut self, word: &str, text: &str) {
        self.write(self.now(), format_args!("{word} {text}"));
        tracing::info!("{text}");
    }

    /// Something went wrong that is a failure of the run.
    pub(crate) fn trouble(&mut self, text: String) {
        self.write(self.now(), format_args!("trouble {text}"));
        tracing::error!("{text}");
        self.trouble_count += 1;
        if self.troubles.len() < limits::TORTURE_FINDINGS_SHOWN_MAX {
            self.troubles.push(text);
        }
    }

    /// When the message was sent, if it had no answer yet.
    fn answered(&mut self, writer: usize, n: u64) -> Option<Duration> {
        let waiting = self.waiting.get_mut(writer)?;
        let place = usize::try_from(n.checked_sub(waiting.first)?).ok()?;
        let sent = waiting.sent.get_mut(place)?.take();
        while waiting.sent.pop_front_if(|sent| sent.is_none()).is_some() {
            waiting.first += 1;
        }
        sent
    }

    fn write(&mut self, at: Duration, event: std::fmt::Arguments<'_>) {
        if let Err(error) = writeln!(self.out, "{:.6} {event}", at.as_secs_f64()) {
            self.failed.get_or_insert(error);
        }
    }

    /// Has all of it in the file.
    ///
    /// # Errors
    /// The first of all writes that failed.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

/// `7`, or `7-12`.
struct Range(u64, u64);

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self(first, 1) => write!(f, "{first}"),
            Self(first, count) => write!(f, "{first}-{}", first + count.saturating_sub(1)),
        }
    }
}

/// What the history says around these messages: every line about them, and what was done to the cluster meanwhile.
/// Without messages, what was done to the cluster last. At most [`limits::TORTURE_HISTORY_LINES_MAX`] lines.
///
/// # Errors
/// The file can't be read.
pub(crate) fn excerpt(dir: &Path, messages: &[Message]) -> io::Result<Vec<String>> {
    let (mut first, mut last) = (f64::MAX, f64::MIN);
    let lines = |wanted: &mut dyn FnMut(f64, &str, &[&str]) -> bool| -> io::Result<Vec<String>> {
        let mut found = VecDeque::new();
        for line in BufReader::new(File::open(dir.join(FILE))?).lines() {
            let line = line?;
            let words: Vec<&str> = line.splitn(5, ' ').collect();
            if let [at, event, rest @ ..] = &words[..]
                && let Ok(at) = at.parse()
                && wanted(at, event, rest)
            {
                if found.len() == limits::TORTURE_HISTORY_LINES_MAX {
                    found.pop_front();
                }
                found.push_back(line);
            }
        }
        Ok(found.into())
    };
    if !messages.is_empty() {
        lines(&mut |at, event, rest| {
            if is_of(messages, event, rest) {
                (first, last) = (first.min(at), last.max(at));
            }
            false
        })?;
    }
    let around = limits::TORTURE_HISTORY_AROUND.as_secs_f64();
    lines(&mut |at, event, rest| {
        let of_the_cluster = !matches!(event, "sent" | "acked" | "refused" | "unknown");
        let near = messages.is_empty() || (at > first - around && at < last + around);
        is_of(messages, event, rest) || (of_the_cluster && near)
    })
}

fn is_of(messages: &[Message], event: &str, rest: &[&str]) -> bool {
    let [writer, range, ..] = rest else { return false };
    if !matches!(event, "sent" | "acked" | "refused" | "unknown") {
        return false;
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(writer), Ok(first), Ok(last)) = (writer.parse::<usize>(), first.parse::<u64>(), last.parse::<u64>()) else {
        return false;
    };
    messages.iter().any(|message| message.writer == writer && (first..=last).contains(&message.n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_about_the_messages_and_the_faults_near_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::begin(dir.path(), &[None, None]).unwrap();
        for _ in 0..5 {
            history.sent(0);
            history.sent(1);
        }
        history.fault(Kind::Kill, true, "data1 is killed");
        history.acked(0, 2, 3, "by 127.0.0.2");
        history.acked(1, 1, 1, "");
        history.refused(0, 1, 1, "no\nroom");
        history.unknown(0, 5);
        history.flush().unwrap();
        let text = |messages: &[Message]| -> Vec<String> {
            let lines = excerpt(dir.path(), messages).unwrap();
            lines.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
        };
        let wanted = ["sent 0 3", "fault data1 is killed", "acked 0 2-4 by 127.0.0.2"];
        assert_eq!(text(&[Message { writer: 0, n: 3 }]), wanted);
        let wanted = ["sent 0 1", "fault data1 is killed", "refused 0 1 no\\nroom"];
        assert_eq!(text(&[Message { writer: 0, n: 1 }]), wanted);
        assert_eq!(text(&[]), ["fault data1 is killed"]);
        let counts = history.expected.counts();
        assert_eq!((counts.sent, counts.acknowledged, counts.refused, counts.unknown), (10, 4, 1, 5));
        assert!(history.waiting[0].sent.is_empty() && history.waiting[1].sent.len() == 4);
    }

    #[test]
    fn an_answer_to_what_was_never_sent_is_trouble() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::begin(dir.path(), &[None]).unwrap();
        history.acked(0, 1, 1, "");
        assert_eq!((history.trouble_count, history.troubles.len()), (1, 1));
    }
}
