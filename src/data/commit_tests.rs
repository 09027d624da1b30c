//! The commit front on a simulated disk that is full for a while, and whose files are moved.

use super::*;
use crate::data::log::{Log, Settings, SyncPolicy};
use crate::data::simulated::SimDisk;
use crate::data::worker::Latency;
use crate::wire::frame::{MessagesBuilder, Tags};
use crate::wire::id::{ClientId, RecordId};
use std::time::Duration;

struct Deaf;

impl Sender for Deaf {
    fn settled(&self, _first: u64, _last: u64, _verdict: &Verdict) {}
}

fn front(disk: &SimDisk, segment_bytes: u64) -> (Commit, Writer<SimDisk>) {
    let settings = Settings { segment_bytes, sync: SyncPolicy::Always };
    let log = Log::open(disk.clone(), settings).unwrap().0;
    let view = log.view();
    let writer = Writer::new(log, None);
    (Commit::new(writer.state(), view), writer)
}

/// Adds a message as Put `n`.
fn add(commit: &Commit, session: u64, n: u64, text: &[u8]) {
    let mut messages = MessagesBuilder::new();
    messages.push(&[text]).unwrap();
    let id = RecordId { time_ns: n, incarnation: 1 };
    let first = Fields { id, client: ClientId(1), seq: n, place: None, source: None };
    commit.add(PutNumber { session, number: n }, first, &Tags::none(), &messages.take().unwrap()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disk_with_room_again_is_found_however_much_is_refused_meanwhile() {
    let disk = SimDisk::default();
    let (commit, writer) = front(&disk, 4_000);
    let session = commit.enter(Rc::new(Deaf));
    let executor = Executor::Inline(Latency(Arc::new(|| limits::LOOK_EVERY / 20)));
    let test = async {
        disk.faults(|faults| faults.capacity = Some(0));
        for n in 1..=100 {
            add(&commit, session, n, b"hola");
            commit.until_settled(n).await;
            if n == 1 {
                assert!(!commit.state().reason.is_empty());
                disk.faults(|faults| faults.capacity = None);
            }
        }
        assert_eq!(commit.state().reason, "");
    };
    run(&commit, writer, &executor, test).await.unwrap();
}

/// Notes which Puts are kept.
#[derive(Default)]
struct Told(RefCell<Vec<(u64, bool)>>);

impl Sender for Told {
    fn settled(&self, first: u64, last: u64, verdict: &Verdict) {
        self.0.borrow_mut().extend((first..=last).map(|n| (n, matches!(verdict, Verdict::Kept))));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_refused_batch_is_refused_too() {
    let disk = SimDisk::default();
    let (commit, writer) = front(&disk, 4_000);
    let told = Rc::new(Told::default());
    let session = commit.enter(Rc::clone(&told) as Rc<dyn Sender>);
    let executor = Executor::Inline(Latency(Arc::new(|| Duration::from_secs(1))));
    let test = async {
        disk.faults(|faults| faults.capacity = Some(0));
        add(&commit, session, 1, b"refused");
        tokio::time::sleep(Duration::from_millis(500)).await;
        // In the other buffer, which will be written where the disk has room again.
        add(&commit, session, 2, b"behind it");
        commit.note("a note\n", true);
        commit.until_settled(1).await;
        disk.faults(|faults| faults.capacity = None);
        commit.until_noted().await;
        commit.look().await;
        add(&commit, session, 3, b"kept");
        commit.until_settled(3).await;
        assert_eq!(*told.0.borrow(), [(1, false), (2, false), (3, true)]);
        let text = String::from_utf8(disk.contents("data.txt")).unwrap();
        assert!(!text.contains("behind") && text.contains("kept"), "{text}");
    };
    run(&commit, writer, &executor, test).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_that_are_moved_while_nothing_is_written_are_missed_in_time_and_welcome_back() {
    let disk = SimDisk::default();
    let (commit, writer) = front(&disk, 60);
    let session = commit.enter(Rc::new(Deaf));
    let executor = Executor::Inline(Latency(Arc::new(|| Duration::from_millis(1))));
    let test = async {
        for n in 1..=4 {
            add(&commit, session, n, b"a message that fills a file");
            commit.until_settled(n).await;
        }
        let sealed = commit.view().sealed()[0].segment.file.clone();
        for (name, time) in [("data.txt", limits::LOOK_EVERY), (&*sealed, limits::LOOK_AT_ALL_EVERY)] {
            let taken = disk.take_away(name).unwrap();
            tokio::time::sleep(time + limits::LOOK_EVERY).await;
            assert!(commit.state().reason.starts_with(&format!("{name} is gone")), "{}", commit.state().reason);
            disk.put_back(name, taken);
            tokio::time::sleep(2 * limits::LOOK_EVERY).await;
            assert_eq!(commit.state().reason, "");
        }
        // Who asks need not wait for that.
        let taken = disk.take_away(&sealed).unwrap();
        commit.look().await;
        assert!(!commit.state().reason.is_empty());
        disk.put_back(&sealed, taken);
    };
    run(&commit, writer, &executor, test).await.unwrap();
}
