//! Whoever sends waits for its share, and a connection beyond those of its address is turned away: what `shares` decides, done.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::guests::Exit;
use super::shares::{Share, Whose, too_much};
use super::state::Head;
use crate::limits;
use crate::net::network::place;
use crate::wire::error::{Code, Refusal};

/// A connection that counts, until it is dropped.
pub(super) struct Counted {
    head: Rc<Head>,
    ip: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.head.shares.borrow_mut().closed(self.ip);
    }
}

impl Head {
    /// Counts a connection from there; nothing to count where there is no bound.
    ///
    /// # Errors
    /// There are too many: tell it, unless many from there were told of late. Words cost more than to close.
    pub(super) fn count_connection(self: &Rc<Self>, ip: IpAddr) -> Result<Option<Counted>, Option<Refusal>> {
        let Some(most) = self.config.share.connections else { return Ok(None) };
        let (ip, now, mut told) = (place(ip), Instant::now(), self.turned_away.borrow_mut());
        let is_new = self.arrivals.borrow_mut().arrives(ip, most, now);
        if is_new && self.shares.borrow_mut().opened(ip, most) {
            return Ok(Some(Counted { head: Rc::clone(self), ip }));
        }
        Err(told.may(ip, now).then(|| {
            told.wrong(ip, now);
            Refusal::new(
                Code::Full,
                if is_new {
                    format!(
                        "{most} connections of {ip} are open, and it may have no more; close some, or try again later"
                    )
                } else {
                    format!("{ip} connects again and again; keep a connection open, or try again later")
                },
            )
        }))
    }

    /// Waits until the share of a connection has room for these messages.
    ///
    /// # Errors
    /// Too much of the same share waits already, or the connection has to end before there is room: tell it.
    pub(crate) async fn pace(&self, exit: &Exit, messages: u16, bytes: usize) -> Result<(), Refusal> {
        let (all, own) = (self.config.share, exit.rate());
        let rate = match (all.messages, own) {
            (Some(all), Some(own)) => Some(all.min(own)),
            (all, own) => all.or(own),
        };
        let share = Share { messages: rate, ..all };
        if rate.is_none() && share.bytes.is_none() {
            return Ok(());
        }
        let (whose, time) = (whose(exit), share.time(messages, bytes));
        let took = self.shares.borrow_mut().take(whose.clone(), time, Instant::now());
        let wait = took.unwrap_or(limits::SHARE_REFUSED_AFTER);
        if wait.is_zero() {
            return Ok(());
        }
        let ends = tokio::select! {
            biased;
            () = exit.told() => true,
            () = sleep(wait) => false,
        };
        match took {
            // Whoever says the same name again and again would be through at once with all that waits.
            Ok(_) if ends => {
                self.shares.borrow_mut().give_back(&whose, time);
                let words = exit.words();
                // Nor is what it goes on saying read.
                exit.end(words.clone());
                Err(words)
            }
            Ok(_) => Ok(()),
            Err(wait) => Err(too_much(&whose, share, wait)),
        }
    }

    /// Looks at a proof that comes from there, unless too many wrong ones did; one that is wrong is told after a while.
    ///
    /// # Errors
    /// It is wrong, or not looked at: tell it.
    pub(super) async fn look_at_proof(
        &self,
        ip: IpAddr,
        look: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let (ip, now) = (ip.to_canonical(), Instant::now());
        let looked = if self.proofs.borrow_mut().may(ip, now) {
            look().inspect_err(|_| self.proofs.borrow_mut().wrong(ip, now))
        } else {
            let text = format!("too many wrong proofs of a key came from {ip}; try again in some seconds");
            Err(Refusal::new(Code::Busy, text))
        };
        if looked.is_err() {
            sleep(limits::ADMISSION_REFUSED_AFTER).await;
        }
        looked
    }

    /// From when on a reader gets more, which was sent so many bytes.
    pub(super) fn pace_reader(&self, exit: &Exit, bytes: usize, now: Instant) -> Instant {
        let Some(most) = self.config.share.reads else { return now };
        let time = Duration::from_secs_f64(bytes as f64 / most.max(1) as f64);
        let mut reads = self.reads.borrow_mut();
        // It was sent already; whose share is used up for long waits as long.
        let (Ok(_) | Err(_)) = reads.take(whose(exit), time, now);
        let (Ok(wait) | Err(wait)) = reads.take(whose(exit), Duration::ZERO, now);
        now + wait
    }
}

/// Whose share a connection uses.
fn whose(exit: &Exit) -> Whose {
    exit.bearer().map_or_else(|| Whose::Address(place(exit.peer.ip())), |(name, _)| Whose::Name(name))
}
