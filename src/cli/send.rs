//! `acopio send`: messages from arguments, a file or standard input, stored and accounted for line by line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client;
use crate::limits;
use crate::printable;
use crate::wire::source::SourceName;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use clap::builder::BoolishValueParser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::heads::Heads;
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio send --head 127.0.0.1:5000 hola adios
      two messages
  dmesg | acopio send --head 127.0.0.1:5000
      one message a line
  acopio send --head 127.0.0.1:5000 --file readings.csv
      with a progress bar on a terminal
  acopio send --head 127.0.0.1:5000 --acks hola
      prints the record's id and who keeps it
  acopio send --as taller/horno 21.4
      a message of that source: 'acopio read' tells it
  acopio send -5.2 -- --help
      numbers below zero are messages; after -- everything is

It exits with 0 only if every message is kept. Otherwise standard error says
which are not: `line 7: <cause>`. When nothing is kept for --retry-for, it
gives up: the rest of the input is not sent. A message that was given up while
a head had it and did not answer may be kept.";

/// Stores messages, and tells which were not kept
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Send {
    #[command(flatten)]
    heads: Heads,
    /// The name of the source whose messages these are: 1 to 32 of A-Za-z0-9._-, and / inside for groups
    #[arg(long = "as", env = "ACOPIO_AS", value_name = "NAME", value_parser = values::source)]
    name: Option<SourceName>,
    /// Messages; without any, standard input line by line
    #[arg(value_name = "TEXT", conflicts_with = "file", allow_negative_numbers = true)]
    text: Vec<String>,
    /// Send the lines of this file; a UTF-8 byte order mark is not part of the first
    #[arg(long, env = "ACOPIO_FILE", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print a line for every acknowledgement
    #[arg(long, env = "ACOPIO_ACKS", value_parser = BoolishValueParser::new())]
    acks: bool,
    /// Time to go on trying, while no head keeps anything, or forever
    #[arg(long, env = "ACOPIO_RETRY_FOR", value_name = "TIME", default_value = "30s", value_parser = values::or_forever)]
    retry_for: Duration,
}

impl Send {
    /// Sends everything there is.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        let waits = io::stderr().is_terminal() && self.file.is_none();
        logging::start(Global { quiet: !is_told(global, waits), ..global }, &[])?;
        let heads = self.heads.fixed()?;
        let (bar, input): (_, Box<dyn BufRead + std::marker::Send>) = match &self.file {
            Some(path) => open(path, global)?,
            None if self.text.is_empty() => (ProgressBar::hidden(), Box::new(BufReader::new(io::stdin()))),
            None => (ProgressBar::hidden(), Box::new(io::empty())),
        };
        let lines = read(self.text, input, bar.clone())?;
        // Two of them may run at the same time.
        let (name, shares_name) = (self.name, true);
        let config =
            client::Config { name, shares_name, retry_for: self.retry_for, ..client::Config::following(heads) };
        let report = runtime::run_short(send(config, lines, Report::new(self.acks, bar.clone())))?;
        bar.finish_and_clear();
        report.finish()
    }
}

/// Whether it is told that a head is tried again: to who wants to know, and to a person who `waits` at a terminal without a
/// progress bar. Else nothing is printed but errors.
const fn is_told(global: Global, waits: bool) -> bool {
    !global.quiet && (global.verbose || waits)
}

fn open(path: &Path, global: Global) -> Result<(ProgressBar, Box<dyn BufRead + std::marker::Send>)> {
    let failed =
        |cause: String| anyhow::anyhow!("cannot read {}: {cause}; name a file with one message a line", path.display());
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    if metadata.is_dir() {
        return Err(failed("it is a folder".to_owned()));
    }
    let size = metadata.len();
    // Hidden by indicatif itself where standard error is no terminal.
    let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new(size) };
    let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut input = BufReader::with_capacity(limits::READ_BUFFER_BYTES, file);
    skip_mark(&mut input, &bar).map_err(|error| failed(error.to_string()))?;
    Ok((bar, Box::new(input)))
}

/// Passes over the byte order mark that editors put in front of UTF-8.
fn skip_mark(input: &mut impl BufRead, bar: &ProgressBar) -> io::Result<()> {
    let start = input.fill_buf()?;
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return Err(io::Error::other("it is UTF-16, and messages are lines of bytes; save it as UTF-8"));
    }
    if start.starts_with(MARK) {
        input.consume(MARK.len());
        bar.inc(MARK.len() as u64);
    }
    Ok(())
}

/// U+FEFF in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// One message of the input, or why there is none.
struct Line {
    number: u64,
    text: Result<Bytes, String>,
}

/// Reads texts and lines on a thread of its own: reading standard input can block for ever.
fn read(
    texts: Vec<String>,
    mut input: Box<dyn BufRead + std::marker::Send>,
    bar: ProgressBar,
) -> Result<mpsc::Receiver<Line>> {
    let (sender, receiver) = mpsc::channel(limits::SEND_LINES_AHEAD);
    runtime::thread("input", move || {
        let mut number = 0;
        for text in texts {
            number += 1;
            if sender.blocking_send(Line { number, text: Ok(text.into()) }).is_err() {
                return;
            }
        }
        while let Some(text) = next_line(&mut input, &bar).transpose() {
            number += 1;
            let ends = matches!(&text, Err(Unread::Input(_)));
            let text = text.map_err(|e| e.to_string());
            if sender.blocking_send(Line { number, text }).is_err() || ends {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Why a line of the input cannot be sent.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("longer than {} bytes; split it", limits::MESSAGE_BYTES_MAX)]
    TooLong,
    #[error("cannot read on: {0}; what follows is not sent")]
    Input(io::Error),
}

/// The next line without its newline; a longer one than a message may be is skipped without holding all of it.
fn next_line(input: &mut impl BufRead, bar: &ProgressBar) -> Result<Option<Bytes>, Unread> {
    let mut line = Vec::new();
    let mut too_long = false;
    let mut read = 0;
    loop {
        let chunk = input.fill_buf().map_err(Unread::Input)?;
        let newline = chunk.iter().position(|&byte| byte == b'\n');
        let (taken, used) = newline.map_or((chunk.len(), chunk.len()), |at| (at, at + 1));
        too_long |= line.len() + taken > limits::MESSAGE_BYTES_MAX;
        if !too_long {
            line.extend_from_slice(chunk.get(..taken).unwrap_or_default());
        }
        let ended = newline.is_some() || used == 0;
        input.consume(used);
        bar.inc(used as u64);
        read += used;
        if ended {
            break;
        }
    }
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if too_long { Err(Unread::TooLong) } else { Ok(Some(line.into())) }
}

/// Sends line after line, with many under way, and notes every answer.
async fn send(config: client::Config, mut lines: mpsc::Receiver<Line>, mut report: Report) -> Result<Report> {
    let (sender, mut receipts) = client::connect(config);
    let mut sender = Some(sender);
    // The line of each message under way, by sequence number: the client's window bounds it.
    let mut under_way: HashMap<u64, u64> = HashMap::new();
    loop {
        if report.gave_up && sender.take().is_some() {
            // The heads had their time; each window of lines that are left would take it again.
            report.unread = !matches!(lines.try_recv(), Err(TryRecvError::Disconnected));
        }
        let next = async {
            match &sender {
                Some(sender) => (lines.recv().await, sender),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = receipts.next() => match outcome {
                Some(outcome) => report.settled(outcome, &mut under_way)?,
                None => break,
            },
            // Printed when it comes, and together with all that has come by then.
            () = std::future::ready(()), if report.is_dirty() => report.flush()?,
            (line, open) = next => match line {
                None => sender = None,
                Some(Line { number, text: Err(cause) }) => report.refused(number, &cause),
                Some(Line { number, text: Ok(text) }) => {
                    // Answers are read while the window is full, or it would stay so.
                    let accepted = open.send(text);
                    tokio::pin!(accepted);
                    loop {
                        tokio::select! {
                            biased;
                            Some(outcome) = receipts.next() => report.settled(outcome, &mut under_way)?,
                            () = std::future::ready(()), if report.is_dirty() => report.flush()?,
                            seq = &mut accepted => {
                                match seq {
                                    Ok(seq) => { under_way.insert(seq, number); }
                                    Err(error) => report.refused(number, &error.to_string()),
                                }
                                break;
                            }
                        }
                        if report.gave_up {
                            report.refused(number, "not sent, since those before it were given up");
                            break;
                        }
                    }
                }
            },
        }
    }
    report.flush()?;
    Ok(report)
}

/// What became of the lines.
struct Report {
    acks: Option<BufWriter<io::Stdout>>,
    bar: ProgressBar,
    kept: u64,
    refused: u64,
    /// Nothing was kept for as long as it may be tried.
    gave_up: bool,
    /// There may be lines that were not sent.
    unread: bool,
}

impl Report {
    fn new(acks: bool, bar: ProgressBar) -> Self {
        Self {
            acks: acks.then(|| BufWriter::with_capacity(limits::READ_OUTPUT_BYTES, io::stdout())),
            bar,
            kept: 0,
            refused: 0,
            gave_up: false,
            unread: false,
        }
    }

    fn settled(&mut self, outcome: client::Outcome, under_way: &mut HashMap<u64, u64>) -> Result<()> {
        match outcome {
            client::Outcome::Acked(ack) => {
                for k in 0..u64::from(ack.count) {
                    let Some(number) = under_way.remove(&(ack.first_seq + k)) else { continue };
                    self.kept += 1;
                    if let Some(out) = &mut self.acks {
                        let (id, nodes) = (ack.first.plus(k), ack.nodes.join(","));
                        writeln!(out, "{number} {id} recibido en dataNode {}", printable::visible(&nodes))
                            .context("cannot print acknowledgements; give it a standard output")?;
                    }
                }
            }
            client::Outcome::Refused { first_seq, count, refusal } => {
                // One that may be tried again comes here only when the time for it is over.
                self.gave_up |= refusal.retry;
                for seq in first_seq..first_seq + u64::from(count) {
                    if let Some(number) = under_way.remove(&seq) {
                        self.refused(number, &refusal.to_string());
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a line that is not kept; the first are listed.
    fn refused(&mut self, number: u64, cause: &str) {
        self.refused += 1;
        if self.refused <= limits::SEND_REFUSALS_SHOWN_MAX as u64 {
            self.bar.suspend(|| print::err(&format!("line {number}: {cause}")));
        }
    }

    /// Whether acknowledgements wait to be printed.
    fn is_dirty(&self) -> bool {
        self.acks.as_ref().is_some_and(|out| !out.buffer().is_empty())
    }

    fn flush(&mut self) -> Result<()> {
        self.acks
            .as_mut()
            .map_or(Ok(()), Write::flush)
            .context("cannot print acknowledgements; give it a standard output")
    }

    fn finish(&self) -> Result<Outcome> {
        if self.refused == 0 {
            return Ok(Outcome::Done);
        }
        let unlisted = self.refused.saturating_sub(limits::SEND_REFUSALS_SHOWN_MAX as u64);
        let more = if unlisted > 0 { format!(" ({unlisted} of them not listed)") } else { String::new() };
        let total = self.refused + self.kept;
        let rest = if self.unread { format!(", and what follows line {total} was not sent") } else { String::new() };
        let refused = self.refused;
        print::err(&format!(
            "acopio: {refused} of {total} messages are not kept{more}{rest}; mend that, then send them again"
        ));
        Ok(Outcome::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Result<Bytes, String>> {
        let mut input = BufReader::with_capacity(16, text);
        std::iter::from_fn(|| next_line(&mut input, &ProgressBar::hidden()).map_err(|e| e.to_string()).transpose())
            .collect()
    }

    #[test]
    fn a_person_who_waits_is_told_why_and_a_script_is_not() {
        let told = |verbose, quiet, waits| is_told(Global { verbose, quiet }, waits);
        assert!(told(false, false, true) && told(true, false, false));
        assert!(!told(false, false, false) && !told(false, true, true) && !told(true, true, true));
    }

    #[test]
    fn lines_end_with_a_newline_or_the_input() {
        let wanted: Vec<Result<Bytes, String>> =
            ["a", "", "b and more than a buffer", "last"].map(|line| Ok(Bytes::from(line))).into();
        assert_eq!(lines(b"a\r\n\nb and more than a buffer\nlast"), wanted);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_too_long_is_refused_and_the_next_is_sent() {
        let mut text = vec![b'x'; limits::MESSAGE_BYTES_MAX + 1];
        text.extend_from_slice(b"\nnext\n");
        let found = lines(&text);
        assert!(found[0].as_ref().unwrap_err().contains("split it"));
        assert_eq!(found[1], Ok(Bytes::from("next")));
        assert_eq!(found.len(), 2);
    }
}
