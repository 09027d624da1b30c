//! What a question to the API asks for: its fields, checked. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use super::live::Wanted;
use crate::client::reader::Query;
use crate::limits;
use crate::table::buckets::Aggregate;
use crate::table::format::Format;
use crate::table::moment::{Zone, moment, spelled};
use crate::table::rows::Excel;
use crate::wire::id::RecordId;

/// The fields of a question, each of which may be there once.
#[derive(Debug)]
pub(crate) struct Fields(BTreeMap<String, String>);

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One object with an array.
    Json,
    /// Lines, or a file.
    Of(Format),
    /// What Excel opens.
    Excel(Excel),
}

/// Which messages are asked for, and how.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) wanted: Wanted,
    pub(crate) query: Query,
    pub(crate) limit: Option<u64>,
    pub(crate) last: Option<u64>,
    pub(crate) form: Form,
    pub(crate) fields: Vec<String>,
    pub(crate) long: bool,
    pub(crate) every: Option<Duration>,
    pub(crate) aggregate: Option<Aggregate>,
    /// As a file.
    pub(crate) download: bool,
}

impl Fields {
    /// The fields of a query, all of which have to be among these.
    ///
    /// # Errors
    /// One is unknown, or there twice.
    pub(crate) fn parse(query: &str, known: &[&str]) -> Result<Self, String> {
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(format!("there is no field {name:?} here; there are {}", known.join(", ")));
            }
            if fields.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(format!("{name} is given more than once; give it once"));
            }
        }
        Ok(Self(fields))
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A number within these bounds.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn number(&self, name: &str, bounds: RangeInclusive<u64>) -> Result<Option<u64>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        let (least, most) = bounds.into_inner();
        number.map(Some).ok_or_else(|| format!("{name}: {text:?} is no number from {least} to {most}"))
    }

    /// Yes or no.
    ///
    /// # Errors
    /// It is neither.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        match self.get(name) {
            None => Ok(None),
            Some("1") => Ok(Some(true)),
            Some("0") => Ok(Some(false)),
            Some(text) => Err(format!("{name}: {text:?} is neither 1 nor 0")),
        }
    }

    /// The sources that are wanted; an empty name stands for messages without one.
    ///
    /// # Errors
    /// It is no list of names.
    pub(crate) fn wanted(&self) -> Result<Wanted, String> {
        match self.get("source") {
            None => Ok(Wanted::All),
            Some("") => Ok(Wanted::Nameless),
            Some(names) => names.parse().map(Wanted::Of).map_err(|error| format!("source: {error}")),
        }
    }

    /// A time, or the id of a record.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn moment(&self, name: &str, now: SystemTime) -> Result<Option<RecordId>, String> {
        let parse = |text| moment(text).map(|moment| moment.id(now, &Zone::utc()));
        self.get(name).map(parse).transpose().map_err(|error| format!("{name}: {error}"))
    }

    /// The length of a bucket.
    ///
    /// # Errors
    /// It is none, or shorter than a second.
    pub(crate) fn every(&self) -> Result<Option<Duration>, String> {
        let Some(text) = self.get("every") else { return Ok(None) };
        let every = spelled(text, "1m").map_err(|error| format!("every: {error}"))?;
        let is_long = every >= Duration::from_secs(1);
        is_long.then_some(Some(every)).ok_or_else(|| "every: less than a second is too short; write 10s".to_owned())
    }

    /// What is read.
    ///
    /// # Errors
    /// It makes no sense.
    pub(crate) fn query(&self, now: SystemTime) -> Result<(Wanted, Query), String> {
        let wanted = self.wanted()?;
        let after = self.get("after").map(str::parse::<RecordId>).transpose();
        let after = after.map_err(|error| format!("after: {error}; write the id of a message"))?.map(RecordId::next);
        let since = self.moment("since", now)?;
        let sources = match &wanted {
            Wanted::Of(filter) => filter.clone(),
            Wanted::All | Wanted::Nameless => Default::default(),
        };
        let query = Query {
            from: since.max(after).unwrap_or(RecordId::ZERO),
            until: self.moment("until", now)?.unwrap_or(RecordId::MAX),
            sources,
            ..Query::default()
        };
        Ok((wanted, query))
    }
}

impl Form {
    fn parse(text: &str) -> Result<Self, String> {
        let of_name = |name: &str| Format::ALL.iter().copied().find(|format| format.name() == name);
        match text {
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Of(Format::Json)),
            "excel" => Ok(Self::Excel(Excel::Comma)),
            "excel-point" => Ok(Self::Excel(Excel::Point)),
            name => of_name(name).map(Self::Of).ok_or_else(|| {
                let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
                format!("format: {text:?} is none; there are ndjson, excel, excel-point, {}", names.join(", "))
            }),
        }
    }

    /// What the answer is called in the header, and how its file's name ends.
    pub(crate) const fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("application/json", "json"),
            Self::Of(Format::Json) => ("application/x-ndjson", "ndjson"),
            Self::Of(Format::Csv) | Self::Excel(_) => ("text/csv; charset=utf-8", "csv"),
            Self::Of(Format::Raw) => ("application/octet-stream", "bin"),
            #[cfg(feature = "parquet")]
            Self::Of(Format::Parquet) => ("application/vnd.apache.parquet", "parquet"),
            Self::Of(Format::Text | Format::Line | Format::Influx) => ("text/plain; charset=utf-8", "txt"),
        }
    }
}

impl Question {
    /// The names of its fields.
    pub(crate) const FIELDS: [&'static str; 13] = [
        "source",
        "since",
        "until",
        "after",
        "limit",
        "last",
        "format",
        "fields",
        "long",
        "every",
        "aggregate",
        "partial",
        "download",
    ];

    /// What is asked for.
    ///
    /// # Errors
    /// It makes no sense.
    pub(crate) fn parse(fields: &Fields, now: SystemTime) -> Result<Self, String> {
        let (wanted, query) = fields.query(now)?;
        let form = fields.get("format").map_or(Ok(Form::Json), Form::parse)?;
        let is_json = form == Form::Json;
        // Where the answer can say who is missing, it does not wait for them.
        let query = Query { partial: fields.flag("partial")?.unwrap_or(is_json), ..query };
        let limit = fields.number("limit", 1..=limits::WEB_LIMIT_MAX)?;
        let limit = limit.or_else(|| is_json.then_some(limits::WEB_MESSAGES_DEFAULT));
        let last = fields.number("last", 1..=limits::WEB_MESSAGES_MAX)?;
        let names = fields.get("fields").unwrap_or_default();
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let aggregate = match fields.get("aggregate") {
            None => None,
            Some(name) => Some(aggregate(name)?),
        };
        let (long, every) = (fields.flag("long")?.unwrap_or(false), fields.every()?);
        let download = fields.flag("download")?.unwrap_or(false);
        Ok(Self { wanted, query, limit, last, form, fields: names, long, every, aggregate, download })
    }
}

fn aggregate(name: &str) -> Result<Aggregate, String> {
    use Aggregate::{Count, Last, Max, Mean, Median, Min};
    let found = [Median, Mean, Min, Max, Last, Count].into_iter().find(|aggregate| aggregate.name() == name);
    found.ok_or_else(|| format!("aggregate: {name:?} is none; there are median, mean, min, max, last, count"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn parse(query: &str) -> Result<Question, String> {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_234_260);
        Fields::parse(query, &Question::FIELDS).and_then(|fields| Question::parse(&fields, now))
    }

    #[test]
    fn a_question_is_what_its_fields_say() {
        let all = parse("").unwrap();
        assert!(matches!(all.wanted, Wanted::All) && all.query.from == RecordId::ZERO && all.query.partial);
        assert_eq!((all.form, all.limit), (Form::Json, Some(limits::WEB_MESSAGES_DEFAULT)));
        let some = parse("source=esp7,taller/&since=10m&format=csv&fields=temp,+hum&every=1m&aggregate=max").unwrap();
        assert_eq!(some.query.from.time_ns, 1_795_233_660_000_000_000);
        assert_eq!(some.query.sources.to_string(), "esp7,taller/");
        assert_eq!(
            (some.form.kind().1, some.fields.as_slice()),
            ("csv", ["temp", "hum"].map(str::to_owned).as_slice())
        );
        assert!(!some.query.partial && some.limit.is_none() && some.every == Some(Duration::from_secs(60)));
        assert!(matches!(parse("source=").unwrap().wanted, Wanted::Nameless));
        let id = "17952342600000063XYZ";
        let after = parse(&format!("after={id}&limit=7")).unwrap();
        assert_eq!((after.query.from, after.limit), (id.parse::<RecordId>().unwrap().next(), Some(7)));
    }

    #[test]
    fn what_makes_no_sense_is_told_with_a_remedy() {
        for (query, wanted) in [
            ("x=1", "there is no field \"x\" here; there are source"),
            ("last=1&last=2", "last is given more than once"),
            ("limit=0", "no number from 1 to 9007199254740991"),
            ("last=10001", "no number from 1 to 10000"),
            ("last=-1", "last: \"-1\" is no number"),
            ("since=soon", "since: "),
            ("after=7", "write the id of a message"),
            ("source=a b", "source: "),
            ("format=xml", "format: \"xml\" is none"),
            ("every=10ms", "too short"),
            ("aggregate=sum", "there are median"),
            ("partial=maybe", "neither 1 nor 0"),
            ("download=", "neither 1 nor 0"),
        ] {
            let error = parse(query).unwrap_err();
            assert!(error.contains(wanted), "{query}: {error}");
        }
    }
}
