//! The text side of the wire: the Spanish words, lines, answers.
//!
//! Everything here is incremental and pure. The handshake is in [`handshake`](super::handshake), frames are in
//! [`frame`](super::frame).

use std::fmt::Display;
use std::net::IpAddr;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::error::Refusal;
use super::secret;
use crate::limits::LINE_BYTES_MAX;

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

/// The first line of foreign bytes, escaped and bounded, for an error; without the secret of a token.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = bytes.get(..end).unwrap_or(bytes);
    let most = secret::hidden_from(line).unwrap_or(line.len()).min(QUOTE_BYTES);
    match line.get(..most) {
        Some(start) if line.len() > most => format!("{}…", start.escape_ascii()),
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
    /// A carriage return ends a line, too.
    cr: bool,
    /// The last line ended in one: a newline that comes next belongs to it.
    after_cr: bool,
}

impl Lines {
    /// A cutter at the beginning of a line.
    #[must_use]
    pub const fn new() -> Self {
        Self { searched: 0, cr: false, after_cr: false }
    }

    /// The same where a carriage return ends a line, too, at once: who sends none but those says nothing more after it. A
    /// newline that comes first belongs to the handshake.
    #[must_use]
    pub const fn ending_in_cr() -> Self {
        Self { searched: 0, cr: true, after_cr: true }
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
            if self.after_cr && buffer.get(start) == Some(&b'\n') {
                start += 1;
                self.after_cr = false;
            }
            let rest = buffer.get(start..).unwrap_or_default();
            self.after_cr &= rest.is_empty();
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
            self.after_cr = rest.get(end) == Some(&b'\r');
            start += end + 1;
            count += 1;
        }
        buffer.advance(start);
        result.map(|()| count)
    }

    /// Where the newline of the first line is. Resets the memory once found.
    fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, LineTooLong> {
        let unseen = bytes.get(self.searched..).unwrap_or_default();
        let found = if self.cr { memchr::memchr2(b'\n', b'\r', unseen) } else { memchr::memchr(b'\n', unseen) };
        match found {
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
