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
    /// What it told.
    told: Vec<Member>,
    /// What it was told of the others.
    said: Vec<Member>,
}

/// What all heads of this node told.
#[derive(Default)]
pub struct Hearsay {
    heads: RefCell<BTreeMap<u64, Link>>,
}

impl Hearsay {
    /// A head has taken this node in.
    pub fn enter(&self, session: u64, outbox: &Rc<Outbox>) {
        let link = Link { outbox: Rc::clone(outbox), told: Vec::new(), said: Vec::new() };
        self.heads.borrow_mut().insert(session, link);
        self.pass_on();
    }

    /// A head is gone: what it knew is not known any more.
    pub fn exit(&self, session: u64) {
        self.heads.borrow_mut().remove(&session);
        self.pass_on();
    }

    /// A head told whom it knows.
    pub fn told(&self, session: u64, members: &[Member]) {
        if let Some(link) = self.heads.borrow_mut().get_mut(&session) {
            link.told = members.to_vec();
        }
        self.pass_on();
    }

    /// Tells each head what the others know, where that is news.
    fn pass_on(&self) {
        let mut heads = self.heads.borrow_mut();
        let told: Vec<(u64, Vec<Member>)> = heads.iter().map(|(session, link)| (*session, link.told.clone())).collect();
        for (session, link) in heads.iter_mut() {
            let others = told.iter().filter(|(other, _)| other != session);
            let members = together(others.map(|(_, members)| members.as_slice()));
            if members == link.said {
                continue;
            }
            let frame = Frame::Members { replicas: 0, members: members.clone() };
            // The names came off the wire, so they fit.
            if let Err(error) = link.outbox.with(|out| frame.encode(out)) {
                tracing::error!("a head cannot be told of other heads' dataNodes: {error}");
            }
            link.said = members;
        }
    }
}

/// What several heads know, as one list: a node is here if one of them has it, and gone if all that know it say so.
fn together<'a>(lists: impl Iterator<Item = &'a [Member]>) -> Vec<Member> {
    let mut all = BTreeMap::<u64, (&str, MemberState)>::new();
    for Member { name, id, state, .. } in lists.flatten() {
        let state = if *state == MemberState::Draining { MemberState::Here } else { *state };
        let known = all.entry(*id).or_insert((name, state));
        if rank(state) < rank(known.1) {
            *known = (name, state);
        }
    }
    let all = all.into_iter().take(limits::MEMBERS_MAX);
    // Heads do not ask how a node syncs that others have.
    let sync = SyncMode::Always;
    all.map(|(id, (name, state))| Member { name: name.to_owned(), id, state, sync }).collect()
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
            .map(|(id, state)| Member { name: format!("n{id}"), id: *id, state: *state, sync: SyncMode::Always })
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
        hearsay.told(1, &members(&[(7, Here), (8, Away)]));
        hearsay.told(1, &members(&[(7, Here), (8, Away)]));
        assert!(heard(&outboxes[0]).is_empty());
        assert_eq!(heard(&outboxes[1]), [members(&[(7, Here), (8, Away)])]);
        hearsay.told(2, &members(&[(7, Gone), (8, Draining), (9, Gone)]));
        assert_eq!(heard(&outboxes[0]), [members(&[(7, Gone), (8, Here), (9, Gone)])]);
        assert_eq!(heard(&outboxes[2]).last(), Some(&members(&[(7, Here), (8, Here), (9, Gone)])));
        hearsay.exit(1);
        assert_eq!(heard(&outboxes[1]).last(), Some(&members(&[])));
        let late = Rc::new(Outbox::default());
        hearsay.enter(4, &late);
        assert_eq!(heard(&late), [members(&[(7, Gone), (8, Here), (9, Gone)])], "before anything else");
    }
}
