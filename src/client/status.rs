//! Asks a head for its status: one connection, one question.

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Error;
use super::connection::{Ended, next_frame, open};
use crate::limits;
use crate::wire::frame::{self, Frame};
use crate::wire::status::StatusReport;

/// What a head says of itself and its data nodes.
///
/// # Errors
/// It can't be reached, or is no head of this version.
pub async fn status(head: &str) -> Result<StatusReport, Error> {
    let failed = |cause: String| Error::Head { head: head.to_owned(), cause };
    let json = timeout(limits::DIAL_TIME_MAX, ask(head))
        .await
        .unwrap_or(Err(Ended::Silent))
        .map_err(|ended| failed(format!("{ended}; see that a head runs there")))?;
    serde_json::from_slice(&json)
        .map_err(|error| failed(format!("its status makes no sense: {error}; use the same version")))
}

async fn ask(head: &str) -> Result<bytes::Bytes, Ended> {
    let (mut socket, mut buffer) = open(head).await?;
    let mut out = bytes::BytesMut::new();
    frame::status_query(&mut out);
    socket.write_all(&out).await?;
    loop {
        match next_frame(&mut socket, &mut buffer).await? {
            Frame::StatusReport(json) => return Ok(json),
            Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
            Frame::Ping(_) => {}
            other => return Err(Ended::NotAHead(format!("frame {:#04x}", other.kind()))),
        }
    }
}
