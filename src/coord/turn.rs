//! Whose turn it is among those who want the same: decided from a list of names, without a server.
//!
//! The invariant: a znode's number is given by ZooKeeper and only grows, so the lowest is the one that came first, and
//! everybody who lists the same children decides the same.

use std::cmp::Ordering;

/// How the znodes of contenders are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `<uuid>__lock__<seq>`, as kazoo has it.
    Kazoo,
    /// `<prefix><seq>`, such as `L-` in the exercise of the seed.
    Prefix(String),
}

const LOCK: &str = "__lock__";

/// Digits of the number that ZooKeeper adds, beside a sign once it has run over.
const DIGITS: usize = 10;

/// Where one stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// First: it is one's turn.
    Holds,
    /// Behind others.
    Waits {
        /// The one just before: when it goes, one looks again. Watching only that one, a release wakes one process and not
        /// all.
        on: String,
        /// How many are before.
        ahead: usize,
    },
    /// Not in the list: the znode is gone.
    Gone,
}

impl Layout {
    /// The name of a new contender, without the number; `uuid` is 32 hex digits.
    pub(super) fn name(&self, uuid: &str) -> String {
        match self {
            Self::Kazoo => format!("{uuid}{LOCK}"),
            Self::Prefix(prefix) => prefix.clone(),
        }
    }

    /// The number in a contender's name; none for other znodes.
    fn number<'a>(&self, name: &'a str) -> Option<&'a str> {
        let number = match self {
            Self::Kazoo => name.rsplit_once(LOCK)?.1,
            Self::Prefix(prefix) => name.strip_prefix(prefix.as_str())?,
        };
        let digits = number.strip_prefix('-').unwrap_or(number);
        (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
    }

    /// All contenders, the first first.
    pub(super) fn in_order<'a>(&self, children: &'a [String]) -> Vec<&'a str> {
        let mut contenders: Vec<_> =
            children.iter().filter_map(|name| Some((self.number(name)?, name.as_str()))).collect();
        contenders.sort_unstable_by(|a, b| by_number(a.0, b.0));
        contenders.into_iter().map(|(_, name)| name).collect()
    }

    /// Where `mine` stands among the children.
    pub(super) fn standing(&self, children: &[String], mine: &str) -> Standing {
        let contenders = self.in_order(children);
        let Some(ahead) = contenders.iter().position(|name| *name == mine) else { return Standing::Gone };
        match ahead.checked_sub(1).and_then(|before| contenders.get(before)) {
            None => Standing::Holds,
            Some(before) => Standing::Waits { on: (*before).to_owned(), ahead },
        }
    }
}

/// As text, as kazoo compares them: everybody has to agree.
fn by_number(a: &str, b: &str) -> Ordering {
    a.cmp(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_lowest_number_holds_whatever_comes_before_it() {
        let children = names(&["ff__lock__0000000007", "00__lock__0000000009", "aa__lock__0000000008"]);
        let stands = |mine| Layout::Kazoo.standing(&children, mine);
        assert_eq!(stands("ff__lock__0000000007"), Standing::Holds);
        let on = "ff__lock__0000000007".to_owned();
        assert_eq!(stands("aa__lock__0000000008"), Standing::Waits { on, ahead: 1 });
        let on = "aa__lock__0000000008".to_owned();
        assert_eq!(stands("00__lock__0000000009"), Standing::Waits { on, ahead: 2 });
        assert_eq!(stands("00__lock__0000000010"), Standing::Gone);
    }

    #[test]
    fn znodes_of_others_are_no_contenders() {
        let children = names(&[
            "lease",
            "00__rlock__0000000001",
            "00__lock__1",
            "00__lock__00000000012",
            "00__lock__000000000x",
            "00__lock__0000000005",
        ]);
        assert_eq!(Layout::Kazoo.in_order(&children), ["00__lock__0000000005"]);
        let children = names(&["L-0000000003", "L-0000000002", "M-0000000001", "L-", "L-x"]);
        let layout = Layout::Prefix("L-".to_owned());
        assert_eq!(layout.in_order(&children), ["L-0000000002", "L-0000000003"]);
        let on = "L-0000000002".to_owned();
        assert_eq!(layout.standing(&children, "L-0000000003"), Standing::Waits { on, ahead: 1 });
    }

    #[test]
    fn numbers_that_ran_over_are_compared_as_kazoo_does() {
        let children = names(&["a__lock__0000000001", "b__lock__-2147483648"]);
        assert_eq!(Layout::Kazoo.in_order(&children), ["b__lock__-2147483648", "a__lock__0000000001"]);
    }
}
