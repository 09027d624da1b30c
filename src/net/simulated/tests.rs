//! The model of the network against its description.

use super::*;
use crate::net::{Listener, Net, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn ip(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

/// Two hosts, and a connection from the first to the second.
async fn pair(net: &SimNet) -> (Stream, Stream) {
    let listener = Listener::Simulated(net.host(ip(2)).listen(5000).unwrap());
    let dialler = Net::Simulated(net.host(ip(1)));
    let (dialled, accepted) = tokio::join!(dialler.dial("10.0.0.2:5000", None), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

fn net(seed: u64) -> SimNet {
    SimNet::new(seed, Weather { pipe_bytes: 8, ..Weather::default() })
}

#[tokio::test(start_paused = true)]
async fn bytes_come_in_order_and_a_full_pipe_waits() {
    let net = net(1);
    let (mut a, mut b) = pair(&net).await;
    let text = "mensaje: numero random: 42".repeat(20);
    let write = async {
        a.write_all(text.as_bytes()).await.unwrap();
        a.shutdown().await.unwrap();
    };
    let mut read = String::new();
    let ((), got) = tokio::join!(write, b.read_to_string(&mut read));
    got.unwrap();
    assert_eq!(read, text);
    assert!(tokio::time::timeout(Duration::from_secs(9), b.write_all(&[0; 9])).await.is_err(), "8 bytes fit");
}

#[tokio::test(start_paused = true)]
async fn a_cut_road_stalls_and_goes_on() {
    let net = net(2);
    let (mut a, mut b) = pair(&net).await;
    net.cut(ip(1), ip(2), true);
    a.write_all(b"hola").await.unwrap();
    let mut four = [0; 4];
    assert!(tokio::time::timeout(Duration::from_secs(60), b.read_exact(&mut four)).await.is_err());
    b.write_all(b"back").await.unwrap();
    a.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"back", "the other way is open");
    let dialled = Net::Simulated(net.host(ip(1))).dial("10.0.0.2:5000", None).await;
    assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::TimedOut);
    net.heal();
    b.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"hola");
}

#[tokio::test(start_paused = true)]
async fn a_killed_host_ends_its_connections_and_a_dark_one_says_nothing_until_it_is_back() {
    for how in [Down::Killed, Down::Dark] {
        let net = net(3);
        let (mut a, b) = pair(&net).await;
        net.down(ip(2), how);
        drop(b);
        let mut one = [0; 1];
        let read = tokio::time::timeout(Duration::from_secs(60), a.read(&mut one)).await;
        assert_eq!(read.is_err(), how == Down::Dark);
        let dialled = Net::Simulated(net.host(ip(1))).dial("10.0.0.2:5000", None).await.unwrap_err().kind();
        let kind = if how == Down::Dark { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionRefused };
        assert_eq!(dialled, kind);
        let _back = net.host(ip(2));
        if how == Down::Dark {
            assert_eq!(a.read(&mut one).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        let listener = net.host(ip(2)).listen(5000).unwrap();
        Net::Simulated(net.host(ip(1))).dial("10.0.0.2:5000", None).await.unwrap();
        drop(listener);
    }
}

#[tokio::test(start_paused = true)]
async fn who_closes_with_unread_input_resets() {
    let net = net(4);
    let (mut a, b) = pair(&net).await;
    a.write_all(b"unread").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(b);
    assert_eq!(a.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (mut a, b) = pair(&net).await;
    drop(b);
    assert_eq!(a.read(&mut [0; 1]).await.unwrap(), 0);
}
