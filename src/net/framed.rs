//! The framed connection to a head as its caller has it: the opening, the head's confirmation, one frame after the
//! other, and why it ended. What the frames mean is the business of each role.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Stream, make_room};
use crate::limits;
use crate::wire::error::Refusal;
use crate::wire::frame::{Frame, FrameError};
use crate::wire::peer::{self, Unconfirmed};

/// Why a connection to a head ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The system's word.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The head's word, or what it would be told.
    #[error("{0}")]
    Refused(Refusal),
    /// The head closed.
    #[error("it closed the connection")]
    Closed,
    /// Something else listens there, or a head of another version.
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    /// It sent what is no frame of this version.
    #[error("{0}")]
    Garbled(#[from] FrameError),
    /// A frame that has no place there.
    #[error("frame {0:#04x} is out of place; is it an acopio head of this version?")]
    OutOfPlace(u8),
    /// Nothing came in this time.
    #[error("nothing was heard from it for {0:?}")]
    Silent(Duration),
    /// It is in order, and not for this side.
    #[error("{0}")]
    Unfit(String),
}

impl Ended {
    /// Whether it is that one side does not trust the other, which says itself what to do.
    #[must_use]
    pub(crate) fn is_of_trust(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::InvalidData)
    }

    /// What makes two ends alike, so that the same trouble is said once. Of what is no head at all, the words depend on
    /// how much of them came at once.
    #[must_use]
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Unconfirmed(Unconfirmed::Other(_)) => "no head".to_owned(),
            other => other.to_string(),
        }
    }
}

/// Says `opening`, and what follows it in the same packet, and waits for the head to confirm it. What comes after the
/// confirmation is in `buffer`.
///
/// # Errors
/// It is not confirmed within [`limits::HANDSHAKE_TIME_MAX`].
pub(crate) async fn open(socket: &mut Stream, opening: &[u8], buffer: &mut BytesMut) -> Result<(), Ended> {
    let confirmed = async {
        socket.write_all(opening).await?;
        loop {
            if let Some(confirmed) = peer::confirmation(buffer)? {
                buffer.advance(confirmed);
                return Ok(());
            }
            make_room(buffer);
            if socket.read_buf(buffer).await? == 0 {
                return Err(if buffer.is_empty() { Ended::Closed } else { peer::unconfirmed(buffer).into() });
            }
        }
    };
    let done = timeout(limits::HANDSHAKE_TIME_MAX, confirmed).await;
    done.unwrap_or(Err(Ended::Silent(limits::HANDSHAKE_TIME_MAX)))
}

/// The next frame, however long it takes. Nothing is lost by not waiting to the end.
///
/// # Errors
/// There will be none.
pub(crate) async fn next_frame(socket: &mut Stream, buffer: &mut BytesMut) -> Result<Frame, Ended> {
    loop {
        if let Some(frame) = Frame::decode(buffer)? {
            return Ok(frame);
        }
        make_room(buffer);
        if socket.read_buf(buffer).await? == 0 {
            return Err(Ended::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_head_is_the_same_trouble_however_much_of_it_came() {
        let ended = |answer: &[u8]| Ended::from(peer::unconfirmed(answer));
        assert_ne!(ended(b"SSH-2.0-Op").to_string(), ended(b"SSH-2.0-OpenSSH_9.2").to_string());
        assert_eq!(ended(b"SSH-2.0-Op").kind(), ended(b"SSH-2.0-OpenSSH_9.2").kind());
        assert_ne!(ended(b"confirmacion acopio/2\n").kind(), ended(b"confirmacion acopio/3\n").kind());
        assert_ne!(Ended::Closed.kind(), ended(b"x").kind());
    }
}
