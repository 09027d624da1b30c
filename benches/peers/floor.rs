//! The floor: the least that a program of acopio's shape does. Client → head → data → head → client, frames of a fixed
//! size, coalesced writes, append and fdatasync before the answer; no ids, no lines, no checksums, no logs. What acopio
//! takes beyond this is what its promises cost.
//!
//! A message is `u32 connection, u64 number, payload`; its answer is the first twelve bytes.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;

use bytes::{Buf as _, BufMut as _, BytesMut};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc as tasks};

/// Bytes of a message before its payload, and of an answer.
pub(crate) const HEADER: usize = 12;

/// Bytes of a read or of a buffer that is filled.
const BUFFER: usize = 256 * 1024;

/// A connection's outgoing bytes: written as they are, however many messages they are.
#[derive(Default)]
struct Outbox {
    bytes: RefCell<BytesMut>,
    more: Notify,
}

impl Outbox {
    fn put(&self, put: impl FnOnce(&mut BytesMut)) {
        put(&mut self.bytes.borrow_mut());
        self.more.notify_one();
    }
}

/// Reads and writes one connection until it ends; `each` gets what was read and takes whole messages off it.
async fn serve(mut stream: TcpStream, outbox: Rc<Outbox>, mut each: impl FnMut(&mut BytesMut)) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let mut input = BytesMut::with_capacity(BUFFER);
    let mut out = BytesMut::with_capacity(BUFFER);
    loop {
        tokio::select! {
            biased;
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                each(&mut input);
                input.reserve(BUFFER / 4);
            }
            written = writer.write_buf(&mut out), if !out.is_empty() => {
                written?;
            }
            () = outbox.more.notified(), if out.is_empty() => {}
        }
        if out.is_empty() {
            std::mem::swap(&mut out, &mut outbox.bytes.borrow_mut());
        }
    }
}

/// What waits for its second copy: the floor of `--replicas 2`.
type Copies = Rc<RefCell<std::collections::HashMap<(u32, u64), u8>>>;

/// Serves clients and forwards each message to `copies` of the data processes, drawn at random.
pub(crate) async fn head(listener: TcpListener, data: Vec<SocketAddr>, size: usize, copies: usize) -> io::Result<()> {
    let clients: Rc<RefCell<Vec<Rc<Outbox>>>> = Rc::default();
    let waiting: Copies = Rc::default();
    let mut nodes = Vec::new();
    for address in data {
        let outbox = Rc::new(Outbox::default());
        nodes.push(Rc::clone(&outbox));
        let (clients, waiting) = (Rc::clone(&clients), Rc::clone(&waiting));
        let stream = TcpStream::connect(address).await?;
        tokio::task::spawn_local(serve(stream, outbox, move |input| {
            while input.len() >= HEADER {
                let answer = input.split_to(HEADER);
                if copies == 1 || is_last(&answer, &waiting, copies) {
                    let connection = (&answer[..]).get_u32() as usize;
                    clients.borrow()[connection].put(|out| out.extend_from_slice(&answer));
                }
            }
        }));
    }
    let nodes = Rc::new(nodes);
    loop {
        let (stream, _) = listener.accept().await?;
        let outbox = Rc::new(Outbox::default());
        let connection = clients.borrow().len() as u32;
        clients.borrow_mut().push(Rc::clone(&outbox));
        let nodes = Rc::clone(&nodes);
        let mut rng = SmallRng::seed_from_u64(u64::from(connection));
        tokio::task::spawn_local(serve(stream, outbox, move |input| {
            let message = HEADER + size;
            while input.len() >= message {
                (&mut input[..4]).put_u32(connection);
                let first = if nodes.len() == 1 { 0 } else { rng.random_range(0..nodes.len()) };
                for copy in 0..copies {
                    nodes[(first + copy) % nodes.len()].put(|out| out.extend_from_slice(&input[..message]));
                }
                input.advance(message);
            }
        }));
    }
}

fn is_last(answer: &[u8], waiting: &Copies, copies: usize) -> bool {
    let mut fields = answer;
    let key = (fields.get_u32(), fields.get_u64());
    let mut waiting = waiting.borrow_mut();
    let there = waiting.entry(key).or_insert(0);
    *there += 1;
    let is_last = usize::from(*there) == copies;
    if is_last {
        waiting.remove(&key);
    }
    is_last
}

/// Appends what the head sends, syncs if it is told to, and answers: a thread writes one buffer while another is filled.
pub(crate) async fn data(listener: TcpListener, file: &Path, size: usize, sync: bool) -> io::Result<()> {
    let (stream, _) = listener.accept().await?;
    let outbox = Rc::new(Outbox::default());
    let (orders, work) = mpsc::channel::<BytesMut>();
    let (finished, mut done) = tasks::unbounded_channel::<BytesMut>();
    let mut file = File::create(file)?;
    std::thread::spawn(move || -> io::Result<()> {
        for buffer in work {
            file.write_all(&buffer)?;
            if sync {
                file.sync_data()?;
            }
            if finished.send(buffer).is_err() {
                break;
            }
        }
        Ok(())
    });
    let filling: Rc<RefCell<(BytesMut, bool)>> = Rc::default();
    let message = HEADER + size;
    let committing = {
        let (outbox, filling, orders) = (Rc::clone(&outbox), Rc::clone(&filling), orders.clone());
        async move {
            while let Some(mut written) = done.recv().await {
                outbox.put(|out| {
                    written.chunks_exact(message).for_each(|message| out.extend_from_slice(&message[..HEADER]));
                });
                written.clear();
                let (buffer, busy) = &mut *filling.borrow_mut();
                *busy = !buffer.is_empty();
                if *busy {
                    let _thread_is_gone = orders.send(std::mem::replace(buffer, written));
                }
            }
        }
    };
    tokio::task::spawn_local(committing);
    serve(stream, outbox, move |input| {
        let whole = input.len() - input.len() % message;
        let (buffer, busy) = &mut *filling.borrow_mut();
        buffer.extend_from_slice(&input[..whole]);
        input.advance(whole);
        if !*busy && !buffer.is_empty() {
            *busy = true;
            let _thread_is_gone = orders.send(std::mem::take(buffer));
        }
    })
    .await
}
