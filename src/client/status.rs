//! Asks a head for its status, or to change the cluster: one connection, one question.

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Error;
use super::connection::open;
use crate::limits;
use crate::net::framed::{Ended, next_frame};
use crate::net::{self, Net, Stream};
use crate::wire::error::Code;
use crate::wire::frame::Frame;
use crate::wire::said::Introduction;
use crate::wire::secret::Secret;
use crate::wire::source::SourceName;
use crate::wire::status::{DevicesReport, StatusReport};

/// Asks heads, with the secret of a token for those that ask clients for one.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    token: Option<Secret>,
    net: Net,
}

impl Asker {
    /// With this secret, if there is one.
    #[must_use]
    pub fn new(token: Option<Secret>) -> Self {
        Self { token, net: Net::Tcp }
    }

    /// Reaching heads like this.
    #[must_use]
    pub(crate) fn over(access: &net::Access) -> Self {
        let net::Access { token, net } = access.clone();
        Self { token, net }
    }

    /// The same over TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, tls: super::Tls) -> Self {
        Self { net: Net::Tls(tls), ..self }
    }

    /// What a head says of itself and its data nodes.
    ///
    /// # Errors
    /// It can't be reached, is no head of this version, or wants another token.
    pub async fn status(&self, head: &str) -> Result<StatusReport, Error> {
        self.query(head, false, false).await
    }

    /// As [`status`](Self::status), with the clients that are connected.
    ///
    /// # Errors
    /// The same.
    pub async fn status_with_clients(&self, head: &str) -> Result<StatusReport, Error> {
        self.query(head, true, false).await
    }

    /// As [`status`](Self::status), with each ledger that the head has heard of, up to a bound.
    ///
    /// # Errors
    /// The same.
    pub async fn status_with_ledgers(&self, head: &str) -> Result<StatusReport, Error> {
        self.query(head, false, true).await
    }

    async fn query(&self, head: &str, clients: bool, ledgers: bool) -> Result<StatusReport, Error> {
        let json = self.ask(head, &Frame::StatusQuery { clients, ledgers }).await?;
        serde_json::from_slice(&json)
            .map_err(|error| failed(head, format!("its status makes no sense: {error}; use the same version")))
    }

    /// Which sources there are, which of them are connected to this head, and when each was heard last.
    ///
    /// # Errors
    /// It can't be reached, is no head of this version, or wants another token.
    pub async fn devices(&self, head: &str) -> Result<DevicesReport, Error> {
        let mut all = DevicesReport::default();
        let mut behind = None;
        loop {
            let question = Frame::DevicesQuery { behind, most: limits::SOURCES_PAGE_MAX as u16 };
            let json = self.ask(head, &question).await?;
            let page: DevicesReport = serde_json::from_slice(&json).map_err(|error| {
                failed(head, format!("what it says of devices makes no sense: {error}; use the same version"))
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

    async fn ask(&self, head: &str, question: &Frame) -> Result<bytes::Bytes, Error> {
        let asked = timeout(limits::DIAL_TIME_MAX, ask(&self.net, head, self.token, question)).await;
        asked.unwrap_or(Err(Ended::Silent(limits::DIAL_TIME_MAX))).map_err(|ended| match ended {
            Ended::Refused(refusal) if refusal.code == Code::Denied => failed(head, refusal.text),
            ended if ended.is_of_trust() => failed(head, ended.to_string()),
            ended => failed(head, format!("{ended}; see that a head runs there")),
        })
    }
}

fn failed(head: &str, cause: String) -> Error {
    Error::Head { head: head.to_owned(), cause, is_lost: true }
}

/// What a head says of itself and its data nodes.
///
/// # Errors
/// It can't be reached, or is no head of this version.
pub async fn status(head: &str) -> Result<StatusReport, Error> {
    Asker::default().status(head).await
}

/// As [`status`], with the clients that are connected.
///
/// # Errors
/// The same.
pub async fn status_with_clients(head: &str) -> Result<StatusReport, Error> {
    Asker::default().status_with_clients(head).await
}

/// As [`status`], with each ledger that the head has heard of, up to a bound.
///
/// # Errors
/// The same.
pub async fn status_with_ledgers(head: &str) -> Result<StatusReport, Error> {
    Asker::default().status_with_ledgers(head).await
}

/// As [`status`], on this network.
///
/// # Errors
/// The same.
#[cfg(feature = "simulation")]
pub(crate) async fn status_on(net: &Net, head: &str) -> Result<StatusReport, Error> {
    Asker { net: net.clone(), token: None }.status(head).await
}

/// Which sources there are, which of them are connected to this head, and when each was heard last.
///
/// # Errors
/// It can't be reached, or is no head of this version.
pub async fn devices(head: &str) -> Result<DevicesReport, Error> {
    Asker::default().devices(head).await
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
/// The head can't be reached, has no such node, none that could take its records, or asks for the cluster's key.
pub async fn drain(head: &str, name: &str, leaving: Leaving) -> Result<(), Error> {
    Change::drain(name, leaving).ask(head).await
}

/// Asks a head to have the cluster keep so many copies of each message from now on, and to refuse those of which there would
/// be fewer than `least`.
///
/// # Errors
/// The head can't be reached, the numbers make no sense, the change before is not through, or the head asks for the cluster's
/// key.
pub async fn set_copies(head: &str, replicas: u8, least: u8) -> Result<(), Error> {
    Change::copies(replicas, least).ask(head).await
}

/// A change of the cluster, and the right to make it.
///
/// A head asks for the cluster's key of who comes from another machine, and of everybody if it was started with `--key`.
#[derive(Clone, Debug)]
pub struct Change {
    frame: Frame,
    token: Option<Secret>,
    net: Net,
    #[cfg(feature = "keys")]
    key: Option<crate::key::PeerKey>,
    #[cfg(feature = "keys")]
    nonces: crate::key::Nonces,
}

impl Change {
    fn new(frame: Frame) -> Self {
        Self {
            frame,
            token: None,
            net: Net::Tcp,
            #[cfg(feature = "keys")]
            key: None,
            #[cfg(feature = "keys")]
            nonces: crate::key::Nonces::default(),
        }
    }

    /// As [`drain`] asks for.
    #[must_use]
    pub fn drain(name: &str, leaving: Leaving) -> Self {
        let (gone, lose) = (leaving != Leaving::Drained, leaving == Leaving::GoneWithItsRecords);
        Self::new(Frame::Drain { gone, lose, name: name.to_owned() })
    }

    /// As [`set_copies`] asks for.
    #[must_use]
    pub fn copies(replicas: u8, least: u8) -> Self {
        Self::new(Frame::Copies { replicas, least })
    }

    /// Says this token, to heads that ask clients for one.
    #[must_use]
    pub fn with_token(self, token: Option<Secret>) -> Self {
        Self { token, ..self }
    }

    /// Reaching heads like this.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn over(self, access: &net::Access) -> Self {
        let net::Access { token, net } = access.clone();
        Self { token, net, ..self }
    }

    /// The same over TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, tls: super::Tls) -> Self {
        Self { net: Net::Tls(tls), ..self }
    }

    /// Proves that it may be made with this key; a head that does not prove that it has the same one is told nothing.
    #[cfg(feature = "keys")]
    #[must_use]
    pub fn with_key(self, key: &crate::key::ClusterKey) -> Self {
        Self { key: Some(key.holder()), ..self }
    }

    /// The same on a simulated network.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub(crate) fn on(self, net: &Net, nonces: &crate::key::Nonces) -> Self {
        Self { net: net.clone(), nonces: nonces.clone(), ..self }
    }

    /// Asks a head for it.
    ///
    /// # Errors
    /// The head can't be reached, refuses, or does not prove what it has to.
    pub async fn ask(&self, head: &str) -> Result<(), Error> {
        let failed = |cause: String, is_lost| Error::Head { head: head.to_owned(), cause, is_lost };
        let silent = Err(Ended::Silent(limits::DIAL_TIME_MAX));
        match timeout(limits::DIAL_TIME_MAX, self.say(head)).await.unwrap_or(silent) {
            Ok(_report) => Ok(()),
            Err(Ended::Refused(refusal)) => Err(failed(refusal.text, false)),
            Err(Ended::Unfit(cause)) => Err(failed(cause, false)),
            Err(Ended::Garbled(error)) => Err(failed(error.to_string(), false)),
            Err(ended) if ended.is_of_trust() => Err(failed(ended.to_string(), true)),
            Err(ended) => Err(failed(format!("{ended}; see that a head runs there"), true)),
        }
    }

    #[cfg(feature = "keys")]
    async fn say(&self, head: &str) -> Result<bytes::Bytes, Ended> {
        use crate::net::proof;
        let Some(key) = &self.key else { return ask(&self.net, head, self.token, &self.frame).await };
        let (mut socket, mut buffer) = open(&self.net, head, Introduction { said: None, token: self.token }).await?;
        let (mut out, nonce) = (bytes::BytesMut::new(), self.nonces.draw());
        proof::knock(&mut out, key, nonce, &self.frame)?;
        socket.write_all(&out).await?;
        proof::prove(&mut socket, &mut buffer, key, nonce, &self.frame).await?;
        answer(&mut socket, &mut buffer).await
    }

    #[cfg(not(feature = "keys"))]
    async fn say(&self, head: &str) -> Result<bytes::Bytes, Ended> {
        ask(&self.net, head, self.token, &self.frame).await
    }
}

/// Says one frame that is answered with a status report.
async fn ask(net: &Net, head: &str, token: Option<Secret>, question: &Frame) -> Result<bytes::Bytes, Ended> {
    let mut out = bytes::BytesMut::new();
    question.encode(&mut out)?;
    let (mut socket, mut buffer) = open(net, head, Introduction { said: None, token }).await?;
    socket.write_all(&out).await?;
    answer(&mut socket, &mut buffer).await
}

async fn answer(socket: &mut Stream, buffer: &mut bytes::BytesMut) -> Result<bytes::Bytes, Ended> {
    loop {
        match next_frame(socket, buffer).await? {
            Frame::StatusReport(json) => return Ok(json),
            Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
            Frame::Ping(_) => {}
            other => return Err(Ended::OutOfPlace(other.kind())),
        }
    }
}
