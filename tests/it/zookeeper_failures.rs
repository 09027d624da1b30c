//! What happens to ZooKeeper itself, and what becomes of sessions, locks and leaders: servers killed and started again,
//! the leader of an ensemble killed, sessions that expire.

use std::time::Duration;

use acopio::coord::{Config, DataWatch, Election, Ephemeral, Kind, Lock, Session, State, Written, ZnodePath};
use tokio::time::{sleep, timeout};

use crate::common::zookeeper::{Ensemble, Standalone, zk};
use crate::common::{PATIENCE, Process, Signal};

fn path(text: &str) -> ZnodePath {
    text.parse().unwrap()
}

async fn open(at: &str, life: Duration) -> Session {
    Session::open(Config { timeout: life, ..Config::new(at.parse().unwrap()) }).await.unwrap()
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

async fn until(session: &Session, wanted: State) {
    let mut states = session.states();
    while session.state() != wanted {
        soon(&format!("{wanted:?}"), states.next()).await;
    }
}

#[tokio::test]
async fn a_server_killed_and_started_again_stops_the_leader_and_costs_it_nothing() {
    let mut server = Standalone::start();
    // As long as a server grants: one that starts on a busy machine takes its time.
    let session = open(&server.at(), Duration::from_secs(60)).await;
    let election = Election::new(&session, path("/election"), "a");
    let held = Lock::new(&session, path("/lock"), "").acquire().await.unwrap();
    let ephemeral = Ephemeral::claim(&session, path("/mediciones/1"), b"82", Duration::ZERO).await.unwrap();
    let mut watch = DataWatch::new(&session, path("/config"));
    assert_eq!(watch.next().await.unwrap(), None);
    let terms = std::cell::RefCell::new(Vec::new());
    let leads = election.run(async |term| {
        terms.borrow_mut().push(term.fence());
        // The first term goes on until it is dropped.
        if terms.borrow().len() == 1 {
            std::future::pending::<()>().await;
        }
    });
    let happens = async {
        soon("it leads", async {
            while terms.borrow().is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        server.kill();
        soon("the holder doubts", held.doubted()).await;
        assert!(!held.is_certain());
        assert_eq!(session.state(), State::Suspended);
        // Nobody counts its lease as over yet.
        assert!(timeout(Duration::from_millis(100), held.lost()).await.is_err());
        server.start_again();
        until(&session, State::Connected).await;
    };
    // A server takes its time to start on a busy machine, and has a deadline of its own.
    let (led, ()) = timeout(4 * PATIENCE, async { tokio::join!(leads, happens) }).await.expect("it leads again");
    led.unwrap();
    let terms = terms.into_inner();
    assert_eq!(terms.len(), 2);
    assert_eq!(terms[0], terms[1], "the same term goes on");
    assert!(soon("it is still held", held.resumed()).await.unwrap());
    assert_eq!(soon("a value", ephemeral.set(b"83")).await.unwrap(), Written::Set);
    session.create(&path("/config"), b"5", Kind::Persistent).await.unwrap();
    assert_eq!(soon("the watch goes on", watch.next()).await.unwrap().unwrap().bytes, b"5");
    session.close().await;
}

#[tokio::test]
async fn a_session_that_is_over_is_replaced_with_all_that_was_made_in_it() {
    let mut server = Standalone::start();
    let session = open(&server.at(), Duration::from_millis(1000)).await;
    let before = session.id().unwrap();
    let ephemeral = Ephemeral::claim(&session, path("/mediciones/1"), b"82", Duration::ZERO).await.unwrap();
    let held = Lock::new(&session, path("/lock"), "").acquire().await.unwrap();
    session.create(&path("/config"), b"5", Kind::Persistent).await.unwrap();
    let mut watch = DataWatch::new(&session, path("/config"));
    assert!(watch.next().await.unwrap().is_some());
    server.kill();
    soon("nobody counts on the lock any more", held.lost()).await;
    until(&session, State::Lost).await;
    // The server gives the old session its whole time again, and with it its znodes: they look alive and are ours no more.
    server.start_again();
    until(&session, State::Connected).await;
    let after = session.id().unwrap();
    assert_ne!(before, after);
    assert_eq!(soon("a value", ephemeral.set(b"83")).await.unwrap(), Written::Recreated);
    let owner = session.stat(&path("/mediciones/1")).await.unwrap().unwrap().ephemeral_owner;
    assert_eq!(owner, after);
    assert!(!soon("the lock", held.resumed()).await.unwrap());
    // What is dead of ours stands in nobody's way.
    drop(held);
    let lock = Lock::new(&session, path("/lock"), "");
    soon("the lock anew", lock.acquire()).await.unwrap();
    session.set(&path("/config"), b"8", None).await.unwrap();
    assert_eq!(soon("the watch goes on", watch.next()).await.unwrap().unwrap().bytes, b"8");
    session.close().await;
}

#[tokio::test]
async fn a_kept_ephemeral_is_made_again_by_itself() {
    let server = Standalone::start();
    let at = server.at();
    let (session, other) = (open(&at, Duration::from_secs(2)).await, open(&at, Duration::from_secs(2)).await);
    let ephemeral = Ephemeral::claim(&session, path("/heads/1"), b"h:1", Duration::ZERO).await.unwrap();
    let comes_back = async {
        other.delete(&path("/heads/1"), None).await.unwrap();
        while other.stat(&path("/heads/1")).await.unwrap().is_none() {
            sleep(Duration::from_millis(10)).await;
        }
        // The death of a process that was killed while it was there: its znode stays until the session is over.
        server.signal(Signal::STOP);
        until(&session, State::Suspended).await;
        server.signal(Signal::CONT);
        until(&session, State::Connected).await;
        while other.get(&path("/heads/1")).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = soon("it comes back", comes_back) => {}
        error = ephemeral.keep() => panic!("{error}"),
    }
    session.close().await;
    assert_eq!(other.stat(&path("/heads/1")).await.unwrap(), None, "an orderly end leaves it");
    other.close().await;
}

#[tokio::test]
async fn an_ensembles_leader_may_be_killed_under_locks_and_ephemerals() {
    let mut ensemble = Ensemble::start();
    let session = open(&ensemble.at(), Duration::from_secs(30)).await;
    let before = session.id();
    let held = Lock::new(&session, path("/lock"), "").acquire().await.unwrap();
    let ephemeral = Ephemeral::claim(&session, path("/mediciones/1"), b"82", Duration::ZERO).await.unwrap();
    ensemble.kill_the_leader();
    // It may be that this session's server lives: the others still have to agree on a new leader before anything is written.
    assert_eq!(soon("a value", ephemeral.set(b"83")).await.unwrap(), Written::Set);
    assert!(soon("the lock", held.resumed()).await.unwrap());
    assert_eq!(session.id(), before);
    session.close().await;
}

#[tokio::test]
async fn an_end_without_a_server_takes_its_time_and_no_more() {
    let mut server = Standalone::start();
    let session = open(&server.at(), Duration::from_secs(4)).await;
    let lock = Lock::new(&session, path("/lock"), "");
    let held = lock.acquire().await.unwrap();
    server.kill();
    soon("the holder doubts", held.doubted()).await;
    let waits = async { lock.acquire().await.map(|_| ()).unwrap_err().to_string() };
    let (words, ()) = soon("it ends", async { tokio::join!(waits, session.close()) }).await;
    assert_eq!(words, "the ZooKeeper session is closed");
    assert_eq!(session.state(), State::Closed);
}

#[test]
fn a_command_under_a_lock_goes_on_over_a_short_loss_and_is_ended_by_a_long_one() {
    let mut server = Standalone::start();
    let holder = |path: &str, life: &str| {
        let holder = Process::start(zk(&server.at(), &["lock", path, "--session-timeout", life, "--", "sleep", "600"]));
        holder.wait_for("holds the lock");
        holder
    };
    let (long, short) = (holder("/long", "60s"), holder("/short", "1s"));
    server.kill();
    long.wait_for("connection lost; trying again");
    short.wait_for("the lock /short is lost: the command is ended");
    assert_eq!(short.finish().0, Some(1));
    server.start_again();
    long.wait_for("connected again");
    assert_eq!(long.count("is lost"), 0);
    long.signal(Signal::TERM);
    assert_eq!(long.finish().0, Some(143));
}
