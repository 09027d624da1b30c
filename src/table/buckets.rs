//! Values put together by time: what each minute's median was. Pure, and in bounded memory: buckets are open while there is room,
//! for devices send what is old; then the oldest go out, and what comes for them later is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::moment::Zone;
use crate::limits::{BUCKET_SERIES_MAX, BUCKET_VALUES_MAX, BUCKETS_EMPTY_MAX, BUCKETS_OPEN_MAX, MEDIAN_VALUES_MAX};
use crate::reading::UnixNs;

const WEEK_NS: i128 = 7 * 86_400 * 1_000_000_000;

/// From the beginning of 1970, a Thursday, to the first Monday.
const MONDAY_NS: i128 = 4 * 86_400 * 1_000_000_000;

/// What is made of the values of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Median,
    Mean,
    Min,
    Max,
    Last,
    Count,
}

impl Aggregate {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Last => "last",
            Self::Count => "count",
        }
    }
}

/// Whose values, and which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) source: String,
    pub(crate) field: String,
}

/// What a bucket says of each series; nothing of one that has no value in it.
pub(crate) type Said<'a> = &'a [(Series, Option<f64>)];

/// The values of a series in a bucket.
#[derive(Debug)]
pub(crate) struct Values {
    /// How many.
    pub(crate) count: u64,
    sum: f64,
    mean: f64,
    min: f64,
    max: f64,
    last: (UnixNs, f64),
    /// All of them, or so many that stand for them.
    all: Vec<f64>,
    /// Most of those.
    most: usize,
    /// One of so many is in `all`.
    one_of: u64,
}

/// Buckets of one length.
#[derive(Debug)]
pub(crate) struct Buckets {
    every_ns: i128,
    aggregate: Aggregate,
    zone: Zone,
    series: BTreeSet<Series>,
    open: BTreeMap<u64, BTreeMap<Series, Values>>,
    /// The beginning of the first bucket that has not gone out.
    next: Option<u64>,
    held: usize,
    /// Values that came for buckets which had gone out.
    pub(crate) late: u64,
    /// Values of series past the bound.
    pub(crate) beyond: u64,
    /// Empty buckets that were left out, as they were too many in a row.
    pub(crate) skipped: u64,
}

impl Buckets {
    /// Buckets that begin where the zone's hours and days do, and weeks on Mondays.
    pub(crate) fn new(every: Duration, aggregate: Aggregate, zone: Zone) -> Self {
        let every_ns = i128::try_from(every.as_nanos()).unwrap_or(i128::MAX).max(1);
        let (series, open) = (BTreeSet::new(), BTreeMap::new());
        Self { every_ns, aggregate, zone, series, open, next: None, held: 0, late: 0, beyond: 0, skipped: 0 }
    }

    /// Where the bucket of this time begins.
    pub(crate) fn start(&self, time: UnixNs) -> u64 {
        let ahead = i128::from(self.zone.ahead_ns(time));
        let origin = if self.every_ns % WEEK_NS == 0 { MONDAY_NS } else { 0 } - ahead;
        let start = (i128::from(time.0) - origin).div_euclid(self.every_ns) * self.every_ns + origin;
        u64::try_from(start).unwrap_or(0)
    }

    /// The beginning of the bucket behind the one that begins here. Where clocks change, a day is shorter or longer.
    fn behind(&self, start: u64) -> u64 {
        let later = i128::from(start) + self.every_ns + self.every_ns / 2;
        let later = self.start(UnixNs(u64::try_from(later).unwrap_or(u64::MAX)));
        if later > start { later } else { u64::MAX }
    }

    /// Takes a value.
    pub(crate) fn add(&mut self, time: UnixNs, series: Series, value: f64) {
        let start = self.start(time);
        if self.next.is_some_and(|next| start < next) {
            self.late += 1;
            return;
        }
        if !self.series.contains(&series) {
            if self.series.len() >= BUCKET_SERIES_MAX {
                self.beyond += 1;
                return;
            }
            self.series.insert(series.clone());
        }
        let values =
            self.open.entry(start).or_default().entry(series).or_insert_with(|| Values::new(MEDIAN_VALUES_MAX));
        self.held -= values.all.len();
        values.add(time, value, self.aggregate);
        self.held += values.all.len();
    }

    /// When the first bucket that is open is over; none if none is.
    pub(crate) fn due(&self) -> Option<u64> {
        self.open.first_key_value().map(|(start, _)| self.behind(*start))
    }

    /// Gives out the oldest buckets while there are more than there is room for.
    pub(crate) fn make_room(&mut self, each: &mut dyn FnMut(u64, Said<'_>)) {
        while self.held > BUCKET_VALUES_MAX || self.open.len() > BUCKETS_OPEN_MAX {
            let Some(start) = self.open.first_key_value().map(|(start, _)| *start) else { return };
            self.close_before(self.behind(start), each);
        }
    }

    /// Gives out all buckets that begin before this, the empty ones among them, too.
    pub(crate) fn close_before(&mut self, end: u64, each: &mut dyn FnMut(u64, Said<'_>)) {
        let first = self.open.first_key_value().map(|(start, _)| *start);
        let Some(mut start) = self.next.or(first) else { return };
        while start < end && !self.open.is_empty() {
            if let Some((behind, count)) = self.silence(start, end) {
                self.skipped += count;
                (start, self.next) = (behind, Some(behind));
                continue;
            }
            let mut bucket = self.open.remove(&start).unwrap_or_default();
            self.held -= bucket.values().map(|values| values.all.len()).sum::<usize>();
            let (aggregate, nothing) = (self.aggregate, self.nothing());
            let said = self.series.iter().map(|series| {
                let value = bucket.remove(series).map(|mut values| values.said(aggregate));
                (series.clone(), value.or(nothing))
            });
            each(start, &said.collect::<Vec<_>>());
            start = self.behind(start);
            self.next = Some(start);
        }
    }

    /// Where a silence ends that begins with this bucket, and how many buckets it has, if they are too many to be shown.
    fn silence(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let behind = self.open.first_key_value().map_or(end, |(first, _)| (*first).min(end));
        let count = u64::try_from(i128::from(behind.saturating_sub(start)) / self.every_ns).unwrap_or(u64::MAX);
        (count > BUCKETS_EMPTY_MAX).then_some((behind, count))
    }

    /// Gives out all that is left.
    pub(crate) fn finish(&mut self, each: &mut dyn FnMut(u64, Said<'_>)) {
        self.close_before(u64::MAX, each);
    }

    /// What is said of a bucket without a value.
    const fn nothing(&self) -> Option<f64> {
        match self.aggregate {
            Aggregate::Count => Some(0.0),
            _ => None,
        }
    }
}

impl Values {
    /// None yet; the median is that of so many at most, which stand for all.
    pub(crate) fn new(most: usize) -> Self {
        let (count, sum, mean, min, max, all) = (0, 0.0, 0.0, 0.0, 0.0, Vec::new());
        Self { count, sum, mean, min, max, last: (UnixNs(0), 0.0), all, most, one_of: 0 }
    }

    /// Takes a value; for a median it has to be remembered.
    pub(crate) fn add(&mut self, time: UnixNs, value: f64, aggregate: Aggregate) {
        let is_first = self.count == 0;
        self.count += 1;
        self.sum += value;
        // For sums that are infinite where no value is.
        let n = self.count as f64;
        self.mean += value / n - self.mean / n;
        self.min = if is_first { value } else { self.min.min(value) };
        self.max = if is_first { value } else { self.max.max(value) };
        if is_first || time >= self.last.0 {
            self.last = (time, value);
        }
        if aggregate == Aggregate::Median && (self.count - 1).is_multiple_of(self.one_of.max(1)) {
            self.keep(value);
        }
    }

    /// Past the bound every other value stands for both.
    fn keep(&mut self, value: f64) {
        if self.all.len() >= self.most {
            let mut stays = false;
            self.all.retain(|_| {
                stays = !stays;
                stays
            });
            self.one_of = self.one_of.max(1) * 2;
        }
        self.all.push(value);
    }

    /// What they come to, of which there is one at least.
    pub(crate) fn said(&mut self, aggregate: Aggregate) -> f64 {
        match aggregate {
            Aggregate::Mean if self.sum.is_finite() => plain(self.sum / self.count as f64),
            Aggregate::Mean => self.mean,
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Last => self.last.1,
            Aggregate::Count => self.count as f64,
            Aggregate::Median => {
                self.all.sort_by(f64::total_cmp);
                let at = |k: usize| self.all.get(k).copied().unwrap_or_default();
                let (half, len) = (self.all.len() / 2, self.all.len());
                let (low, high) = (at(half.saturating_sub(1)), at(half));
                match len % 2 {
                    1 => high,
                    _ if (low + high).is_finite() => plain((low + high) / 2.0),
                    _ => low / 2.0 + high / 2.0,
                }
            }
        }
    }
}

/// A number without the last digits that only adding up made: nobody measures to twelve.
fn plain(value: f64) -> f64 {
    format!("{value:.11e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn series(field: &str) -> Series {
        Series { source: String::new(), field: field.to_owned() }
    }

    fn buckets(every_s: u64, aggregate: Aggregate) -> Buckets {
        Buckets::new(Duration::from_secs(every_s), aggregate, Zone::utc())
    }

    /// `seconds:value` of each bucket.
    fn told(buckets: &mut Buckets, end: u64) -> String {
        let mut words = Vec::new();
        buckets.close_before(end, &mut |start, said| {
            let values = said.iter().map(|(_, value)| value.map_or_else(|| "-".to_owned(), |value| value.to_string()));
            words.push(format!("{}:{}", start / S, values.collect::<Vec<_>>().join(",")));
        });
        words.join(" ")
    }

    #[test]
    fn each_bucket_says_what_its_values_come_to_and_empty_ones_nothing() {
        for (aggregate, wanted) in [
            (Aggregate::Median, "0:21.5 60:- 120:85"),
            (Aggregate::Mean, "0:42.5 60:- 120:85"),
            (Aggregate::Min, "0:21 60:- 120:85"),
            (Aggregate::Max, "0:85 60:- 120:85"),
            (Aggregate::Last, "0:85 60:- 120:85"),
            (Aggregate::Count, "0:3 60:0 120:1"),
        ] {
            let mut buckets = buckets(60, aggregate);
            for (second, value) in [(1, 21.5), (130, 85.0), (59, 85.0), (2, 21.0)] {
                buckets.add(UnixNs(second * S), series("t"), value);
            }
            assert_eq!(told(&mut buckets, u64::MAX), wanted, "{aggregate:?}");
            assert_eq!(buckets.held, 0);
        }
    }

    #[test]
    fn adding_up_makes_no_digits_and_nothing_infinite() {
        for (values, wanted) in [
            (&[21.7, 21.9][..], 21.8),
            (&[21.1, 22.2, 21.3, 22.4], 21.75),
            (&[f64::MAX, f64::MAX], f64::MAX),
            (&[f64::MAX, -f64::MAX], 0.0),
        ] {
            for aggregate in [Aggregate::Mean, Aggregate::Median] {
                let mut buckets = buckets(60, aggregate);
                values.iter().for_each(|value| buckets.add(UnixNs(1), series("t"), *value));
                buckets.finish(&mut |_, said| assert_eq!(said[0].1, Some(wanted), "{values:?}"));
            }
        }
    }

    #[test]
    fn what_is_late_is_counted_and_a_series_is_empty_until_it_comes() {
        let mut buckets = buckets(60, Aggregate::Median);
        buckets.add(UnixNs(10 * S), series("b"), 1.0);
        buckets.add(UnixNs(70 * S), series("b"), 2.0);
        assert_eq!(told(&mut buckets, 60 * S), "0:1");
        buckets.add(UnixNs(20 * S), series("b"), 3.0);
        buckets.add(UnixNs(130 * S), series("a"), 4.0);
        assert_eq!(told(&mut buckets, u64::MAX), "60:-,2 120:4,-");
        assert_eq!(buckets.late, 1);
    }

    #[test]
    fn memory_has_a_bound_and_the_median_of_many_is_about_right() {
        let mut median = buckets(60, Aggregate::Median);
        for k in 0..10 * MEDIAN_VALUES_MAX as u64 {
            median.add(UnixNs(k), series("t"), (k % 1000) as f64);
        }
        assert!(median.held <= MEDIAN_VALUES_MAX);
        let mut said = 0.0;
        median.finish(&mut |_, values| said = values[0].1.unwrap());
        assert!((450.0..550.0).contains(&said), "{said}");
        let mut many = buckets(1, Aggregate::Mean);
        let mut gone = 0_usize;
        for k in 0..BUCKETS_OPEN_MAX as u64 + 10 {
            many.add(UnixNs(k * S), series("t"), 1.0);
            many.make_room(&mut |_, _| gone += 1);
        }
        assert_eq!((many.open.len(), gone), (BUCKETS_OPEN_MAX, 10));
    }

    #[test]
    fn a_bucket_is_due_where_the_next_one_begins() {
        let mut buckets = buckets(60, Aggregate::Median);
        assert_eq!(buckets.due(), None);
        buckets.add(UnixNs(70 * S), series("t"), 1.0);
        buckets.add(UnixNs(190 * S), series("t"), 2.0);
        assert_eq!(buckets.due(), Some(120 * S));
        assert_eq!(told(&mut buckets, 120 * S), "60:1");
        assert_eq!(buckets.due(), Some(240 * S));
    }

    #[test]
    fn days_and_weeks_begin_where_their_zone_has_them() {
        let day = buckets(86_400, Aggregate::Mean);
        assert_eq!(day.start(UnixNs(1_795_234_260 * S)), 1_795_219_200 * S);
        // The Monday of that week.
        assert_eq!(buckets(7 * 86_400, Aggregate::Mean).start(UnixNs(1_795_234_260 * S)), 1_794_787_200 * S);
    }

    #[test]
    fn a_clock_that_is_a_year_behind_makes_no_year_of_empty_buckets() {
        let mut buckets = Buckets::new(Duration::from_secs(1), Aggregate::Median, Zone::utc());
        let series = || Series { source: "a".to_owned(), field: "t".to_owned() };
        let year = 365 * 86_400;
        for at in [0, 3, year] {
            buckets.add(UnixNs(at * S), series(), 1.0);
        }
        let mut starts = Vec::new();
        buckets.finish(&mut |start, _| starts.push(start / S));
        assert_eq!(starts, [0, 1, 2, 3, year]);
        assert_eq!(buckets.skipped, year - 4);
    }

    proptest! {
        #[test]
        fn every_value_is_in_one_bucket(values in prop::collection::vec((0..5000_u64, -9_i32..9), 1..60), close in 0..5000_u64) {
            let mut buckets = buckets(60, Aggregate::Count);
            let mut counted = 0.0;
            for (k, (second, value)) in values.iter().enumerate() {
                buckets.add(UnixNs(second * S), series("t"), f64::from(*value));
                if k == values.len() / 2 {
                    buckets.close_before(close * S, &mut |_, said| counted += said[0].1.unwrap());
                }
            }
            buckets.finish(&mut |_, said| counted += said[0].1.unwrap());
            prop_assert_eq!(counted as u64 + buckets.late, values.len() as u64);
            prop_assert!(buckets.open.is_empty() && buckets.held == 0);
        }
    }
}
