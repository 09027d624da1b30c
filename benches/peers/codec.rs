//! How each peer is told to keep a message, and how it says that it does: pure, bytes in and out.

use bytes::{Buf as _, BufMut as _, BytesMut};

use crate::floor;

/// A peer's protocol on one connection. Answers come in the order of the messages, or are counted as if they did.
pub(crate) enum Codec {
    /// The floor's frames.
    Floor,
    /// Redis: `XADD` to a stream (RESP2).
    Redis,
    /// NATS JetStream: `PUB` with an inbox for the acknowledgement. The number of the connection names the inbox.
    Nats(usize),
    /// beanstalkd: `put`.
    Beanstalkd,
    /// The original's shape: one message, one answer.
    Raw,
    /// acopio in lines, whose every line is an answer.
    Line,
}

impl Codec {
    /// What is said first, and how what comes back ends; messages go out after that.
    pub(crate) fn opening(&self) -> Option<(Vec<u8>, &'static [u8])> {
        let nats = |inbox| {
            let connect = "CONNECT {\"verbose\":false,\"pedantic\":false}";
            format!("{connect}\r\nSUB _INBOX.{inbox}.* 1\r\nPING\r\n").into_bytes()
        };
        match self {
            Self::Nats(inbox) => Some((nats(*inbox), b"PONG\r\n")),
            Self::Raw => Some((b"peticion".to_vec(), b"confirmacion")),
            Self::Line => Some((b"peticion\n".to_vec(), b"confirmacion\n")),
            Self::Floor | Self::Redis | Self::Beanstalkd => None,
        }
    }

    /// Says one message.
    pub(crate) fn push(&self, out: &mut BytesMut, number: u64, payload: &[u8]) {
        let size = payload.len();
        match self {
            Self::Floor => {
                out.put_u32(0);
                out.put_u64(number);
                out.put_slice(payload);
            }
            Self::Redis => {
                out.put_slice(format!("*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nm\r\n${size}\r\n").as_bytes());
                out.put_slice(payload);
                out.put_slice(b"\r\n");
            }
            Self::Nats(inbox) => {
                out.put_slice(format!("PUB bench _INBOX.{inbox}.a {size}\r\n").as_bytes());
                out.put_slice(payload);
                out.put_slice(b"\r\n");
            }
            Self::Beanstalkd => {
                out.put_slice(format!("put 0 0 60 {size}\r\n").as_bytes());
                out.put_slice(payload);
                out.put_slice(b"\r\n");
            }
            Self::Raw => out.put_slice(payload),
            Self::Line => {
                out.put_slice(payload);
                out.put_slice(b"\n");
            }
        }
    }

    /// Takes whole answers off what was read: how many there were, or what was said instead.
    pub(crate) fn take(&self, input: &mut BytesMut) -> Result<usize, String> {
        let mut answers = 0;
        loop {
            if let Some(bytes) = self.aside(input) {
                input.advance(bytes);
                continue;
            }
            let Some(bytes) = self.answer(input)? else { return Ok(answers) };
            input.advance(bytes);
            answers += 1;
        }
    }

    /// The length of a line at the beginning that answers nothing: a NATS server looks now and then whether a client is
    /// there, and bears it for minutes if it does not say so.
    fn aside(&self, input: &[u8]) -> Option<usize> {
        let is_aside = matches!(self, Self::Nats(_)) && input.starts_with(b"PING");
        if is_aside { memchr::memchr(b'\n', input).map(|at| at + 1) } else { None }
    }

    /// The length of the answer that the input begins with.
    fn answer(&self, input: &[u8]) -> Result<Option<usize>, String> {
        let line = |from: usize| memchr::memchr(b'\n', input.get(from..)?).map(|at| from + at + 1);
        let wrong = || Err(String::from_utf8_lossy(&input[..input.len().min(200)]).into_owned());
        match self {
            Self::Floor => Ok((input.len() >= floor::HEADER).then_some(floor::HEADER)),
            Self::Redis => match input.first() {
                None => Ok(None),
                Some(b'$') => Ok(line(0).and_then(line)),
                Some(_) => wrong(),
            },
            Self::Nats(_) if input.len() < 4 && b"PING".starts_with(input) => Ok(None),
            Self::Nats(_) if b"MSG ".starts_with(&input[..input.len().min(4)]) => {
                let Some(head) = line(0) else { return Ok(None) };
                let length = String::from_utf8_lossy(&input[..head]);
                let Some(length) = length.split_whitespace().last().and_then(|text| text.parse::<usize>().ok()) else {
                    return wrong();
                };
                let whole = head + length + 2;
                match input.get(head..whole) {
                    None => Ok(None),
                    Some(body) if memchr::memmem::find(body, b"\"error\"").is_none() => Ok(Some(whole)),
                    Some(_) => wrong(),
                }
            }
            Self::Beanstalkd if input.is_empty() || b"INSERTED".starts_with(&input[..input.len().min(8)]) => {
                Ok(line(0))
            }
            Self::Line => Ok(line(0)),
            Self::Raw => Ok(input.ends_with(b"recibido").then_some(input.len())),
            Self::Nats(_) | Self::Beanstalkd => wrong(),
        }
    }
}
