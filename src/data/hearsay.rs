//! What the other heads of this node say of data nodes, for each head that cannot know: heads do not talk to each other.
//!
//! A head that hears of a node which another one has waits for its records when it answers a read. Word of that leaves
//! this node before any page does that counts on the other head: both go the same way, in order. Pure, but for outboxes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::limits;
use crate::net::Outbox;
use crate::wire::frame::{Frame, Member, MemberState, SyncMode};

/// One head.
struct Link {
    outbox: Rc<Outbox>,
    /// What it told: the fewest copies that it gave of late, and whom it knows.
    told: (u8, Vec<Member>),
    /// What it was told of the others.
    said: (u8, Vec<Member>),
}

/// What all heads of this node told.
#[derive(Default)]
pub(crate) struct Hearsay {
    heads: RefCell<BTreeMap<u64, Link>>,
    /// Nodes that have what no other has, by the last word of heads that are gone: they may not have told anybody else.
    last_words: RefCell<BTreeMap<u64, Member>>,
}

impl Hearsay {
    /// A head has taken this node in.
    pub(crate) fn enter(&self, session: u64, outbox: &Rc<Outbox>) {
        let link = Link { outbox: Rc::clone(outbox), told: Default::default(), said: Default::default() };
        self.heads.borrow_mut().insert(session, link);
        self.pass_on();
    }

    /// A head is gone: what it knew is not known any more, but for what readers must not go without.
    pub(crate) fn exit(&self, session: u64) {
        let gone = self.heads.borrow_mut().remove(&session);
        let sole = gone
            .into_iter()
            .flat_map(|link| link.told.1)
            .filter(|member| member.sole && member.state != MemberState::Gone);
        let mut last_words = self.last_words.borrow_mut();
        for member in sole {
            if last_words.len() < limits::MEMBERS_MAX {
                last_words.insert(member.id, Member { state: MemberState::Away, ..member });
            }
        }
        drop(last_words);
        self.pass_on();
    }

    /// A head told whom it knows.
    pub(crate) fn told(&self, session: u64, least: u8, members: &[Member]) {
        if let Some(link) = self.heads.borrow_mut().get_mut(&session) {
            link.told = (least, members.to_vec());
        }
        self.pass_on();
    }

    /// Tells each head what the others know, where that is news.
    fn pass_on(&self) {
        let mut heads = self.heads.borrow_mut();
        let mut last_words = self.last_words.borrow_mut();
        for member in heads.values().flat_map(|link| &link.told.1).filter(|member| member.state != MemberState::Away) {
            // It speaks for itself again, or nobody waits for it.
            last_words.remove(&member.id);
        }
        let last_words: Vec<Member> = last_words.values().cloned().collect();
        let told: Vec<(u64, (u8, Vec<Member>))> =
            heads.iter().map(|(session, link)| (*session, link.told.clone())).collect();
        for (session, link) in heads.iter_mut() {
            let others = || told.iter().filter(|(other, _)| other != session).map(|(_, told)| told);
            let members = together(others().map(|(_, members)| members.as_slice()).chain([last_words.as_slice()]));
            let least = others().map(|(least, _)| *least).filter(|least| *least > 0).min().unwrap_or(0);
            if link.said == (least, members.clone()) {
                continue;
            }
            let frame = Frame::Members { replicas: 0, least, members: members.clone() };
            // The names came off the wire, so they fit.
            if let Err(error) = link.outbox.with(|out| frame.encode(out)) {
                tracing::error!("a head cannot be told of other heads' dataNodes: {error}");
            }
            link.said = (least, members);
        }
    }
}

/// What several heads know, as one list: a node is here if one of them has it, gone if all that know it say so, and has
/// records that no other has if one of them says so.
fn together<'a>(lists: impl Iterator<Item = &'a [Member]>) -> Vec<Member> {
    let mut all = BTreeMap::<u64, (&str, MemberState, bool)>::new();
    for Member { name, id, state, sole, .. } in lists.flatten() {
        let state = if *state == MemberState::Draining { MemberState::Here } else { *state };
        let known = all.entry(*id).or_insert((name, state, false));
        if rank(state) < rank(known.1) {
            (known.0, known.1) = (name, state);
        }
        known.2 |= sole;
    }
    let all = all.into_iter().take(limits::MEMBERS_MAX);
    // Heads do not ask how a node syncs that others have.
    let sync = SyncMode::Always;
    all.map(|(id, (name, state, sole))| Member { name: name.to_owned(), id, state, sync, sole }).collect()
}

const fn rank(state: MemberState) -> u8 {
    match state {
        MemberState::Here | MemberState::Draining => 0,
        MemberState::Away => 1,
        MemberState::Gone => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberState::{Away, Draining, Gone, Here};
    use bytes::BytesMut;

    fn members(list: &[(u64, MemberState)]) -> Vec<Member> {
        list.iter()
            .map(|(id, state)| Member {
                name: format!("n{id}"),
                id: *id,
                state: *state,
                sync: SyncMode::Always,
                sole: *id == 9,
            })
            .collect()
    }

    /// What a head was told since the last time.
    fn heard(outbox: &Outbox) -> Vec<Vec<Member>> {
        let mut bytes = outbox.with(std::mem::take::<BytesMut>);
        let frames = std::iter::from_fn(|| Frame::decode(&mut bytes).unwrap());
        frames
            .map(|frame| match frame {
                Frame::Members { members, .. } => members,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_head_hears_what_the_others_know_and_only_news() {
        let hearsay = Hearsay::default();
        let outboxes = [(); 3].map(|()| Rc::new(Outbox::default()));
        for (session, outbox) in (1..).zip(&outboxes) {
            hearsay.enter(session, outbox);
        }
        hearsay.told(1, 0, &members(&[(7, Here), (8, Away)]));
        hearsay.told(1, 0, &members(&[(7, Here), (8, Away)]));
        assert!(heard(&outboxes[0]).is_empty());
        assert_eq!(heard(&outboxes[1]), [members(&[(7, Here), (8, Away)])]);
        hearsay.told(2, 0, &members(&[(7, Gone), (8, Draining), (9, Gone)]));
        assert_eq!(heard(&outboxes[0]), [members(&[(7, Gone), (8, Here), (9, Gone)])]);
        assert_eq!(heard(&outboxes[2]).last(), Some(&members(&[(7, Here), (8, Here), (9, Gone)])));
        hearsay.exit(1);
        assert_eq!(heard(&outboxes[1]).last(), Some(&members(&[])));
        let late = Rc::new(Outbox::default());
        hearsay.enter(4, &late);
        assert_eq!(heard(&late), [members(&[(7, Gone), (8, Here), (9, Gone)])], "before anything else");
    }

    #[test]
    fn what_only_one_node_has_is_remembered_when_the_head_that_said_so_is_gone() {
        let hearsay = Hearsay::default();
        let outbox = Rc::new(Outbox::default());
        hearsay.enter(1, &outbox);
        hearsay.enter(2, &Rc::default());
        hearsay.told(2, 0, &members(&[(8, Here), (9, Here)]));
        hearsay.exit(2);
        assert_eq!(heard(&outbox), [members(&[(8, Here), (9, Here)]), members(&[(9, Away)])]);
        hearsay.told(1, 0, &members(&[(9, Away)]));
        assert!(heard(&outbox).is_empty(), "that head does not have it either");
        hearsay.told(1, 0, &members(&[(9, Here)]));
        assert_eq!(heard(&outbox), [members(&[])], "it speaks for itself");
    }

    #[test]
    fn the_fewest_copies_of_all_other_heads_are_passed_on() {
        let hearsay = Hearsay::default();
        let outbox = Rc::new(Outbox::default());
        hearsay.enter(1, &outbox);
        for (session, least) in [(2, 0), (3, 3), (4, 2)] {
            hearsay.enter(session, &Rc::default());
            hearsay.told(session, least, &[]);
        }
        hearsay.told(4, 0, &[]);
        let mut bytes = outbox.with(std::mem::take::<BytesMut>);
        let mut said = Vec::new();
        while let Some(Frame::Members { least, .. }) = Frame::decode(&mut bytes).unwrap() {
            said.push(least);
        }
        assert_eq!(said, [3, 2, 3]);
    }
}
