//! `acopio read`: the cluster's messages, merged in the order of ids, each once.

mod format;

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use crate::client::reader::{self, Config, Event, Message, Query, ReadError};
use crate::limits;
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::peer::missing_cause;
use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;
use regex::bytes::{Regex, RegexBuilder};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, Stdout};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::format::Format;
use super::heads::Heads;
use super::moment::{self, Moment};
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio read --head 127.0.0.1:5000
      everything, the oldest first
  acopio read --head 127.0.0.1:5000 --since 10m --grep temp
      of the last ten minutes, what mentions temp
  acopio read --head 127.0.0.1:5000 --from esp7,taller/
      what esp7 sent, and all of the group taller
  acopio read --head 127.0.0.1:5000 --last 10 --follow
      the last ten, then what comes, until Ctrl-C
  acopio read --head 127.0.0.1:5000 --last 0 --follow
      only what comes
  acopio read --head a:5000,b:5000 --format json | jq .text
      goes on with b when a is lost
  acopio read --since 2026-11-21 --until '2026-11-21 10:00' --count

Without --follow it ends behind what is kept when it begins; with --follow it
goes on from there. Times are UTC unless they say otherwise. A message that
its client sent again is printed once; each client's messages come in the
order in which it sent them.

Exit codes:
  0    all that was asked for is printed (also: --follow was ended by Ctrl-C,
       or who reads the output had enough)
  1    something is missing, and standard error says what: data nodes that are
       away (with --partial that is no failure), damaged lines, or no head
       that answers for --retry-for
  2    bad usage";

/// Prints the cluster's messages, merged in the order of their ids, each once
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Read {
    #[command(flatten)]
    heads: Heads,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short, env = "ACOPIO_FOLLOW", value_parser = BoolishValueParser::new())]
    follow: bool,
    /// Leave out what is older: than a time ago (10m), a time (2026-11-21 10:00, UTC), or a record id
    #[arg(long, env = "ACOPIO_SINCE", value_name = "TIME", value_parser = moment::moment)]
    since: Option<Moment>,
    /// Only messages before this: as --since
    #[arg(long, env = "ACOPIO_UNTIL", value_name = "TIME", value_parser = moment::moment)]
    until: Option<Moment>,
    /// Only the last N of what the other flags leave
    #[arg(long, short = 'n', env = "ACOPIO_LAST", value_name = "N")]
    last: Option<u64>,
    /// Only messages of this client: ten characters, as in the second field of data.txt
    #[arg(long, env = "ACOPIO_CLIENT", value_name = "ID", allow_hyphen_values = true, value_parser = client_id)]
    client: Option<ClientId>,
    /// Only messages of these sources: names with commas between them; one that ends in / is a group, with all that is in it
    #[arg(long, env = "ACOPIO_FROM", value_name = "NAMES")]
    from: Option<SourceFilter>,
    /// Only messages in which this regular expression is found
    #[arg(long, env = "ACOPIO_GREP", value_name = "RE", allow_hyphen_values = true, value_parser = pattern)]
    grep: Option<Regex>,
    /// How to print them
    #[arg(long, env = "ACOPIO_READ_FORMAT", value_name = "FORMAT", value_enum, default_value = "text")]
    format: Format,
    /// Print how many there are, and nothing else
    #[arg(long, env = "ACOPIO_READ_COUNT", conflicts_with = "follow", value_parser = BoolishValueParser::new())]
    count: bool,
    /// Leave out data nodes that are away in place of waiting for them
    #[arg(long, env = "ACOPIO_PARTIAL", value_parser = BoolishValueParser::new())]
    partial: bool,
    /// Time to go on trying, while no head answers or data nodes are away, or forever; with --follow there is no end
    #[arg(long, env = "ACOPIO_RETRY_FOR", value_name = "TIME", default_value = "30s", value_parser = values::or_forever)]
    retry_for: Duration,
}

fn client_id(text: &str) -> Result<ClientId, String> {
    ClientId::from_text(text.as_bytes())
        .ok_or_else(|| "not a client; write its ten characters as in the second field of data.txt".to_owned())
}

fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(limits::GREP_BYTES_MAX)
        .dfa_size_limit(limits::GREP_BYTES_MAX)
        .build()
        .map_err(|error| format!("{error}; write a regular expression, with \\ before characters that mean themselves"))
}

impl Read {
    /// Prints what is asked for.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        // Data goes to standard output; what happens to heads and nodes is told below.
        logging::start(Global { quiet: global.quiet || !global.verbose, ..global }, &[])?;
        let heads = self.heads.checked()?;
        let now = SystemTime::now();
        let query = Query {
            from: self.since.map_or(RecordId::ZERO, |since| since.id(now)),
            until: self.until.map_or(RecordId::MAX, |until| until.id(now)),
            client: self.client,
            sources: self.from.unwrap_or_default(),
            follow: self.follow,
            partial: self.partial,
        };
        let output = Output::new(tokio::io::stdout(), self.format);
        let output = (!self.count).then_some(output);
        let print = Print { output, grep: self.grep, quiet: global.quiet, printed: 0, damaged: 0, reused: 0 };
        if self.follow {
            runtime::run_role(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |shutdown| {
                let Some(heads) = self.heads.followed(&shutdown).await? else { return Ok(Outcome::Done) };
                let config = Config { retry_for: self.retry_for, ..Config::following(heads) };
                print.run(&config, query, self.last, Some(&shutdown)).await
            })
        } else {
            let config = Config { retry_for: self.retry_for, ..heads.into() };
            // A signal simply ends it.
            runtime::run_short(print.run(&config, query, self.last, None))
        }
    }
}

/// Why printing stops early.
enum Stop {
    /// Nothing failed: who reads the output has closed it, or Ctrl-C.
    Enough,
    Failed(anyhow::Error),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Failed(match error {
            missing @ ReadError::Missing { .. } => anyhow::anyhow!("{missing} with --partial"),
            error => error.into(),
        })
    }
}

/// What is printed where.
struct Print {
    /// None if they are only counted.
    output: Option<Output>,
    grep: Option<Regex>,
    quiet: bool,
    printed: u64,
    damaged: u64,
    /// Messages under numbers that others of the same client had before.
    reused: u64,
}

impl Print {
    async fn run(
        mut self,
        config: &Config,
        query: Query,
        last: Option<u64>,
        shutdown: Option<&CancellationToken>,
    ) -> Result<Outcome> {
        let stopping = async {
            match shutdown {
                Some(shutdown) => shutdown.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let printed = tokio::select! {
            biased;
            () = stopping => Err(Stop::Enough),
            printed = self.print(config, query, last) => printed,
        };
        // Who reads the output may have stopped reading, which must not hold up the end.
        let flushed = timeout(limits::CLOSE_TIME_MAX, self.flush()).await;
        if self.reused > 0 && !self.quiet {
            say(&reused(self.reused));
        }
        match (printed, flushed) {
            (Err(Stop::Failed(error)), _) => Err(error),
            (Err(Stop::Enough), _) => Ok(Outcome::Done),
            (Ok(()), Ok(Err(Stop::Failed(error)))) => Err(error),
            (Ok(()), _) if self.damaged > 0 => Ok(Outcome::Failed),
            (Ok(()), _) => Ok(Outcome::Done),
        }
    }

    async fn print(&mut self, config: &Config, mut query: Query, last: Option<u64>) -> Result<(), Stop> {
        let (mut skip, mut skip_until) = (0, RecordId::ZERO);
        let onward = onward(config.heads().len(), (!query.follow).then_some(config.retry_for));
        if let Some(n) = last {
            let grep = self.grep.clone();
            let mut told = String::new();
            let quiet = self.quiet;
            let found = reader::find_last(config, &query, n, |event| match event {
                Event::Message(message) => is_wanted(grep.as_ref(), message),
                event => {
                    tell_once(quiet, &mut told, &onward, event);
                    false
                }
            })
            .await?;
            (query.from, skip, skip_until) = (found.from, found.skip, found.until);
            if !query.follow {
                query.until = found.until;
            }
        }
        let mut told = String::new();
        let mut reader = reader::read(config.clone(), query);
        loop {
            // What is written waits for more only while there is more at once.
            let event = tokio::select! {
                biased;
                event = reader.next() => event,
                () = std::future::ready(()), if self.is_dirty() => {
                    self.flush().await?;
                    continue;
                }
            };
            match event {
                Some(Ok(Event::Message(message))) => {
                    if !is_wanted(self.grep.as_ref(), &message) {
                        continue;
                    }
                    if skip > 0 && message.id < skip_until {
                        skip -= 1;
                        continue;
                    }
                    self.message(&message).await?;
                }
                Some(Ok(event)) => tell_once(self.quiet, &mut told, &onward, &event),
                Some(Err(error @ ReadError::Line { .. })) => {
                    self.damaged += 1;
                    if self.damaged <= limits::SEND_REFUSALS_SHOWN_MAX as u64 {
                        say(&error.to_string());
                    }
                }
                Some(Err(error)) => return Err(error.into()),
                None => break,
            }
        }
        if self.output.is_none() {
            let count = format!("{}\n", self.printed);
            io::stdout().write_all(count.as_bytes()).or_else(closed)?;
        }
        Ok(())
    }

    async fn message(&mut self, message: &Message) -> Result<(), Stop> {
        self.printed += 1;
        self.reused += u64::from(message.reused);
        let Some(output) = &mut self.output else { return Ok(()) };
        output.format.write(&mut output.buffer, message).or_else(closed)?;
        if output.buffer.len() >= limits::READ_OUTPUT_BYTES { output.flush().await } else { Ok(()) }
    }

    fn is_dirty(&self) -> bool {
        self.output.as_ref().is_some_and(|output| !output.buffer.is_empty())
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        match &mut self.output {
            Some(output) => output.flush().await,
            None => Ok(()),
        }
    }
}

/// Standard output. It is written by a thread of the runtime's, so that a signal is heard while nobody reads it.
struct Output<W = Stdout> {
    out: W,
    buffer: Vec<u8>,
    /// How much of the buffer is in `out`: a signal may end a flush anywhere, and the next goes on from there.
    written: usize,
    format: Format,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    fn new(out: W, format: Format) -> Self {
        Self { out, buffer: format.header().to_vec(), written: 0, format }
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        let written = self.write().await;
        self.buffer.clear();
        self.written = 0;
        written.or_else(closed)
    }

    async fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => self.written += more,
            }
        }
        self.out.flush().await
    }
}

/// What an error of the output means: who reads it may have had enough.
fn closed(error: io::Error) -> Result<(), Stop> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Err(Stop::Enough);
    }
    Err(Stop::Failed(anyhow::Error::new(error).context("cannot print messages; give them a standard output")))
}

/// What is said in the end of messages that are none of their number's first.
fn reused(count: u64) -> String {
    format!(
        "{count} messages have the client and the number of another one before them: a client began to count anew under \
         the same id; give it a new one when it does, or its retries cannot be told ('acopio audit' names the numbers)"
    )
}

fn is_wanted(grep: Option<&Regex>, message: &Message) -> bool {
    grep.is_none_or(|grep| grep.is_match(&message.payload))
}

/// What a read does about a lost head: with one head there is no next, and who waits wants to know for how long.
fn onward(heads: usize, retry_for: Option<Duration>) -> String {
    match retry_for {
        _ if heads > 1 => "going on with the next that answers".to_owned(),
        Some(time) if time < Duration::MAX => format!("trying again for {}", values::show(time)),
        _ => "trying again until it answers".to_owned(),
    }
}

/// Tells what happens to heads and nodes, the same thing once.
fn tell_once(quiet: bool, told: &mut String, onward: &str, event: &Event) {
    let words = match event {
        Event::Waiting { nodes } if nodes.is_empty() => "all data nodes are there again; going on".to_owned(),
        Event::Waiting { nodes } if nodes.iter().any(|node| missing_cause(node).is_some()) => {
            format!("waiting for {}", nodes.join(", "))
        }
        Event::Waiting { nodes } => format!("waiting for {}; start what is away again", nodes.join(", ")),
        Event::Lost { head, cause } => format!("head {head}: {cause}; {onward}"),
        Event::End { missing, .. } if !missing.is_empty() => {
            format!("{} missing from this answer", missing.join(", "))
        }
        Event::End { .. } | Event::Message(_) => return,
    };
    if words != *told && !quiet {
        say(&words);
    }
    *told = words;
}

fn say(words: &str) {
    print::err(&format!("acopio: {words}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[test]
    fn who_has_one_head_is_told_for_how_long_it_is_tried() {
        let time = Duration::from_secs(30);
        assert_eq!(onward(1, Some(time)), "trying again for 30s");
        assert_eq!(onward(1, Some(Duration::MAX)), "trying again until it answers");
        assert_eq!(onward(1, None), "trying again until it answers");
        for retry_for in [Some(time), Some(Duration::MAX), None] {
            assert_eq!(onward(2, retry_for), "going on with the next that answers");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_signal_interrupts_is_printed_once() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut output = Output::new(ours, Format::Raw);
        output.buffer.extend_from_slice(b"uno dos tres");
        tokio::select! {
            biased;
            _ = output.flush() => unreachable!("nobody reads"),
            () = std::future::ready(()) => {}
        }
        let mut text = String::new();
        let flushed = async {
            let flushed = output.flush().await.is_ok();
            drop(output);
            flushed
        };
        let (flushed, read) = tokio::join!(flushed, theirs.read_to_string(&mut text));
        assert!(flushed && read.is_ok());
        assert_eq!(text, "uno dos tres");
    }
}
