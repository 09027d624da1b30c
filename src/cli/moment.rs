//! A place in time on the command line, and times as they are printed: UTC, RFC 3339.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::id::{ID_CHARS, RecordId};

use super::values;

/// Where a read begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// This long before now.
    Ago(Duration),
    /// The first id of this time, or this very one.
    At(RecordId),
}

impl Moment {
    /// The least id of it.
    pub(crate) fn id(self, now: SystemTime) -> RecordId {
        match self {
            Self::At(id) => id,
            Self::Ago(ago) => first_id(now.checked_sub(ago).unwrap_or(UNIX_EPOCH)),
        }
    }
}

fn first_id(time: SystemTime) -> RecordId {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    RecordId { time_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).min(RecordId::MAX.time_ns), incarnation: 0 }
}

/// Parses a duration ago, a record id, or a time: RFC 3339, or as much of it as says the minute or the day, in UTC.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    let text = text.trim();
    if text.len() == ID_CHARS
        && let Ok(id) = text.parse()
    {
        return Ok(Moment::At(id));
    }
    if text.contains('-') || text.contains(':') {
        return time(text).map(|time| Moment::At(first_id(time))).ok_or_else(|| {
            format!(
                "{text:?} is no time; write 2026-11-21, '2026-11-21 10:00', 2026-11-21T10:00:00+01:00 or a record id"
            )
        });
    }
    values::duration(text).map(Moment::Ago).map_err(|error| format!("{error}, or a time such as '2026-11-21 10:00'"))
}

/// A date, with or without a time of day, with or without an offset from UTC.
fn time(text: &str) -> Option<SystemTime> {
    let (date, clock) = match text.split_once(['T', 't', ' ']) {
        Some((date, clock)) => (date, clock.trim_start()),
        None => (text, "00:00"),
    };
    let (clock, ahead) = match clock.find(['Z', 'z', '+', '-']) {
        None => (clock, 0),
        Some(at) => (clock.get(..at)?, offset(clock.get(at..)?)?),
    };
    let seconds = if clock.len() == "10:00".len() { ":00" } else { "" };
    let time = humantime::parse_rfc3339_weak(&format!("{date}T{clock}{seconds}")).ok()?;
    let by = Duration::from_secs(u64::from(ahead.unsigned_abs()) * 60);
    if ahead < 0 { time.checked_add(by) } else { time.checked_sub(by) }
}

/// Minutes ahead of UTC.
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two =
        |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten();
    let (hours, minutes): (i32, i32) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// The time of a record, to the microsecond.
pub(crate) fn show(id: RecordId) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(id.time_ns);
    // The last year that has four digits.
    let most = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_micros(time.min(most)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> String {
        match moment(text) {
            Ok(Moment::At(id)) => show(id),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn times_are_read_with_or_without_their_parts() {
        for (text, wanted) in [
            ("2026-11-21", "2026-11-21T00:00:00.000000Z"),
            ("2026-11-21 10:00", "2026-11-21T10:00:00.000000Z"),
            ("2026-11-21T10:00:05Z", "2026-11-21T10:00:05.000000Z"),
            ("2026-11-21T10:00:05.123456789Z", "2026-11-21T10:00:05.123456Z"),
            ("2026-11-21T10:00:05+01:30", "2026-11-21T08:30:05.000000Z"),
            ("2026-11-21 23:30-01:00", "2026-11-22T00:30:00.000000Z"),
            ("1795234260----0----6", "2026-11-21T04:11:00.000000Z"),
        ] {
            assert_eq!(at(text), wanted, "{text}");
        }
        assert_eq!(moment("1795234260----0----6"), Ok(Moment::At("1795234260----0----6".parse().unwrap())));
    }

    #[test]
    fn a_time_ago_is_before_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_234_260);
        let id = moment("10m").unwrap().id(now);
        assert_eq!(id, RecordId { time_ns: (1_795_234_260 - 600) * 1_000_000_000, incarnation: 0 });
        assert_eq!(Moment::Ago(Duration::from_secs(u64::MAX)).id(now), RecordId::ZERO);
    }

    #[test]
    fn what_is_no_time_says_what_would_be() {
        for text in [
            "2026-13-01",
            "10:00",
            "2026-11-21T25:00",
            "2026-11-21T10:00+1",
            "2026-11-21T10:00+24:00",
            "yesterday",
            "",
            "ñ-",
        ] {
            let error = moment(text).unwrap_err();
            assert!(error.contains("'2026-11-21 10:00'"), "{text}: {error}");
        }
    }
}
