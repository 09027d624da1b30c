//! TLS: the connection, and the side of who dials. [`served`] is the side of a head, `files` reads certificates and keys,
//! [`names`] tells whose a certificate is. Everything of rustls is in this folder.

mod files;
pub(crate) mod names;
#[cfg(feature = "server")]
mod pace;
#[cfg(feature = "server")]
pub(crate) mod served;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::Channel;
use super::patience::Patience;
use crate::limits;
pub use files::TlsError;

/// What both sides of a connection agree on, and nobody else knows; the label of RFC 9266.
const CHANNEL_BINDING: &[u8] = b"EXPORTER-Channel-Binding";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// How heads are dialled over TLS: whom to believe, and what to show.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Believes the authorities in this file, PEM, or those of the system if none is given. A head that asks clients for a
    /// certificate gets the one in the other file, whose key lies beside it under the same name with the ending `.key`.
    ///
    /// # Errors
    /// A file can't be read, or has not what it is to have.
    pub fn new(authority: Option<&Path>, certificate: Option<&Path>) -> Result<Self, TlsError> {
        let roots = authority.map_or_else(files::system_authorities, files::authorities)?;
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(TlsError::Unusable)?.with_root_certificates(roots);
        let mut config = match certificate {
            None => config.with_no_client_auth(),
            Some(path) => {
                let (certificates, key) = files::identity(path, &files::key_beside(path))?;
                config.with_client_auth_cert(certificates, key).map_err(|error| TlsError::unfit(path, error))?
            }
        };
        // Without it, what the two ends of a connection of TLS 1.2 know would not be theirs alone.
        config.require_ems = true;
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands with `host:port`.
    pub(super) async fn connect(&self, host: &str, socket: TcpStream) -> io::Result<Box<TlsSocket>> {
        let name = server_name(host).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "no certificate can be for a host of that name; take another")
        })?;
        let connected = timeout(
            limits::HANDSHAKE_TIME_MAX,
            TlsConnector::from(Arc::clone(&self.0)).connect(name, buffered(socket)),
        );
        let stream = match connected.await {
            Ok(connected) => connected.map_err(told)?,
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in TLS; is it an acopio head?")),
        };
        Ok(TlsSocket::new(stream.into()))
    }
}

/// Who is to be there: the host of `host:port`, without the zone of an address.
fn server_name(host: &str) -> Option<ServerName<'static>> {
    let (host, _port) = host.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.split('%').next().unwrap_or(host);
    host.parse::<IpAddr>().map_or_else(|_| host.to_owned().try_into().ok(), |ip| Some(ServerName::from(ip)))
}

/// What is under TLS. Rustls asks for 4 KiB at a time; so the system is asked for more, and less often.
pub(crate) type Buffered = BufReader<TcpStream>;

fn buffered(socket: TcpStream) -> Buffered {
    BufReader::with_capacity(limits::TLS_READ_BYTES, socket)
}

/// A connection over TLS. Its halves share it: a lock that nobody waits for, as both are used by one task.
#[derive(Debug)]
pub(crate) struct TlsSocket(Mutex<Shared>);

#[derive(Debug)]
struct Shared {
    stream: TlsStream<Buffered>,
    patience: Patience,
    /// Bytes of the write under way that are encrypted, and not sent yet.
    taken: usize,
}

impl TlsSocket {
    fn new(stream: TlsStream<Buffered>) -> Box<Self> {
        let patience = Patience::new(stream.get_ref().0.get_ref());
        Box::new(Self(Mutex::new(Shared { stream, patience, taken: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(cx, buf).map_err(told)
    }

    /// Done when all that it says was written is with the system: nobody has to flush.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Shared { stream, patience, taken } = &mut *self.lock();
        let written = loop {
            if *taken > 0 {
                break Pin::new(&mut *stream).poll_flush(cx).map_ok(|()| std::mem::take(taken));
            }
            match Pin::new(&mut *stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(some)) if some > 0 => *taken = some,
                other => break other,
            }
        };
        patience.wrote(stream.get_ref().0.get_ref(), cx, written.is_pending());
        written.map_err(told)
    }

    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(cx)
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.lock().stream.get_ref().0.get_ref().local_addr()
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.lock().stream.get_ref().0.get_ref().peer_addr()
    }

    /// What this connection alone has.
    pub(super) fn channel(&self) -> Option<Channel> {
        let shared = self.lock();
        let channel = Channel::default();
        match &shared.stream {
            TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(channel, CHANNEL_BINDING, Some(b"")),
            TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(channel, CHANNEL_BINDING, Some(b"")),
        }
        .ok()
    }
}

/// What a person is told of an error of TLS; what is none stays as it is.
fn told(error: io::Error) -> io::Error {
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it closed the connection without a goodbye"),
            _ => error,
        };
    };
    io::Error::new(io::ErrorKind::InvalidData, words(cause))
}

/// An error of TLS in plain words, as what happened and what to do.
pub(crate) fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => wrong_certificate(error),
        rustls::Error::InvalidMessage(_) => {
            "it speaks no TLS: start it with --tls-cert and --tls-key, or leave out --tls and --ca here".to_owned()
        }
        rustls::Error::AlertReceived(alert) => refused_by_peer(*alert),
        error => format!("TLS fails: {error}; see that both sides run this version and take TLS 1.2 or 1.3"),
    }
}

fn wrong_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate was good until {}, and the clock of this machine shows {}; have a new one made, or set the clock \
             right",
            shown(*not_after),
            shown(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is good from {} on, and the clock of this machine shows {}; set the clock right",
            shown(*not_before),
            shown(*time)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| readable(name)).collect();
            format!(
                "its certificate is for {}, not for {}; dial it by one of its names, or have one made with this name: \
                 'acopio cert --host'",
                names.join(", "),
                expected.to_str()
            )
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is from an authority that is not known here; give the right one with --ca FILE (ca.crt)"
                .to_owned()
        }
        error => format!("its certificate is not to be believed: {error}; have another one made with 'acopio cert'"),
    }
}

/// A name as rustls shows it, `DnsName("cellar")` or `IpAddress(127.0.0.1)`, without what is around it.
fn readable(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn refused_by_peer(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateExpired | Alert::CertificateRevoked | Alert::CertificateUnknown | Alert::BadCertificate => {
            "it does not believe the certificate that it is shown: that is over, or for another name; have another one made"
        }
        Alert::UnknownCA | Alert::DecryptError => {
            "it does not know the authority of the certificate that it is shown; give it that one's ca.crt"
        }
        Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "it speaks no TLS that is known here; let it speak TLS 1.2 or 1.3"
        }
        other => return format!("it ends TLS: {other:?}; look at its log"),
    }
    .to_owned()
}

fn shown(time: UnixTime) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.as_secs().min(limits::TIME_SHOWN_MAX)))
        .to_string()
}
