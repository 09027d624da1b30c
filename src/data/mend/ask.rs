//! Asks a head for records, as a reader does: what all data nodes that are there have in a range of ids.
//!
//! Nothing is kept here: lines are handed on frame by frame, and the head waits for who takes them.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::limits;
use crate::net::framed::{self, Ended};
use crate::net::{Net, Stream};
use crate::wire::frame::{self, Frame};
use crate::wire::id::RecordId;
use crate::wire::peer::missing_name;
use crate::wire::text::FRAMED_CLIENT_OPENING;

/// A part of the answer.
#[derive(Debug)]
pub(crate) enum Part {
    /// Lines, in the order of ids.
    Lines {
        /// Everything below this id has come.
        next: RecordId,
        /// Whole lines.
        lines: Bytes,
    },
    /// That was all.
    End {
        /// The nodes that are missing from it.
        missing: Vec<String>,
    },
}

/// A question under way.
pub(crate) struct Asking {
    socket: Stream,
    buffer: BytesMut,
}

/// Asks a head for the records with `from <= id < until`.
///
/// # Errors
/// The head cannot be asked.
pub(crate) async fn ask(
    net: &Net,
    head: &str,
    bind: Option<IpAddr>,
    (from, until): (RecordId, RecordId),
) -> Result<Asking, Ended> {
    let mut socket = net.dial(head, bind).await?;
    let mut out = BytesMut::from(FRAMED_CLIENT_OPENING);
    let question = Frame::Read { from, until, client: None, follow: false, partial: true };
    question.encode(&mut out)?;
    let mut buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES);
    framed::open(&mut socket, &out, &mut buffer).await?;
    Ok(Asking { socket, buffer })
}

impl Asking {
    /// The next part of the answer.
    ///
    /// # Errors
    /// The head is lost, or refused.
    pub(crate) async fn next(&mut self) -> Result<Part, Ended> {
        loop {
            match self.frame().await? {
                Frame::Records { next, lines } => return Ok(Part::Lines { next, lines }),
                Frame::ReadEnd { missing, .. } => {
                    let missing = missing
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(|node| missing_name(node).to_owned())
                        .collect();
                    return Ok(Part::End { missing });
                }
                Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
                Frame::Ping(number) => {
                    let mut out = BytesMut::new();
                    frame::pong(&mut out, number);
                    self.socket.write_all(&out).await?;
                }
                Frame::Pong(_) | Frame::Waiting { .. } => {}
                other => return Err(Ended::OutOfPlace(other.kind())),
            }
        }
    }

    async fn frame(&mut self) -> Result<Frame, Ended> {
        let patience = limits::MEND_ANSWER_TIME_MAX;
        let frame = timeout(patience, framed::next_frame(&mut self.socket, &mut self.buffer)).await;
        frame.unwrap_or(Err(Ended::Silent(patience)))
    }
}
