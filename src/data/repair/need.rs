//! Whether records need another copy, and who has to see to it.
//!
//! Pure, and the same on every node: all that hold a record come to the same answer from the same names, so that one of
//! them acts. Where two see the nodes differently for a while there are copies to spare, never too few.

use super::presence::Standing;

/// What is known of the cluster while records are judged.
pub(crate) struct Judge<'a> {
    /// This node's name.
    pub(crate) me: &'a str,
    /// Copies that each record is to have.
    pub(crate) replicas: usize,
    /// Names of the nodes that are present, this one included unless it is leaving.
    pub(crate) present: &'a [&'a str],
    /// What is known of a node.
    pub(crate) standing: &'a dyn Fn(&str) -> Standing,
}

/// What is to be done for records with the same holders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// This node speaks and acts for these records.
    pub(crate) responsible: bool,
    /// They have fewer copies on present nodes than they are to have.
    pub(crate) short: bool,
    /// No other node has them that is here or may come back. For one that is leaving, those that have been away for long do
    /// not count: who lets it go must not have to wait for them.
    pub(crate) sole: bool,
    /// Copies that can and have to be made now, by the responsible node.
    pub(crate) copies: usize,
    /// Names of those that count as holding them, parted by commas, sorted: not the lost and not the leaving ones.
    pub(crate) live: String,
}

impl Judge<'_> {
    /// Judges records whose lines name `written` (empty for none) and that are held by `holders`, both parted by commas.
    /// This node holds them in any case.
    #[must_use]
    pub(crate) fn judge(&self, written: &str, holders: &str) -> Need {
        let mut all = names(holders);
        if !all.contains(&self.me) {
            all.push(self.me);
        }
        all.sort_unstable();
        all.dedup();
        // A node that asks is there, whatever it has heard of itself.
        let standing = |name: &str| match (self.standing)(name) {
            Standing::Absent | Standing::Lost | Standing::Gone if name == self.me => Standing::Present,
            other => other,
        };
        let leaving = standing(self.me) == Standing::Leaving;
        let is_lost = |name: &str| match standing(name) {
            Standing::Gone => true,
            Standing::Lost => leaving,
            _ => false,
        };
        let with = |wanted: Standing| all.iter().copied().filter(move |name| standing(name) == wanted);
        let wanted = self.replicas.max(names(written).len());
        let present = with(Standing::Present).count();
        let counted = present + with(Standing::Absent).count();
        let speaker = with(Standing::Present).next().or_else(|| with(Standing::Leaving).next());
        let free = self.present.iter().filter(|name| !all.contains(name) && **name != self.me).count();
        let mut live: Vec<&str> = with(Standing::Present).chain(with(Standing::Absent)).collect();
        live.sort_unstable();
        Need {
            responsible: speaker == Some(self.me),
            short: present < wanted,
            sole: all.iter().all(|name| *name == self.me || is_lost(name)),
            copies: wanted.saturating_sub(counted).min(free),
            live: live.join(","),
        }
    }
}

/// The names in a list that is parted by commas; none in an empty one.
#[must_use]
pub(crate) fn names(list: &str) -> Vec<&str> {
    list.split(',').filter(|name| !name.is_empty()).collect()
}

/// The list with one more name, sorted, each once.
#[must_use]
pub(crate) fn with_name(list: &str, name: &str) -> String {
    let mut all = names(list);
    all.push(name);
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

/// The list without a name.
#[must_use]
pub(crate) fn without_name(list: &str, name: &str) -> String {
    let mut all = names(list);
    all.retain(|one| *one != name);
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn judge(me: &str, replicas: usize, standing: &dyn Fn(&str) -> Standing, written: &str, holders: &str) -> Need {
        let present: Vec<&str> = NAMES.into_iter().filter(|name| standing(name) == Standing::Present).collect();
        Judge { me, replicas, present: &present, standing }.judge(written, holders)
    }

    #[test]
    fn the_first_that_is_left_makes_the_copies_that_are_missing() {
        let lost_b = |name: &str| if name == "b" { Standing::Lost } else { Standing::Present };
        let need = judge("a", 2, &lost_b, "a,b", "a,b");
        assert_eq!((need.responsible, need.short, need.sole, need.copies), (true, true, false, 1));
        assert_eq!(need.live, "a");
        assert_eq!(judge("a", 3, &lost_b, "a,b,c", "a,b,c").copies, 1);
        assert!(!judge("c", 3, &lost_b, "a,b,c", "a,b,c").responsible);
        assert_eq!(judge("a", 2, &lost_b, "a,b", "a,b,c").copies, 0, "it has been copied to c");
        assert_eq!(judge("a", 1, &lost_b, "a,b,c", "a,b,c").copies, 1, "it was to have three");
        assert_eq!(judge("a", 2, &lost_b, "", "").copies, 1, "one copy was wanted, and now two");
    }

    #[test]
    fn what_nobody_else_may_come_back_with_is_here_alone() {
        let gone_b = |name: &str| if name == "b" { Standing::Gone } else { Standing::Present };
        let need = judge("a", 2, &gone_b, "a,b", "a,b");
        assert_eq!((need.responsible, need.short, need.sole, need.copies), (true, true, true, 1));
        let leaving_a = |name: &str| match name {
            "a" => Standing::Leaving,
            "b" => Standing::Lost,
            _ => Standing::Present,
        };
        assert!(judge("a", 2, &leaving_a, "a,b", "a,b").sole, "it must not go before there is another");
        assert!(!judge("a", 2, &leaving_a, "a,b", "a,b,c").sole);
    }

    #[test]
    fn who_may_come_back_is_short_but_not_copied() {
        let absent_b = |name: &str| if name == "b" { Standing::Absent } else { Standing::Present };
        let need = judge("a", 2, &absent_b, "a,b", "a,b");
        assert_eq!((need.short, need.copies, need.live.as_str()), (true, 0, "a,b"));
    }

    #[test]
    fn a_leaving_node_copies_only_what_nobody_else_can() {
        let leaving_a = |name: &str| if name == "a" { Standing::Leaving } else { Standing::Present };
        let need = judge("a", 1, &leaving_a, "", "");
        assert_eq!((need.responsible, need.short, need.copies, need.live.as_str()), (true, true, 1, ""));
        assert!(!judge("a", 2, &leaving_a, "a,b", "a,b").responsible);
        let need = judge("b", 2, &leaving_a, "a,b", "a,b");
        assert_eq!((need.responsible, need.copies, need.live.as_str()), (true, 1, "b"));
        assert_eq!(judge("a", 1, &leaving_a, "", "a,d").copies, 0);
    }

    #[test]
    fn no_copy_is_wanted_where_there_is_no_node_for_it() {
        let alone = |name: &str| if name == "a" { Standing::Present } else { Standing::Lost };
        let need = judge("a", 2, &alone, "a", "a");
        assert_eq!((need.short, need.copies), (true, 0));
    }

    #[test]
    fn lists_of_names() {
        assert_eq!(with_name("c,a", "b"), "a,b,c");
        assert_eq!(with_name("", "b"), "b");
        assert_eq!(with_name("b", "b"), "b");
        assert_eq!(without_name("a,b", "b"), "a");
        assert!(names("").is_empty());
    }

    fn standings() -> impl Strategy<Value = Vec<Standing>> {
        use Standing::{Absent, Gone, Leaving, Lost, Present};
        prop::collection::vec(prop::sample::select(vec![Present, Leaving, Absent, Lost, Gone]), 5)
    }

    proptest! {
        /// Exactly one holder that can act is responsible, and copying what it is told to ends the need.
        #[test]
        fn one_acts_and_it_ends(standings in standings(), holders in prop::collection::btree_set(0..5_usize, 1..4), replicas in 1..4_usize) {
            let standing = |name: &str| NAMES.iter().position(|one| *one == name).map_or(Standing::Lost, |at| standings[at]);
            let list: Vec<&str> = holders.iter().map(|at| NAMES[*at]).collect();
            let list = list.join(",");
            let can_act: Vec<&str> = names(&list)
                .into_iter()
                .filter(|name| matches!(standing(name), Standing::Present | Standing::Leaving))
                .collect();
            let act: Vec<&&str> = can_act.iter().filter(|me| judge(me, replicas, &standing, &list, &list).responsible).collect();
            prop_assert_eq!(act.len(), usize::from(!can_act.is_empty()));
            if let Some(me) = act.first() {
                let mut now = list.clone();
                for _ in 0..NAMES.len() {
                    let need = judge(me, replicas, &standing, &list, &now);
                    prop_assert!(need.copies == 0 || need.short);
                    if need.copies == 0 {
                        break;
                    }
                    let target = NAMES.into_iter().find(|name| standing(name) == Standing::Present && !names(&now).contains(name));
                    prop_assert!(target.is_some());
                    now = with_name(&now, target.unwrap_or_default());
                }
                prop_assert_eq!(judge(me, replicas, &standing, &list, &now).copies, 0);
            }
        }
    }
}
