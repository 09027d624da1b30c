//! What a read makes of messages: lines of messages, columns of their fields, buckets of time, or a count. It writes to
//! memory; where that goes is not its business.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::buckets::{Aggregate, Buckets, Said, Series};
use super::format::{Format, Object};
use super::influx;
use super::moment::Zone;
#[cfg(feature = "parquet")]
use super::parquet::Parquet;
use super::readings::Readings;
use super::rows::{Cell, Column, Excel, Kind, Rows, Style};
use crate::client::reader::Message;
use crate::limits::FIELDS_TOLD_MAX;
use crate::reading::{Reading, Rules, UnixNs, Value};
use crate::wire::source::SourceName;

/// What the flags say.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) format: Format,
    pub(crate) excel: Option<Excel>,
    pub(crate) fields: Vec<String>,
    pub(crate) long: bool,
    pub(crate) every: Option<Duration>,
    pub(crate) aggregate: Option<Aggregate>,
    pub(crate) by_device: bool,
    pub(crate) follow: bool,
    pub(crate) zone: Zone,
    pub(crate) rules: Rules,
}

/// What becomes of messages.
#[derive(Debug)]
pub(crate) struct Shape {
    what: What,
    out: Writer,
    fields: Vec<String>,
    readings: Readings,
    zone: Zone,
    /// For people: without ids, and values in one column.
    brief: bool,
    told: Told,
}

#[derive(Debug)]
enum What {
    Messages,
    /// A column for each field.
    Wide,
    /// A line for each field.
    Long,
    /// A line for each bucket, or for each field of it.
    Buckets {
        buckets: Box<Buckets>,
        by_device: bool,
        follow: bool,
        counts: bool,
    },
}

#[derive(Debug)]
enum Writer {
    Lines(Format),
    Rows(Rows),
    Influx,
    #[cfg(feature = "parquet")]
    Parquet(Box<Parquet>),
}

/// A bucket that is over.
struct Over {
    start: u64,
    said: Vec<(Series, Option<f64>)>,
}

/// What is told in the end.
#[derive(Debug, Default)]
struct Told {
    /// Messages without a field that was asked for.
    without: u64,
    /// Device times that cannot be.
    times_ignored: u64,
    /// Payloads longer than the bounds.
    cut: u64,
    /// Texts where only a number could stand.
    texts: u64,
    /// Whether a field that was asked for was ever there.
    any: bool,
    /// Names of fields that are there.
    names: BTreeSet<String>,
}

impl Wanted {
    /// Whether fields are read at all.
    fn reads_fields(&self) -> bool {
        !self.fields.is_empty() || self.long || self.every.is_some() || self.format == Format::Influx
    }

    fn is_brief(&self) -> bool {
        self.format == Format::Text && self.excel.is_none()
    }

    /// What contradicts itself, and what would not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let is_of_messages = matches!(self.format, Format::Raw | Format::Line);
        let wrong = [
            (
                is_of_messages && (self.reads_fields() || self.excel.is_some()),
                "--format raw and line are the messages themselves; use text, json or csv for their fields",
            ),
            (
                self.excel.is_some() && !matches!(self.format, Format::Csv | Format::Text),
                "--excel is a kind of CSV; leave --format out",
            ),
            (
                self.long && self.every.is_some(),
                "--every has a line for each field unless --fields names them; leave --long out",
            ),
            (
                self.every.is_some() && self.format == Format::Influx,
                "--format influx has a line for each reading; let the database put them together, or use csv",
            ),
        ];
        wrong.into_iter().find(|(is_wrong, _)| *is_wrong).map_or(Ok(()), |(_, words)| Err(words.to_owned()))
    }
}

impl Shape {
    /// What flags say that do not contradict each other.
    ///
    /// # Errors
    /// The format has no such columns.
    pub(crate) fn new(wanted: Wanted) -> io::Result<Self> {
        let what = match wanted.every {
            Some(every) => {
                let aggregate = wanted.aggregate.unwrap_or(Aggregate::Median);
                let buckets = Box::new(Buckets::new(every, aggregate, wanted.zone.clone()));
                let counts = aggregate == Aggregate::Count && wanted.fields.is_empty();
                What::Buckets { buckets, by_device: wanted.by_device, follow: wanted.follow, counts }
            }
            None if wanted.long => What::Long,
            None if wanted.reads_fields() => What::Wide,
            None => What::Messages,
        };
        let columns = || columns(&what, &wanted);
        let rows = |style| Writer::Rows(Rows::new(style, wanted.zone.clone(), columns()));
        let out = match (wanted.format, wanted.excel) {
            (_, Some(excel)) => rows(Style::Excel(excel)),
            (Format::Csv, None) => rows(Style::Csv),
            (Format::Influx, None) => Writer::Influx,
            #[cfg(feature = "parquet")]
            (Format::Parquet, None) => Writer::Parquet(Box::new(Parquet::new(&columns())?)),
            (Format::Json, None) if !matches!(what, What::Messages) => rows(Style::Json),
            (Format::Text, None) if !matches!(what, What::Messages) => rows(Style::Text),
            (format, None) => Writer::Lines(format),
        };
        let brief = wanted.is_brief();
        let Wanted { fields, rules, zone, .. } = wanted;
        Ok(Self { what, out, fields, readings: Readings::new(rules), zone, brief, told: Told::default() })
    }

    /// What reads its numbers; none where only messages are printed.
    pub(crate) const fn readings(&mut self) -> Option<&mut Readings> {
        if matches!(self.what, What::Messages) { None } else { Some(&mut self.readings) }
    }

    /// What stands before the first message.
    pub(crate) fn header(&mut self, out: &mut Vec<u8>) {
        if let Writer::Rows(rows) = &mut self.out {
            rows.header(out);
        }
    }

    /// Appends what there is to write once this message is known.
    ///
    /// # Errors
    /// Memory that takes no byte.
    pub(crate) fn message(&mut self, out: &mut Vec<u8>, message: &Message) -> io::Result<()> {
        if matches!(self.what, What::Messages) {
            return match &mut self.out {
                Writer::Lines(format) => format.write(out, message, &self.zone),
                writer => writer.row(out, &message_row(message, &self.zone)),
            };
        }
        let Some(reading) = self.readings.read(message) else { return Ok(()) };
        self.told.note(&reading, &self.fields);
        match &mut self.what {
            What::Buckets { buckets, by_device, follow, counts } => {
                let source = reading.source.filter(|_| *by_device).map(|source| source.to_string()).unwrap_or_default();
                for (field, value) in values(&reading, &self.fields, *counts) {
                    buckets.add(reading.time(), Series { source: source.clone(), field }, value);
                }
                let mut closed = Vec::new();
                let mut each = |start: u64, said: Said<'_>| closed.push(Over { start, said: said.to_vec() });
                // Who follows wants a bucket when it is over.
                if *follow {
                    buckets.close_before(buckets.start(reading.taken), &mut each);
                }
                buckets.make_room(&mut each);
                self.closed(out, closed)
            }
            _ if matches!(self.out, Writer::Influx) => {
                influx::line(out, &reading, &self.fields);
                Ok(())
            }
            What::Long => {
                let is_wanted = |name: &str| {
                    self.fields.is_empty() || self.fields.iter().any(|field| field.eq_ignore_ascii_case(name))
                };
                for field in reading.fields.iter().filter(|field| is_wanted(&field.name)) {
                    let mut row = head(message, &reading, self.brief);
                    row.push(Cell::Text(field.name.clone()));
                    if self.brief {
                        row.push(cell_of(&field.value));
                    } else {
                        row.extend([Cell::number(field.number()), text_of(&field.value)]);
                    }
                    row.push(Cell::text(field.unit.as_deref()));
                    self.out.row(out, &row)?;
                }
                Ok(())
            }
            _ => {
                let fields = self.fields.iter().map(|name| reading.field(name));
                let cells: Vec<Cell> =
                    fields.map(|field| field.map_or(Cell::Empty, |field| cell_of(&field.value))).collect();
                if cells.iter().all(|cell| *cell == Cell::Empty) {
                    return Ok(());
                }
                let mut row = head(message, &reading, self.brief);
                row.extend(cells);
                self.out.row(out, &row)
            }
        }
    }

    /// When a bucket is over that is still open, for who follows.
    pub(crate) fn due(&self) -> Option<UnixNs> {
        match &self.what {
            What::Buckets { buckets, follow: true, .. } => buckets.due().map(UnixNs),
            _ => None,
        }
    }

    /// Appends the buckets that are over at this time.
    ///
    /// # Errors
    /// Memory that takes no byte.
    pub(crate) fn tick(&mut self, out: &mut Vec<u8>, now: UnixNs) -> io::Result<()> {
        let What::Buckets { buckets, follow: true, .. } = &mut self.what else { return Ok(()) };
        let mut closed = Vec::new();
        let end = buckets.start(now);
        buckets.close_before(end, &mut |start, said| closed.push(Over { start, said: said.to_vec() }));
        self.closed(out, closed)
    }

    /// Appends what is still to be written.
    ///
    /// # Errors
    /// Memory that takes no byte.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if let What::Buckets { buckets, .. } = &mut self.what {
            let mut closed = Vec::new();
            buckets.finish(&mut |start, said| closed.push(Over { start, said: said.to_vec() }));
            self.closed(out, closed)?;
        }
        #[cfg(feature = "parquet")]
        if let Writer::Parquet(parquet) = &mut self.out {
            self.told.texts += parquet.finish(out)?;
        }
        Ok(())
    }

    /// Rows of buckets that are over.
    fn closed(&mut self, out: &mut Vec<u8>, closed: Vec<Over>) -> io::Result<()> {
        let What::Buckets { by_device, .. } = self.what else { return Ok(()) };
        for Over { start, said } in closed {
            let head = |source: &str| {
                let source = by_device.then(|| Cell::Text(source.to_owned()));
                [Cell::Time(UnixNs(start))].into_iter().chain(source).collect::<Vec<_>>()
            };
            if self.fields.is_empty() {
                for (series, value) in &said {
                    let mut row = head(&series.source);
                    row.extend([Cell::Text(series.field.clone()), Cell::number(*value)]);
                    self.out.row(out, &row)?;
                }
                continue;
            }
            for of_source in said.chunk_by(|(a, _), (b, _)| a.source == b.source) {
                let mut row = head(of_source.first().map_or("", |(series, _)| &series.source));
                row.extend(self.fields.iter().map(|field| {
                    let found = of_source.iter().find(|(series, _)| series.field == *field);
                    Cell::number(found.and_then(|(_, value)| *value))
                }));
                self.out.row(out, &row)?;
            }
        }
        Ok(())
    }

    /// What is to be said in the end, a line each.
    pub(crate) fn told(&self) -> Vec<String> {
        let mut lines = self.readings.told();
        let Told { without, times_ignored, cut, texts, any, names } = &self.told;
        if !self.fields.is_empty() && !any && *without > 0 {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let there = if names.is_empty() {
                "they have none that can be read".to_owned()
            } else {
                format!("there are: {}", names.join(", "))
            };
            lines.push(format!("no message has a field {}; {there}", self.fields.join(" or ")));
        } else if *without > 0 && !self.fields.is_empty() {
            lines.push(format!("{without} messages have no field {}", self.fields.join(" or ")));
        }
        let more = [
            (
                *times_ignored,
                "device times were ignored: they are more than 400 days before or a day after their messages",
            ),
            (*cut, "messages were not read for their fields, or not for all: they are too long"),
            (*texts, "values are text, where this format has numbers: they are left out"),
        ];
        lines.extend(more.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        if let What::Buckets { buckets, .. } = &self.what {
            if buckets.late > 0 {
                lines.push(format!("{} values came too late for their buckets, which were printed", buckets.late));
            }
            if buckets.skipped > 0 {
                lines.push(format!("{} empty buckets were left out: nothing came for long", buckets.skipped));
            }
            if buckets.beyond > 0 {
                lines.push(format!(
                    "{} values are of too many fields and devices; name some with --fields",
                    buckets.beyond
                ));
            }
        }
        lines
    }
}

impl Told {
    fn note(&mut self, reading: &Reading, wanted: &[String]) {
        self.times_ignored += u64::from(reading.time_ignored);
        self.cut += u64::from(reading.is_cut);
        let has = wanted.iter().any(|name| reading.field(name).is_some());
        self.any |= has;
        self.without += u64::from(!has);
        for field in &reading.fields {
            if self.names.len() < FIELDS_TOLD_MAX && !self.names.contains(&field.name) {
                self.names.insert(field.name.clone());
            }
        }
    }
}

impl Writer {
    fn row(&mut self, out: &mut Vec<u8>, row: &[Cell]) -> io::Result<()> {
        match self {
            Self::Rows(rows) => rows.row(out, row),
            #[cfg(feature = "parquet")]
            Self::Parquet(parquet) => parquet.row(out, row)?,
            Self::Lines(_) | Self::Influx => {}
        }
        Ok(())
    }
}

/// The columns of what is asked for.
fn columns(what: &What, wanted: &Wanted) -> Vec<Column> {
    let texts = |names: &[&str]| names.iter().map(|name| Column::new(name, Kind::Text)).collect::<Vec<_>>();
    let time = || Column::new("time", Kind::Time);
    let fields = || wanted.fields.iter().map(|name| Column::new(name, Kind::Number));
    let mut columns = Vec::new();
    match what {
        What::Messages => {
            columns.extend(texts(&["id"]));
            columns.push(time());
            columns.extend(texts(&["client"]));
            columns.push(Column::new("seq", Kind::Whole));
            columns.extend(texts(&["ledger", "source", "text", "base64"]));
        }
        What::Buckets { by_device, .. } => {
            columns.push(time());
            columns.extend(by_device.then(|| Column::new("source", Kind::Text)));
            if wanted.fields.is_empty() {
                let aggregate = wanted.aggregate.unwrap_or(Aggregate::Median);
                columns.extend([Column::new("field", Kind::Text), Column::new(aggregate.name(), Kind::Number)]);
            } else {
                columns.extend(fields());
            }
        }
        What::Wide | What::Long => {
            let brief = wanted.is_brief();
            columns.extend((!brief).then(|| Column::new("id", Kind::Text)));
            columns.extend([time(), Column::new("source", Kind::Text)]);
            if matches!(what, What::Wide) {
                columns.extend(fields());
            } else {
                columns.extend([Column::new("field", Kind::Text), Column::new("value", Kind::Number)]);
                columns.extend(texts(if brief { &["unit"] } else { &["text", "unit"] }));
            }
        }
    }
    columns
}

/// What each row of a reading begins with.
fn head(message: &Message, reading: &Reading, brief: bool) -> Vec<Cell> {
    let id = (!brief).then(|| Cell::Text(message.id.to_string()));
    id.into_iter()
        .chain([Cell::Time(reading.time()), Cell::text(reading.source.as_ref().map(SourceName::as_str))])
        .collect()
}

fn message_row(message: &Message, zone: &Zone) -> Vec<Cell> {
    let Object { id, time: _, client, seq, ledger, source, text, base64, reused: _ } = Object::new(message, zone);
    let ledger = Some(ledger.as_str()).filter(|ledger| !ledger.is_empty());
    let time = Cell::Time(UnixNs(message.id.time_ns));
    let last = [ledger, source.as_deref(), text, base64.as_deref()].map(Cell::text);
    [Cell::Text(id), time, Cell::Text(client), Cell::Whole(seq)].into_iter().chain(last).collect()
}

fn cell_of(value: &Value) -> Cell {
    match value {
        Value::Number(number) => Cell::Number(*number),
        Value::Text(text) => Cell::Text(text.clone()),
    }
}

fn text_of(value: &Value) -> Cell {
    match value {
        Value::Number(_) => Cell::Empty,
        Value::Text(text) => Cell::Text(text.clone()),
    }
}

/// The numbers of a reading that go into buckets, under the names that were asked for.
fn values(reading: &Reading, wanted: &[String], counts: bool) -> Vec<(String, f64)> {
    if counts {
        return vec![("messages".to_owned(), 1.0)];
    }
    if wanted.is_empty() {
        return reading.fields.iter().filter_map(|field| Some((field.name.clone(), field.number()?))).collect();
    }
    wanted.iter().filter_map(|name| Some((name.clone(), reading.number(name)?))).collect()
}
