//! A number that many change together.
//!
//! Source: kazoo's `Counter` (`kazoo/recipe/counter.py`): the znode holds the number as Python writes it, `6` or `3.0`;
//! an empty one is 0.
//!
//! Invariant: each change is made on the value that it was computed from (a write with the znode's version), so none is
//! lost among others. One whose answer was lost with the connection is not made twice: it is told as uncertain.

use std::fmt;
use std::str::FromStr;

use super::error::{Cause, Error};
use super::path::ZnodePath;
use super::session::Session;

/// A number as kazoo's counters hold it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A number with a point; a counter that holds one stays so.
    Float(f64),
}

/// Text that is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a number; write 1, -2 or 0.5")]
pub struct NoNumber;

impl Number {
    fn plus(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.checked_add(b).map(Self::Int),
            (a, b) => Some(Self::Float(a.float() + b.float())).filter(|sum| sum.float().is_finite()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as Python adds an int to a float")]
    const fn float(self) -> f64 {
        match self {
            Self::Int(n) => n as f64,
            Self::Float(x) => x,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => n.fmt(f),
            // With its point, as Python's repr.
            Self::Float(x) => write!(f, "{x:?}"),
        }
    }
}

impl FromStr for Number {
    type Err = NoNumber;

    fn from_str(text: &str) -> Result<Self, NoNumber> {
        if let Ok(n) = text.parse() {
            return Ok(Self::Int(n));
        }
        // Not a whole number that is too long for one: it would become another.
        let whole = text.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit());
        let float: f64 = if whole { return Err(NoNumber) } else { text.parse().map_err(|_| NoNumber)? };
        if float.is_finite() { Ok(Self::Float(float)) } else { Err(NoNumber) }
    }
}

/// A counter.
#[derive(Clone, Debug)]
pub struct Counter {
    session: Session,
    path: ZnodePath,
}

impl Counter {
    /// The counter at this path.
    #[must_use]
    pub fn new(session: &Session, path: ZnodePath) -> Self {
        Self { session: session.clone(), path }
    }

    /// What it holds; makes it, with nothing in it, if it is not there.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::NoNumber`].
    pub async fn value(&self) -> Result<Number, Error> {
        self.read().await.map(|(value, _)| value)
    }

    /// Adds to it, and tells what came out.
    ///
    /// # Errors
    /// What ZooKeeper refuses; [`Error::NoNumber`], also for a sum that is none; [`Error::Uncertain`] if the connection was
    /// lost in the middle, and whether it was added is not known.
    pub async fn add(&self, amount: Number) -> Result<Number, Error> {
        loop {
            let (before, version) = self.read().await?;
            let sum = before.plus(amount).ok_or_else(|| self.no_number(&format!("{before} + {amount}")))?;
            match self.session.set(&self.path, sum.to_string().as_bytes(), Some(version)).await {
                Ok(_) => return Ok(sum),
                // Another was faster, or somebody deleted it.
                Err(error) if matches!(error.cause(), Some(Cause::BadVersion | Cause::NoNode)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(&self) -> Result<(Number, i32), Error> {
        loop {
            match self.session.get(&self.path).await {
                Ok((data, stat)) => return Ok((self.parse(&data)?, stat.version)),
                Err(error) if error.cause() == Some(&Cause::NoNode) => self.session.ensure(&self.path).await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn parse(&self, data: &[u8]) -> Result<Number, Error> {
        let text = String::from_utf8_lossy(data);
        if text.is_empty() { Ok(Number::Int(0)) } else { text.trim().parse().map_err(|_| self.no_number(&text)) }
    }

    fn no_number(&self, text: &str) -> Error {
        Error::NoNumber { path: self.path.clone(), text: text.chars().take(64).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for text in ["6", "-3", "3.0", "-0.5", "1e16"] {
            assert_eq!(text.parse::<Number>().unwrap().to_string(), text);
        }
        assert_eq!("+2".parse(), Ok(Number::Int(2)));
        for text in ["", "x", "nan", "inf", "99999999999999999999", "1,5", "0x10"] {
            assert_eq!(text.parse::<Number>(), Err(NoNumber), "{text}");
        }
    }

    #[test]
    fn sums_stay_what_they_are_and_inside_their_range() {
        assert_eq!(Number::Int(2).plus(Number::Int(-3)), Some(Number::Int(-1)));
        assert_eq!(Number::Float(2.0).plus(Number::Int(1)), Some(Number::Float(3.0)));
        assert_eq!(Number::Int(i64::MAX).plus(Number::Int(1)), None);
        assert_eq!(Number::Float(f64::MAX).plus(Number::Float(f64::MAX)), None);
    }
}
