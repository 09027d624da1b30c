//! Connections that say a name: whoever says it last has it, and the older one of that name ends. And the book of names for
//! those that say none.
//!
//! So a device that lost its power gets in again at once, and what it had open holds no place. Two devices of one name take
//! over from each other for ever, and not faster than [`super::takeovers`] allows.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::SystemTime;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::alarms::Log;
use super::book::Book;
use super::guests::Guest;
use super::places::supersede;
use super::state::Head;
use crate::wire::error::{Code, Refusal};
use crate::wire::said::Said;
use crate::{limits, reload};

impl Head {
    /// A connection says a name: the older one of that name ends, unless it may have several. Waits where names are taken
    /// over too often.
    pub(crate) async fn claim(&self, said: Said, peer: SocketAddr, own: Option<&Guest>) {
        if said.several {
            return;
        }
        let is_older = |guest: &Guest| {
            let other = guest.said.get();
            own.is_none_or(|own| !std::ptr::eq(own, guest))
                && other.is_some_and(|other| other.who == said.who && !other.several)
        };
        let has_older = || self.places.guests().iter().any(|guest| is_older(guest));
        if !has_older() {
            return;
        }
        let wait = self.takeovers.borrow_mut().wait(said.who, Instant::now());
        if !wait.is_zero() {
            let (who, ip) = (said.who, peer.ip().to_canonical());
            let line = format!(
                "{who} connects again and again, at last from {ip}: do two devices have the name? Give each one of its own, or \
                 say varios behind it"
            );
            self.say(ip, Log::Warn, &line);
            sleep(wait).await;
        }
        for guest in self.places.guests().into_iter().filter(|guest| is_older(guest)) {
            let ip = peer.ip().to_canonical();
            let text = format!("another connection said the name {}, from {ip}; this one ends", said.who);
            supersede(self, &guest, Refusal::new(Code::NameTaken, text));
        }
    }
}

/// When a file was changed, and how long it was.
type Seen = Option<(SystemTime, u64)>;

/// Reads the file now and whenever it changes, until the head is dropped.
pub(crate) async fn follow(head: Rc<Head>) {
    let Some(path) = head.config.names.clone() else { return };
    let mut seen: Seen = None;
    let mut ticks = interval(limits::BOOK_LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = tokio::fs::metadata(&path).await.ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        if now == seen {
            continue;
        }
        seen = now;
        match read(&path).await {
            Ok(text) => {
                let (book, wrong) = Book::parse(&text);
                reload::tell(&wrong);
                tracing::info!("{} names for addresses in {}", book.len(), path.display());
                head.book.replace(book);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                head.book.replace(Book::default());
            }
            Err(error) => tracing::warn!("cannot read {}: {error}; the names of before count", path.display()),
        }
    }
}

async fn read(path: &PathBuf) -> std::io::Result<String> {
    let file = tokio::fs::File::open(path).await?;
    let mut text = Vec::new();
    file.take(limits::BOOK_BYTES_MAX).read_to_end(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
