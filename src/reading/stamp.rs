//! The stamp in front of a payload that was collected: `@2026-11-21T04:11:00.250Z `, the time at which it was read from its
//! instrument. Pure.
//!
//! No device writes such a word by itself, so that what follows it is read as if the stamp were not there.

use super::UnixNs;
use super::time::{self, Said};

/// Bytes of a stamp, with the space behind it.
const LEN: usize = "@2026-11-21T04:11:00.250Z ".len();

const NS_PER_MS: u64 = 1_000_000;

/// The stamp of a time, to the millisecond.
#[must_use]
pub(crate) fn of(time: UnixNs) -> String {
    let whole = time.0 / NS_PER_MS * NS_PER_MS;
    // What is shown has as many digits as it needs; a digit of a nanosecond makes it show all of them.
    let shown = time::show(UnixNs(whole + 1));
    format!("@{}Z ", shown.get(..LEN - 3).unwrap_or_default())
}

/// A payload without its stamp, and the time that it says.
pub(super) fn split(payload: &[u8]) -> (Option<Said>, &[u8]) {
    let said = || {
        let (stamp, rest) = payload.split_at_checked(LEN)?;
        let text = std::str::from_utf8(stamp).ok()?.strip_prefix('@')?.strip_suffix("Z ")?;
        // Those of any other form are words of a device.
        text.as_bytes().get(19).filter(|byte| **byte == b'.')?;
        Some((time::rfc3339(text)?, rest))
    };
    said().map_or((None, payload), |(said, rest)| (Some(said), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Reading, Rules};
    use proptest::prelude::*;

    const AT: UnixNs = UnixNs(1_795_234_260_250_999_999);

    fn read(payload: &[u8], rules: &str) -> Reading {
        let (rules, wrong) = Rules::parse(rules);
        assert!(wrong.is_empty(), "{wrong:?}");
        Reading::new("esp7".parse().ok(), payload, UnixNs(AT.0 + 3_600_000_000_000), &rules)
    }

    #[test]
    fn a_stamp_is_the_time_where_the_device_says_none() {
        assert_eq!(of(AT), "@2026-11-21T04:11:00.250Z ");
        assert_eq!(of(UnixNs(1_795_234_260_000_000_000)), "@2026-11-21T04:11:00.000Z ");
        for (payload, rules) in [
            ("21.4", ""),
            ("21.4", "esp7: temp °C 5..45"),
            ("norte;21,4;17", "esp7: lugar temp n"),
            ("ST,+00012.3  g", "esp7: /^ST,([-+0-9.]+) +g/ peso g"),
            (r#"{"DS18B20":{"Temperature":21.4}}"#, ""),
            ("temp=21.4C hum=40%", ""),
            ("hola mundo", ""),
            ("mensaje: 21.4", ""),
        ] {
            let (plain, stamped) =
                (read(payload.as_bytes(), rules), read(format!("{}{payload}", of(AT)).as_bytes(), rules));
            assert_eq!(stamped.device_time, Some(UnixNs(1_795_234_260_250_000_000)), "{payload}");
            assert_eq!(Reading { device_time: None, ..stamped }, plain, "{payload}");
        }
        // What the device says itself counts.
        let own = read(format!("{}21.4 1795234259", of(AT)).as_bytes(), "");
        assert_eq!(own.device_time, Some(UnixNs(1_795_234_259_000_000_000)));
        for no_stamp in
            ["@2026-11-21T04:11:00Z 21.4", "@2026-11-21T04:11:00.2500Z 1", "@2026-13-21T04:11:00.250Z 1", "@", ""]
        {
            assert_eq!(split(no_stamp.as_bytes()), (None, no_stamp.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn a_stamp_changes_nothing_but_the_time(payload in prop::collection::vec(any::<u8>(), 0..60), ms in 0..4_000_000_000_000_u64) {
            let time = UnixNs(ms * NS_PER_MS);
            let stamped = [of(time).as_bytes(), &payload].concat();
            prop_assert_eq!(split(&stamped).1, &payload[..]);
            let taken = UnixNs(time.0 + 1);
            let (rules, _) = Rules::parse("");
            let plain = Reading::new(None, &payload, taken, &rules);
            let read = Reading::new(None, &stamped, taken, &rules);
            prop_assert_eq!(read.time(), plain.device_time.unwrap_or(time));
            prop_assert_eq!(read.fields, plain.fields);
        }
    }
}
