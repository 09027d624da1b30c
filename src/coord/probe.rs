//! What is there instead of a ZooKeeper that serves: one question in its old four letters.
//!
//! Only asked after a connection failed, for the words of the error.

use std::fmt;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::servers::{Server, Servers};
use crate::limits;

/// What one server turned out to be.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// No connection, and why.
    Nobody(String),
    /// A ZooKeeper that has no quorum, or has just started.
    NotServing,
    /// A ZooKeeper that serves: the trouble has passed, or lies in the session.
    Serving,
    /// Something else.
    Stranger,
}

/// What is there, and what to do, for the words of an error; and whether a ZooKeeper is among it, so that to try again is
/// worth it.
pub(super) async fn explain(servers: &Servers) -> (String, bool) {
    let mut words = Vec::new();
    let mut hope = false;
    for server in servers.hosts() {
        let found = look(server).await;
        hope |= matches!(found, Found::Serving | Found::NotServing);
        words.push(format!("{server}: {found}"));
    }
    (words.join("; "), hope)
}

async fn look(server: &Server) -> Found {
    let asked = async {
        let mut socket = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(|e| e.to_string())?;
        let mut answer = Vec::with_capacity(limits::ZK_PROBE_BYTES_MAX);
        // The first words tell; an answer that breaks off tells as much as it holds.
        if socket.write_all(b"srvr").await.is_ok() {
            drop(socket.read_buf(&mut answer).await);
        }
        Ok(answer)
    };
    match timeout(limits::ZK_PROBE_TIME_MAX, asked).await {
        Ok(Ok(answer)) => classify(&answer),
        Ok(Err(cause)) => Found::Nobody(cause),
        Err(_) => Found::Stranger,
    }
}

fn classify(answer: &[u8]) -> Found {
    let text = String::from_utf8_lossy(answer);
    if text.contains("not currently serving") {
        Found::NotServing
    } else if text.contains("Zookeeper version") || text.contains("not in the whitelist") {
        Found::Serving
    } else {
        Found::Stranger
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(cause) => write!(f, "{cause}; start it, or name another with --zookeeper"),
            Self::NotServing => f.write_str("it does not serve now: more than half of its ensemble has to run"),
            Self::Serving => f.write_str("it is there but made no session in time; try again"),
            Self::Stranger => f.write_str("what answers there is no ZooKeeper; name another with --zookeeper"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_what_is_there() {
        let cases: [(&str, Found); 5] = [
            ("Zookeeper version: 3.8.0-6a6bd\nLatency min/avg/max: 0/0/0\n", Found::Serving),
            ("srvr is not executed because it is not in the whitelist.\n", Found::Serving),
            ("This ZooKeeper instance is not currently serving requests\n", Found::NotServing),
            ("HTTP/1.1 400 Bad Request\r\n", Found::Stranger),
            ("", Found::Stranger),
        ];
        for (answer, wanted) in cases {
            assert_eq!(classify(answer.as_bytes()), wanted, "{answer}");
        }
    }
}
