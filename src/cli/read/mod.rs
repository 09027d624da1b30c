//! `acopio read`: the cluster's messages, merged in the order of ids, each once, and the numbers in them.

mod output;
mod print;
mod state;

use std::path::PathBuf;
use std::time::Duration;

use crate::client::reader::Config;
use crate::limits;
use crate::table::format::Format;
use crate::table::rows::Excel;
use crate::table::shape::{Shape, Wanted};
use crate::wire::id::{ClientId, RecordId};
use anyhow::Result;
use clap::builder::{BoolishValueParser, PossibleValue};
use clap::{Args, ValueEnum};
use regex::bytes::{Regex, RegexBuilder};

use self::output::Output;
use self::print::{Print, Seen};
use self::state::State;
use super::asked::Asked;
use super::buckets::Aggregate;
use super::{Global, Outcome, logging, runtime, values};

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
  acopio read --since today --fields temp,hum --rules campos.txt
      columns of numbers, read out of the payloads
  acopio read --since '1 hour ago' --every 1m --by device --fields temp
      the median of each minute and device; empty where there is none
  acopio read --since yesterday --fields temp --excel >temp.csv
      a file that Excel opens where numbers have a comma; else --excel=point
  acopio read --state done.txt --format influx | curl --data-binary @- URL
      what came since the last time, each message once
  acopio read --dir /backup/data1 /backup/data2 --since 2026-11-21 --count
      without a cluster, from the folders of its data nodes

Times may be: 10m, 1h30m, 2y, '1 hour ago', 'hace 1 hora', today, yesterday,
hoy, ayer, 'yesterday 22:00', 08:00, 2026-11-21, '2026-11-21 10:00',
2026-11-21T10:00+0300, Unix time in s, ms, us or ns, and record ids.

Without --follow it ends behind what is kept when it begins; with --follow it
goes on from there. Times are UTC unless they say otherwise, or with --local
where this machine is. A message that its client sent again is printed once;
each client's messages come in the order in which it sent them.

Exit codes:
  0    all that was asked for is printed (also: --follow was ended by Ctrl-C,
       or who reads the output had enough)
  1    something is missing, and standard error says what: data nodes that are
       away (with --partial that is no failure), damaged lines, or no head
       that answers for --retry-for
  2    bad usage";

/// Prints the cluster's messages, merged in the order of their ids, each once
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, mut_arg("dir", |arg| arg.env("ACOPIO_READ_DIR")))]
pub(crate) struct Read {
    #[command(flatten)]
    asked: Asked,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short, env = "ACOPIO_FOLLOW", value_parser = BoolishValueParser::new())]
    follow: bool,
    /// Only what comes behind this record
    #[arg(long, env = "ACOPIO_AFTER", value_name = "ID", allow_hyphen_values = true, conflicts_with_all = ["since", "state"],
        value_parser = record_id)]
    after: Option<RecordId>,
    /// Go on where the last read with this file stopped, and note there how far this one came: each message is printed once,
    /// and again only where a read was killed before it could note that
    #[arg(long, env = "ACOPIO_STATE", value_name = "FILE", conflicts_with_all = ["last", "partial", "count"])]
    state: Option<PathBuf>,
    /// Only the last N of what the other flags leave; without N, the last value of each bucket of --every
    #[arg(long, short = 'n', env = "ACOPIO_LAST", value_name = "N", num_args = 0..=1)]
    last: Option<Option<u64>>,
    /// Only messages of this client: ten characters, as in the second field of data.txt
    #[arg(long, env = "ACOPIO_CLIENT", value_name = "ID", allow_hyphen_values = true, value_parser = client_id)]
    client: Option<ClientId>,
    /// Only messages in which this regular expression is found
    #[arg(long, env = "ACOPIO_GREP", value_name = "RE", allow_hyphen_values = true, value_parser = pattern)]
    grep: Option<Regex>,
    /// How to print them
    #[arg(long, env = "ACOPIO_READ_FORMAT", value_name = "FORMAT", value_enum, default_value = "text")]
    format: Format,
    /// CSV that Excel opens as it is: numbers with a comma, or with =point with a point, as its language has them
    #[arg(long, env = "ACOPIO_EXCEL", value_name = "NUMBERS", value_enum, num_args = 0..=1, require_equals = true,
        default_missing_value = "comma")]
    excel: Option<Excel>,
    /// A column for each of these fields of the payloads
    #[arg(long, env = "ACOPIO_FIELDS", value_name = "NAME", value_delimiter = ',')]
    fields: Vec<String>,
    /// A line for each field of the payloads
    #[arg(long, env = "ACOPIO_LONG", value_parser = BoolishValueParser::new())]
    long: bool,
    /// Put the values of each such time together, by their median unless told otherwise
    #[arg(long, env = "ACOPIO_READ_EVERY", value_name = "TIME", value_parser = values::keep)]
    every: Option<Duration>,
    /// With --every: the values of each device apart
    #[arg(long, env = "ACOPIO_BY", value_name = "WHAT", value_enum, requires = "every")]
    by: Option<By>,
    /// With --every: the median, which one wrong value does not move
    #[arg(long, env = "ACOPIO_MEDIAN", requires = "every", value_parser = BoolishValueParser::new())]
    median: bool,
    /// With --every: the mean
    #[arg(long, env = "ACOPIO_MEAN", requires = "every", value_parser = BoolishValueParser::new())]
    mean: bool,
    /// With --every: the least
    #[arg(long, env = "ACOPIO_MIN", requires = "every", value_parser = BoolishValueParser::new())]
    min: bool,
    /// With --every: the greatest
    #[arg(long, env = "ACOPIO_MAX", requires = "every", value_parser = BoolishValueParser::new())]
    max: bool,
    /// Print how many there are, and nothing else; with --every, how many in each bucket
    #[arg(long, env = "ACOPIO_READ_COUNT", value_parser = BoolishValueParser::new())]
    count: bool,
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Text => {
                "Time, source if it has one, and payload, one line each; what could move a cursor or hide is escaped"
            }
            Self::Json => {
                "An object a line: id, time, client, seq, ledger, source if it has one, and text or, where it is no UTF-8, \
                 base64; reused where another message had the number before"
            }
            Self::Csv => {
                "RFC 4180 with a header: id, time, client, seq, ledger, source, text, base64, or the fields; an apostrophe \
                 before what is a formula to a spreadsheet"
            }
            Self::Raw => "The bytes as they were sent, and a newline",
            Self::Line => "The line of data.txt, with its checksum",
            Self::Influx => "The fields in InfluxDB's line protocol",
            #[cfg(feature = "parquet")]
            Self::Parquet => "A Parquet file of the messages or their fields",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for Excel {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Comma, Self::Point]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Comma => PossibleValue::new("comma")
                .help("Semicolons between cells and commas in numbers: most of Europe and Latin America"),
            Self::Point => PossibleValue::new("point")
                .help("Commas between cells and points in numbers: English, Mexico, Central America"),
        })
    }
}

/// What buckets are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Who sent the values
    Device,
}

/// Tells of flags that contradict each other.
fn unusable(words: &str) -> Outcome {
    super::print::err(&format!("acopio: {words}"));
    Outcome::Unusable
}

fn record_id(text: &str) -> Result<RecordId, String> {
    text.parse().map_err(|error| format!("{error}; write the first field of a line of data.txt"))
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
        // Data goes to standard output; what happens to heads and nodes is told beside it.
        logging::start(Global { quiet: global.quiet || !global.verbose, ..global }, &[])?;
        let aggregate = match self.aggregate() {
            Ok(aggregate) => aggregate,
            Err(words) => return Ok(unusable(&words)),
        };
        let zone = self.asked.zone()?;
        let mut query = self.asked.query(&zone);
        (query.client, query.follow) = (self.client, self.follow);
        query.from = self.after.map_or(query.from, RecordId::next);
        let state = self.state.map(State::new);
        if let Some(next) = state.as_ref().map(State::load).transpose()?.flatten() {
            query.from = query.from.max(next);
        }
        let counts = self.count && self.every.is_none();
        let shape = Wanted {
            format: self.format,
            excel: self.excel,
            fields: self.fields,
            long: self.long,
            every: self.every,
            aggregate,
            by_device: self.by.is_some(),
            follow: self.follow,
            zone,
            rules: self.asked.rules()?,
        };
        if let Err(words) = shape.check() {
            return Ok(unusable(&words));
        }
        let shape = (!counts).then(|| Shape::new(shape)).transpose()?;
        let (output, seen) = (Output::new(tokio::io::stdout()), Seen::default());
        let print =
            Print { output, shape, grep: self.grep, last: self.last.flatten(), state, quiet: global.quiet, seen };
        if self.follow {
            runtime::run_role(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |shutdown| {
                let Some(heads) = self.asked.heads.followed(&shutdown).await? else { return Ok(Outcome::Done) };
                let config = Config { retry_for: self.asked.retry_for, ..Config::following(heads) };
                print.run(&config, query, Some(&shutdown)).await
            })
        } else {
            let config = self.asked.config()?;
            // A signal simply ends it.
            runtime::run_short(print.run(&config, query, None))
        }
    }

    /// What buckets are put together by. Two of them are a mistake.
    fn aggregate(&self) -> Result<Option<Aggregate>, String> {
        let every = self.every.is_some();
        let flags = [
            (self.median, Aggregate::Median),
            (self.mean, Aggregate::Mean),
            (self.min, Aggregate::Min),
            (self.max, Aggregate::Max),
            (self.last == Some(None), Aggregate::Last),
            (self.count && every, Aggregate::Count),
        ];
        let mut set = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, aggregate)| aggregate);
        let first = set.next();
        if let Some((one, other)) = first.zip(set.next()) {
            return Err(format!("--{} and --{} are two questions; ask them one by one", one.name(), other.name()));
        }
        let wrong = [
            (self.last == Some(None) && !every, "--last needs a number: --last 10; without one it is for --every"),
            (self.follow && self.asked.is_of_folders(), "--follow needs a cluster; folders are read as they are"),
            (
                self.follow && self.count && !every,
                "--count has no end with --follow; leave one out, or count each minute with --every 1m",
            ),
        ];
        if let Some((_, words)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(words.to_owned());
        }
        Ok(first)
    }
}
