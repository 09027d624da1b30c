//! The recipes of coordination beside kazoo's, on a real ZooKeeper: the same znodes, the same turns, in both orders.

use std::time::Duration;

use acopio::coord::{
    Barrier, Cause, ChildrenWatch, Config, Counter, DataWatch, Election, Ephemeral, Error, Kind, Lock, Number, Session,
    Waiting, Written, ZnodePath,
};
use tokio::time::{sleep, timeout};

use crate::common::zookeeper::{Room, kazoo};
use crate::common::{PATIENCE, Process};

fn path(text: &str) -> ZnodePath {
    text.parse().unwrap()
}

async fn open(at: &str) -> Session {
    let config = Config { timeout: Duration::from_secs(6), ..Config::new(at.parse().unwrap()) };
    Session::open(config).await.unwrap()
}

/// The end of something that has to come.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Waits for a line of a process while the session goes on.
async fn hears(process: &Process, part: &str) {
    let heard = async {
        while process.count(part) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("never said {part:?}:\n{}", process.all()));
}

/// A kazoo candidate that leads until the znode `/go/<name>` is there.
fn candidate(room: &Room, name: &str) -> Process {
    let program = format!(
        "def lead():\n    say('{name} leads')\n    while not zk.exists('/go/{name}'): time.sleep(0.02)\n    say('{name} resigns')\n\
         zk.Election('/election', '{name}').run(lead)\n"
    );
    kazoo(&room.at(), &program)
}

async fn candidates(session: &Session) -> Vec<String> {
    let election = Election::new(session, path("/election"), "");
    election.candidates().await.unwrap().into_iter().map(|candidate| candidate.id).collect()
}

async fn wait_for_candidates(session: &Session, wanted: &[&str]) {
    soon("the candidates stand", async {
        while candidates(session).await != wanted {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_candidate_leads_between_two_of_kazoo_in_turn() {
    let room = Room::new();
    let session = open(&room.at()).await;
    let first = candidate(&room, "A");
    hears(&first, "A leads").await;
    let ours = tokio::task::LocalSet::new();
    let election = Election::new(&session, path("/election"), "B");
    let leads =
        async { election.run(async |term| (term.fence(), term.is_certain(), candidates(&session).await)).await };
    let rest = async {
        wait_for_candidates(&session, &["A", "B"]).await;
        let last = candidate(&room, "C");
        wait_for_candidates(&session, &["A", "B", "C"]).await;
        session.create(&path("/go"), b"", Kind::Persistent).await.unwrap();
        session.create(&path("/go/A"), b"", Kind::Persistent).await.unwrap();
        last
    };
    let (led, last) = soon("ours leads", ours.run_until(async { tokio::join!(leads, rest) })).await;
    let (fence, certain, then) = led.unwrap();
    assert!(fence.0 > 0 && certain);
    assert_eq!(then, ["B", "C"]);
    assert_eq!(first.count("A resigns"), 1);
    hears(&last, "C leads").await;
    session.close().await;
}

#[tokio::test]
async fn a_lock_is_held_by_one_of_both_kinds_in_both_orders() {
    let room = Room::new();
    let session = open(&room.at()).await;
    let theirs = kazoo(
        &room.at(),
        "lock = zk.Lock('/lock', 'python')\n\
         lock.acquire()\n\
         say('first')\n\
         while len(lock.contenders()) < 2: time.sleep(0.02)\n\
         say(lock.contenders())\n\
         lock.release()\n\
         while not lock.acquire(blocking=False): time.sleep(0.02)\n\
         say('second')\n\
         lock.release()\n",
    );
    hears(&theirs, "first").await;
    let mut waits = Vec::<Waiting>::new();
    let lock = Lock::new(&session, path("/lock"), "rust");
    let held = soon("the lock is ours", lock.acquire_telling(|waiting| waits.push(waiting.clone()))).await.unwrap();
    assert_eq!(theirs.count("['python', 'rust']"), 1, "{}", theirs.all());
    assert_eq!((waits[0].behind.id.as_str(), waits[0].ahead), ("python", 1));
    assert_eq!(waits[0].node, *held.node());
    assert!(held.is_certain());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(theirs.count("second"), 0, "two hold it");
    let fence = held.fence();
    held.release().await.unwrap();
    hears(&theirs, "second").await;
    let again = soon("the lock is ours again", lock.acquire()).await.unwrap();
    assert!(again.fence() > fence);
    session.close().await;
}

#[tokio::test]
async fn a_contender_that_gives_up_leaves_nothing_behind() {
    let room = Room::new();
    let session = open(&room.at()).await;
    let lock = Lock::new(&session, path("/lock"), "");
    let held = lock.acquire().await.unwrap();
    assert!(timeout(Duration::from_millis(200), lock.acquire()).await.is_err(), "two hold it");
    soon("the second one's znode goes", async {
        while lock.contenders().await.unwrap().len() > 1 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(held);
    soon("a dropped lock is free", lock.acquire()).await.unwrap();
    session.close().await;
}

#[tokio::test]
async fn a_holder_learns_that_its_znode_was_deleted() {
    let room = Room::new();
    let session = open(&room.at()).await;
    let held = Lock::new(&session, path("/lock"), "").acquire().await.unwrap();
    let other = open(&room.at()).await;
    let deleted = async { other.delete(held.node(), None).await.unwrap() };
    let (deleted, ()) = soon("it is told", async { tokio::join!(deleted, held.lost()) }).await;
    assert!(deleted);
    assert!(!held.resumed().await.unwrap());
    session.close().await;
}

#[tokio::test]
async fn barriers_hold_both_kinds_until_either_removes_them() {
    let room = Room::new();
    let session = open(&room.at()).await;
    let barrier = Barrier::new(&session, path("/barrier"));
    barrier.wait().await.unwrap();
    barrier.create().await.unwrap();
    barrier.create().await.unwrap();
    let theirs = kazoo(
        &room.at(),
        "barrier = zk.Barrier('/barrier')\n\
         say('waits')\n\
         barrier.wait()\n\
         say('passed')\n\
         barrier.create()\n\
         say('raised')\n\
         while not zk.exists('/go'): time.sleep(0.02)\n\
         say(barrier.remove())\n",
    );
    hears(&theirs, "waits").await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(theirs.count("passed"), 0);
    assert!(barrier.remove().await.unwrap());
    hears(&theirs, "raised").await;
    assert!(timeout(Duration::from_millis(100), barrier.wait()).await.is_err());
    session.create(&path("/go"), b"", Kind::Persistent).await.unwrap();
    soon("it is down", barrier.wait()).await.unwrap();
    hears(&theirs, "True").await;
    assert!(!barrier.remove().await.unwrap());
    session.close().await;
}

#[tokio::test]
async fn a_counter_loses_nothing_that_either_kind_adds() {
    let room = Room::new();
    let session = open(&room.at()).await;
    let counter = Counter::new(&session, path("/counter"));
    assert_eq!(counter.value().await.unwrap(), Number::Int(0));
    let theirs = kazoo(
        &room.at(),
        "counter = zk.Counter('/counter')\n\
         for _ in range(40): counter += 1\n\
         say('added')\n\
         while not zk.exists('/go'): time.sleep(0.02)\n\
         say('sum', counter.value)\n\
         floats = zk.Counter('/floats', default=1.5)\n\
         floats += 1.5\n\
         say('float', floats.value)\n",
    );
    for _ in 0..40 {
        counter.add(Number::Int(2)).await.unwrap();
    }
    hears(&theirs, "added").await;
    assert_eq!(counter.value().await.unwrap(), Number::Int(120));
    session.create(&path("/go"), b"", Kind::Persistent).await.unwrap();
    hears(&theirs, "sum 120").await;
    hears(&theirs, "float 3.0").await;
    let floats = Counter::new(&session, path("/floats"));
    assert_eq!(floats.add(Number::Int(1)).await.unwrap(), Number::Float(4.0));
    assert_eq!(session.get(&path("/floats")).await.unwrap().0, b"4.0");
    session.set(&path("/floats"), b"many", None).await.unwrap();
    let error = floats.add(Number::Int(1)).await.unwrap_err();
    assert!(error.to_string().starts_with("/floats holds \"many\", which is no number"), "{error}");
    session.close().await;
}

#[tokio::test]
async fn watches_tell_the_present_and_each_change_once() {
    let room = Room::new();
    let (session, other) = (open(&room.at()).await, open(&room.at()).await);
    let mut data = DataWatch::new(&session, path("/NORMAL"));
    assert_eq!(data.next().await.unwrap(), None);
    // A wait that is given up loses nothing.
    assert!(timeout(Duration::from_millis(50), data.next()).await.is_err());
    other.create(&path("/NORMAL"), b"a", Kind::Persistent).await.unwrap();
    let told = soon("it is made", data.next()).await.unwrap().unwrap();
    assert_eq!((told.bytes.as_slice(), told.stat.version), (&b"a"[..], 0));
    other.set(&path("/NORMAL"), b"b", None).await.unwrap();
    assert_eq!(soon("it changes", data.next()).await.unwrap().unwrap().bytes, b"b");
    other.delete(&path("/NORMAL"), None).await.unwrap();
    assert_eq!(soon("it is gone", data.next()).await.unwrap(), None);

    let mut none = ChildrenWatch::new(&session, path("/PAI"));
    assert_eq!(none.next().await.unwrap(), None);
    other.create(&path("/PAI"), b"", Kind::Persistent).await.unwrap();
    let mut children = ChildrenWatch::new(&session, path("/PAI"));
    assert_eq!(children.next().await.unwrap(), Some(vec![]));
    for (name, wanted) in [("b", &["b"][..]), ("a", &["a", "b"])] {
        other.create(&path(&format!("/PAI/{name}")), b"", Kind::Persistent).await.unwrap();
        assert_eq!(soon("a child comes", children.next()).await.unwrap().unwrap(), wanted);
    }
    other.delete(&path("/PAI/a"), None).await.unwrap();
    assert_eq!(soon("a child goes", children.next()).await.unwrap().unwrap(), ["b"]);
    other.delete(&path("/PAI/b"), None).await.unwrap();
    assert!(soon("the last child goes", children.next()).await.unwrap().unwrap().is_empty());
    other.delete(&path("/PAI"), None).await.unwrap();
    assert_eq!(soon("the path goes", children.next()).await.unwrap(), None);
    session.close().await;
}

#[tokio::test]
async fn an_ephemeral_znode_is_ours_or_nobody_elses() {
    let room = Room::new();
    let (session, other) = (open(&room.at()).await, open(&room.at()).await);
    let ours = Ephemeral::claim(&session, path("/mediciones/1"), b"82", Duration::ZERO).await.unwrap();
    assert_eq!(ours.set(b"83").await.unwrap(), Written::Set);
    other.delete(ours.path(), None).await.unwrap();
    assert_eq!(ours.set(b"84").await.unwrap(), Written::Recreated);
    assert_eq!(other.get(ours.path()).await.unwrap().0, b"84");
    let twin = Ephemeral::claim(&other, path("/mediciones/1"), b"1", Duration::from_millis(100)).await.unwrap_err();
    let Error::Taken { owner, .. } = twin else { panic!("{twin}") };
    assert_eq!(Some(owner), session.id());
    // Whoever waits long enough gets it: the first one ends in order, and its znode is gone at once.
    let claim = Ephemeral::claim(&other, path("/mediciones/1"), b"1", PATIENCE);
    let (twin, ()) = soon("the twin's turn", async { tokio::join!(claim, session.close()) }).await;
    assert_eq!(other.get(&path("/mediciones/1")).await.unwrap().0, b"1");
    drop(twin.unwrap());
    soon("a dropped one goes", async {
        while other.stat(&path("/mediciones/1")).await.unwrap().is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let refused = session.get(&path("/mediciones")).await.unwrap_err();
    assert!(matches!(refused, Error::Closed));
}

#[tokio::test]
async fn a_strangers_znode_in_the_place_of_ours_is_not_written_to() {
    let room = Room::new();
    let (session, other) = (open(&room.at()).await, open(&room.at()).await);
    let ours = Ephemeral::claim(&session, path("/mediciones/1"), b"82", Duration::ZERO).await.unwrap();
    other.delete(ours.path(), None).await.unwrap();
    other.create(ours.path(), b"7", Kind::Ephemeral).await.unwrap();
    let taken = ours.set(b"83").await.unwrap_err();
    assert!(matches!(taken, Error::Taken { .. }), "{taken}");
    assert_eq!(other.get(ours.path()).await.unwrap().0, b"7");
    // Whoever writes into ours by hand does not keep us from it.
    let ours = Ephemeral::claim(&session, path("/mediciones/2"), b"82", Duration::ZERO).await.unwrap();
    other.set(ours.path(), b"0", None).await.unwrap();
    assert_eq!(ours.set(b"83").await.unwrap(), Written::Set);
    session.close().await;
    other.close().await;
}

#[tokio::test]
async fn single_znodes_are_refused_in_words() {
    let room = Room::new();
    let session = open(&room.at()).await;
    let refused = async |what: &str| session.get(&path(what)).await.unwrap_err();
    assert_eq!(refused("/no/such").await.cause(), Some(&Cause::NoNode));
    session.create(&path("/a"), b"", Kind::Persistent).await.unwrap();
    let numbered = session.create(&path("/a/n-"), b"", Kind::EphemeralSequential).await.unwrap();
    assert_eq!(numbered, path("/a/n-0000000000"));
    let cause = |result: Result<bool, Error>| result.unwrap_err().cause().cloned();
    assert_eq!(cause(session.delete(&path("/a"), None).await), Some(Cause::NotEmpty));
    assert_eq!(cause(session.delete(&numbered, Some(7)).await), Some(Cause::BadVersion));
    let below = session.create(&path("/a/n-0000000000/x"), b"", Kind::Persistent).await.unwrap_err();
    assert_eq!(below.cause(), Some(&Cause::EphemeralParent));
    let again = session.create(&path("/a"), b"", Kind::Persistent).await.unwrap_err();
    assert_eq!(again.to_string(), "cannot create /a: there is one already; change it with acopio zk set");
    let large = session.set(&path("/a"), &vec![b'x'; 1_000_001], None).await.unwrap_err();
    assert_eq!(large.to_string(), "cannot write /a: a znode holds at most 1000000 bytes");
    session.set(&path("/a"), &vec![b'x'; 1_000_000], None).await.unwrap();
    assert_eq!(session.get(&path("/a")).await.unwrap().0.len(), 1_000_000);
    session.close().await;
}
