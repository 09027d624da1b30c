//! What one connection of the load says and hears, in each dialect: bytes in, bytes out. Pure: sockets and time are in
//! `load`.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits;
use crate::wire::error::Refusal;
use crate::wire::frame::{self, Frame, FrameError, StoreBuilder};
use crate::wire::id::ClientId;
use crate::wire::peer::{self, Unconfirmed};
use crate::wire::said::Introduction;
use crate::wire::secret::{Secret, TOKEN};
use crate::wire::text::{CONFIRMACION, Dialect, PETICION, RECIBIDO};

/// Bytes of a message that say whose and which it is; the rest is filler.
pub(crate) const STAMP_BYTES: usize = STAMP_RUN + STAMP_NUMBER;

const STAMP_RUN: usize = 8;
const STAMP_NUMBER: usize = 16;

/// Bits of a message's number that count within its connection; those above name the connection.
const SEQ_BITS: u32 = 40;

/// Why a connection can't go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    /// Something else listens there, or a head of another version.
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    /// A text answer to the handshake that is not `confirmacion`: `lleno`, or something else listens there.
    #[error("it answered \"{0}\"; see that a head with room for all clients runs there (--max-clients)")]
    Opening(String),
    /// It sent what is no frame of this version.
    #[error("{0}; use the same version")]
    Garbled(#[from] FrameError),
    /// The head ended the connection.
    #[error("{0}")]
    Failure(Refusal),
    /// A frame, or an answer to nothing.
    #[error("it sent what nobody asked for; is it an acopio head of this version?")]
    OutOfPlace,
}

/// What became of one message.
#[derive(Clone, Debug)]
pub(crate) struct Settled<'a> {
    /// Its number.
    pub(crate) number: u64,
    /// When it was to be sent, as it was pushed.
    pub(crate) due: u64,
    /// Why it is not kept, if it is not.
    pub(crate) refusal: Option<&'a str>,
}

/// One conversation.
#[derive(Debug)]
pub(crate) struct Talk {
    dialect: Dialect,
    /// Number of the connection, shifted.
    base: u64,
    message: Vec<u8>,
    /// Sequence number of the first in `waiting`.
    first: u64,
    /// When each unanswered message was due; none once it is answered.
    waiting: VecDeque<Option<u64>>,
    unanswered: usize,
    confirmed: bool,
    open: bool,
    pong: Option<u64>,
}

impl Talk {
    /// A conversation in this dialect. `run` marks all messages of one run, `connection` those of this connection.
    #[must_use]
    pub(crate) fn new(dialect: Dialect, run: u32, connection: u32, size: usize) -> Self {
        let mut message = format!("{run:08x}").into_bytes();
        message.resize(size.max(STAMP_BYTES), b'.');
        let base = u64::from(connection) << SEQ_BITS;
        let waiting = VecDeque::new();
        Self { dialect, base, message, first: 1, waiting, unanswered: 0, confirmed: false, open: false, pong: None }
    }

    /// What is said first; a raw connection says no token.
    pub(crate) fn begin(&self, out: &mut BytesMut, client: ClientId, token: Option<Secret>) -> Result<(), FrameError> {
        match self.dialect {
            Dialect::Raw => out.extend_from_slice(PETICION.as_bytes()),
            Dialect::Line => {
                out.extend_from_slice(PETICION.as_bytes());
                if let Some(secret) = &token {
                    out.extend_from_slice(format!(" {TOKEN}").as_bytes());
                    out.extend_from_slice(secret.expose());
                }
                out.extend_from_slice(b"\n");
            }
            Dialect::Framed => {
                out.extend_from_slice(&Introduction { said: None, token }.to_framed_opening());
                Frame::Hello { client, text: false }.encode(out)?;
            }
        }
        Ok(())
    }

    /// Whether the head has confirmed; it takes what it read.
    ///
    /// # Errors
    /// It said something else.
    pub(crate) fn is_open(&mut self, input: &mut BytesMut) -> Result<bool, TalkError> {
        if self.open {
            return Ok(true);
        }
        let newline = self.dialect == Dialect::Line;
        let confirmed = match self.dialect {
            _ if self.confirmed => None,
            Dialect::Framed => peer::confirmation(input)?,
            Dialect::Raw | Dialect::Line => {
                let wanted = format!("{CONFIRMACION}{}", if newline { "\n" } else { "" });
                if !wanted.as_bytes().starts_with(input.get(..wanted.len()).unwrap_or(input)) {
                    return Err(TalkError::Opening(first_line(input)));
                }
                (input.len() >= wanted.len()).then_some(wanted.len())
            }
        };
        if let Some(bytes) = confirmed {
            input.advance(bytes);
            self.confirmed = true;
        }
        self.open = self.confirmed && (self.dialect != Dialect::Framed || is_welcome(input)?);
        Ok(self.open)
    }

    /// Messages without an answer.
    #[must_use]
    pub(crate) const fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Says one message for each time at which one is due.
    ///
    /// # Errors
    /// A message that fits no frame.
    pub(crate) fn push(&mut self, out: &mut BytesMut, due: impl Iterator<Item = u64>) -> Result<(), FrameError> {
        let mut frame: Option<StoreBuilder> = None;
        for due in due {
            let seq = self.first + self.waiting.len() as u64;
            let number = hex(self.base | seq);
            if let Some(place) = self.message.get_mut(STAMP_RUN..STAMP_BYTES) {
                place.copy_from_slice(&number);
            }
            if self.dialect == Dialect::Framed {
                let builder = frame.get_or_insert_with(|| StoreBuilder::begin(out, seq));
                if builder.push(out, &self.message).is_err() {
                    // The frame is full: the next begins with this message.
                    if let Some(full) = frame.take() {
                        full.end(out);
                    }
                    frame.insert(StoreBuilder::begin(out, seq)).push(out, &self.message)?;
                }
            } else {
                out.extend_from_slice(&self.message);
                if self.dialect == Dialect::Line {
                    out.extend_from_slice(b"\n");
                }
            }
            self.waiting.push_back(Some(due));
            self.unanswered += 1;
        }
        if let Some(frame) = frame {
            frame.end(out);
        }
        Ok(())
    }

    /// Takes all whole answers, and tells what became of each message. A ping is answered into `out`.
    ///
    /// # Errors
    /// The head says what has no place there, or that it ends the connection.
    pub(crate) fn take(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
        mut each: impl FnMut(Settled<'_>),
    ) -> Result<(), TalkError> {
        match self.dialect {
            Dialect::Framed => {
                while let Some(frame) = Frame::decode(input)? {
                    match frame {
                        Frame::Acked { first_seq, count, .. } => self.settle(first_seq, count, None, &mut each)?,
                        Frame::Refused { first_seq, count, refusal } => {
                            self.settle(first_seq, count, Some(&refusal.text), &mut each)?;
                        }
                        Frame::Ping(n) => self.pong = Some(n),
                        Frame::Pong(_) | Frame::Welcome { .. } => {}
                        Frame::Failure(refusal) => return Err(TalkError::Failure(refusal)),
                        _ => return Err(TalkError::OutOfPlace),
                    }
                }
                if let Some(n) = self.pong.take() {
                    frame::pong(out, n);
                }
                Ok(())
            }
            Dialect::Line => {
                while let Some(end) = memchr::memchr(b'\n', input) {
                    let line = input.split_to(end + 1);
                    self.answered(line.get(..end).unwrap_or_default(), &mut each)?;
                }
                Ok(())
            }
            // An answer has no end of its own: the one word that ends each, the message itself, or an error, which is all
            // there is.
            Dialect::Raw
                if input.ends_with(RECIBIDO.as_bytes()) || input.starts_with(b"error") || self.is_echo(input) =>
            {
                let answer: Bytes = input.split().freeze();
                self.answered(&answer, &mut each)
            }
            Dialect::Raw => Ok(()),
        }
    }

    fn answered(&mut self, answer: &[u8], each: &mut impl FnMut(Settled<'_>)) -> Result<(), TalkError> {
        if answer.ends_with(RECIBIDO.as_bytes()) || self.is_echo(answer) {
            self.settle(self.first, 1, None, each)
        } else {
            self.settle(self.first, 1, Some(&first_line(answer)), each)
        }
    }

    /// Whether this is the oldest message that has no answer: what a solo head says once it is kept.
    fn is_echo(&self, answer: &[u8]) -> bool {
        answer.len() == self.message.len()
            && self.message.get(..STAMP_RUN) == answer.get(..STAMP_RUN)
            && answer.get(STAMP_RUN..STAMP_BYTES) == Some(&hex(self.base | self.first))
    }

    fn settle(
        &mut self,
        first_seq: u64,
        count: u32,
        refusal: Option<&str>,
        each: &mut impl FnMut(Settled<'_>),
    ) -> Result<(), TalkError> {
        for seq in first_seq..first_seq.saturating_add(count.into()) {
            let place = usize::try_from(seq.wrapping_sub(self.first)).map_err(|_| TalkError::OutOfPlace)?;
            let waiting = self.waiting.get_mut(place).ok_or(TalkError::OutOfPlace)?;
            let due = waiting.take().ok_or(TalkError::OutOfPlace)?;
            self.unanswered -= 1;
            each(Settled { number: self.base | seq, due, refusal });
        }
        while self.waiting.pop_front_if(|waiting| waiting.is_none()).is_some() {
            self.first += 1;
        }
        Ok(())
    }
}

/// Whether the head has let a framed client in.
fn is_welcome(input: &mut BytesMut) -> Result<bool, TalkError> {
    match Frame::decode(input)? {
        None => Ok(false),
        Some(Frame::Welcome { .. }) => Ok(true),
        Some(Frame::Failure(refusal)) => Err(TalkError::Failure(refusal)),
        Some(_) => Err(TalkError::OutOfPlace),
    }
}

/// The number of a message of this run, read back from what is stored.
#[must_use]
pub(crate) fn number_in(payload: &[u8], run: u32) -> Option<u64> {
    let payload = payload.strip_prefix(crate::wire::text::MENSAJE_PREFIX.as_bytes()).unwrap_or(payload);
    let (stamp, number) = payload.get(..STAMP_BYTES)?.split_at_checked(STAMP_RUN)?;
    if stamp != format!("{run:08x}").as_bytes() {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()
}

fn hex(number: u64) -> [u8; STAMP_NUMBER] {
    let digit = |place: usize| b"0123456789abcdef".get((number >> (60 - 4 * place)) as usize & 15).copied();
    std::array::from_fn(|place| digit(place).unwrap_or(b'0'))
}

fn first_line(text: &[u8]) -> String {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.get(..limits::HANDSHAKE_BYTES_MAX).unwrap_or(line);
    String::from_utf8_lossy(line).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 0xabc;

    fn settled(talk: &mut Talk, input: &[u8]) -> Result<Vec<(u64, u64, Option<String>)>, TalkError> {
        let mut all = Vec::new();
        let (mut input, mut out) = (BytesMut::from(input), BytesMut::new());
        talk.take(&mut input, &mut out, |one| all.push((one.number, one.due, one.refusal.map(str::to_owned))))?;
        Ok(all)
    }

    #[test]
    fn lines_are_answered_in_order() {
        let mut talk = Talk::new(Dialect::Line, RUN, 1, 30);
        let mut input = BytesMut::from("confirm");
        assert!(!talk.is_open(&mut input).unwrap());
        input.extend_from_slice(b"acion\nrest");
        assert!(talk.is_open(&mut input).unwrap() && input == "rest");
        let mut out = BytesMut::new();
        talk.push(&mut out, [5, 6, 7].into_iter()).unwrap();
        assert_eq!(&out[..31], b"00000abc0000010000000001......\n");
        assert_eq!(number_in(&out[..30], RUN), Some((1 << 40) + 1));
        assert_eq!(number_in(&out[..30], RUN + 1), None);
        assert_eq!(number_in(&[b"mensaje: ", &out[31..61]].concat(), RUN), Some((1 << 40) + 2));
        let base = 1 << 40;
        let answers = settled(&mut talk, b"127.0.0.1 , mensaje: recibido\nerror: full; wait\n127").unwrap();
        assert_eq!(answers, [(base + 1, 5, None), (base + 2, 6, Some("error: full; wait".to_owned()))]);
        assert_eq!(talk.unanswered(), 1);
    }

    #[test]
    fn a_solo_head_answers_with_the_message_itself() {
        for (dialect, end) in [(Dialect::Raw, ""), (Dialect::Line, "\n")] {
            let mut talk = Talk::new(dialect, RUN, 1, 30);
            let mut out = BytesMut::new();
            talk.push(&mut out, [5].into_iter()).unwrap();
            let other = format!("{}{end}", "x".repeat(30));
            if dialect == Dialect::Raw {
                assert!(settled(&mut talk, &out[..20]).unwrap().is_empty(), "half of it is no answer");
                assert!(settled(&mut talk, other.as_bytes()).unwrap().is_empty());
            } else {
                let mut other_talk = Talk::new(dialect, RUN, 1, 30);
                other_talk.push(&mut BytesMut::new(), [5].into_iter()).unwrap();
                assert!(settled(&mut other_talk, other.as_bytes()).unwrap()[0].2.is_some());
            }
            assert_eq!(settled(&mut talk, &out).unwrap(), [((1 << 40) + 1, 5, None)]);
        }
    }

    #[test]
    fn frames_are_answered_in_any_order_and_once() {
        let mut talk = Talk::new(Dialect::Framed, RUN, 0, 100);
        let mut out = BytesMut::new();
        talk.push(&mut out, 1..=3000).unwrap();
        let mut counts = Vec::new();
        while let Some(frame) = Frame::decode(&mut out).unwrap() {
            let Frame::Store { first_seq, messages, .. } = frame else { panic!("{frame:?}") };
            assert_eq!(number_in(messages.iter().next().unwrap(), RUN), Some(first_seq));
            counts.push(messages.count());
        }
        assert_eq!(counts, [1024, 1024, 952]);
        let ack = |first_seq, count| {
            let mut out = BytesMut::new();
            let id = crate::wire::id::RecordId::ZERO;
            let copies: [&str; 0] = [];
            frame::acked(&mut out, first_seq, count, id, frame::SyncMode::Always, copies).unwrap();
            out
        };
        assert_eq!(settled(&mut talk, &ack(2000, 2)).unwrap(), [(2000, 2000, None), (2001, 2001, None)]);
        assert_eq!(settled(&mut talk, &ack(1, 1999)).unwrap().len(), 1999);
        assert_eq!(talk.unanswered(), 999);
        assert!(matches!(settled(&mut talk, &ack(2000, 1)), Err(TalkError::OutOfPlace)), "answered twice");
        assert!(matches!(settled(&mut talk, &ack(3001, 1)), Err(TalkError::OutOfPlace)), "never sent");
    }

    #[test]
    fn a_head_that_is_full_or_something_else_is_named() {
        let mut talk = Talk::new(Dialect::Raw, RUN, 0, 24);
        let error = talk.is_open(&mut BytesMut::from("lleno: 100 clients are connected")).unwrap_err();
        assert!(error.to_string().starts_with("it answered \"lleno: 100 clients"), "{error}");
        let mut talk = Talk::new(Dialect::Framed, RUN, 0, 24);
        assert!(talk.is_open(&mut BytesMut::from("HTTP/1.1 400 Bad Request\r\n")).is_err());
    }
}
