//! What all readers of one head share: places, and the memory for pages and records that wait for them.
//!
//! A reader holds pages while it puts them together, and records until it has read them. All of it together has one bound:
//! past it nobody asks for more pages, and who has read nothing for a while makes room for those who do read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use tokio::time::Instant;

use crate::limits;
use crate::net::Outbox;
use crate::wire::error::{Code, Refusal};

/// Why a reader is let go.
pub(crate) const RESTS: &str = "it has read nothing for a while, and other readers of this head need the room";

/// What all readers of one head share.
#[derive(Debug)]
pub(crate) struct Readers {
    next: Cell<u64>,
    table: RefCell<BTreeMap<u64, Held>>,
    /// What a page is expected to take: nodes send more than they are asked for where one line is longer.
    page: Cell<usize>,
}

impl Default for Readers {
    fn default() -> Self {
        let page = Cell::new(limits::RECORD_LINE_BYTES_MAX);
        Self { next: Cell::new(0), table: RefCell::default(), page }
    }
}

/// What one reader holds.
#[derive(Debug)]
struct Held {
    /// Bytes of pages that have come, and of those that were asked for.
    pages: usize,
    outbox: Rc<Outbox>,
    /// Where it reads from.
    ip: IpAddr,
}

impl Readers {
    /// Readers now.
    pub(crate) fn now(&self) -> usize {
        self.table.borrow().len()
    }

    /// A page of so many bytes has come.
    pub(crate) fn page_came(&self, bytes: usize) {
        let page = self.page.get();
        self.page.set(bytes.max(page - page / 8));
    }

    /// What a page is counted as that is asked for with so many bytes.
    pub(crate) fn expected(&self, asked: usize) -> usize {
        asked.max(self.page.get())
    }

    /// Bytes that all readers hold.
    pub(crate) fn held(&self) -> usize {
        self.table.borrow().values().map(|held| held.pages + held.outbox.len()).sum()
    }

    /// Lets go of the connection that has read nothing for longest, if that is long: others wait for what it holds.
    pub(crate) fn make_room(&self, now: Instant) {
        let table = self.table.borrow();
        let rests = table.values().map(|held| &held.outbox).filter(|outbox| is_resting(outbox, now));
        if let Some(outbox) = rests.min_by_key(|outbox| outbox.moved()) {
            outbox.cut(RESTS);
        }
    }
}

/// Whether something has waited for this reader for a while, and it has taken none of it.
pub(crate) fn is_resting(outbox: &Outbox, now: Instant) -> bool {
    !outbox.is_empty() && outbox.failed().is_none() && now.duration_since(outbox.moved()) >= limits::READ_REST
}

/// A reader's place among [`limits::READERS_MAX`]; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    readers: &'a Readers,
    id: u64,
}

impl<'a> Place<'a> {
    /// Takes a place for who reads from this connection, from this address, of which there may be so many.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub(crate) fn take(
        readers: &'a Readers,
        outbox: &Rc<Outbox>,
        ip: IpAddr,
        per_address: Option<usize>,
    ) -> Result<Self, Refusal> {
        if readers.now() >= limits::READERS_MAX {
            let text = format!("{} reads are under way on this head; try again later", limits::READERS_MAX);
            return Err(Refusal::new(Code::Busy, text));
        }
        let ip = ip.to_canonical();
        let here = readers.table.borrow().values().filter(|held| held.ip == ip).count();
        if let Some(most) = per_address.filter(|most| here >= *most) {
            let text = format!("{most} reads from {ip} are under way; end one of them or raise --max-per-address");
            return Err(Refusal::new(Code::Busy, text));
        }
        let id = readers.next.get();
        readers.next.set(id + 1);
        readers.table.borrow_mut().insert(id, Held { pages: 0, outbox: Rc::clone(outbox), ip });
        Ok(Self { readers, id })
    }

    /// Its pages take so many bytes from now on.
    pub(crate) fn holds(&self, pages: usize) {
        if let Some(held) = self.readers.table.borrow_mut().get_mut(&self.id) {
            held.pages = pages;
        }
    }

    /// Whether pages of so many bytes may be asked for beside those that it has. One that is alone in having pages always
    /// may, or two could each wait for what the other has.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let alone = || self.readers.table.borrow().iter().all(|(id, held)| *id == self.id || held.pages == 0);
        self.readers.held() + bytes <= limits::READERS_BYTES_MAX || alone()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.readers.table.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_has_so_many_reads_at_most() {
        let (readers, outbox) = (Readers::default(), Rc::default());
        let take = |who| Place::take(&readers, &outbox, who, Some(2));
        let (one, _two) = (take(HERE).unwrap(), take(HERE).unwrap());
        let refused = take(HERE).unwrap_err();
        assert!(refused.code == Code::Busy && refused.text.contains("2 reads from 127.0.0.1"), "{refused}");
        assert!(take(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()).is_err(), "it is the same address");
        let _other = take(IpAddr::from([10, 0, 0, 9])).unwrap();
        drop(one);
        take(HERE).unwrap();
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn memory_is_shared_and_who_does_not_read_makes_room() {
        let readers = Readers::default();
        let outboxes = [(); 3].map(|()| Rc::new(Outbox::default()));
        let [one, two, three] = outboxes.each_ref().map(|outbox| Place::take(&readers, outbox, HERE, None).unwrap());
        assert!(one.has_room(2 * limits::READERS_BYTES_MAX), "whatever one alone needs");
        one.holds(limits::READERS_BYTES_MAX);
        assert!(!two.has_room(1) && one.has_room(1));
        one.holds(limits::READERS_BYTES_MAX / 2);
        assert!(two.has_room(limits::READERS_BYTES_MAX / 2) && !two.has_room(limits::READERS_BYTES_MAX / 2 + 1));
        two.holds(1);
        outboxes[2].with(|out| out.resize(limits::READERS_BYTES_MAX / 2, b'r'));
        assert!(!two.has_room(1) && readers.held() == limits::READERS_BYTES_MAX + 1);
        tokio::time::advance(limits::READ_REST / 2).await;
        outboxes[0].with(|out| out.resize(1, b'r'));
        readers.make_room(Instant::now());
        assert!(outboxes.iter().all(|outbox| outbox.failed().is_none()), "nobody has rested for long");
        tokio::time::advance(limits::READ_REST).await;
        readers.make_room(Instant::now());
        let failed = outboxes.each_ref().map(|outbox| outbox.failed());
        assert_eq!(failed.iter().flatten().count(), 1, "one at a time: {failed:?}");
        drop((one, two, three));
        assert_eq!((readers.now(), readers.held()), (0, 0));
    }

    #[test]
    fn a_page_is_expected_to_be_as_long_as_the_last_ones_were() {
        let readers = Readers::default();
        assert_eq!(readers.expected(1000), limits::RECORD_LINE_BYTES_MAX, "before one has come, anything");
        for _ in 0..100 {
            readers.page_came(0);
        }
        assert_eq!(readers.expected(1000), 1000);
        readers.page_came(1 << 20);
        readers.page_came(0);
        assert!((800_000..1 << 20).contains(&readers.expected(1000)));
    }
}
