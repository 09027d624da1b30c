//! Whether a peer reads: what the system waits for when it takes no more for a connection.
//!
//! A peer that is gone and one that is there and does not read look alike from a socket. The system's diagnosis of sockets
//! (sock_diag(7)) tells them apart: one question about one connection, however many there are beside it. Only a connection
//! that stands still is asked about. Nothing is decided here.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use crate::limits;

/// Words of the system's interface: `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h`.
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// Bytes of a question: its header, and the connection that is asked about.
const QUESTION_BYTES: u32 = 16 + 56;

/// The timer of a connection that waits for its peer's window to open.
const WINDOW_TIMER: u8 = 4;

/// Whether the peer has closed its window, and answers when it is asked.
///
/// # Errors
/// The system does not tell.
pub(crate) fn is_closed(socket: &TcpStream) -> io::Result<bool> {
    let mut diagnosis = Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    diagnosis.write_all(&question(socket.local_addr()?, socket.peer_addr()?))?;
    let mut answer = [0; limits::SOCK_DIAG_BYTES_MAX];
    // The system answers before the question is written.
    diagnosis.set_nonblocking(true)?;
    let read = diagnosis.read(&mut answer)?;
    waits_for_window(answer.get(..read).unwrap_or_default())
}

/// Asks for the one connection between these.
fn question(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(limits::SOCK_DIAG_BYTES_MAX);
    out.extend(QUESTION_BYTES.to_ne_bytes());
    out.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    out.extend(NLM_F_REQUEST.to_ne_bytes());
    // A number and a port of netlink's own; nothing is told apart by them here.
    out.extend([0; 8]);
    out.extend([if local.is_ipv4() { AF_INET } else { AF_INET6 }, IPPROTO_TCP, 0, 0]);
    // In whatever state it is.
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(local.port().to_be_bytes());
    out.extend(peer.port().to_be_bytes());
    for ip in [local.ip(), peer.ip()] {
        match ip {
            IpAddr::V4(ip) => out.extend([&ip.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(ip) => out.extend(ip.octets()),
        }
    }
    let interface = if let SocketAddr::V6(local) = local { local.scope_id() } else { 0 };
    out.extend(interface.to_ne_bytes());
    // No cookie.
    out.extend([0xff; 8]);
    out
}

/// What an answer says: its length, kind, flags, number and port; then family, state, timer, and questions without an answer.
fn waits_for_window(answer: &[u8]) -> io::Result<bool> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "an answer of sock_diag that is none");
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(strange)?;
    let first = answer.get(16..20).and_then(|first| <[u8; 4]>::try_from(first).ok()).ok_or_else(strange)?;
    match kind {
        SOCK_DIAG_BY_FAMILY => {
            let [_family, _state, timer, unanswered] = first;
            Ok(timer == WINDOW_TIMER && u32::from(unanswered) < limits::KEEPALIVE_RETRIES)
        }
        NLMSG_ERROR => match io::Error::from_raw_os_error(-i32::from_ne_bytes(first)) {
            // There is no such connection any more.
            error if error.kind() == io::ErrorKind::NotFound => Ok(false),
            error => Err(error),
        },
        _ => Err(strange()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn who_does_not_read_is_told_from_who_does() {
        for (at, dialled) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")] {
            let listener = TcpListener::bind((at, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let (dialled, accepted) = tokio::join!(TcpStream::connect((dialled, port)), listener.accept());
            let (mut theirs, mut ours) = (dialled.unwrap(), accepted.unwrap().0);
            assert!(!is_closed(&ours).unwrap(), "nothing was said");
            let (much, mut sent) = (vec![b'm'; 64 * 1024], 0);
            while let Ok(written) = timeout(Duration::from_millis(300), ours.write(&much)).await {
                sent += written.unwrap();
            }
            assert!(is_closed(&ours).unwrap(), "{sent} bytes wait");
            let rest = async {
                let mut chunk = vec![0; much.len()];
                while sent > 0 {
                    sent -= theirs.read(&mut chunk).await.unwrap();
                }
            };
            rest.await;
            assert!(!is_closed(&ours).unwrap(), "it has read all");
        }
    }

    #[test]
    fn answers_are_read_and_what_is_none_is_told() {
        let answer = |kind: u16, first: [u8; 4]| {
            let mut out = [0; 20].to_vec();
            out[4..6].copy_from_slice(&kind.to_ne_bytes());
            out[16..].copy_from_slice(&first);
            waits_for_window(&out)
        };
        let of = |timer, unanswered| answer(SOCK_DIAG_BY_FAMILY, [AF_INET, 1, timer, unanswered]).unwrap();
        assert!(of(WINDOW_TIMER, 0), "it does not read");
        assert!(!of(WINDOW_TIMER, 3), "it does not even answer");
        assert!(!of(1, 0), "something was sent to it");
        let error = |number: i32| answer(NLMSG_ERROR, (-number).to_ne_bytes());
        assert!(!error(2).unwrap(), "nobody");
        assert_eq!(error(1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(answer(7, [0; 4]).is_err() && waits_for_window(&[0; 19]).is_err());
        assert_eq!(question("127.0.0.1:1".parse().unwrap(), "127.0.0.2:2".parse().unwrap()).len(), 72);
    }
}
