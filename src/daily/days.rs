//! The files of days that are over: their names, and which of them were kept long enough. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds of a day.
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// How long the files of days that are over are kept; the default is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Age at which one goes, in whole days, counted from the newest of them: a clock that jumps ahead removes nothing.
    pub(crate) age: Option<Duration>,
    /// Bytes of all files, today's among them, past which the oldest go. A file ends early when it has a part of that.
    pub(crate) bytes: Option<u64>,
}

impl Keep {
    /// Bytes at which today's file ends before its day does.
    #[must_use]
    pub(crate) fn part(&self) -> u64 {
        self.bytes.map_or(u64::MAX, |bytes| bytes / 4)
    }
}

/// The file of a day that is over, or of a part of a day. Their order is the order in which they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Past {
    /// The day, counted from 1970 in UTC.
    pub(crate) day: u64,
    /// Which one of the day, from 1.
    pub(crate) number: u32,
    /// Its length.
    pub(crate) bytes: u64,
}

impl Past {
    /// Its name: `registro.2026-11-21.log`, and `registro.2026-11-21.2.log` for a second one.
    #[must_use]
    pub(crate) fn file(&self, name: &str) -> String {
        let time = humantime::format_rfc3339_seconds(start(self.day)).to_string();
        let day = time.get(..10).unwrap_or_default();
        if self.number <= 1 { format!("{name}.{day}.log") } else { format!("{name}.{day}.{}.log", self.number) }
    }

    /// The one with this file's name; none if that is another kind of name.
    #[must_use]
    pub(crate) fn parse(file: &str, name: &str, bytes: u64) -> Option<Self> {
        let middle = file.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".log")?;
        let (text, number) = match middle.split_once('.') {
            None => (middle, 1),
            Some((text, number)) => (text, number.parse().ok().filter(|number| *number > 1)?),
        };
        let time = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok()?;
        Some(Self { day: day(time), number, bytes })
    }

    /// The end of its day: nothing in it is later.
    #[must_use]
    pub(crate) fn end(&self) -> SystemTime {
        start(self.day + 1)
    }
}

/// The day of a time, counted from 1970 in UTC.
#[must_use]
pub(crate) fn day(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY_SECONDS)
}

fn start(day: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(day.saturating_mul(DAY_SECONDS))
}

/// How many of the oldest go. `past` is in order.
#[must_use]
pub(crate) fn plan(past: &[Past], keep: &Keep) -> usize {
    let newest = past.last().map_or(0, |one| one.day);
    let mut bytes: u64 = past.iter().map(|one| one.bytes).sum();
    // Today's file has room to grow, or they would be too many again at once.
    let room = keep.bytes.map(|bytes| bytes - keep.part());
    let goes = |one: &&Past| {
        let old = keep.age.is_some_and(|age| Duration::from_secs((newest - one.day) * DAY_SECONDS) >= age);
        let goes = (old && one.day < newest) || room.is_some_and(|room| bytes > room);
        bytes -= one.bytes;
        goes
    };
    past.iter().take_while(goes).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(days: &[u64]) -> Vec<Past> {
        days.iter().map(|day| Past { day: *day, number: 1, bytes: 100 }).collect()
    }

    #[test]
    fn names_are_read_back_and_others_are_not() {
        for number in [1, 2, 30] {
            let one = Past { day: 20_778, number, bytes: 7 };
            assert_eq!(Past::parse(&one.file("registro"), "registro", 7), Some(one));
        }
        assert_eq!(Past { day: 20_778, number: 1, bytes: 0 }.file("head"), "head.2026-11-21.log");
        let others = ["registro.log", "registro.2026-11-21.1.log", "registro.2026-11-21", "registro.x.log", "data.txt"];
        for file in others {
            assert_eq!(Past::parse(file, "registro", 0), None, "{file}");
        }
    }

    #[test]
    fn whole_days_go_by_age_and_the_oldest_by_bytes() {
        let days = |days| Keep { age: Some(Duration::from_secs(days * DAY_SECONDS)), bytes: None };
        let bytes = |bytes| Keep { age: None, bytes: Some(bytes) };
        let past = past(&[10, 20, 30, 39, 40]);
        assert_eq!(plan(&past, &Keep::default()), 0);
        assert_eq!(plan(&past, &days(30)), 1);
        assert_eq!(plan(&past, &days(31)), 0);
        assert_eq!(plan(&past, &Keep { age: Some(Duration::from_secs(3600)), bytes: None }), 4, "the newest stays");
        assert_eq!(plan(&past, &bytes(800)), 0);
        assert_eq!(plan(&past, &bytes(600)), 1, "a quarter is for today's");
        assert_eq!(plan(&past, &bytes(4)), 5);
        assert_eq!(plan(&past, &Keep { bytes: Some(400), ..days(10) }), 3, "whichever says more");
        assert_eq!(plan(&[], &days(1)), 0);
    }
}
