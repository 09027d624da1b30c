//! Asks a head for its status: one connection, one question.

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Error;
use super::connection::open;
use crate::limits;
use crate::net::Net;
use crate::net::framed::{Ended, next_frame};
use crate::wire::frame::Frame;
use crate::wire::source::SourceName;
use crate::wire::status::{DevicesReport, StatusReport};

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
    query(&Net::Tcp, head, true, false).await
}

/// As [`status`], with each ledger that the head has heard of, up to a bound.
///
/// # Errors
/// The same.
pub async fn status_with_ledgers(head: &str) -> Result<StatusReport, Error> {
    query(&Net::Tcp, head, false, true).await
}

/// As [`status`], on this network.
///
/// # Errors
/// The same.
pub(crate) async fn status_on(net: &Net, head: &str) -> Result<StatusReport, Error> {
    query(net, head, false, false).await
}

async fn query(net: &Net, head: &str, clients: bool, ledgers: bool) -> Result<StatusReport, Error> {
    let failed = |cause: String| Error::Head { head: head.to_owned(), cause, is_lost: true };
    let json = timeout(limits::DIAL_TIME_MAX, ask(net, head, Frame::StatusQuery { clients, ledgers }))
        .await
        .unwrap_or(Err(Ended::Silent(limits::DIAL_TIME_MAX)))
        .map_err(|ended| failed(format!("{ended}; see that a head runs there")))?;
    serde_json::from_slice(&json)
        .map_err(|error| failed(format!("its status makes no sense: {error}; use the same version")))
}

/// Which sources there are, which of them are connected to this head, and when each was heard last.
///
/// # Errors
/// It can't be reached, or is no head of this version.
pub async fn devices(head: &str) -> Result<DevicesReport, Error> {
    let failed = |cause: String| Error::Head { head: head.to_owned(), cause, is_lost: true };
    let mut all = DevicesReport::default();
    let mut behind = None;
    loop {
        let question = Frame::DevicesQuery { behind, most: limits::SOURCES_PAGE_MAX as u16 };
        let json = timeout(limits::DIAL_TIME_MAX, ask(&Net::Tcp, head, question))
            .await
            .unwrap_or(Err(Ended::Silent(limits::DIAL_TIME_MAX)))
            .map_err(|ended| failed(format!("{ended}; see that a head runs there")))?;
        let page: DevicesReport = serde_json::from_slice(&json).map_err(|error| {
            failed(format!("what it says of devices makes no sense: {error}; use the same version"))
        })?;
        all.devices.extend(page.devices);
        all.unlisted |= page.unlisted;
        (all.missing, all.copies, all.today_since) = (page.missing, page.copies, page.today_since);
        match page.next.as_deref().map(str::parse::<SourceName>) {
            Some(Ok(next)) if behind.is_none_or(|behind| behind < next) => behind = Some(next),
            _ => return Ok(all),
        }
    }
}

/// What is to become of a data node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// Its records are moved away, and it is let go.
    Drained,
    /// It is away for good: what it kept is copied from others.
    Gone,
    /// The same, and what only it kept is given up.
    GoneWithItsRecords,
}

/// Asks a head to let a data node go. It is under way when this returns; [`status`] shows how it goes.
///
/// # Errors
/// The head can't be reached, or has no such node, or none that could take its records.
pub async fn drain(head: &str, name: &str, leaving: Leaving) -> Result<(), Error> {
    drain_on(&Net::Tcp, head, name, leaving).await
}

/// As [`drain`], on this network.
///
/// # Errors
/// The same.
pub(crate) async fn drain_on(net: &Net, head: &str, name: &str, leaving: Leaving) -> Result<(), Error> {
    let (gone, lose) = (leaving != Leaving::Drained, leaving == Leaving::GoneWithItsRecords);
    tell(net, head, Frame::Drain { gone, lose, name: name.to_owned() }).await
}

/// Asks a head to have the cluster keep so many copies of each message from now on, and to refuse those of which there would
/// be fewer than `least`.
///
/// # Errors
/// The head can't be reached, the numbers make no sense, or the change before is not through.
pub async fn set_copies(head: &str, replicas: u8, least: u8) -> Result<(), Error> {
    set_copies_on(&Net::Tcp, head, replicas, least).await
}

/// As [`set_copies`], on this network.
///
/// # Errors
/// The same.
pub(crate) async fn set_copies_on(net: &Net, head: &str, replicas: u8, least: u8) -> Result<(), Error> {
    tell(net, head, Frame::Copies { replicas, least }).await
}

/// Sends a frame that changes something.
async fn tell(net: &Net, head: &str, frame: Frame) -> Result<(), Error> {
    let failed = |cause: String, is_lost| Error::Head { head: head.to_owned(), cause, is_lost };
    let mut out = bytes::BytesMut::new();
    frame.encode(&mut out).map_err(|error| failed(error.to_string(), false))?;
    let silent = Err(Ended::Silent(limits::DIAL_TIME_MAX));
    match timeout(limits::DIAL_TIME_MAX, send(net, head, &out)).await.unwrap_or(silent) {
        Ok(_report) => Ok(()),
        Err(Ended::Refused(refusal)) => Err(failed(refusal.text, false)),
        Err(ended) => Err(failed(format!("{ended}; see that a head runs there"), true)),
    }
}

async fn ask(net: &Net, head: &str, question: Frame) -> Result<bytes::Bytes, Ended> {
    let mut out = bytes::BytesMut::new();
    question.encode(&mut out)?;
    send(net, head, &out).await
}

/// Sends one frame that is answered with a status report.
async fn send(net: &Net, head: &str, out: &[u8]) -> Result<bytes::Bytes, Ended> {
    let (mut socket, mut buffer) = open(net, head, None).await?;
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
