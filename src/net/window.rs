//! Whether a peer reads: what the system waits for when it takes no more for a connection.
//!
//! A peer that is gone and one that is there and does not read look alike from a socket; the system's table of connections
//! tells them apart. Only a connection that stands still is looked up. Nothing is decided here.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::limits;

/// The timer of a connection that waits for its peer's window to open, as the table has it.
const WINDOW_TIMER: &str = "04";

/// Whether the peer has closed its window, and answers when it is asked.
///
/// # Errors
/// The system does not tell.
pub(crate) fn is_closed(socket: &TcpStream) -> io::Result<bool> {
    let (local, peer) = (socket.local_addr()?, socket.peer_addr()?);
    let table = std::fs::read_to_string(if local.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" })?;
    Ok(waits_for_window(&table, local, peer))
}

fn waits_for_window(table: &str, local: SocketAddr, peer: SocketAddr) -> bool {
    let (local, peer) = (column(local), column(peer));
    let of = |line: &&str| line.split_ascii_whitespace().skip(1).take(2).eq([local.as_str(), peer.as_str()]);
    let Some(line) = table.lines().find(of) else { return false };
    // Number, addresses, state, queues, timer and when it ends, retransmissions, user, questions without an answer.
    let mut rest = line.split_ascii_whitespace().skip(5);
    let timer = rest.next().and_then(|timer| timer.split(':').next());
    let unanswered = rest.nth(2).and_then(|asked| asked.parse::<u32>().ok());
    timer == Some(WINDOW_TIMER) && unanswered.is_some_and(|asked| asked < limits::KEEPALIVE_RETRIES)
}

/// An address as the table has it: words of the machine's own order, in hexadecimal.
fn column(address: SocketAddr) -> String {
    let mut text = String::new();
    let mut words = |octets: &[u8]| {
        for word in octets.as_chunks::<4>().0 {
            // Writing to a string cannot fail.
            write!(text, "{:08X}", u32::from_ne_bytes(*word)).unwrap_or_default();
        }
    };
    match address {
        SocketAddr::V4(address) => words(&address.ip().octets()),
        SocketAddr::V6(address) => words(&address.ip().octets()),
    }
    write!(text, ":{:04X}", address.port()).unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4061 1 0 100 0 0 10 0
   1: 0100007F:1388 0200007F:A000 01 00012345:00000000 04:00000064 00000000     0        0 4062 2 0 20 4 30 10 -1
   2: 0100007F:1388 0300007F:A000 01 00012345:00000000 04:00000064 00000000     0        3 4063 2 0 20 4 30 10 -1
   3: 0100007F:1388 0400007F:A000 01 00000024:00000000 01:00000064 00000004     0        0 4064 2 0 20 4 30 1 -1
";

    #[test]
    #[cfg(target_endian = "little")]
    fn who_answers_with_a_closed_window_is_told_from_who_does_not_answer() {
        let local = "127.0.0.1:5000".parse().unwrap();
        let closed = |peer: &str| waits_for_window(TABLE, local, peer.parse().unwrap());
        assert!(closed("127.0.0.2:40960"), "it does not read");
        assert!(!closed("127.0.0.3:40960"), "it does not even answer");
        assert!(!closed("127.0.0.4:40960"), "something was sent to it");
        assert!(!closed("127.0.0.5:40960"), "nobody");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_are_written_as_the_system_does() {
        assert_eq!(column("127.0.0.1:5000".parse().unwrap()), "0100007F:1388");
        let six = column("[::ffff:127.0.0.1]:80".parse().unwrap());
        assert_eq!(six, "0000000000000000FFFF00000100007F:0050");
    }
}
