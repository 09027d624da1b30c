//! Which sources a reader wants: some names, some groups, or all there are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::said::Who;
use super::source::{NotASource, SourceName};
use crate::limits::FILTER_NAMES_MAX;

/// Names of sources, and of groups of them; none of either stands for everything, records without a source included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceFilter(Option<Arc<[Who]>>);

/// Text that is no list of names.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAFilter {
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NotASource),
    /// There are too many.
    #[error("{0} names are more than the {FILTER_NAMES_MAX} that are taken; name their groups, such as taller/")]
    TooMany(usize),
}

impl SourceFilter {
    /// Lets these pass; everything, if there are none.
    ///
    /// # Errors
    /// There are too many.
    pub fn new(mut names: Vec<Who>) -> Result<Self, NotAFilter> {
        names.sort_unstable();
        names.dedup();
        match names.len() {
            0 => Ok(Self::default()),
            count if count > FILTER_NAMES_MAX => Err(NotAFilter::TooMany(count)),
            _ => Ok(Self(Some(names.into()))),
        }
    }

    /// Whether everything passes.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The names and groups that pass.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Who> {
        self.0.as_deref().unwrap_or_default().iter()
    }

    /// Whether a record of this source passes.
    #[must_use]
    pub fn matches(&self, source: Option<&SourceName>) -> bool {
        let Some(names) = self.0.as_deref() else { return true };
        source.is_some_and(|source| {
            names.iter().any(|who| match who {
                Who::Source(name) => name == source,
                Who::Group(group) => source.is_in(group),
            })
        })
    }
}

/// Names with commas between them.
impl FromStr for SourceFilter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        let names = text.split(',').map(|name| Who::from_bytes(name.trim().as_bytes())).collect::<Result<_, _>>()?;
        Self::new(names)
    }
}

impl fmt::Display for SourceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, who) in self.iter().enumerate() {
            write!(f, "{}{who}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::source::tests::{any_name, name};
    use proptest::prelude::*;

    /// Filters of every shape.
    pub(crate) fn any_filter() -> impl Strategy<Value = SourceFilter> {
        let who = (any_name(), any::<bool>()).prop_filter_map("no room", |(name, group)| {
            if group { Who::from_bytes(format!("{name}/").as_bytes()).ok() } else { Some(Who::Source(name)) }
        });
        prop::collection::vec(who, 0..4).prop_map(|names| SourceFilter::new(names).unwrap())
    }

    #[test]
    fn names_pass_exactly_and_groups_with_all_that_is_in_them() {
        let filter: SourceFilter = "esp7, taller/".parse().unwrap();
        for (source, passes) in [
            ("esp7", true),
            ("esp77", false),
            ("taller/horno", true),
            ("taller/a/b", true),
            ("taller", false),
            ("taller2/x", false),
        ] {
            assert_eq!(filter.matches(Some(&name(source))), passes, "{source}");
        }
        assert!(!filter.matches(None), "what has no source");
        assert!(SourceFilter::default().matches(None) && SourceFilter::default().matches(Some(&name("x"))));
        assert_eq!(filter.to_string(), "esp7,taller/");
    }

    #[test]
    fn what_is_no_list_says_what_is_wrong() {
        assert!("esp7,".parse::<SourceFilter>().unwrap_err().to_string().contains("it is empty"));
        assert!("a b".parse::<SourceFilter>().unwrap_err().to_string().contains("take 1 to 32"));
        let many: Vec<String> = (0..=FILTER_NAMES_MAX).map(|n| format!("d{n}")).collect();
        let error = many.join(",").parse::<SourceFilter>().unwrap_err();
        assert!(error.to_string().starts_with("257 names are more than the 256"), "{error}");
    }

    proptest! {
        #[test]
        fn lists_round_trip(filter in any_filter()) {
            if !filter.is_all() {
                prop_assert_eq!(filter.to_string().parse::<SourceFilter>(), Ok(filter));
            }
        }
    }
}
