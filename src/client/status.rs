//! Asks a head for its status: one connection, one question.

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Error;
use super::connection::open;
use crate::limits;
use crate::net::Net;
use crate::net::framed::{Ended, next_frame};
use crate::wire::frame::Frame;
use crate::wire::status::StatusReport;

/// What a head says of itself and its data nodes.
///
/// # Errors
/// It can't be reached, or is no head of this version.
pub async fn status(head: &str) -> Result<StatusReport, Error> {
    status_on(&Net::Tcp, head).await
}

/// As [`status`], with the clients that are connected.
///
/// # Errors
/// The same.
pub async fn status_with_clients(head: &str) -> Result<StatusReport, Error> {
    query(&Net::Tcp, head, true).await
}

/// As [`status`], on this network.
///
/// # Errors
/// The same.
pub(crate) async fn status_on(net: &Net, head: &str) -> Result<StatusReport, Error> {
    query(net, head, false).await
}

async fn query(net: &Net, head: &str, clients: bool) -> Result<StatusReport, Error> {
    let failed = |cause: String| Error::Head { head: head.to_owned(), cause, is_lost: true };
    let json = timeout(limits::DIAL_TIME_MAX, ask(net, head, clients))
        .await
        .unwrap_or(Err(Ended::Silent(limits::DIAL_TIME_MAX)))
        .map_err(|ended| failed(format!("{ended}; see that a head runs there")))?;
    serde_json::from_slice(&json)
        .map_err(|error| failed(format!("its status makes no sense: {error}; use the same version")))
}

/// Asks a head to move the records of a data node away and to let it go, or with `gone` to give up one that is away for
/// good. It is under way when this returns; [`status`] shows how it goes.
///
/// # Errors
/// The head can't be reached, or has no such node, or none that could take its records.
pub async fn drain(head: &str, name: &str, gone: bool) -> Result<(), Error> {
    drain_on(&Net::Tcp, head, name, gone).await
}

/// As [`drain`], on this network.
///
/// # Errors
/// The same.
pub(crate) async fn drain_on(net: &Net, head: &str, name: &str, gone: bool) -> Result<(), Error> {
    let failed = |cause: String, is_lost| Error::Head { head: head.to_owned(), cause, is_lost };
    let mut out = bytes::BytesMut::new();
    let frame = Frame::Drain { gone, name: name.to_owned() };
    frame.encode(&mut out).map_err(|error| failed(error.to_string(), false))?;
    let silent = Err(Ended::Silent(limits::DIAL_TIME_MAX));
    match timeout(limits::DIAL_TIME_MAX, send(net, head, &out)).await.unwrap_or(silent) {
        Ok(_report) => Ok(()),
        Err(Ended::Refused(refusal)) => Err(failed(refusal.text, false)),
        Err(ended) => Err(failed(format!("{ended}; see that a head runs there"), true)),
    }
}

async fn ask(net: &Net, head: &str, clients: bool) -> Result<bytes::Bytes, Ended> {
    let mut out = bytes::BytesMut::new();
    Frame::StatusQuery { clients }.encode(&mut out)?;
    send(net, head, &out).await
}

/// Sends one frame that is answered with a status report.
async fn send(net: &Net, head: &str, out: &[u8]) -> Result<bytes::Bytes, Ended> {
    let (mut socket, mut buffer) = open(net, head).await?;
    socket.write_all(out).await?;
    loop {
        match next_frame(&mut socket, &mut buffer).await? {
            Frame::StatusReport(json) => return Ok(json),
            Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
            Frame::Ping(_) => {}
            other => return Err(Ended::OutOfPlace(other.kind())),
        }
    }
}
