//! A client session in text: raw (one read is one message, one at a time) or line (pipelined, answers in order).
//!
//! What arrives in one read becomes batches of `mensaje: …` records; a solo head echoes the text, any other names the
//! data node.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};

use super::alarms::Log;
use super::core::Core;
use super::cutter::{Cutter, Piece};
use super::effects::{Author, Batch, Origin};
use super::flow::{Flow, LastWords, drive};
use super::guests::{Exit, Guest};
use super::state::{Client, Head, Outcome};
use crate::limits;
use crate::net::{Outbox, Read, ReadHalf, Turn, WriteHalf};
use crate::tokens::Role;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{FrameError, Messages, MessagesBuilder};
use crate::wire::id::ClientId;
use crate::wire::said::Who;
use crate::wire::source::SourceName;
use crate::wire::text::{self, Dialect, Lines, MENSAJE_PREFIX};

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
    /// It wants no answers.
    quiet: bool,
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
        if self.quiet {
            return;
        }
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
    let said = guest.said.get();
    let (shutdown, quiet) = (&exit.token, said.is_some_and(|said| said.quiet));
    let session = head.next_session();
    let outbox = Outbox::default();
    let client = Rc::new(TextClient { outbox, flow: Flow::default(), dialect, quiet, pending: RefCell::default() });
    let _entered = head.enter(session, guest.peer.ip(), Rc::clone(&client) as Rc<dyn Client>);
    let reader = async {
        let (id, turn) = (ClientId::of_connection(head.random()), Turn::default());
        guest.client.set(Some(id));
        let cutter = Cutter::new(said.map(|said| said.who));
        let writer = Writer { head, guest, exit, client: &client, session, id, next_seq: 1, turn, cutter };
        let ended = match dialect {
            Dialect::Raw => writer.read_raw(&mut read_half, &mut buffer, exit).await,
            Dialect::Line | Dialect::Framed => writer.read_lines(&mut read_half, &mut buffer, exit).await,
        };
        let words = match ended {
            Ok(()) if exit.is_told() => (text::refusal_line(&exit.words()) + "\n").into_bytes(),
            Ok(()) => LastWords::new(),
            Err(refusal) => {
                let ip = guest.peer.ip();
                head.say(ip, Log::Warn, &format!("a text client at {ip} is closed: {refusal}"));
                (text::refusal_line(&refusal) + "\n").into_bytes()
            }
        };
        (read_half, if quiet { LastWords::new() } else { words })
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
    exit: &'a Exit,
    client: &'a TextClient,
    session: u64,
    id: ClientId,
    next_seq: u64,
    turn: Turn,
    cutter: Cutter,
}

impl Writer<'_> {
    /// One read is one message; the next is read when the answer is on its way.
    async fn read_raw(mut self, socket: &mut ReadHalf<'_>, buffer: &mut BytesMut, exit: &Exit) -> Result<(), Refusal> {
        loop {
            if !buffer.is_empty() {
                self.cutter.push(buffer)?;
                buffer.clear();
                self.place().await;
                self.client.flow.idle().await;
            }
            if !read_raw_some(socket, buffer, exit).await {
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
        exit: &Exit,
    ) -> Result<(), Refusal> {
        let ends_in_cr = self.guest.said.get().is_some_and(|said| said.cr);
        let mut lines = if ends_in_cr { Lines::ending_in_cr() } else { Lines::new() };
        loop {
            let mut refused = None;
            let most = self.head.core(Core::batch_messages);
            let drained = lines.drain(buffer, most, |line| {
                refused = self.cutter.push(line).err().or(refused.take());
            });
            self.place().await;
            if let Some(refused) = refused {
                return Err(refused);
            }
            let count = drained.map_err(|too_long| Refusal::new(Code::TooLong, too_long.to_string()))?;
            if count == most {
                continue;
            }
            match exit.read(socket, buffer).await {
                Read::Some => self.guest.hear(),
                Read::End => break,
                // What has no newline yet may be half a line: it is not a message.
                Read::Broken | Read::Stopping => return Ok(()),
            }
        }
        if !buffer.is_empty() {
            let line = buffer.strip_suffix(b"\r").unwrap_or(buffer);
            self.cutter.push(line)?;
            self.place().await;
        }
        Ok(())
    }

    /// Places what was cut.
    async fn place(&mut self) {
        let mut cutter = std::mem::replace(&mut self.cutter, Cutter::new(None));
        for piece in cutter.drain() {
            match piece {
                Piece::Batch { source, messages } => self.place_batch(source, messages).await,
                Piece::Nobodys(refusal) => self.refuse(1, &refusal).await,
            }
        }
        self.cutter = cutter;
    }

    /// Answers messages that nobody keeps.
    async fn refuse(&mut self, count: u16, refusal: &Refusal) {
        self.guest.add(count);
        self.head.core_mut(|core| core.count_refused(count));
        self.head.note_refused(self.session, self.id, self.next_seq, count.into(), refusal);
        self.client.flow.room(&self.client.outbox).await;
        let ticket = self.client.expect(count, 0, None);
        self.client.answer(ticket, text::refusal_line(refusal), false);
    }

    async fn place_batch(&mut self, source: Option<SourceName>, messages: Messages) {
        let count = messages.count();
        let denied = self.exit.may(Role::Write).and_then(|()| self.exit.may_write_as(source.map(Who::Source)));
        if let Err(refusal) = denied {
            self.head.note_client(self.exit, format_args!("refused: {refusal}"));
            return self.refuse(count, &refusal).await;
        }
        if let Err(refusal) = self.head.pace(self.exit, count, messages.block().len()).await {
            return self.refuse(count, &refusal).await;
        }
        if let Some(source) = source {
            self.head.heard_source(source, self.guest.peer, &messages);
        }
        self.guest.add(count);
        self.turn.spend(messages.block().len()).await;
        self.client.flow.room(&self.client.outbox).await;
        let echo = self.head.config.solo.is_some().then(|| messages.clone());
        let ticket = self.client.expect(count, messages.block().len(), echo);
        let first_seq = self.next_seq;
        self.next_seq += u64::from(count);
        let origin = Origin { session: self.session, ticket };
        let author = Author { client: self.id, source };
        if let Err(refusal) = self.head.store(author, first_seq, &messages, origin).await {
            self.client.answer(ticket, text::refusal_line(&refusal), false);
        }
    }
}

/// One read of at most [`limits::RAW_READ_BYTES_MAX`] bytes: one message.
async fn read_raw_some(socket: &mut ReadHalf<'_>, buffer: &mut BytesMut, exit: &Exit) -> bool {
    // What the head is not asked to leave unread counts, however much there is.
    if exit.token.is_cancelled() {
        return false;
    }
    buffer.reserve(limits::RAW_READ_BYTES_MAX);
    let mut limited = buffer.limit(limits::RAW_READ_BYTES_MAX);
    tokio::select! {
        biased;
        read = tokio::io::AsyncReadExt::read_buf(socket, &mut limited) => matches!(read, Ok(n) if n > 0),
        () = exit.told() => false,
    }
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
