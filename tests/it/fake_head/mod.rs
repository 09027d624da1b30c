//! A head that says what a test tells it to: it speaks the frames of reading over a real socket and keeps nothing.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise, here as in a test function"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acopio::client::reader::Query;
use acopio::wire::frame::Frame;
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::record::{self, Fields};
use bytes::{Bytes, BytesMut};

/// The longest any single event may take on a slow, shared machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A record of the tests: its id tells its place in time.
pub(crate) fn line(ms: u64, client: ClientId, seq: u64, payload: &[u8]) -> Bytes {
    let mut line = Vec::new();
    record::encode(&mut line, Fields { id: id(ms), client, seq, place: None, source: None }, payload).unwrap();
    line.into()
}

/// The id so many milliseconds after the beginning of the tests, which is in the past.
pub(crate) fn id(ms: u64) -> RecordId {
    RecordId { time_ns: 1_780_000_000_000_000_000 + ms * 1_000_000, incarnation: 7 }
}

/// A listener that waits for a reader.
pub(crate) struct FakeHead {
    listener: TcpListener,
    pub(crate) at: String,
}

impl FakeHead {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { at: listener.local_addr().unwrap().to_string(), listener }
    }

    /// The next reader, after its handshake and its question.
    pub(crate) fn accept(&self) -> Asked {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "nobody came");
            match self.listener.accept() {
                Ok((socket, _)) => {
                    if let Some(asked) = Asked::new(socket) {
                        return asked;
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Answers every reader from these lines, for as long as the process lives. The questions are kept.
    pub(crate) fn serve(self, mut lines: Vec<Bytes>) -> (String, Arc<Mutex<Vec<Query>>>) {
        lines.sort();
        let questions = Arc::new(Mutex::new(Vec::new()));
        let (at, kept, lines) = (self.at.clone(), Arc::clone(&questions), Arc::new(lines));
        std::thread::spawn(move || {
            self.listener.set_nonblocking(false).unwrap();
            for socket in self.listener.incoming().map_while(Result::ok) {
                let (kept, lines) = (Arc::clone(&kept), Arc::clone(&lines));
                std::thread::spawn(move || {
                    let Some(mut asked) = Asked::new(socket) else { return };
                    kept.lock().unwrap().push(asked.query.clone());
                    asked.answer(&lines);
                });
            }
        });
        (at, questions)
    }
}

/// A reader and what it wants.
pub(crate) struct Asked {
    socket: TcpStream,
    buffer: BytesMut,
    pub(crate) query: Query,
}

impl Asked {
    fn new(socket: TcpStream) -> Option<Self> {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        for wanted in ["peticion acopio/2\n", "cliente\n"] {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            assert_eq!(line, wanted);
        }
        let buffer = BytesMut::from(reader.buffer());
        let mut asked = Self { socket, buffer, query: Query::default() };
        asked.raw(b"confirmacion acopio/2\n").ok()?;
        match asked.frame()? {
            Frame::Read { from, until, client, sources, follow, partial, .. } => {
                asked.query = Query { from, until, client, sources, follow, partial };
                Some(asked)
            }
            other => panic!("a reader said {other:?}"),
        }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next frame of the reader; none when it has closed.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 1024];
            match self.socket.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.buffer.extend_from_slice(bytes.get(..n).unwrap()),
            }
        }
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out).unwrap();
        self.raw(&out).expect("the reader takes it");
    }

    pub(crate) fn records(&mut self, next: RecordId, lines: &[Bytes]) {
        self.send(&Frame::Records { next, lines: lines.concat().into() });
    }

    pub(crate) fn end(&mut self, next: RecordId, missing: &str) {
        self.send(&Frame::ReadEnd { next, missing: missing.to_owned() });
    }

    pub(crate) fn waiting(&mut self, nodes: &str) {
        self.send(&Frame::Waiting { nodes: nodes.to_owned() });
    }

    /// Refuses writes that take longer.
    pub(crate) fn write_timeout(&self, time: Duration) {
        self.socket.set_write_timeout(Some(time)).unwrap();
    }

    /// A small read buffer does not help the reader: waits until it has closed.
    pub(crate) fn closed(&mut self) {
        while self.frame().is_some() {}
    }

    /// The whole answer, as a head gives it that has these lines, in frames of a few.
    fn answer(&mut self, lines: &[Bytes]) {
        let Query { from, until, client, follow, .. } = self.query;
        let end = lines.iter().filter_map(id_of).max().unwrap_or_default().next().min(until);
        let wanted: Vec<Bytes> = lines
            .iter()
            .filter(|line| id_of(line).is_some_and(|id| id >= from && id < end))
            .filter(|line| client.is_none_or(|client| line.get(21..31) == Some(client.to_text().as_slice())))
            .cloned()
            .collect();
        let mut out = BytesMut::new();
        for lines in wanted.chunks(3) {
            let next = lines.last().and_then(id_of).unwrap().next();
            Frame::Records { next, lines: lines.concat().into() }.encode(&mut out).unwrap();
        }
        if !follow || until == end {
            Frame::ReadEnd { next: end.max(from), missing: String::new() }.encode(&mut out).unwrap();
        }
        // A reader that had enough closes.
        drop(self.raw(&out));
        self.closed();
    }
}

fn id_of(line: &Bytes) -> Option<RecordId> {
    line.get(..20).and_then(RecordId::from_text)
}
