//! Times as devices write them: RFC 3339, with or without its parts, and Unix time whose unit is known by its size. Pure.
//!
//! Not here: times as people say them on the command line, and any zone but the offset that the text has.

use super::UnixNs;

const NS_PER_S: i128 = 1_000_000_000;

/// How far behind its record a device's time may be: an archive of a year is read out once.
const BEHIND_MAX_NS: i128 = 400 * 86_400 * NS_PER_S;

/// How far before its record it may be: a clock in the wrong zone.
const AHEAD_MAX_NS: i128 = 86_400 * NS_PER_S;

/// A time that was read, ns since 1970; it may be any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said(i128);

impl Said {
    /// The time, if it can be that of a message which was taken at `taken`.
    #[must_use]
    pub(super) fn of(self, taken: UnixNs) -> Option<UnixNs> {
        let ahead = self.0 - i128::from(taken.0);
        let can_be = (-BEHIND_MAX_NS..=AHEAD_MAX_NS).contains(&ahead);
        can_be.then(|| u64::try_from(self.0).ok().map(UnixNs)).flatten()
    }
}

/// Unix time in seconds, ms, µs or ns, by its size; what is before 1973 is none.
#[must_use]
pub(crate) fn unix(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() > 20 || fraction.len() > 9 || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = whole.parse().ok()?;
    let unit: u64 = match number {
        0..100_000_000 => return None,
        100_000_000..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().unwrap_or(0).checked_mul(unit)? / scale;
    number.checked_mul(unit)?.checked_add(part)
}

/// [`unix`], as a time that was said.
#[must_use]
pub(super) fn said_unix(text: &str) -> Option<Said> {
    unix(text).map(|ns| Said(i128::from(ns)))
}

/// RFC 3339, also with a space for the `T`, without seconds, without an offset (then it is UTC), with one without a colon.
#[must_use]
pub(super) fn rfc3339(text: &str) -> Option<Said> {
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = parts(date, '-', [4, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, offset) = clock.split_at_checked(at)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let seconds = if clock.len() == "08:15".len() { ":00" } else { "" };
    let [hour, minute, second] = parts(&format!("{clock}{seconds}"), ':', [2, 2, 2])?;
    let is_fraction = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    if hour > 23 || minute > 59 || second > 60 || !is_fraction {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_minutes(offset)? * 60;
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(Said(i128::from(seconds) * NS_PER_S + fraction))
}

/// Three numbers of so many digits.
fn parts(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between).zip(digits).map(|(part, digits)| {
        let fits = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| part.parse().ok()).flatten()
    });
    let three = [parts.next()??, parts.next()??, parts.next()??];
    (text.len() == digits.iter().sum::<usize>() + 2).then_some(three)
}

/// Minutes ahead of UTC: nothing, `Z`, `+01:00`, `+0100`, `+01`.
#[must_use]
pub(crate) fn offset_minutes(text: &str) -> Option<i64> {
    let sign = match text.as_bytes() {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let digits = text.get(1..)?;
    let four = match digits.len() {
        2 => format!("{digits}00"),
        4 => digits.to_owned(),
        5 if digits.as_bytes().get(2) == Some(&b':') => digits.replace(':', ""),
        _ => return None,
    };
    if four.len() != 4 || !four.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i64 = four.parse().ok()?;
    let (hours, minutes) = (number / 100, number % 100);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// Days since 1970 of a date (Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date and the time of day of a time, in UTC, as RFC 3339 with as many digits of a second as it has.
pub(super) fn show(time: UnixNs) -> String {
    let (seconds, fraction) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
    let (day, of_day) = (i64::try_from(seconds / 86_400).unwrap_or(0), seconds % 86_400);
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let fraction =
        if fraction == 0 { String::new() } else { format!(".{fraction:09}").trim_end_matches('0').to_owned() };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ns(text: &str) -> Option<i128> {
        rfc3339(text).or_else(|| said_unix(text)).map(|said| said.0)
    }

    #[test]
    fn times_are_read_in_every_form() {
        const AT: i128 = 1_795_234_260 * NS_PER_S;
        for (text, wanted) in [
            ("2026-11-21T04:11:00Z", AT),
            ("2026-11-21T04:11:00", AT),
            ("2026-11-21 04:11:00", AT),
            ("2026-11-21T04:11", AT),
            ("2026-11-21T04:11:00.5Z", AT + NS_PER_S / 2),
            ("2026-11-21T05:11:00+01:00", AT),
            ("2026-11-21T01:11:00-0300", AT),
            ("2026-11-21T07:11:00+03", AT),
            ("1970-01-01T00:00:12Z", 12 * NS_PER_S),
            ("1795234260", AT),
            ("1795234260.25", AT + NS_PER_S / 4),
            ("1795234260000", AT),
            ("1795234260000000", AT),
            ("1795234260000000000", AT),
            ("4294967295", 4_294_967_295 * NS_PER_S),
        ] {
            assert_eq!(ns(text), Some(wanted), "{text}");
        }
        for text in [
            "",
            "12",
            "99999999",
            "-1795234260",
            "99999999999999999999999",
            "2026-11-21",
            "2026-13-01T00:00:00Z",
            "2026-1-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T4:11:00",
            "2026-11-21T04:11:00.Z",
            "2026-11-21T04:11:00+25:00",
            "٢٠٢٦-١١-٢١T04:11",
            "2026-11-21Tñ",
        ] {
            assert_eq!(ns(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_far_from_its_record_is_no_time_of_it() {
        let taken = UnixNs(1_795_234_260 * 1_000_000_000);
        let day = 86_400 * NS_PER_S;
        for (off, counts) in [(0, true), (-400 * day, true), (-400 * day - 1, false), (day, true), (day + 1, false)] {
            assert_eq!(Said(i128::from(taken.0) + off).of(taken).is_some(), counts, "{off}");
        }
        assert_eq!(Said(-1).of(UnixNs(0)), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ns in 0..=253_402_300_799_999_999_999_u128) {
            let ns = u64::try_from(ns % u128::from(u64::MAX)).unwrap();
            prop_assert_eq!(rfc3339(&show(UnixNs(ns))), Some(Said(i128::from(ns))));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:. +-]{0,40}|\\PC{0,40}") {
            let _said = rfc3339(&text);
            let _ns = unix(&text);
        }
    }
}
