//! Mending: a rotten line is fetched again from a copy, and appended; the rotten bytes stay where they are.
//!
//! [`Rot`] knows the rotten places: what opening found and what readers meet. `list` is `quarantine.txt`, `place` reads
//! what is left of a line and of those around it, `ask` asks the cluster for what it may have been, `choose` judges the
//! answer, `task` does it all, one place at a time. Copies that a *missing node* had are the business of
//! [`repair`](super::repair).

mod ask;
mod choose;
pub(crate) mod list;
mod place;
mod task;

pub(crate) use self::task::run;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::list::List;
use super::scan::Page;
use super::storage::Storage;
use super::view::View;
use crate::limits;
use crate::wire::id::RecordId;

/// Where a line begins: the name that its file has for good, and bytes from the start of it.
pub(crate) type At = (String, u64);

/// Why a place is not mended yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    /// Not everybody could be asked.
    Away,
    /// Nobody has it.
    Nobody,
}

/// When a place is looked at.
#[derive(Clone, Copy, Debug)]
struct Turn {
    due: Instant,
    times: u32,
    said: Option<Cause>,
}

/// The rotten places of one log: which are mended, and which wait for it. At most
/// [`MEND_PLACES_MAX`](limits::MEND_PLACES_MAX) wait.
#[derive(Default, Debug)]
pub(crate) struct Rot {
    list: RefCell<List>,
    waiting: RefCell<BTreeMap<At, Turn>>,
    came: Notify,
    /// The list says what `quarantine.txt` does not.
    unsaved: Cell<bool>,
}

impl Rot {
    /// What this list knows.
    #[must_use]
    pub(crate) fn new(list: List) -> Self {
        let rot = Self { list: RefCell::new(list), ..Self::default() };
        let open: Vec<At> = rot.list.borrow().open().take(limits::MEND_PLACES_MAX).collect();
        open.into_iter().for_each(|at| rot.met(at));
        rot
    }

    /// Lines with records behind them that somebody else wrote: file, where and how long. They are listed, and no rot.
    pub(crate) fn foreign(&self, lines: impl Iterator<Item = (String, u64, u64)>) {
        for (file, offset, len) in lines {
            if self.list.borrow_mut().add_foreign(&(file, offset), len) {
                self.unsaved.set(true);
                self.came.notify_one();
            }
        }
    }

    /// Takes what a reader that asked from `from` on met: leaves out of the page what is mended, and notes the rest. Counts
    /// files whose end was lost before this start, and those in which no record is good any more.
    pub(crate) fn judge(&self, view: &View, from: RecordId, page: &mut Page) {
        for (at, cut) in self.list.borrow().cuts() {
            let file = view.sealed().iter().map(|file| &file.segment).find(|segment| segment.file == at.0);
            if file.is_some_and(|segment| page.next > segment.least && from <= cut.greatest) {
                page.rotten += 1;
            }
        }
        let empty = view.sealed().iter().map(|file| &file.segment).filter(|segment| segment.records == 0);
        for segment in empty.filter(|segment| page.next > segment.least && from <= segment.greatest) {
            page.rotten += u32::from(self.list.borrow().open().any(|at| at.0 == segment.file));
        }
        for place in &page.rot {
            let Some(file) = view.name(place.serial) else { continue };
            let at = self.list.borrow().around((file.to_owned(), place.offset));
            if self.list.borrow().is_mended(&at) {
                page.rotten = page.rotten.saturating_sub(1);
            } else {
                self.met(at);
            }
        }
    }

    /// How many of the places in a file are not mended.
    #[must_use]
    pub(crate) fn open_in(&self, file: &str, offsets: impl Iterator<Item = u64>) -> u64 {
        let list = self.list.borrow();
        offsets.map(|offset| u64::from(!list.is_mended(&(file.to_owned(), offset)))).sum()
    }

    /// A rotten line begins there.
    fn met(&self, at: At) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < limits::MEND_PLACES_MAX && !waiting.contains_key(&at) {
            waiting.insert(at, Turn { due: Instant::now(), times: 0, said: None });
            self.came.notify_one();
        }
    }

    /// Waits for the next place whose turn it is; `None` if the list is to be written before.
    async fn next(&self) -> Option<At> {
        loop {
            if self.unsaved.take() {
                return None;
            }
            let first =
                self.waiting.borrow().iter().map(|(at, turn)| (turn.due, at)).min().map(|(due, at)| (due, at.clone()));
            match first {
                Some((due, at)) if due <= Instant::now() => return Some(at),
                Some((due, _)) => tokio::select! {
                    biased;
                    () = self.came.notified() => {}
                    () = sleep_until(due) => {}
                },
                None => self.came.notified().await,
            }
        }
    }

    /// The place is looked at again later. The answer is whether the cause has to be said: once, and that nobody has it
    /// only when that was true twice, for nodes that are started together do not come at once.
    fn later(&self, at: &At, cause: Cause) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let Some(turn) = waiting.get_mut(at) else { return false };
        let (factor, most) = match cause {
            Cause::Away => (2_u32, limits::MEND_AGAIN_MAX),
            Cause::Nobody => (8, limits::MEND_NOBODY_MAX),
        };
        let wait = limits::MEND_AGAIN_MIN.saturating_mul(factor.saturating_pow(turn.times)).min(most);
        turn.due = Instant::now() + wait;
        turn.times = turn.times.saturating_add(1);
        let says = turn.said != Some(cause) && (cause == Cause::Away || turn.times > 1);
        if says {
            turn.said = Some(cause);
        }
        says
    }

    /// The place needs nothing more.
    fn done(&self, at: &At) {
        self.waiting.borrow_mut().remove(at);
    }

    /// Time until the place's next turn.
    #[cfg(test)]
    fn wait(&self, at: &At) -> Option<std::time::Duration> {
        self.waiting.borrow().get(at).map(|turn| turn.due.saturating_duration_since(Instant::now()))
    }
}

/// The rotten places that `quarantine.txt` lists.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn open<S: Storage>(storage: &S) -> io::Result<Rot> {
    List::read(storage).map(Rot::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> At {
        ("data-1795234260----0----6.txt".to_owned(), offset)
    }

    #[tokio::test(start_paused = true)]
    async fn places_wait_their_turn_and_longer_each_time() {
        let text = "data-1795234260----0----6.txt 7 10 empty line\n";
        let rot = Rot::new(List::parse(text.as_bytes()));
        assert_eq!(rot.next().await, Some(at(7)));
        assert!(rot.later(&at(7), Cause::Away));
        assert_eq!(rot.wait(&at(7)), Some(limits::MEND_AGAIN_MIN));
        rot.met(at(9));
        assert_eq!(rot.next().await, Some(at(9)));
        rot.done(&at(9));
        assert_eq!(rot.next().await, Some(at(7)));
        assert!(!rot.later(&at(7), Cause::Away));
        assert!(rot.later(&at(7), Cause::Nobody) && !rot.later(&at(7), Cause::Nobody));
        assert_eq!(rot.wait(&at(7)), Some(limits::MEND_AGAIN_MIN * 512));
        rot.met(at(7));
        assert_eq!(rot.wait(&at(7)), Some(limits::MEND_AGAIN_MIN * 512), "one that waits is not met anew");
        for _ in 0..40 {
            rot.later(&at(7), Cause::Away);
        }
        assert_eq!(rot.wait(&at(7)), Some(limits::MEND_AGAIN_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_places_wait_than_may() {
        let rot = Rot::default();
        (0..2 * limits::MEND_PLACES_MAX as u64).for_each(|offset| rot.met(at(offset)));
        assert_eq!(rot.waiting.borrow().len(), limits::MEND_PLACES_MAX);
    }
}
