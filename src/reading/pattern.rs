//! The regular expression of a rule, bounded: it takes time that grows with the text alone, and memory that does not grow.
//!
//! It is behind the feature `patterns`, so that who uses the client alone compiles no engine for them.

use super::guess::Pair;
use super::rules::WrongRule;

#[cfg(feature = "patterns")]
mod engine {
    use super::{Pair, WrongRule};
    use crate::limits::RULE_PATTERN_BYTES_MAX;
    use regex::{Regex, RegexBuilder};

    #[derive(Clone, Debug)]
    pub(in super::super) struct Pattern(Regex);

    impl Pattern {
        pub(in super::super) fn new(text: &str) -> Result<Self, WrongRule> {
            let built = RegexBuilder::new(text)
                .size_limit(RULE_PATTERN_BYTES_MAX)
                .dfa_size_limit(RULE_PATTERN_BYTES_MAX)
                .build();
            built.map(Self).map_err(|error| {
                // The last line says what is wrong; those before show where.
                let text = error.to_string();
                WrongRule::Pattern(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
            })
        }

        /// How many groups it has.
        pub(in super::super) fn groups(&self) -> usize {
            self.0.captures_len() - 1
        }

        /// Whether each of its groups has a name of its own, and there is one.
        pub(in super::super) fn says_names(&self) -> bool {
            self.groups() > 0 && self.0.capture_names().skip(1).all(|name| name.is_some())
        }

        /// What its groups found, each under its own name, or else that of the same place; none if it is not in the text.
        pub(in super::super) fn find<'a>(
            &self,
            text: &str,
            mut name: impl FnMut(usize) -> Option<&'a str>,
        ) -> Option<Vec<Pair>> {
            let found = self.0.captures(text)?;
            let groups = self.0.capture_names().enumerate().skip(1);
            let pairs = groups.filter_map(|(k, own)| {
                let name = name(k - 1).or(own)?;
                Some(Pair::new(name.to_owned(), found.get(k)?.as_str()))
            });
            Some(pairs.collect())
        }
    }
}

#[cfg(not(feature = "patterns"))]
mod engine {
    use super::{Pair, WrongRule};

    /// There is none.
    #[derive(Clone, Debug)]
    pub(in super::super) enum Pattern {}

    impl Pattern {
        pub(in super::super) const fn new(_: &str) -> Result<Self, WrongRule> {
            Err(WrongRule::NoPatterns)
        }

        pub(in super::super) const fn groups(&self) -> usize {
            match *self {}
        }

        pub(in super::super) const fn says_names(&self) -> bool {
            match *self {}
        }

        pub(in super::super) fn find<'a>(&self, _: &str, _: impl FnMut(usize) -> Option<&'a str>) -> Option<Vec<Pair>> {
            match *self {}
        }
    }
}

pub(super) use engine::Pattern;
