//! A measured value, and the settings in `/config`: text to number and back. Pure.

use std::fmt;
use std::time::Duration;

use crate::limits;

/// A finite number. A whole one is shown without a point, as the seeds' devices write it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Value(f64);

impl Value {
    /// This number, if it is finite.
    #[must_use]
    pub(crate) fn new(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self(number))
    }

    /// The number that a text is, but for spaces around it.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::new(text.trim().parse().ok()?)
    }

    /// The number with which a text begins: what a command prints may have a unit or more lines after it.
    #[must_use]
    pub(crate) fn first_in(text: &str) -> Option<Self> {
        Self::parse(text.split_whitespace().next()?)
    }

    /// The number.
    #[must_use]
    pub(crate) const fn number(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.0);
        f.write_str(text.strip_suffix(".0").unwrap_or(&text))
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSetting {
    /// Not a period.
    #[error("{text:?} is no number of seconds from {least} to {most}", least = limits::DEVICE_PERIOD_MIN.as_secs_f64(),
        most = limits::DEVICE_PERIOD_MAX.as_secs())]
    Period {
        /// What stands there.
        text: String,
    },
    /// Not a URL.
    #[error("{text:?} is no URL of a web API: {cause}")]
    Url {
        /// What stands there.
        text: String,
        /// Why not.
        cause: &'static str,
    },
}

/// A period as the seeds write it: a number of seconds.
///
/// # Errors
/// It is none, or out of bounds.
pub(crate) fn period(text: &str) -> Result<Duration, BadSetting> {
    let bad = || BadSetting::Period { text: shown(text) };
    let seconds = Value::parse(text).ok_or_else(bad)?.number();
    let period = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
    let bounds = limits::DEVICE_PERIOD_MIN..=limits::DEVICE_PERIOD_MAX;
    if bounds.contains(&period) { Ok(period) } else { Err(bad()) }
}

/// A period as it is shown in the seeds' words.
#[must_use]
pub(crate) fn show_period(period: Duration) -> String {
    Value::new(period.as_secs_f64()).map(|seconds| seconds.to_string()).unwrap_or_default()
}

/// A beginning of a text.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(limits::DEVICE_SHOWN_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbers_and_shown_as_the_seeds_do() {
        for (text, shown) in [("82", "82"), (" 82\n", "82"), ("82.0", "82"), ("-0.5", "-0.5"), ("1e3", "1000")] {
            assert_eq!(Value::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "ochenta", "nan", "inf", "8 2", "82 °C", "0x10", "1,5"] {
            assert_eq!(Value::parse(text), None, "{text}");
        }
        assert_eq!(Value::first_in("21.5 °C\nand more").unwrap().to_string(), "21.5");
        assert_eq!(Value::first_in("about 21"), None);
        assert_eq!(Value::first_in(" \n"), None);
    }

    #[test]
    fn a_period_is_a_number_of_seconds_in_bounds() {
        assert_eq!(period("8"), Ok(Duration::from_secs(8)));
        assert_eq!(period(" 0.5\n"), Ok(Duration::from_millis(500)));
        for text in ["", "0", "-1", "soon", "1e9", "nan", "5s", "0.0001"] {
            assert!(period(text).is_err(), "{text}");
        }
        let error = period("ocho").unwrap_err().to_string();
        assert_eq!(error, "\"ocho\" is no number of seconds from 0.01 to 86400");
        assert_eq!(
            (show_period(Duration::from_secs(8)).as_str(), show_period(Duration::from_millis(500)).as_str()),
            ("8", "0.5")
        );
    }
}
