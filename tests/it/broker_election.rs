//! A pair of brokers of which ZooKeeper elects the active one.

use crate::common::topics::Pair;
use crate::common::zookeeper::Standalone;
use crate::common::{Process, Signal, eventually};

#[test]
fn one_is_elected_another_follows_and_without_zookeeper_nobody_forwards() {
    let mut zookeeper = Standalone::start();
    let pair = Pair::new();
    let at = zookeeper.at();
    let flags = ["--zookeeper", at.as_str(), "--session-timeout", "2s"];
    let listens = |k: usize| std::net::TcpStream::connect((pair.hosts[k].as_str(), 5556)).is_ok();
    let primary = pair.primary(&flags);
    primary.wait_for("Broker PRIMARY escuchando en 5555/5556 (proxy) y 5560 (heartbeat)...");
    let backup = pair.backup(&flags);
    backup.wait_for("Broker BACKUP en modo espera");
    let passes = |broker: &Process| {
        let subscriber = pair.subscriber(broker, &["t", "1"], &[]);
        let mut publisher = pair.publisher(&[]);
        publisher.send(&["t", "passes"]);
        subscriber.wait_for("got t passes");
    };
    passes(&primary);
    assert!(!listens(1));

    // The silence of one that stands still decides nothing before its session is over; then it may not go on.
    primary.signal(Signal::STOP);
    backup.wait_for("Broker BACKUP ahora activo como PRIMARY (proxy).");
    primary.signal(Signal::CONT);
    primary.wait_for("Broker PRIMARY en modo espera");
    eventually("the primary has closed its ports", || (!listens(0)).then_some(()));
    passes(&backup);

    // Nobody is elected for sure, so nobody forwards, though both are alive and hear each other.
    zookeeper.kill();
    backup.wait_for("another broker is elected, or no ZooKeeper says who is");
    eventually("the backup has closed its ports", || (!listens(1)).then_some(()));
    assert!(!listens(0));
    zookeeper.start_again();
    eventually("one of them is elected again", || (listens(0) != listens(1)).then_some(()));
}
