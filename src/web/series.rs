//! A series: one number of one source, put together by time for a curve. Buckets without a value are there and empty, so
//! that a curve has a gap where nothing came.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Web;
use super::question::Fields;
use super::reads::look_for_notes;
use crate::client::reader::{self, Event, Query, ReadError};
use crate::limits;
use crate::reading::notes::Heeded;
use crate::reading::{Reading, UnixNs};
use crate::table::buckets::{Aggregate, Values};
use crate::table::moment::now_ns;
use crate::table::readings::Readings;
use crate::wire::id::RecordId;

/// Lengths of buckets that people can read, seconds.
const NICE_S: [u64; 16] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 10_800, 21_600, 86_400];

/// The names of a question's fields.
pub(crate) const FIELDS: [&str; 6] = ["source", "field", "since", "until", "every", "partial"];

/// From when to when, in buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start_ns: u64,
    every_ns: u64,
    count: u64,
}

impl Span {
    /// Buckets of this length, or of a nice one, that cover the time.
    fn new(from_ns: u64, until_ns: u64, every: Option<Duration>) -> Result<Self, String> {
        let time = until_ns.saturating_sub(from_ns).max(1);
        let second = 1_000_000_000;
        let every_ns = match every {
            Some(every) => u64::try_from(every.as_nanos()).unwrap_or(u64::MAX),
            None => {
                let least = time.div_ceil(limits::WEB_SERIES_BUCKETS_DEFAULT).div_ceil(second);
                let days = least.div_ceil(86_400) * 86_400;
                NICE_S.into_iter().find(|nice| *nice >= least).unwrap_or(days).saturating_mul(second)
            }
        };
        let start_ns = from_ns - from_ns % every_ns;
        let count = until_ns.saturating_sub(start_ns).max(1).div_ceil(every_ns);
        if count > limits::WEB_SERIES_BUCKETS_MAX {
            let most = limits::WEB_SERIES_BUCKETS_MAX;
            return Err(format!("{count} buckets are more than {most}; name a shorter time, or a longer every"));
        }
        Ok(Self { start_ns, every_ns, count })
    }

    fn place(self, time: UnixNs) -> Option<usize> {
        let place = time.0.checked_sub(self.start_ns)? / self.every_ns;
        usize::try_from(place).ok().filter(|_| place < self.count)
    }
}

/// A bucket of the series.
#[derive(Debug)]
struct Bucket {
    values: Values,
    corrected: u64,
    out: u64,
}

/// A series that is being read.
#[derive(Debug)]
struct Series {
    span: Span,
    field: Option<String>,
    unit: Option<String>,
    buckets: Vec<Option<Bucket>>,
    /// Numbers that there are, for the choice of one.
    names: Vec<String>,
    hidden: u64,
    /// Values whose device says a time that is not asked for.
    elsewhere: u64,
}

impl Series {
    fn new(span: Span, field: Option<String>) -> Self {
        let buckets = (0..span.count).map(|_| None).collect();
        Self { span, field, unit: None, buckets, names: Vec::new(), hidden: 0, elsewhere: 0 }
    }

    fn add(&mut self, reading: &Reading, heeded: Heeded) {
        self.hidden += u64::from(heeded == Heeded::Hidden);
        for field in reading.fields.iter().filter(|field| field.number().is_some()) {
            if self.names.len() < limits::WEB_FIELDS_NAMED_MAX && !self.names.contains(&field.name) {
                self.names.push(field.name.clone());
            }
        }
        let found = match &self.field {
            Some(name) => reading.field(name),
            None => reading.fields.iter().find(|field| field.number().is_some()),
        };
        let Some((field, number)) = found.and_then(|field| Some((field, field.number()?))) else { return };
        if self.field.is_none() {
            self.field = Some(field.name.clone());
        }
        let place = self.span.place(reading.time()).and_then(|place| self.buckets.get_mut(place));
        let Some(bucket) = place else {
            self.elsewhere += 1;
            return;
        };
        let new = || Bucket { values: Values::new(limits::WEB_SERIES_VALUES_MAX), corrected: 0, out: 0 };
        let bucket = bucket.get_or_insert_with(new);
        bucket.values.add(reading.time(), number, Aggregate::Median);
        bucket.corrected += u64::from(heeded == Heeded::Corrected);
        bucket.out += u64::from(field.is_out);
        self.unit = self.unit.take().or_else(|| field.unit.clone());
    }

    fn json(self, missing: &[String]) -> Value {
        let Self { span, field, unit, buckets, names, hidden, elsewhere } = self;
        let told = buckets.into_iter().zip(0..).map(|(bucket, place)| {
            let time_ms = (span.start_ns + place * span.every_ns) / 1_000_000;
            let Some(Bucket { mut values, corrected, out }) = bucket else {
                return json!({ "t": time_ms, "n": 0, "min": null, "median": null, "mean": null, "max": null });
            };
            let mut said = |aggregate| values.said(aggregate);
            let [min, median, mean, max] =
                [Aggregate::Min, Aggregate::Median, Aggregate::Mean, Aggregate::Max].map(&mut said);
            let mut told =
                json!({ "t": time_ms, "n": values.count, "min": min, "median": median, "mean": mean, "max": max });
            let marks = [("corrected", corrected), ("out", out)].into_iter().filter(|(_, n)| *n > 0);
            if let Some(members) = told.as_object_mut() {
                members.extend(marks.map(|(name, n)| (name.to_owned(), n.into())));
            }
            told
        });
        json!({
            "field": field, "unit": unit, "every_s": span.every_ns as f64 / 1e9, "buckets": told.collect::<Vec<_>>(),
            "fields": names, "hidden": hidden, "elsewhere": elsewhere, "missing": missing,
        })
    }
}

/// What a question asks for, not yet read.
#[derive(Debug)]
pub(crate) struct Asked {
    every: Option<Duration>,
    field: Option<String>,
    wanted: super::live::Wanted,
    query: Query,
}

impl Asked {
    /// The last hour, unless the question says otherwise.
    ///
    /// # Errors
    /// It makes no sense.
    pub(crate) fn parse(query: &str, now: SystemTime) -> Result<Self, String> {
        let fields = Fields::parse(query, &FIELDS)?;
        let (wanted, mut query) = fields.query(now)?;
        let end = RecordId { time_ns: now_ns(), incarnation: 0 };
        query.until = query.until.min(end);
        if fields.get("since").is_none() {
            let hour = u64::try_from(limits::PLOT_TIME_DEFAULT.as_nanos()).unwrap_or(0);
            query.from = RecordId { time_ns: query.until.time_ns.saturating_sub(hour), incarnation: 0 };
        }
        query.partial = fields.flag("partial")?.unwrap_or(true);
        let field = fields.get("field").filter(|field| !field.is_empty()).map(str::to_owned);
        Ok(Self { every: fields.every()?, field, wanted, query })
    }

    /// The buckets that cover the time.
    ///
    /// # Errors
    /// They are too many.
    pub(crate) fn span(&self) -> Result<Span, String> {
        Span::new(self.query.from.time_ns, self.query.until.time_ns, self.every)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(crate) async fn read(self, web: &Arc<Web>, span: Span) -> Result<Value, String> {
        let (config, mut readings) = (web.reads(), Readings::new(web.rules.clone()));
        look_for_notes(&mut readings, &config, &self.query).await?;
        let (mut series, mut missing) = (Series::new(span, self.field), Vec::new());
        let mut reader = reader::read(config, self.query);
        while let Some(event) = reader.next().await {
            match event {
                Ok(Event::Message(message)) if self.wanted.wants(message.source.as_ref()) => {
                    if let Some((reading, heeded)) = readings.hear(&message) {
                        series.add(&reading, heeded);
                    }
                }
                Ok(Event::End { missing: away, .. }) => missing = away,
                Ok(_) | Err(ReadError::Line { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(series.json(&missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Rules;

    const S: u64 = 1_000_000_000;

    #[test]
    fn buckets_are_of_a_nice_length_and_bounded() {
        let span = |seconds: u64, every| Span::new(7 * S, (7 + seconds) * S, every);
        assert_eq!(span(3600, None), Ok(Span { start_ns: 0, every_ns: 15 * S, count: 241 }));
        assert_eq!(span(30, None).unwrap().every_ns, S);
        assert_eq!(span(86_400 * 365, None).unwrap().every_ns, 2 * 86_400 * S);
        assert!(span(3600, Some(Duration::from_secs(1))).unwrap_err().contains("more than 2000"));
        assert!(span(u64::MAX / S - 8, None).unwrap().count <= limits::WEB_SERIES_BUCKETS_MAX);
    }

    #[test]
    fn a_gap_stays_open_and_corrections_are_marked() {
        let mut series = Series::new(Span { start_ns: 0, every_ns: 10 * S, count: 3 }, None);
        let (rules, _) = Rules::parse("*: temp °C 5..45");
        for (second, payload, heeded) in [
            (1, "21", Heeded::AsItIs),
            (2, "85", Heeded::AsItIs),
            (3, "23", Heeded::Corrected),
            (25, "24 1", Heeded::AsItIs),
            (40, "1", Heeded::AsItIs),
            (5, "", Heeded::Hidden),
        ] {
            series.add(&Reading::new(None, payload.as_bytes(), UnixNs(second * S), &rules), heeded);
        }
        let told = series.json(&["data2".to_owned()]);
        let first = &told["buckets"][0];
        assert_eq!((&first["min"], &first["median"], &first["max"]), (&json!(21.0), &json!(23.0), &json!(85.0)));
        assert_eq!((&first["corrected"], &first["out"], &first["n"]), (&json!(1), &json!(1), &json!(3)));
        assert_eq!((&told["buckets"][1]["median"], &told["buckets"][1]["n"]), (&json!(null), &json!(0)));
        assert_eq!((&told["field"], &told["unit"]), (&json!("temp"), &json!("°C")));
        assert_eq!((&told["hidden"], &told["elsewhere"], &told["missing"][0]), (&json!(1), &json!(1), &json!("data2")));
    }
}
