//! A data node at work without its sessions: what it fetches, what it sends readers that follow, and what it does about rot.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::task::LocalSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::commit::{self, Commit, PutNumber, Sender, Verdict};
use super::desk::Desk;
use super::feed::{Feed, Place};
use super::fetching::{Fetching, Settings as Repair};
use super::log::{Settings, SyncPolicy};
use super::record::{Fields, encode};
use super::rot::Rot;
use super::scans::Scans;
use super::segments::CURRENT;
use super::simulated::SimDisk;
use super::start::{self, How};
use super::worker::{Executor, Latency};
use super::writer::Writer;
use crate::ledger::held::State;
use crate::ledger::kept::Put;
use crate::limits;
use crate::net::Outbox;
use crate::wire::filter::SourceFilter;
use crate::wire::frame::{Cursor, Frame, Numbers};
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{self, Incarnation, LedgerId};

const LEDGER: LedgerId = LedgerId { incarnation: Incarnation(3), number: 1 };
const HEAD: u64 = 5;

fn lines_of(ledger: LedgerId, entries: Range<u32>) -> Vec<u8> {
    let mut lines = Vec::new();
    for n in entries {
        let id = RecordId { time_ns: 1_000_000 + u64::from(n), incarnation: ledger.incarnation.0 };
        let place = Some(ledger::Place { number: ledger.number, entry: n });
        encode(
            &mut lines,
            Fields { id, client: ClientId(u64::from(n % 2)), seq: n.into(), place, source: None },
            b"hola",
        )
        .unwrap();
    }
    lines
}

struct Deaf;

impl Sender for Deaf {
    fn settled(&self, _first: u64, _last: u64, _verdict: &Verdict) {}
}

/// What a head reads of an outbox.
struct Heard {
    socket: DuplexStream,
    buffer: BytesMut,
}

impl Heard {
    /// The next frame; none if nothing comes within a minute.
    async fn frame(&mut self) -> Option<Frame> {
        timeout(Duration::from_mins(1), async {
            loop {
                if let Some(frame) = Frame::decode(&mut self.buffer).unwrap() {
                    return frame;
                }
                assert!(self.socket.read_buf(&mut self.buffer).await.unwrap() > 0);
            }
        })
        .await
        .ok()
    }

    /// The entries that are pushed next.
    async fn pushed(&mut self) -> Option<(LedgerId, Range<u32>, usize)> {
        let Frame::Pushed { request: 9, ledger, entries, lines } = self.frame().await? else { panic!("no Pushed") };
        Some((ledger, entries, lines.split(|byte| *byte == b'\n').count() - 1))
    }

    /// The entries that are asked for next, and the number of the question.
    async fn fetch(&mut self) -> (u32, LedgerId, Range<u32>) {
        let Some(Frame::Fetch { request, ledger, entries }) = self.frame().await else { panic!("no Fetch") };
        (request, ledger, entries)
    }
}

struct Node {
    disk: SimDisk,
    commit: Rc<Commit>,
    desk: Rc<Desk>,
    scans: Rc<Scans>,
    rot: Rc<Rot>,
    session: u64,
}

impl Node {
    /// Writes lines, as copies or as Puts.
    async fn write(&self, bytes: &[u8]) {
        let number = self.commit.added() + 1;
        self.commit.add_lines(PutNumber { session: self.session, number }, bytes);
        self.commit.until_settled(number).await;
    }

    async fn put(&self, ledger: LedgerId, entries: Range<u32>) {
        let members = [self.desk.me()];
        let put = Put { ledger, first: entries.start, count: entries.end - entries.start, members: &members };
        self.desk.put(&put).unwrap();
        self.write(&lines_of(ledger, entries.clone())).await;
        assert!(self.desk.committed(ledger, entries));
    }

    /// An outbox that is read.
    fn outbox(&self) -> (Rc<Outbox>, Heard) {
        let outbox = Rc::new(Outbox::default());
        let (socket, ours) = tokio::io::duplex(1 << 20);
        let pumped = Rc::clone(&outbox);
        tokio::task::spawn_local(async move { pumped.pump(ours).await });
        (outbox, Heard { socket, buffer: BytesMut::new() })
    }

    fn follow(&self, client: Option<ClientId>, place: Place) -> (Rc<Feed>, Heard) {
        let (outbox, heard) = self.outbox();
        let feed = Rc::new(Feed::new(9, client, SourceFilter::default(), place));
        let (runs, desk, scans, rot) =
            (Rc::clone(&feed), Rc::clone(&self.desk), Rc::clone(&self.scans), Rc::clone(&self.rot));
        tokio::task::spawn_local(async move { runs.run(&desk, &scans, &rot, &outbox).await });
        (feed, heard)
    }

    fn fetches(&self) -> (Rc<Fetching>, Heard) {
        let repair = Repair { bytes_per_second: 1 << 30 };
        let fetching = Rc::new(Fetching::new(Rc::clone(&self.desk), Rc::clone(&self.commit), repair));
        let (outbox, heard) = self.outbox();
        fetching.enter(HEAD, &outbox);
        tokio::task::spawn_local(Rc::clone(&fetching).run(CancellationToken::new()));
        (fetching, heard)
    }

    fn state(&self, ledger: LedgerId) -> State {
        self.desk.kept().held(ledger).unwrap().state
    }

    /// Waits until entries that came are taken in.
    async fn until(&self, done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_mins(1), wait).await.unwrap();
    }
}

fn run(test: impl AsyncFnOnce(Rc<Node>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        let disk = SimDisk::default();
        let settings = Settings { segment_bytes: 700, sync: SyncPolicy::Always };
        let how = How { settings, boot: "b1", new_id: false, random: 7, name: "data1" };
        let started = start::open(&disk, how).unwrap_or_else(|error| panic!("{error}"));
        let view = started.log.view();
        let writer = Writer::new(started.log, Some(started.state));
        let commit = Rc::new(Commit::new(writer.state(), view));
        let scans = Rc::new(Scans::inline(disk.clone(), Rc::clone(&commit)));
        let desk = Rc::new(Desk::new(started.kept, started.identity, Rc::clone(&commit)));
        let rot = Rc::new(Rot::new(Rc::clone(&desk), Rc::clone(&commit), Rc::clone(&scans)));
        let session = commit.enter(Rc::new(Deaf));
        let node = Rc::new(Node { disk, commit: Rc::clone(&commit), desk, scans, rot, session });
        let executor = Executor::Inline(Latency(Arc::new(|| Duration::from_millis(1))));
        commit::run(&commit, writer, &executor, test(node)).await.unwrap();
    }));
}

#[test]
fn who_follows_gets_what_its_place_does_not_cover_and_what_comes_once() {
    run(async |node| {
        let other = LedgerId { number: 8, ..LEDGER };
        node.put(other, 0..3).await;
        node.put(LEDGER, 0..30).await;
        let done = vec![Numbers { incarnation: LEDGER.incarnation, numbers: 8..9 }];
        let place = Place { done, cursors: vec![Cursor { ledger: LEDGER, next: 4 }] };
        let (feed, mut heard) = node.follow(None, place);
        assert_eq!(heard.pushed().await, None, "nothing without credit");
        feed.grant(1);
        assert_eq!(heard.pushed().await, Some((LEDGER, 4..5, 1)), "one line at least");
        assert_eq!(heard.pushed().await, None);
        feed.grant(1 << 20);
        let mut next = 5;
        while next < 30 {
            let (ledger, entries, lines) = heard.pushed().await.unwrap();
            assert_eq!((ledger, entries.start, lines), (LEDGER, next, entries.len()));
            next = entries.end;
        }
        node.put(LEDGER, 30..33).await;
        assert_eq!(heard.pushed().await, Some((LEDGER, 30..33, 3)));
        feed.grant(0);
        node.put(LEDGER, 33..35).await;
        assert_eq!(heard.pushed().await, None, "it is over");
    });
}

#[test]
fn who_wants_one_client_is_answered_for_the_others() {
    run(async |node| {
        node.put(LEDGER, 0..6).await;
        let (feed, mut heard) = node.follow(Some(ClientId(1)), Place::default());
        feed.grant(1 << 20);
        assert_eq!(heard.pushed().await, Some((LEDGER, 0..6, 3)));
    });
}

#[test]
fn what_rotted_is_not_answered_for_until_it_is_there_again() {
    run(async |node| {
        node.put(LEDGER, 0..8).await;
        node.desk.close(LEDGER, 8, true).unwrap();
        let line = lines_of(LEDGER, 0..1).len();
        node.disk.flip(CURRENT, 8 * (3 * line + 45));
        let (feed, mut heard) = node.follow(None, Place::default());
        feed.grant(1 << 20);
        assert_eq!(heard.pushed().await, Some((LEDGER, 0..3, 3)));
        assert_eq!(heard.pushed().await, Some((LEDGER, 4..8, 4)));
        let wanted: Vec<_> = node.desk.kept().wanted().collect();
        assert_eq!(wanted, [(LEDGER, 3..4)], "the promise stands");
        let (fetching, mut asked) = node.fetches();
        let (request, ledger, entries) = asked.fetch().await;
        assert_eq!((ledger, entries), (LEDGER, 3..4));
        fetching.answered(HEAD, request, &Bytes::from(lines_of(LEDGER, 3..4)));
        assert_eq!(heard.pushed().await, Some((LEDGER, 3..4, 1)));
        assert_eq!(node.desk.kept().wanted().count(), 0);
        // It lies in another place now.
        let (feed, mut again) = node.follow(None, Place::default());
        feed.grant(1 << 20);
        let mut next = 0;
        while next < 8 {
            let (_, entries, lines) = again.pushed().await.unwrap();
            assert_eq!((entries.start, lines), (next, entries.len()));
            next = entries.end;
        }
    });
}

#[test]
fn a_copy_is_promised_once_all_of_it_is_there() {
    run(async |node| {
        let (fetching, mut asked) = node.fetches();
        node.desk.adopt(LEDGER, 0..5, false);
        let (request, ledger, entries) = asked.fetch().await;
        assert_eq!((ledger, entries, node.state(LEDGER)), (LEDGER, 0..5, State::Part));
        // Of an answer counts what was asked for, whole, and once.
        let mut lines = lines_of(LEDGER, 0..3);
        lines.extend(lines_of(LedgerId { number: 2, ..LEDGER }, 3..4));
        lines.extend(lines_of(LEDGER, 2..3));
        lines.extend(lines_of(LEDGER, 7..8));
        let mut damaged = lines_of(LEDGER, 4..5);
        damaged[45] ^= 1;
        lines.extend(damaged);
        fetching.answered(HEAD, request + 1, &Bytes::from(lines_of(LEDGER, 0..5)));
        fetching.answered(HEAD + 1, request + 1, &Bytes::from(lines_of(LEDGER, 0..5)));
        fetching.answered(HEAD, request, &Bytes::from(lines));
        let (request, _, entries) = asked.fetch().await;
        assert_eq!((entries, node.commit.state().records), (3..5, 3));
        assert_eq!(node.state(LEDGER), State::Part);
        fetching.answered(HEAD, request, &Bytes::from(lines_of(LEDGER, 3..5)));
        node.until(|| node.state(LEDGER) == State::Over).await;
        assert_eq!(node.desk.kept().held(LEDGER).unwrap().end, 5);
    });
}

#[test]
fn what_nobody_has_keeps_nothing_behind_it_from_being_fetched() {
    run(async |node| {
        let (fetching, mut asked) = node.fetches();
        node.desk.adopt(LEDGER, 0..9, false);
        let (request, _, entries) = asked.fetch().await;
        assert_eq!(entries, 0..9);
        // The first one is nowhere.
        fetching.answered(HEAD, request, &Bytes::from(lines_of(LEDGER, 1..4)));
        let (request, _, entries) = asked.fetch().await;
        assert_eq!(entries, 0..1);
        let began = tokio::time::Instant::now();
        fetching.answered(HEAD, request, &Bytes::new());
        let (request, _, entries) = asked.fetch().await;
        assert_eq!(entries, 4..9);
        assert!(began.elapsed() < limits::FETCH_AGAIN, "at once");
        fetching.answered(HEAD, request, &Bytes::from(lines_of(LEDGER, 4..9)));
        // Another head may know more.
        let (outbox, mut other) = node.outbox();
        let (request, _, entries) = asked.fetch().await;
        assert_eq!((entries, began.elapsed() >= limits::FETCH_AGAIN), (0..1, true));
        fetching.enter(HEAD + 1, &outbox);
        fetching.answered(HEAD, request, &Bytes::new());
        let (request, _, entries) = other.fetch().await;
        assert_eq!(entries, 0..1);
        // What is lost with its head is asked for again, and a late answer is nobody's.
        fetching.exit(HEAD + 1);
        fetching.answered(HEAD + 1, request, &Bytes::from(lines_of(LEDGER, 0..1)));
        let (request, _, entries) = asked.fetch().await;
        assert_eq!((entries, node.state(LEDGER)), (0..1, State::Part));
        fetching.answered(HEAD, request, &Bytes::from(lines_of(LEDGER, 0..1)));
        node.until(|| node.state(LEDGER) == State::Over).await;
    });
}

#[test]
fn notes_alone_leave_no_put_uncounted() {
    run(async |node| {
        for n in 0..4 {
            node.put(LEDGER, n..n + 1).await;
            // Both buffers are used in turn: one that held a Put before holds only notes now.
            node.desk.adopt(LedgerId { number: 20 + n, ..LEDGER }, 0..5, false);
            node.commit.until_noted().await;
            timeout(Duration::from_mins(1), node.commit.until_settled(node.commit.added())).await.unwrap();
        }
        assert_eq!(node.commit.settled(), node.commit.added());
    });
}
