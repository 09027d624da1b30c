//! A round: from what is in the measurements' znodes to the mean and how it came about. Pure: what was read is handed in.

use std::collections::BTreeMap;

use super::value::Value;

/// What was found of one device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// The device.
    pub(crate) device: String,
    /// When its znode was last written: a number that grows with every write in ZooKeeper.
    pub(crate) written: i64,
    /// What it holds, or why that is no value.
    pub(crate) value: Result<Value, Unreadable>,
}

/// Why a znode gives no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It was just made.
    #[error("it is empty")]
    Empty,
    /// It holds something else.
    #[error("{0:?} is no number")]
    NoNumber(String),
    /// ZooKeeper refuses to show it.
    #[error("{0}")]
    Refused(String),
}

/// What came of a round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Who counted, with which value.
    pub(crate) counted: BTreeMap<String, Value>,
    /// Who has written nothing since the round before.
    pub(crate) late: Vec<String>,
    /// Whose znode gives no value, and why.
    pub(crate) unreadable: BTreeMap<String, Unreadable>,
    /// The mean; none if nobody counted.
    pub(crate) mean: Option<f64>,
}

/// The rounds of one leader: remembers what was there in the last one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    written: BTreeMap<String, i64>,
}

impl Rounds {
    /// Judges what was read. Whoever has written nothing newer than the last round is late; in a leader's first round
    /// nobody is.
    pub(crate) fn judge(&mut self, readings: Vec<Reading>) -> Outcome {
        let mut outcome =
            Outcome { counted: BTreeMap::new(), late: Vec::new(), unreadable: BTreeMap::new(), mean: None };
        let before = std::mem::take(&mut self.written);
        for Reading { device, written, value } in readings {
            let is_late = before.get(&device).is_some_and(|&last| written <= last);
            self.written.insert(device.clone(), written);
            match value {
                Err(cause) => drop(outcome.unreadable.insert(device, cause)),
                Ok(_) if is_late => outcome.late.push(device),
                Ok(value) => drop(outcome.counted.insert(device, value)),
            }
        }
        outcome.mean = mean(outcome.counted.values().map(|value| value.number()));
        outcome
    }
}

/// The arithmetic mean; none of nothing. The sum of great numbers may leave their range, each one's share does not.
fn mean(values: impl ExactSizeIterator<Item = f64> + Clone) -> Option<f64> {
    let n = u32::try_from(values.len()).ok().filter(|&n| n > 0)?;
    let mean = values.clone().sum::<f64>() / f64::from(n);
    if mean.is_finite() { Some(mean) } else { Some(values.map(|value| value / f64::from(n)).sum()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(device: &str, written: i64, value: f64) -> Reading {
        Reading { device: device.to_owned(), written, value: Ok(Value::new(value).unwrap()) }
    }

    fn counted(outcome: &Outcome) -> Vec<&str> {
        outcome.counted.keys().map(String::as_str).collect()
    }

    #[test]
    fn the_mean_is_that_of_who_counted() {
        let mut rounds = Rounds::default();
        let unreadable = |device: &str, cause| Reading { device: device.to_owned(), written: 1, value: Err(cause) };
        let outcome = rounds.judge(vec![
            reading("1", 10, 83.0),
            reading("2", 11, 83.0),
            reading("3", 12, 84.0),
            unreadable("4", Unreadable::Empty),
            unreadable("5", Unreadable::NoNumber("x".to_owned())),
        ]);
        assert_eq!(format!("{:?}", outcome.mean.unwrap()), "83.33333333333333");
        assert_eq!(counted(&outcome), ["1", "2", "3"]);
        assert_eq!(outcome.unreadable.keys().collect::<Vec<_>>(), ["4", "5"]);
        assert_eq!(rounds.judge(Vec::new()).mean, None, "without a measurement there is none");
    }

    #[test]
    fn late_is_who_has_written_nothing_since_the_last_round() {
        let mut rounds = Rounds::default();
        assert!(rounds.judge(vec![reading("1", 10, 1.0), reading("2", 11, 2.0)]).late.is_empty(), "nobody at first");
        let second = rounds.judge(vec![reading("1", 10, 1.0), reading("2", 12, 4.0), reading("3", 5, 6.0)]);
        assert_eq!((second.late.as_slice(), counted(&second)), (&["1".to_owned()][..], vec!["2", "3"]));
        assert_eq!(second.mean, Some(5.0));
        let third = rounds.judge(vec![reading("1", 13, 9.0), reading("2", 12, 4.0)]);
        assert_eq!((third.late.as_slice(), counted(&third)), (&["2".to_owned()][..], vec!["1"]));
        let all_late = rounds.judge(vec![reading("1", 13, 9.0), reading("2", 12, 4.0)]);
        assert_eq!((all_late.mean, all_late.late.len()), (None, 2));
        rounds.judge(vec![reading("2", 12, 4.0)]);
        let back = rounds.judge(vec![reading("1", 13, 9.0)]);
        assert!(back.late.is_empty(), "who was away is not known any more");
    }

    #[test]
    fn great_numbers_have_a_mean() {
        assert_eq!(mean([f64::MAX, f64::MAX].into_iter()), Some(f64::MAX));
        assert_eq!(mean([1.0, 2.0].into_iter()), Some(1.5));
    }
}
