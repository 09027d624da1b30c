//! One end of a framed connection that a test plays, with the project's codec; who checks the codec itself has bare
//! sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use acopio::wire::frame::{Frame, NodeReport, Roster, SyncMode};
use acopio::wire::ledger::NodeId;
use bytes::BytesMut;

use super::PATIENCE;

/// What a head answers to an opening of this version.
pub(crate) const CONFIRMATION: &[u8] = b"confirmacion acopio/2\n";

/// How a data node opens.
pub(crate) const NODE_OPENING: &[u8] = b"peticion acopio/2\ndataNode\n";

/// The first frame of a data node of the cluster `acopio` that keeps nothing yet and syncs always.
pub(crate) fn register(node: u64, name: &str) -> Frame {
    let report =
        NodeReport { writable: true, records: 0, bytes: 0, syncs: 0, written: 0, free: None, reason: String::new() };
    let (node, name, cluster) = (NodeId(node), name.to_owned(), "acopio".to_owned());
    Frame::Register { node, replaces: None, old: false, name, cluster, sync: SyncMode::Always, report }
}

/// A socket, and what was read from it and is no whole frame yet.
pub(crate) struct Frames {
    pub(crate) socket: TcpStream,
    buffer: BytesMut,
}

impl Frames {
    pub(crate) fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, buffer: BytesMut::new() }
    }

    /// Says the opening to a head, and hears that it is confirmed.
    pub(crate) fn open(mut socket: TcpStream, opening: &[u8]) -> Self {
        socket.write_all(opening).unwrap();
        let mut answer = [0; CONFIRMATION.len()];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer, CONFIRMATION);
        Self::new(socket)
    }

    pub(crate) fn say(&mut self, frame: &Frame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out).unwrap();
        self.socket.write_all(&out).unwrap();
    }

    /// The next frame.
    pub(crate) fn hear(&mut self) -> Frame {
        self.hear_or_end().expect("the other side has gone")
    }

    /// The next frame; none if the other side has closed.
    pub(crate) fn hear_or_end(&mut self) -> Option<Frame> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A data node's answer to what every head asks of one: it has nothing, and notes whatever it is told. Whether it was that.
    pub(crate) fn notes(&mut self, frame: &Frame) -> bool {
        let answer = match frame {
            Frame::Roster(roster) => Frame::Roster(roster.clone()),
            Frame::Ping(n) => Frame::Pong(*n),
            _ => return false,
        };
        let mut out = BytesMut::new();
        answer.encode(&mut out).unwrap();
        // A head that is gone needs no answer.
        self.socket.write_all(&out).ok();
        true
    }

    /// Registers as a data node that keeps nothing yet, and is welcome.
    pub(crate) fn as_node(&mut self, node: u64, name: &str) {
        self.say(&register(node, name));
        assert!(matches!(self.hear(), Frame::Welcome { .. }));
        self.say(&Frame::Holds { more: false, gone: Vec::new(), held: Vec::new() });
        self.say(&Frame::Roster(Roster::default()));
    }

    /// The next frame but those that `passed` deals with, itself; others have to come at last.
    pub(crate) fn hear_but(&mut self, mut passed: impl FnMut(&mut Self, &Frame) -> bool) -> Frame {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frame = self.hear();
            if !passed(self, &frame) {
                return frame;
            }
            assert!(Instant::now() < deadline, "nothing came but frames such as {frame:?}");
        }
    }
}
