//! The head's side of a handshake: which dialect a peer speaks, what it is, and what it says of itself.
//!
//! Incremental and pure: bytes in, what to send and what was found out. The words are in [`text`](super::text), what a peer
//! says of itself in [`said`](super::said).

use bytes::{Buf, BytesMut};
use thiserror::Error;

use super::error::Code;
use super::said::{Introduction, NotSaid, Said, ends_in_cr};
use super::secret::Secret;
use super::text::{CLIENTE, DATANODE, Dialect, ERROR, FRAMED_CONFIRMATION, PETICION, VERSION, quote};
use crate::limits::HANDSHAKE_BYTES_MAX;

/// The first byte of every connection over TLS: that of a record with a handshake. No word here begins so.
pub(crate) const TLS_FIRST_BYTE: u8 = 0x16;
const NEWLINE: &[u8] = b"\n";
const LATE_VERSION: &[u8] = b" acopio/2\n";
const CONFIRMED: &[u8] = b"confirmacion";
const CONFIRMED_LINE: &[u8] = b"confirmacion\n";

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
    /// What a client said of itself.
    pub said: Option<Said>,
    /// The secret of a client's token.
    pub token: Option<Secret>,
}

impl Opening {
    const fn of(dialect: Dialect, role: Role, introduction: Introduction) -> Self {
        Self { dialect, role, said: introduction.said, token: introduction.token }
    }
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
    /// Another version after `peticion`.
    #[error("version {0} is not known here; speak acopio/2")]
    Version(String),
    /// The third word of a framed connection is neither of the two.
    #[error("\"{0}\" is not a third word here; say 'cliente' or 'dataNode'")]
    ThirdWord(String),
    /// What a client says of itself is not understood.
    #[error(transparent)]
    Said(#[from] NotSaid),
    /// A connection over TLS, to a head that speaks none.
    #[error("this head speaks no TLS; start it with --tls-cert FILE, or connect without TLS")]
    Tls,
    /// A handshake line without end.
    #[error("a handshake line is longer than {HANDSHAKE_BYTES_MAX} bytes; say 'peticion' and a newline")]
    TooLong,
}

impl HandshakeError {
    /// The code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::FirstWord(_) | Self::ThirdWord(_) | Self::Said(_) | Self::Tls => Code::Protocol,
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
    /// `confirmacion` was sent without newline: a raw peer, unless a newline, a name or a version comes late.
    Raw,
    /// `confirmacion\n` was sent; the first line tells the role.
    Line,
    /// `confirmacion acopio/2\n` was sent; the third word tells the role.
    Framed,
    /// A client of this dialect said what it is, and was answered.
    Named(Dialect),
}

/// The head's side of a handshake, fed with what arrives.
#[derive(Debug)]
pub struct Handshake {
    state: State,
    introduction: Introduction,
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
        Self { state: State::First, introduction: Introduction { said: None, token: None } }
    }

    /// Whether the peer may now stay silent as long as it likes: it is a text peer that was confirmed and has not
    /// sent its first message. Otherwise [`HANDSHAKE_TIME_MAX`](crate::limits::HANDSHAKE_TIME_MAX) applies.
    #[must_use]
    pub const fn may_stay_silent(&self) -> bool {
        matches!(self.state, State::Raw | State::Line | State::Named(_))
    }

    /// Whether the peer is confirmed and may still say a name.
    #[must_use]
    pub const fn may_be_named(&self) -> bool {
        matches!(self.state, State::Raw)
    }

    /// What the peer has said of itself by now.
    #[must_use]
    pub const fn said(&self) -> Option<Said> {
        self.introduction.said
    }

    /// The secret of its token, if it has said one by now.
    #[must_use]
    pub const fn token(&self) -> Option<Secret> {
        self.introduction.token
    }

    /// Whether the peer has said that it is a client, and what it says of itself.
    #[must_use]
    pub const fn is_introduced(&self) -> bool {
        matches!(self.state, State::Named(_))
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
            State::Named(dialect) => Ok(Step::Done(Opening::of(dialect, Role::Client, self.introduction))),
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
            State::First | State::Framed | State::Named(_) => return None,
        };
        let role = take_exact(buffer, DATANODE.as_bytes());
        Some(Opening::of(dialect, role, Introduction::default()))
    }

    fn first(&mut self, buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
        if buffer.first() == Some(&TLS_FIRST_BYTE) {
            return Err(HandshakeError::Tls);
        }
        let Some(rest) = after_prefix(buffer, PETICION.as_bytes()) else {
            return Err(HandshakeError::FirstWord(quote(buffer)));
        };
        let after = match rest {
            Rest::Part => return Ok(Step::More),
            Rest::Whole(rest) => after_word(rest)?,
        };
        let (state, consumed, answer) = match after {
            After::Part => return Ok(Step::More),
            After::Nothing => (State::Raw, 0, CONFIRMED),
            After::Newline(n) => (State::Line, n, CONFIRMED_LINE),
            After::Version(n) => (State::Framed, n, FRAMED_CONFIRMATION),
            After::Words(n, words) => {
                self.introduction = Introduction::parse(words, Dialect::Line)?;
                (State::Named(Dialect::Line), n, self.unless_quiet(CONFIRMED_LINE))
            }
            After::Other => return Err(HandshakeError::FirstWord(quote(buffer))),
        };
        buffer.advance(PETICION.len() + consumed);
        self.state = state;
        Ok(Step::Send(answer))
    }

    /// What follows a confirmation without newline.
    fn raw(&mut self, buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
        let (state, consumed, answer) = match after_word(buffer) {
            Ok(After::Part | After::Nothing) => return Ok(Step::More),
            Ok(After::Newline(n)) => (State::Line, n, NEWLINE),
            Ok(After::Version(n)) => (State::Framed, n, LATE_VERSION),
            Ok(After::Words(n, words)) => match Introduction::parse_late(words)? {
                Some(introduction) => {
                    self.introduction = introduction;
                    (State::Named(Dialect::Line), n, self.unless_quiet(NEWLINE))
                }
                // A space that begins no name begins a raw message.
                None => return self.first_message(buffer),
            },
            Ok(After::Other) => return self.first_message(buffer),
            // Nor does one that begins no version.
            Err(_) if !buffer.starts_with(b" acopio/") => return self.first_message(buffer),
            Err(error) => return Err(error),
        };
        buffer.advance(consumed);
        self.state = state;
        Ok(Step::Send(answer))
    }

    /// The first message of a raw peer, if it is not a word about the peer.
    fn first_message(&mut self, buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
        let line = buffer.strip_suffix(b"\n").unwrap_or(buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words = line.strip_prefix(CLIENTE.as_bytes()).and_then(|words| words.strip_prefix(b" "));
        if let Some(introduction) = words.map(Introduction::parse_exact).transpose()?.flatten() {
            buffer.clear();
            (self.introduction, self.state) = (introduction, State::Named(Dialect::Raw));
            return Ok(Step::Send(self.unless_quiet(CONFIRMED)));
        }
        let role = take_exact(buffer, DATANODE.as_bytes());
        Ok(Step::Done(Opening::of(Dialect::Raw, role, Introduction::default())))
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
        Ok(Step::Done(Opening::of(Dialect::Line, role, Introduction::default())))
    }

    /// The answer to who says what it is.
    fn unless_quiet(&self, answer: &'static [u8]) -> &'static [u8] {
        if self.introduction.said.is_some_and(|said| said.quiet) { b"" } else { answer }
    }
}

/// The third word of a framed peer: what it is, and for a client what it says of itself.
fn third_word(buffer: &mut BytesMut) -> Result<Step, HandshakeError> {
    for (word, role) in [(CLIENTE, Role::Client), (DATANODE, Role::DataNode)] {
        let rest = match after_prefix(buffer, word.as_bytes()) {
            None => continue,
            Some(Rest::Part) => return Ok(Step::More),
            Some(Rest::Whole(rest)) => rest,
        };
        let (consumed, introduction) = match newline(rest) {
            Newline::Part => return Ok(Step::More),
            Newline::Yes(n) => (n, Introduction::default()),
            Newline::No => match words(rest)? {
                Words::Line(n, words) if role == Role::Client => (n, Introduction::parse(words, Dialect::Framed)?),
                Words::Part if role == Role::Client => return Ok(Step::More),
                Words::Line(..) | Words::Part | Words::None => continue,
            },
        };
        buffer.advance(word.len() + consumed);
        return Ok(Step::Done(Opening::of(Dialect::Framed, role, introduction)));
    }
    Err(HandshakeError::ThirdWord(quote(buffer)))
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

enum Words<'a> {
    /// No space comes first.
    None,
    /// The line is not whole.
    Part,
    /// The line takes so many bytes, and this stands between its space and its end.
    Line(usize, &'a [u8]),
}

/// What stands behind a word and a space, up to the end of the line.
fn words(bytes: &[u8]) -> Result<Words<'_>, HandshakeError> {
    let Some(rest) = bytes.strip_prefix(b" ") else { return Ok(Words::None) };
    let head = rest.get(..HANDSHAKE_BYTES_MAX).unwrap_or(rest);
    let newline = memchr::memchr(b'\n', head);
    // Who ends its lines in a carriage return and says so, ends this one so.
    let cr = memchr::memchr(b'\r', head).filter(|at| newline.is_none_or(|newline| at + 1 < newline));
    let line_to = |end: usize| head.get(..end).unwrap_or_default();
    match (newline, cr) {
        (_, Some(end)) if ends_in_cr(line_to(end)) => Ok(Words::Line(1 + end + 1, line_to(end))),
        (Some(end), _) => {
            let line = line_to(end);
            Ok(Words::Line(1 + end + 1, line.strip_suffix(b"\r").unwrap_or(line)))
        }
        (None, _) if rest.len() > HANDSHAKE_BYTES_MAX => Err(HandshakeError::TooLong),
        (None, _) => Ok(Words::Part),
    }
}

enum After<'a> {
    /// Nothing follows.
    Nothing,
    /// What follows is not yet certain.
    Part,
    /// A newline of so many bytes.
    Newline(usize),
    /// ` acopio/2` and its newline, of so many bytes.
    Version(usize),
    /// A space, other words and a newline, of so many bytes.
    Words(usize, &'a [u8]),
    /// Something else.
    Other,
}

/// What follows `peticion`. An error is a version that is not ours, or a line that never ends.
fn after_word(bytes: &[u8]) -> Result<After<'_>, HandshakeError> {
    match newline(bytes) {
        Newline::Yes(n) => return Ok(After::Newline(n)),
        Newline::Part if bytes.is_empty() => return Ok(After::Nothing),
        Newline::Part => return Ok(After::Part),
        Newline::No => {}
    }
    match words(bytes)? {
        Words::None => Ok(After::Other),
        Words::Part => Ok(After::Part),
        Words::Line(n, line) if line == VERSION.as_bytes() => Ok(After::Version(n)),
        Words::Line(_, line) if line.starts_with(b"acopio/") => Err(HandshakeError::Version(quote(line))),
        Words::Line(n, line) => Ok(After::Words(n, line)),
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
