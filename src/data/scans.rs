//! Pages for the sessions: a thread that scans, with a bounded queue before it.
//!
//! A page is read from the newest snapshot of the log, so what was acknowledged is in it. What a page is, `scan` says;
//! who asks for one and how it travels, the sessions.

use super::commit::Commit;
use super::entries::{Run, Wanted};
use super::ledgers::Ledgers;
use super::query::Query;
use super::scan::{Absent, Page, ScanBounds, ScanError, Scanner};
use super::segments::CURRENT;
use super::storage::Storage;
use super::view::View;
use super::worker::Executor;
use crate::limits;
#[cfg(feature = "simulation")]
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use tokio::sync::oneshot;

/// What is asked of the files.
#[derive(Debug, Clone)]
enum Question {
    /// A page of records in the order of ids.
    Page(Query, Absent),
    /// Entries of a ledger.
    Entries(Wanted),
    /// What one file really has.
    Recount(u64),
}

/// The answer to each.
#[derive(Debug)]
enum Found {
    Page(Page),
    Entries(Run),
    Recount(Ledgers),
}

type Answer = Result<Found, ScanError>;

struct Request {
    view: Arc<View>,
    question: Question,
    answer: oneshot::Sender<Answer>,
}

#[cfg(feature = "simulation")]
type Scan = dyn FnMut(&View, &Question) -> Answer;

enum Way {
    Thread(mpsc::SyncSender<Request>),
    #[cfg(feature = "simulation")]
    Inline(RefCell<Box<Scan>>),
}

/// Answers questions for records of one log.
pub(crate) struct Scans {
    commit: Rc<Commit>,
    way: Way,
}

impl fmt::Debug for Scans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scans").finish_non_exhaustive()
    }
}

fn answer<S: Storage>(scanner: &mut Scanner<S>, view: &View, question: &Question) -> Answer {
    match question {
        Question::Page(query, absent) => scanner.page_with(view, query, *absent).map(Found::Page),
        Question::Entries(wanted) => scanner.entries(view, wanted).map(Found::Entries),
        Question::Recount(serial) => scanner.recount(view, *serial).map(Found::Recount),
    }
}

impl Scans {
    /// Reads where the other blocking work of this node is done.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn on<S: Storage + 'static>(executor: &Executor, storage: S, commit: Rc<Commit>) -> io::Result<Self> {
        match executor {
            Executor::Thread => Self::start(storage, commit),
            #[cfg(feature = "simulation")]
            Executor::Inline(_) => Ok(Self::inline(storage, commit)),
        }
    }

    /// Starts the thread that reads the files of `storage`; it ends when this is dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start<S: Storage + 'static>(storage: S, commit: Rc<Commit>) -> io::Result<Self> {
        let (requests, taken) = mpsc::sync_channel(limits::SCAN_QUEUE_MAX);
        let scanner = Scanner::new(storage, ScanBounds::default());
        let run = move || {
            // Who reads waits for who writes. It counts for this thread alone.
            if let Err(error) = rustix::process::nice(limits::SCAN_NICE) {
                tracing::debug!("reading is as urgent as writing: {error}");
            }
            work(scanner, &taken);
        };
        thread::Builder::new().name("scan".to_owned()).spawn(run)?;
        Ok(Self { commit, way: Way::Thread(requests) })
    }

    /// Reads on the thread that asks, for simulations: each page is there at once.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub(crate) fn inline<S: Storage + 'static>(storage: S, commit: Rc<Commit>) -> Self {
        let mut scanner = Scanner::new(storage, ScanBounds::default());
        let found = move |view: &View, question: &Question| answer(&mut scanner, view, question);
        Self { commit, way: Way::Inline(RefCell::new(Box::new(found))) }
    }

    /// The next page of what `query` asks for, out of everything that is kept by now.
    ///
    /// Whoever removes a sealed file publishes a view without it first: then a page that meets the gap is read again. A
    /// file that is lost, or a part of one, is counted as rotten, and what the log says of itself tells why.
    ///
    /// # Errors
    /// Too many wait already, or a file cannot be read.
    pub(crate) async fn page(&self, query: Query) -> Result<Page, ScanError> {
        let mut absent = Absent::Fails;
        loop {
            match self.ask(self.commit.view(), Question::Page(query.clone(), absent)).await {
                // A file that retention removed is not in the newest snapshot any more; one that is was lost.
                Err(ScanError::Gone { file }) if absent == Absent::Fails => {
                    if lists(&self.commit.view(), &file) {
                        absent = Absent::IsLost;
                    }
                }
                Ok(Found::Page(page)) => {
                    if page.lost > 0 {
                        self.commit.look().await;
                    }
                    return Ok(page);
                }
                Ok(_) => return Err(ScanError::Stopped),
                Err(error) => return Err(error),
            }
        }
    }

    /// Entries of a ledger, out of everything that is kept by now.
    ///
    /// # Errors
    /// Too many wait already, or a file cannot be read.
    pub(crate) async fn entries(&self, wanted: Wanted) -> Result<Run, ScanError> {
        match self.ask(self.commit.view(), Question::Entries(wanted)).await? {
            Found::Entries(run) => Ok(run),
            _ => Err(ScanError::Stopped),
        }
    }

    /// What a file has, by reading all of it: less than is known where lines rotted.
    ///
    /// # Errors
    /// Too many wait already, or the file cannot be read.
    pub(crate) async fn recount(&self, serial: u64) -> Result<Ledgers, ScanError> {
        match self.ask(self.commit.view(), Question::Recount(serial)).await? {
            Found::Recount(ledgers) => Ok(ledgers),
            _ => Err(ScanError::Stopped),
        }
    }

    async fn ask(&self, view: Arc<View>, question: Question) -> Answer {
        match &self.way {
            #[cfg(feature = "simulation")]
            Way::Inline(found) => (found.borrow_mut())(&view, &question),
            Way::Thread(requests) => {
                let (answer, answered) = oneshot::channel();
                requests.try_send(Request { view, question, answer }).map_err(|error| match error {
                    mpsc::TrySendError::Full(_) => ScanError::Busy,
                    mpsc::TrySendError::Disconnected(_) => ScanError::Stopped,
                })?;
                answered.await.map_err(|_| ScanError::Stopped)?
            }
        }
    }
}

fn lists(view: &View, file: &str) -> bool {
    file == CURRENT || view.sealed().iter().any(|sealed| sealed.segment.file == file)
}

fn work<S: Storage>(mut scanner: Scanner<S>, requests: &mpsc::Receiver<Request>) {
    loop {
        match requests.recv_timeout(scanner.patience()) {
            Ok(Request { view, question, answer: to }) => {
                // A reader that went away while it waited wants nothing any more.
                if !to.is_closed() {
                    drop(to.send(answer(&mut scanner, &view, &question)));
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => scanner.rest(),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::commit::{self, PutNumber, Sender, Verdict};
    use crate::data::log::{Log, Settings, SyncPolicy};
    use crate::data::record::Fields;
    use crate::data::simulated::SimDisk;
    use crate::data::writer::Writer;
    use crate::wire::filter::SourceFilter;
    use crate::wire::frame::{MessagesBuilder, Tags};
    use crate::wire::id::{ClientId, RecordId};
    use std::cell::Cell;

    fn everything() -> Query {
        let sources = SourceFilter::default();
        Query { from: RecordId::ZERO, until: RecordId::MAX, client: None, sources, bytes_max: 1 << 20 }
    }

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: n, incarnation: 1 }
    }

    fn commit(disk: &SimDisk) -> (Writer<SimDisk>, Rc<Commit>) {
        let settings = Settings { segment_bytes: 400, sync: SyncPolicy::Always };
        let log = Log::open(disk.clone(), settings).unwrap().0;
        let view = log.view();
        let writer = Writer::new(log, None);
        let commit = Rc::new(Commit::new(writer.state(), view));
        (writer, commit)
    }

    /// Looks at the commit at the moment of each verdict.
    struct Witness {
        commit: Rc<Commit>,
        seen: Cell<u64>,
        refused: Cell<u64>,
    }

    impl Sender for Witness {
        fn settled(&self, _first: u64, last: u64, verdict: &Verdict) {
            match verdict {
                Verdict::Kept => assert_eq!(self.commit.view().records(), last - self.refused.get()),
                Verdict::NotKept(_) => self.refused.set(self.refused.get() + 1),
            }
            self.seen.set(last);
        }
    }

    fn add(commit: &Commit, session: u64, n: u64) {
        let mut messages = MessagesBuilder::new();
        messages.push(&[b"hola"]).unwrap();
        let first = Fields { id: id(n), client: ClientId(1), seq: n, place: None, source: None };
        commit.add(PutNumber { session, number: n }, first, &Tags::none(), &messages.take().unwrap()).unwrap();
        assert_eq!(commit.added(), n);
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(tokio::task::LocalSet::new().run_until(test));
    }

    #[test]
    fn what_is_acknowledged_is_visible_and_what_is_refused_is_not() {
        run(async {
            let disk = SimDisk::default();
            let (writer, commit) = commit(&disk);
            let witness = Rc::new(Witness { commit: Rc::clone(&commit), seen: Cell::new(0), refused: Cell::new(0) });
            let session = commit.enter(Rc::clone(&witness) as Rc<dyn Sender>);
            let way = [
                Scans::start(disk.clone(), Rc::clone(&commit)).unwrap(),
                #[cfg(feature = "simulation")]
                Scans::inline(disk.clone(), Rc::clone(&commit)),
            ];
            let test = async {
                for n in 1..=30 {
                    if n == 25 {
                        disk.faults(|faults| faults.capacity = Some(0));
                    }
                    add(&commit, session, n);
                    assert!(commit.settled() < n);
                    commit.until_settled(n).await;
                    assert_eq!((commit.settled(), witness.seen.get()), (n, n));
                    for scans in &way {
                        assert_eq!(u64::from(scans.page(everything()).await.unwrap().records), n.min(24));
                    }
                }
                assert_eq!(witness.refused.get(), 6);
            };
            commit::run(&commit, writer, &Executor::Thread, test).await.unwrap();
        });
    }

    #[test]
    fn too_many_readers_are_told_to_come_back_and_a_lost_file_is_named() {
        run(async {
            let disk = SimDisk::default();
            let (_writer, commit) = commit(&disk);
            let (requests, taken) = mpsc::sync_channel(2);
            let scans = Scans { commit, way: Way::Thread(requests) };
            let asks =
                async { tokio::join!(scans.page(everything()), scans.page(everything()), scans.page(everything())) };
            let answers = async {
                let first = taken.recv().unwrap();
                first.answer.send(Err(ScanError::Gone { file: "x".to_owned() })).unwrap();
                // It is in no newer snapshot, so the page is asked for again.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                drop(taken);
            };
            let ((first, second, third), ()) = tokio::join!(asks, answers);
            assert_eq!(
                (first, second, third),
                (Err(ScanError::Stopped), Err(ScanError::Stopped), Err(ScanError::Busy))
            );
        });
    }
}
