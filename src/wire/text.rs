//! The text side of the wire: the handshake, the Spanish words, lines, answers.
//!
//! Everything here is incremental and pure: bytes in, what to send and what was found out. Frames are in
//! [`frame`](super::frame).

use std::fmt::Display;
use std::net::IpAddr;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::error::{Code, Refusal};
use crate::limits::{HANDSHAKE_BYTES_MAX, LINE_BYTES_MAX};

/// First word of every connection.
pub const PETICION: &str = "peticion";
/// The head's answer to it.
pub const CONFIRMACION: &str = "confirmacion";
/// Third word of a data node.
pub const DATANODE: &str = "dataNode";
/// Third word of a framed client.
pub const CLIENTE: &str = "cliente";
/// Answer to a stored message.
pub const RECIBIDO: &str = "recibido";
/// Stands before the text of a message of a text client, in storage and towards text data nodes.
pub const MENSAJE_PREFIX: &str = "mensaje: ";
/// The version of the framed dialect, as the handshake names it.
pub const VERSION: &str = "acopio/2";
/// State of a node that takes messages, and its line in `heartbeat.log`.
pub const DISPONIBLE: &str = "disponible";
/// Line of `heartbeat.log` about a node that was evicted.
pub const NO_DISPONIBLE: &str = "no disponible, eliminado";
/// Line of `heartbeat.log` about a node that left in order, or was let go by a head that stops.
pub const DESCONECTADO: &str = "desconectado, en orden";
/// There is no data node.
pub const NO_HAY_DATANODES: &str = "no hay dataNodes";
/// Begins the registro's line of an acknowledgement; the node's ip follows.
pub const RECIBIDO_EN_DATANODE: &str = "recibido en dataNode";
/// Begins the registro's line of a refusal.
pub const PROBLEMA: &str = "Problema: mensaje no fue guardado en dataNode";
/// Before the id of the client in a refusal's line.
pub const DE_CLIENTE: &str = " cliente=";
/// Ends a refusal's line that stands for several: how many came since the last one.
pub const VECES: &str = " veces=";
/// First word of a refusal for want of room.
pub const LLENO: &str = "lleno";
/// First word of an error in text.
pub const ERROR: &str = "error";
/// The cause and remedy that a sender reads when there is no data node.
pub const NO_NODES_TEXT: &str = "no hay dataNodes; start one with 'acopio data --head <this head>', then send again";

/// What a framed client sends before its first frame; it need not wait for the answer in between.
pub const FRAMED_CLIENT_OPENING: &[u8] = b"peticion acopio/2\ncliente\n";
/// What a framed data node sends before its first frame.
pub const FRAMED_NODE_OPENING: &[u8] = b"peticion acopio/2\ndataNode\n";
/// What a head sends before its first frame.
pub const FRAMED_CONFIRMATION: &[u8] = b"confirmacion acopio/2\n";

const NEWLINE: &[u8] = b"\n";
const LATE_VERSION: &[u8] = b" acopio/2\n";
/// Bytes of foreign input that an error quotes.
const QUOTE_BYTES: usize = 48;

/// How a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// One read is one message, as in the original.
    Raw,
    /// One line is one message.
    Line,
    /// Length-delimited frames.
    Framed,
}

/// What a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// It sends messages.
    Client,
    /// It keeps them.
    DataNode,
}

/// A finished handshake. What is left in the buffer belongs to the session: the first message, lines or frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// How the peer speaks.
    pub dialect: Dialect,
    /// What the peer is.
    pub role: Role,
}

/// What the head does next in a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Read more, then feed again.
    More,
    /// Send these bytes, then feed again at once with the same buffer.
    Send(&'static [u8]),
    /// Done.
    Done(Opening),
}

/// Why a handshake failed. Send [`line`](Self::line), then close.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum HandshakeError {
    /// The first word is not `peticion`.
    #[error("\"{0}\" is not a first word here; begin with 'peticion'")]
    FirstWord(String),
    /// Another version, or no version at all, after `peticion`.
    #[error("version {0} is not known here; speak acopio/2")]
    Version(String),
    /// The third word of a framed connection is neither of the two.
    #[error("\"{0}\" is not a third word here; say 'cliente' or 'dataNode'")]
    ThirdWord(String),
    /// A handshake line without end.
    #[error("a handshake line is longer than {HANDSHAKE_BYTES_MAX} bytes; say 'peticion' and a newline")]
    TooLong,
}

impl HandshakeError {
    /// The code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::FirstWord(_) | Self::ThirdWord(_) => Code::Protocol,
            Self::Version(_) => Code::Version,
            Self::TooLong => Code::TooLong,
        }
    }

    /// The line to send before closing.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{ERROR}: {self}\n")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing was answered yet.
    First,
    /// `confirmacion` was sent without newline: a raw peer, unless a newline or a version comes late.
    Raw,
    /// `confirmacion\n` was sent; the first line tells the role.
    Line,
    /// `confirmacion acopio/2\n` was sent; the third word tells the role.
    Framed,
}

/// The head's side of a handshake, fed with what arrives.
#[derive(Debug)]
pub struct Handshake {
    state: State,
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}

impl Handshake {
    /// A handshake at its beginning.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::First }
    }

    /// Whether the peer may now stay silent as long as it likes: it is a text peer that was confirmed and has not
    /// sent its first message. Otherwise [`HANDSHAKE_TIME_MAX`](crate::limits::HANDSHAKE_TIME_MAX) applies.
    #[must_use]
    pub const fn may_stay_silent(&self) -> bool {
        matches!(self.state, State::Raw | State::Line)
    }

    /// Looks at all that has arrived and was not consumed. Consumes handshake words, never messages.
    ///
    /// # Errors
    /// As soon as it is certain that this is no handshake.
    pub fn feed(&mut self, buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
        match self.state {
            State::First => self.first(buffer),
            State::Raw => self.raw(buffer),
            State::Line => self.third_line(buffer),
            State::Framed => third_word(buffer),
        }
    }

    /// Decides what [`feed`](Self::feed) was left in doubt about, for when the peer has half-closed or stays silent:
    /// what is there is then the first message. `None` if the handshake has not been confirmed, or nothing is there.
    pub fn settle(&mut self, buffer: &mut BytesMut) -> Option<Opening> {
        if buffer.is_empty() {
            return None;
        }
        let dialect = match self.state {
            State::Raw => Dialect::Raw,
            State::Line => Dialect::Line,
            State::First | State::Framed => return None,
        };
        let role = take_exact(buffer, DATANODE.as_bytes());
        Some(Opening { dialect, role })
    }

    fn first(&mut self, buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
        let Some(rest) = after_prefix(buffer, PETICION.as_bytes()) else {
            return Err(HandshakeError::FirstWord(quote(buffer)));
        };
        let after = match rest {
            Rest::Part => return Ok(Step::More),
            Rest::Whole(rest) => after_word(rest)?,
        };
        let (state, consumed, answer): (State, usize, &'static [u8]) = match after {
            After::Part => return Ok(Step::More),
            After::Nothing => (State::Raw, 0, b"confirmacion"),
            After::Newline(n) => (State::Line, n, b"confirmacion\n"),
            After::Version(n) => (State::Framed, n, FRAMED_CONFIRMATION),
            After::Other => return Err(HandshakeError::FirstWord(quote(buffer))),
        };
        buffer.advance(PETICION.len() + consumed);
        self.state = state;
        Ok(Step::Send(answer))
    }

    fn raw(&mut self, buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
        let (state, consumed, answer) = match after_word(buffer) {
            Ok(After::Part | After::Nothing) => return Ok(Step::More),
            Ok(After::Newline(n)) => (State::Line, n, NEWLINE),
            Ok(After::Version(n)) => (State::Framed, n, LATE_VERSION),
            Ok(After::Other) => return Ok(Step::Done(raw_opening(buffer))),
            // A space that begins no version begins a raw message.
            Err(_) if !buffer.starts_with(b" acopio/") => {
                return Ok(Step::Done(raw_opening(buffer)));
            }
            Err(error) => return Err(error),
        };
        buffer.advance(consumed);
        self.state = state;
        Ok(Step::Send(answer))
    }

    fn third_line(&mut self, buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
        if buffer.is_empty() {
            return Ok(Step::More);
        }
        let role = match after_prefix(buffer, DATANODE.as_bytes()) {
            None => Role::Client,
            Some(Rest::Part) => return Ok(Step::More),
            Some(Rest::Whole(rest)) => match newline(rest) {
                Newline::Part => return Ok(Step::More),
                Newline::No => Role::Client,
                Newline::Yes(n) => {
                    buffer.advance(DATANODE.len() + n);
                    Role::DataNode
                }
            },
        };
        Ok(Step::Done(Opening { dialect: Dialect::Line, role }))
    }
}

fn third_word(buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
    for (word, role) in [(CLIENTE, Role::Client), (DATANODE, Role::DataNode)] {
        match after_prefix(buffer, word.as_bytes()) {
            None => {}
            Some(Rest::Part) => return Ok(Step::More),
            Some(Rest::Whole(rest)) => match newline(rest) {
                Newline::Part => return Ok(Step::More),
                Newline::No => {}
                Newline::Yes(n) => {
                    buffer.advance(word.len() + n);
                    return Ok(Step::Done(Opening { dialect: Dialect::Framed, role }));
                }
            },
        }
    }
    Err(HandshakeError::ThirdWord(quote(buffer)))
}

fn raw_opening(buffer: &mut BytesMut) -> Opening {
    Opening { dialect: Dialect::Raw, role: take_exact(buffer, DATANODE.as_bytes()) }
}

/// Takes the data node's word if it is all there is.
fn take_exact(buffer: &mut BytesMut, word: &[u8]) -> Role {
    if buffer.as_ref() == word {
        buffer.clear();
        Role::DataNode
    } else {
        Role::Client
    }
}

enum Rest<'a> {
    /// All that is there is a beginning of the word, not the whole of it.
    Part,
    /// The word, and what follows it.
    Whole(&'a [u8]),
}

/// `None` if `bytes` neither begin with `word` nor are a beginning of it.
fn after_prefix<'a>(bytes: &'a [u8], word: &[u8]) -> Option<Rest<'a>> {
    match bytes.strip_prefix(word) {
        Some(rest) => Some(Rest::Whole(rest)),
        None => word.starts_with(bytes).then_some(Rest::Part),
    }
}

enum Newline {
    Part,
    Yes(usize),
    No,
}

/// Whether `\n` or `\r\n` comes first, and its length.
fn newline(bytes: &[u8]) -> Newline {
    match bytes {
        [] | [b'\r'] => Newline::Part,
        [b'\n', ..] => Newline::Yes(1),
        [b'\r', b'\n', ..] => Newline::Yes(2),
        _ => Newline::No,
    }
}

enum After {
    /// Nothing follows.
    Nothing,
    /// What follows is not yet certain.
    Part,
    /// A newline of so many bytes.
    Newline(usize),
    /// ` acopio/2` and its newline, of so many bytes.
    Version(usize),
    /// Something else.
    Other,
}

/// What follows `peticion`. An error is a version that is not ours, or one that never ends.
fn after_word(bytes: &[u8]) -> Result<After, HandshakeError> {
    match newline(bytes) {
        Newline::Yes(n) => return Ok(After::Newline(n)),
        Newline::Part if bytes.is_empty() => return Ok(After::Nothing),
        Newline::Part => return Ok(After::Part),
        Newline::No => {}
    }
    let Some(version) = bytes.strip_prefix(b" ") else {
        return Ok(After::Other);
    };
    let head = version.get(..HANDSHAKE_BYTES_MAX).unwrap_or(version);
    match memchr::memchr(b'\n', head) {
        Some(end) => {
            let line = head.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line == VERSION.as_bytes() {
                Ok(After::Version(1 + end + 1))
            } else {
                Err(HandshakeError::Version(quote(line)))
            }
        }
        None if after_prefix(head, b"acopio/").is_none() => Err(HandshakeError::Version(quote(head))),
        None if version.len() > HANDSHAKE_BYTES_MAX => Err(HandshakeError::TooLong),
        None => Ok(After::Part),
    }
}

/// The first line of foreign bytes, escaped and bounded, for an error.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = bytes.get(..end).unwrap_or(bytes);
    match line.get(..QUOTE_BYTES) {
        Some(start) if line.len() > QUOTE_BYTES => format!("{}…", start.escape_ascii()),
        _ => line.escape_ascii().to_string(),
    }
}

/// The answer to a stored message, without its newline: `<ip> , mensaje: recibido`.
#[must_use]
pub fn answer(ip: IpAddr) -> String {
    format!("{ip} , {MENSAJE_PREFIX}{RECIBIDO}")
}

/// An error in text, without its newline: `error: <cause>; <remedy>`. Newlines in it become spaces.
#[must_use]
pub fn error_line(cause: impl Display, remedy: impl Display) -> String {
    format!("{ERROR}: {cause}; {remedy}").replace(['\n', '\r'], " ")
}

/// A refusal in text, without its newline.
#[must_use]
pub fn refusal_line(refusal: &Refusal) -> String {
    format!("{ERROR}: {refusal}").replace(['\n', '\r'], " ")
}

/// Bytes of a message as a data node that speaks text is sent it, without a newline.
#[must_use]
pub fn mensaje_bytes(message: &[u8]) -> usize {
    let has_prefix = message.starts_with(MENSAJE_PREFIX.as_bytes());
    message.len() + if has_prefix { 0 } else { MENSAJE_PREFIX.len() }
}

/// Cause and remedy for a client beyond the limit of `max`.
#[must_use]
pub fn full_text(max: usize) -> String {
    format!("{max} clients are connected; try again later or raise --max-clients")
}

/// Cause and remedy for a client beyond the limit of `max` for its address.
#[must_use]
pub fn full_at_address_text(max: usize, ip: IpAddr) -> String {
    format!("{max} clients of {ip} are connected; close one of them or raise --max-per-address")
}

/// What a text client reads that gets no place, with its newline.
#[must_use]
pub fn lleno(refusal: &Refusal) -> String {
    format!("{LLENO}: {refusal}\n")
}

/// A line above [`LINE_BYTES_MAX`]. The connection cannot go on: where the next line begins is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a line is longer than {LINE_BYTES_MAX} bytes; send shorter lines or use the framed dialect")]
pub struct LineTooLong;

/// Cuts a stream into lines; remembers how far it searched, so an endless line costs each byte once.
#[derive(Debug, Default)]
pub struct Lines {
    searched: usize,
}

impl Lines {
    /// A cutter at the beginning of a line.
    #[must_use]
    pub const fn new() -> Self {
        Self { searched: 0 }
    }

    /// Takes the next whole line off `buffer`, without its `\n` and one `\r` before it.
    ///
    /// # Errors
    /// [`LineTooLong`], as soon as that is certain.
    pub fn next_line(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, LineTooLong> {
        let Some(end) = self.find(buffer)? else {
            return Ok(None);
        };
        let mut line = buffer.split_to(end).freeze();
        buffer.advance(1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len().saturating_sub(1));
        }
        if line.len() > LINE_BYTES_MAX { Err(LineTooLong) } else { Ok(Some(line)) }
    }

    /// Hands at most `max` whole lines to `each` and takes them off `buffer` in one go; returns how many.
    ///
    /// # Errors
    /// [`LineTooLong`]; the lines before it were handed over.
    pub fn drain(
        &mut self,
        buffer: &mut BytesMut,
        max: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<usize, LineTooLong> {
        let (mut start, mut count, mut result) = (0, 0, Ok(()));
        while count < max {
            let rest = buffer.get(start..).unwrap_or_default();
            let end = match self.find(rest) {
                Ok(Some(end)) => end,
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            let line = rest.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > LINE_BYTES_MAX {
                result = Err(LineTooLong);
                break;
            }
            each(line);
            start += end + 1;
            count += 1;
        }
        buffer.advance(start);
        result.map(|()| count)
    }

    /// Where the newline of the first line is. Resets the memory once found.
    fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, LineTooLong> {
        let unseen = bytes.get(self.searched..).unwrap_or_default();
        match memchr::memchr(b'\n', unseen) {
            Some(at) => {
                let end = self.searched + at;
                self.searched = 0;
                Ok(Some(end))
            }
            // One more for a carriage return that may end it.
            None if bytes.len() > LINE_BYTES_MAX + 1 => Err(LineTooLong),
            None => {
                self.searched = bytes.len();
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
