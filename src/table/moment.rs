//! A place in time, as people say it, and times as they are printed: RFC 3339, in UTC or where its user
//! lives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::limits::MOMENT_AGO_MAX;
use crate::reading::UnixNs;
use crate::reading::time::{offset_minutes, unix};
use crate::wire::id::{ID_CHARS, RecordId};

/// Where a read begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// This long before now.
    Ago(Duration),
    /// The first id of this time, or this very one.
    At(RecordId),
    /// A time of day, of a date in the zone that is asked for.
    Clock(Day, Time),
}

/// A date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Day {
    /// This one.
    Date(Date),
    /// So many days before today.
    Before(i64),
}

/// The machine does not say where it is.
#[derive(Debug, thiserror::Error)]
#[error("this machine does not say in which time zone it is: {0}; set TZ, as in TZ=America/Santiago")]
pub(crate) struct NoZone(#[from] jiff::Error);

/// Where times of day are read and printed.
#[derive(Clone, Debug)]
pub(crate) struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self::utc()
    }
}

impl Zone {
    /// Where clusters live.
    pub(crate) const fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// UTC, or that of this machine and its user.
    ///
    /// # Errors
    /// The machine does not say where it is.
    pub(crate) fn of(local: bool) -> Result<Self, NoZone> {
        if local { Ok(Self(TimeZone::try_system()?)) } else { Ok(Self::utc()) }
    }

    /// A time with so many digits of a second, and the offset from UTC.
    pub(crate) fn show(&self, time: UnixNs, digits: u8) -> String {
        let Ok(time) = Timestamp::from_nanosecond(i128::from(time.0)) else { return time.to_string() };
        let digits = usize::from(digits);
        if self.0 == TimeZone::UTC {
            return format!("{time:.digits$}");
        }
        format!("{:.digits$}", time.display_with_offset(self.0.to_offset(time)))
    }

    /// The date and the time of day, as spreadsheets read them: to the second.
    pub(crate) fn clock(&self, time: UnixNs) -> String {
        let Ok(time) = Timestamp::from_nanosecond(i128::from(time.0)) else { return time.to_string() };
        format!("{:.0}", self.0.to_datetime(time)).replacen('T', " ", 1)
    }

    /// How far the zone is ahead of UTC at this time.
    pub(crate) fn ahead_ns(&self, time: UnixNs) -> i64 {
        let time = Timestamp::from_nanosecond(i128::from(time.0)).unwrap_or_default();
        i64::from(self.0.to_offset(time).seconds()) * 1_000_000_000
    }
}

impl Moment {
    /// The least id of it.
    pub(crate) fn id(self, now: SystemTime, zone: &Zone) -> RecordId {
        match self {
            Self::At(id) => id,
            Self::Ago(ago) => first_id(now.checked_sub(ago).unwrap_or(UNIX_EPOCH)),
            Self::Clock(day, time) => {
                let date = match day {
                    Day::Date(date) => date,
                    Day::Before(days) => today(now, zone).saturating_sub(days.days()),
                };
                first_id(in_zone(date.to_datetime(time), &zone.0).into())
            }
        }
    }
}

/// What time it is, ns since 1970.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// A date and a time there. What is past the end of the calendar is behind all records, and none of them is before 1970.
fn in_zone(time: DateTime, zone: &TimeZone) -> Timestamp {
    let beyond = if time.year() < 1970 { Timestamp::UNIX_EPOCH } else { Timestamp::MAX };
    zone.to_timestamp(time).unwrap_or(beyond)
}

fn today(now: SystemTime, zone: &Zone) -> Date {
    zone.0.to_datetime(Timestamp::try_from(now).unwrap_or_default()).date()
}

fn first_id(time: SystemTime) -> RecordId {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    RecordId { time_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).min(RecordId::MAX.time_ns), incarnation: 0 }
}

/// Parses a time ago, a record id, Unix time, a date, a time of day, or both.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    let text = text.trim();
    if text.len() == ID_CHARS
        && let Ok(id) = text.parse()
    {
        return Ok(Moment::At(id));
    }
    if let Some(ns) = unix(text) {
        return Ok(Moment::At(first_id(UNIX_EPOCH + Duration::from_nanos(ns))));
    }
    if let Some(moment) = of_day(text).or_else(|| clock(text)) {
        return Ok(moment);
    }
    if text.contains(':') || text.contains('-') {
        return Err(format!(
            "{text:?} is no time; write 2026-11-21, '2026-11-21 10:00', 2026-11-21T10:00:00+01:00, 08:00, yesterday or a \
             record id"
        ));
    }
    ago(text)
        .map(Moment::Ago)
        .map_err(|error| format!("{error}, or a time such as '2026-11-21 10:00', yesterday or 08:00"))
}

/// `today`, `ayer 22:00`.
fn of_day(text: &str) -> Option<Moment> {
    let (day, rest) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let before = match day.to_lowercase().as_str() {
        "now" | "ahora" if rest.is_empty() => return Some(Moment::Ago(Duration::ZERO)),
        "today" | "hoy" => 0,
        "yesterday" | "ayer" => 1,
        _ => return None,
    };
    let rest = rest.trim();
    let time = if rest.is_empty() { Time::midnight() } else { time_of_day(rest)? };
    Some(Moment::Clock(Day::Before(before), time))
}

/// A date, a time of day, or both, with or without an offset from UTC.
fn clock(text: &str) -> Option<Moment> {
    let (date, clock) = match text.split_once(['T', 't', ' ']) {
        Some((date, clock)) => (date, clock.trim_start()),
        None if text.contains(':') => return Some(Moment::Clock(Day::Before(0), time_of_day(text)?)),
        None => (text, "00:00"),
    };
    let date: Date = Some(date).filter(|date| date.len() == "2026-11-21".len())?.parse().ok()?;
    let at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, offset) = (clock.get(..at)?.trim_end(), clock.get(at..)?);
    let time = time_of_day(clock)?;
    if offset.is_empty() {
        return Some(Moment::Clock(Day::Date(date), time));
    }
    let utc = DateTime::from_parts(date, time).saturating_sub(offset_minutes(offset)?.minutes());
    Some(Moment::At(first_id(in_zone(utc, &TimeZone::UTC).into())))
}

/// `08:00`, `08:00:30`, `08:00:30.5`.
fn time_of_day(text: &str) -> Option<Time> {
    let is_clock = text.len() >= "08:00".len() && text.bytes().all(|b| b.is_ascii_digit() || b":.".contains(&b));
    Some(text).filter(|_| is_clock)?.parse().ok()
}

/// A duration as it is spelled everywhere: numbers and units. `M` alone is refused, for some read minutes there and some months.
pub(crate) fn spelled(text: &str, such_as: &str) -> Result<Duration, String> {
    if text.split(|c: char| !c.is_alphabetic()).any(|unit| unit == "M") {
        return Err("M may mean minutes or months; write m for minutes, as in 1m, or 1month".to_owned());
    }
    humantime::parse_duration(text).map_err(|e| format!("{e}; write a number and a unit, such as {such_as}"))
}

/// A duration as flags take it.
pub(crate) fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// `10m`, `1h30m`, `1 hour ago`, `hace una hora`, `2y`.
fn ago(text: &str) -> Result<Duration, String> {
    // Of units in capitals only this one has two meanings.
    let lower = if text.split(|c: char| !c.is_alphabetic()).any(|unit| unit == "M") {
        text.to_owned()
    } else {
        text.to_lowercase()
    };
    let said = lower.strip_suffix(" ago").or_else(|| lower.strip_prefix("hace ")).unwrap_or(&lower);
    let words: Vec<&str> =
        said.split_whitespace().filter(|word| !matches!(*word, "y" | "and")).map(in_english).collect();
    let value = spelled(&words.join(" "), "10m, 1h30m or '1 hour ago'")?;
    if value > MOMENT_AGO_MAX {
        return Err(format!("more than {} ago is too long; write 10m or 2y", show(MOMENT_AGO_MAX)));
    }
    Ok(value)
}

/// A word of a duration as the parser of durations knows it.
fn in_english(word: &str) -> &str {
    match word {
        "a" | "an" | "one" | "un" | "una" => "1",
        "segundo" | "segundos" => "seconds",
        "minuto" | "minutos" => "minutes",
        "hora" | "horas" => "hours",
        "día" | "días" | "dia" | "dias" => "days",
        "semana" | "semanas" => "weeks",
        "mes" | "meses" => "months",
        "año" | "años" => "years",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T04:11:00Z.
    const NOW_S: u64 = 1_795_234_260;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW_S)
    }

    fn zone(text: &str) -> Zone {
        Zone(TimeZone::posix(text).unwrap())
    }

    fn at(text: &str, zone: &Zone) -> String {
        let id = moment(text).unwrap().id(now(), zone);
        Zone::utc().show(UnixNs(id.time_ns), 6).replace(".000000Z", "Z")
    }

    #[test]
    fn times_are_read_with_or_without_their_parts() {
        for (text, wanted) in [
            ("2026-11-21", "2026-11-21T00:00:00Z"),
            ("2026-11-21 10:00", "2026-11-21T10:00:00Z"),
            ("2026-11-21T10:00:05Z", "2026-11-21T10:00:05Z"),
            ("2026-11-21T10:00:05.123456789Z", "2026-11-21T10:00:05.123456Z"),
            ("2026-11-21T10:00:05+01:30", "2026-11-21T08:30:05Z"),
            ("2026-11-21 23:30-01:00", "2026-11-22T00:30:00Z"),
            ("2026-11-21T10:00+0300", "2026-11-21T07:00:00Z"),
            ("2026-11-21 10:00 -03", "2026-11-21T13:00:00Z"),
            ("1795234260----0----6", "2026-11-21T04:11:00Z"),
            ("1795234260", "2026-11-21T04:11:00Z"),
            ("1795234260.5", "2026-11-21T04:11:00.500000Z"),
            ("1795234260000", "2026-11-21T04:11:00Z"),
            ("now", "2026-11-21T04:11:00Z"),
            ("today", "2026-11-21T00:00:00Z"),
            ("hoy", "2026-11-21T00:00:00Z"),
            ("Yesterday", "2026-11-20T00:00:00Z"),
            ("ayer 22:15", "2026-11-20T22:15:00Z"),
            ("08:00", "2026-11-21T08:00:00Z"),
            ("03:30:15.5", "2026-11-21T03:30:15.500000Z"),
            ("10m", "2026-11-21T04:01:00Z"),
            ("1h30m", "2026-11-21T02:41:00Z"),
            ("1 hour ago", "2026-11-21T03:11:00Z"),
            ("an hour ago", "2026-11-21T03:11:00Z"),
            ("hace 1 hora", "2026-11-21T03:11:00Z"),
            ("hace una hora y 30 minutos", "2026-11-21T02:41:00Z"),
            ("hace 2 días", "2026-11-19T04:11:00Z"),
            ("2y", "2024-11-20T16:11:00Z"),
        ] {
            assert_eq!(at(text, &Zone::utc()), wanted, "{text}");
        }
        assert_eq!(moment("1795234260----0----6"), Ok(Moment::At("1795234260----0----6".parse().unwrap())));
    }

    #[test]
    fn days_and_hours_are_those_of_the_zone() {
        // Three hours behind, and in summer time the year round.
        let zone = zone("<-03>3");
        for (text, wanted) in [
            ("2026-11-21", "2026-11-21T03:00:00Z"),
            ("08:00", "2026-11-21T11:00:00Z"),
            ("today", "2026-11-21T03:00:00Z"),
            ("ayer", "2026-11-20T03:00:00Z"),
            ("2026-11-21T10:00:05Z", "2026-11-21T10:00:05Z"),
            ("10m", "2026-11-21T04:01:00Z"),
        ] {
            assert_eq!(at(text, &zone), wanted, "{text}");
        }
        let time = UnixNs(NOW_S * 1_000_000_000 + 1_500_000);
        assert_eq!(zone.show(time, 6), "2026-11-21T01:11:00.001500-03:00");
        assert_eq!(Zone::utc().show(time, 3), "2026-11-21T04:11:00.001Z");
        assert_eq!(zone.clock(time), "2026-11-21 01:11:00");
        assert_eq!(zone.ahead_ns(time), -3 * 3_600_000_000_000);
    }

    #[test]
    fn an_hour_that_a_change_of_clocks_leaves_out_is_the_one_after() {
        let zone = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        assert_eq!(at("2026-03-29 02:30", &zone), "2026-03-29T01:30:00Z");
        assert_eq!(at("2026-10-25 02:30", &zone), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn a_time_ago_is_before_now() {
        let id = moment("10m").unwrap().id(now(), &Zone::utc());
        assert_eq!(id, RecordId { time_ns: (NOW_S - 600) * 1_000_000_000, incarnation: 0 });
        assert_eq!(Moment::Ago(Duration::from_secs(u64::MAX)).id(now(), &Zone::utc()), RecordId::ZERO);
    }

    #[test]
    fn what_is_past_the_calendar_is_behind_all_records() {
        let last = RecordId { incarnation: 0, ..RecordId::MAX };
        for text in ["9999-12-31", "9999-12-31 23:59", "9999-12-31T23:59-05:00", "2400-01-01"] {
            assert_eq!(moment(text).unwrap().id(now(), &zone("<-03>3")), last, "{text}");
        }
        for text in ["0001-01-01", "0000-01-01T00:00+05:00", "1969-12-31"] {
            assert_eq!(moment(text).unwrap().id(now(), &Zone::utc()), RecordId::ZERO, "{text}");
        }
    }

    #[test]
    fn a_capital_m_alone_has_two_meanings() {
        assert_eq!(at("1H", &Zone::utc()), at("1h", &Zone::utc()));
        for text in ["1M", "1 M ago", "hace 2 M"] {
            assert!(moment(text).unwrap_err().contains("minutes or months"), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_says_what_would_be() {
        for text in [
            "2026-13-01",
            "10:0",
            "25:00",
            "2026-11-21T25:00",
            "2026-11-21T10:00+1",
            "2026-11-21T10:00+24:00",
            "yesterday 9",
            "someday",
            "200 years",
            "5",
            "",
            "ñ-",
        ] {
            let error = moment(text).unwrap_err();
            assert!(error.contains("'2026-11-21 10:00'"), "{text}: {error}");
        }
    }
}
