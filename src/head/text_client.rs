//! A client session in text: raw (one read is one message, one at a time) or line (pipelined, answers in order).
//!
//! What arrives in one read becomes batches of `mensaje: …` records; a solo head echoes the text, any other names the
//! data node.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};

use super::alarms::Log;
use super::core::{Author, Batch, Core, Origin};
use super::flow::{Flow, LastWords, drive};
use super::places::{Exit, Guest};
use super::state::{Client, Head, Outcome};
use crate::limits;
use crate::net::{self, Outbox, Read, ReadHalf, Turn, WriteHalf};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{FrameError, Messages, MessagesBuilder};
use crate::wire::id::ClientId;
use crate::wire::text::{self, Dialect, Lines, MENSAJE_PREFIX};
use tokio_util::sync::CancellationToken;

/// A batch whose answers are not all written.
struct Pending {
    count: u16,
    /// Its bytes in the flow, which lets go of them when the answer is written: answers that wait for their turn count.
    bytes: usize,
    /// What to echo, on a solo head.
    echo: Option<Messages>,
    answer: Option<String>,
}

struct TextClient {
    outbox: Outbox,
    flow: Flow,
    dialect: Dialect,
    /// Batches in the order in which they came, which is the order of their answers.
    pending: RefCell<(u64, VecDeque<Pending>)>,
}

impl TextClient {
    /// Notes a batch that is on its way; returns its ticket.
    fn expect(&self, count: u16, bytes: usize, echo: Option<Messages>) -> u64 {
        self.flow.add(usize::from(count), bytes);
        let (first, queue) = &mut *self.pending.borrow_mut();
        queue.push_back(Pending { count, bytes, echo, answer: None });
        *first + queue.len() as u64 - 1
    }

    /// Notes an outcome, and writes every answer whose turn has come.
    fn answer(&self, ticket: u64, answer: String, echo: bool) {
        let (first, queue) = &mut *self.pending.borrow_mut();
        let place = usize::try_from(ticket.wrapping_sub(*first)).unwrap_or(usize::MAX);
        if let Some(pending) = queue.get_mut(place) {
            pending.answer = Some(answer);
            if !echo {
                pending.echo = None;
            }
        }
        while let Some(pending) = queue.pop_front_if(|pending| pending.answer.is_some()) {
            *first += 1;
            self.outbox.with(|out| self.write(out, &pending));
            self.flow.done(usize::from(pending.count), pending.bytes);
        }
    }

    fn write(&self, out: &mut BytesMut, pending: &Pending) {
        let newline: &[u8] = if self.dialect == Dialect::Line { b"\n" } else { b"" };
        if let Some(messages) = &pending.echo {
            for message in messages.iter() {
                out.extend_from_slice(message.strip_prefix(MENSAJE_PREFIX.as_bytes()).unwrap_or(message));
                out.extend_from_slice(newline);
            }
        } else if let Some(answer) = &pending.answer {
            for _ in 0..pending.count {
                out.extend_from_slice(answer.as_bytes());
                out.extend_from_slice(newline);
            }
        }
    }
}

impl Client for TextClient {
    fn settled(&self, ticket: u64, _batch: &Batch, outcome: Outcome) {
        match outcome {
            Outcome::Kept { nodes, .. } => {
                let ips = nodes.join(",");
                self.answer(ticket, format!("{ips} , {MENSAJE_PREFIX}{}", text::RECIBIDO), true);
            }
            Outcome::Refused(refusal) => self.answer(ticket, text::refusal_line(&refusal), false),
        }
    }
}

/// Serves the session until the client has gone or the head stops. `buffer` holds what came after the handshake.
pub(crate) async fn serve(
    head: &Rc<Head>,
    guest: &Guest,
    mut read_half: ReadHalf<'_>,
    write_half: WriteHalf<'_>,
    mut buffer: BytesMut,
    dialect: Dialect,
    exit: &Exit,
) {
    let shutdown = &exit.token;
    let session = head.next_session();
    let outbox = Outbox::default();
    let client = Rc::new(TextClient { outbox, flow: Flow::default(), dialect, pending: RefCell::default() });
    let _entered = head.enter(session, guest.peer.ip(), Rc::clone(&client) as Rc<dyn Client>);
    let reader = async {
        let (id, turn) = (ClientId::of_connection(head.random()), Turn::default());
        guest.client.set(Some(id));
        let author = Author { client: id, source: None };
        let writer = Writer { head, guest, client: &client, session, author, next_seq: 1, turn };
        let ended = match dialect {
            Dialect::Raw => writer.read_raw(&mut read_half, &mut buffer, shutdown).await,
            Dialect::Line | Dialect::Framed => writer.read_lines(&mut read_half, &mut buffer, shutdown).await,
        };
        let words = match ended {
            Ok(()) if shutdown.is_cancelled() => (text::refusal_line(&exit.words()) + "\n").into_bytes(),
            Ok(()) => LastWords::new(),
            Err(refusal) => {
                let ip = guest.peer.ip();
                head.say(ip, Log::Warn, &format!("a text client at {ip} is closed: {refusal}"));
                (text::refusal_line(&refusal) + "\n").into_bytes()
            }
        };
        (read_half, words)
    };
    if let Err(error) = drive(&client.outbox, &client.flow, shutdown, write_half, reader).await {
        match client.outbox.given_up() {
            Some(cause) => {
                let ip = guest.peer.ip();
                head.say(ip, Log::Warn, &format!("a text client at {ip} is closed: {cause}"));
            }
            None => tracing::debug!("a text client's connection broke: {error}"),
        }
    }
}

/// The reader's side of a session: it makes batches and places them.
struct Writer<'a> {
    head: &'a Head,
    guest: &'a Guest,
    client: &'a TextClient,
    session: u64,
    author: Author,
    next_seq: u64,
    turn: Turn,
}

impl Writer<'_> {
    /// One read is one message; the next is read when the answer is on its way.
    async fn read_raw(
        mut self,
        socket: &mut ReadHalf<'_>,
        buffer: &mut BytesMut,
        shutdown: &CancellationToken,
    ) -> Result<(), Refusal> {
        let mut batch = MessagesBuilder::new();
        loop {
            if !buffer.is_empty() {
                push_text(&mut batch, buffer)?;
                buffer.clear();
                self.place(&mut batch).await;
                self.client.flow.idle().await;
            }
            if !read_raw_some(socket, buffer, shutdown).await {
                return Ok(());
            }
            self.guest.hear();
        }
    }

    /// Every whole line of a read, in batches; a last line without a newline counts when the client closes.
    async fn read_lines(
        mut self,
        socket: &mut ReadHalf<'_>,
        buffer: &mut BytesMut,
        shutdown: &CancellationToken,
    ) -> Result<(), Refusal> {
        let mut lines = Lines::new();
        let mut batch = MessagesBuilder::new();
        loop {
            let mut refused = None;
            let most = self.head.core(Core::batch_messages);
            let drained = lines.drain(buffer, most, |line| {
                refused = push_text(&mut batch, line).err().or(refused.take());
            });
            self.place(&mut batch).await;
            if let Some(refused) = refused {
                return Err(refused);
            }
            let count = drained.map_err(|too_long| Refusal::new(Code::TooLong, too_long.to_string()))?;
            if count == most {
                continue;
            }
            match net::read(socket, buffer, shutdown).await {
                Read::Some => self.guest.hear(),
                Read::End => break,
                // What has no newline yet may be half a line: it is not a message.
                Read::Broken | Read::Stopping => return Ok(()),
            }
        }
        if !buffer.is_empty() {
            let line = buffer.strip_suffix(b"\r").unwrap_or(buffer);
            push_text(&mut batch, line)?;
            self.place(&mut batch).await;
        }
        Ok(())
    }

    async fn place(&mut self, batch: &mut MessagesBuilder) {
        let Some(messages) = batch.take() else { return };
        let count = messages.count();
        self.guest.add(count);
        self.turn.spend(messages.block().len()).await;
        self.client.flow.room(&self.client.outbox).await;
        let echo = self.head.config.solo.is_some().then(|| messages.clone());
        let ticket = self.client.expect(count, messages.block().len(), echo);
        let first_seq = self.next_seq;
        self.next_seq += u64::from(count);
        let origin = Origin { session: self.session, ticket };
        if let Err(refusal) = self.head.store(self.author, first_seq, &messages, origin).await {
            self.client.answer(ticket, text::refusal_line(&refusal), false);
        }
    }
}

/// One read of at most [`limits::RAW_READ_BYTES_MAX`] bytes: one message.
async fn read_raw_some(socket: &mut ReadHalf<'_>, buffer: &mut BytesMut, shutdown: &CancellationToken) -> bool {
    buffer.reserve(limits::RAW_READ_BYTES_MAX);
    let mut limited = buffer.limit(limits::RAW_READ_BYTES_MAX);
    tokio::select! {
        biased;
        () = shutdown.cancelled() => false,
        read = tokio::io::AsyncReadExt::read_buf(socket, &mut limited) => matches!(read, Ok(n) if n > 0),
    }
}

/// Appends a text message as it is stored: with the original's `mensaje: ` in front.
fn push_text(batch: &mut MessagesBuilder, text: &[u8]) -> Result<(), Refusal> {
    batch.push(&[MENSAJE_PREFIX.as_bytes(), text]).map_err(|error| error.refusal())
}

/// The messages of a framed client that asked to be stored as text.
///
/// # Errors
/// A message that is too long with the prefix.
pub(crate) fn prefixed(messages: &Messages) -> Result<Messages, FrameError> {
    let mut batch = MessagesBuilder::new();
    for message in messages.iter() {
        batch.push(&[MENSAJE_PREFIX.as_bytes(), message])?;
    }
    Ok(batch.take().unwrap_or_else(|| messages.clone()))
}
