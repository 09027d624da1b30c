//! TLS on the side of who is dialled: a head or the page, on the port on which it takes plain connections, too.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::{self, TlsError};
use super::pace::Pace;
use super::{Buffered, TlsSocket, buffered, names, provider, told};
use crate::net::Stream;
use crate::net::network::place;
use crate::reload::Watched;

/// What is shown to who dials, and who is believed.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Its certificate.
    pub(crate) certificate: PathBuf,
    /// The certificate's key.
    pub(crate) key: PathBuf,
    /// The authority of clients' certificates, if they may show one.
    pub(crate) authority: Option<PathBuf>,
}

impl Files {
    /// With the key beside the certificate, unless it is named.
    #[must_use]
    pub(crate) fn new(certificate: &Path, key: Option<&Path>, authority: Option<&Path>) -> Self {
        let key = key.map_or_else(|| files::key_beside(certificate), Path::to_owned);
        Self { certificate: certificate.to_owned(), key, authority: authority.map(Path::to_owned) }
    }

    /// All of them.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key].into_iter().chain(&self.authority).map(PathBuf::as_path)
    }
}

/// What is needed to shake hands; clones share it.
#[derive(Clone)]
pub(crate) struct Acceptor(Arc<ServerConfig>);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Certificates that are read anew whenever their files change; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    files: Files,
    last: Arc<Mutex<Acceptor>>,
    pace: Arc<Mutex<Pace>>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// One can't be read, or they do not fit.
    pub(crate) fn read(files: Files) -> Result<Self, TlsError> {
        let last = Arc::new(Mutex::new(Acceptor::read(&files)?));
        Ok(Self { files, last, pace: Arc::default() })
    }

    /// What counts for a connection that begins now.
    #[must_use]
    pub(crate) fn acceptor(&self) -> Acceptor {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until somebody who comes from there may shake hands.
    ///
    /// # Errors
    /// Too many of the same address wait already.
    pub(crate) async fn turn(&self, ip: IpAddr) -> io::Result<()> {
        let next = self.pace.lock().unwrap_or_else(PoisonError::into_inner).next(place(ip), Instant::now());
        let many = || io::Error::other("too many handshakes of TLS come from its address; try again in some seconds");
        let wait = next.ok_or_else(many)?;
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }

    /// Reads them whenever they change and at SIGHUP, until it is dropped. Connections that are there go on.
    pub(crate) async fn follow(&self) {
        let Some(mut watched) = Watched::new(self.files.paths().map(ToOwned::to_owned).collect()) else { return };
        loop {
            if watched.look().await {
                match Acceptor::read(&self.files) {
                    Ok(acceptor) => {
                        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = acceptor;
                        tracing::info!("TLS with the certificate in {}", self.files.certificate.display());
                    }
                    Err(error) => tracing::warn!("{error}; the certificate of before counts"),
                }
            }
        }
    }
}

/// A peer that has shaken hands.
pub(crate) struct Peer {
    /// The connection.
    pub(crate) socket: Stream,
    /// What its certificate calls it, if it showed one.
    pub(crate) names: Option<Vec<String>>,
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// One can't be read, or they do not fit.
    pub(crate) fn read(files: &Files) -> Result<Self, TlsError> {
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(TlsError::Unusable)?;
        let config = match &files.authority {
            None => config.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(files::authorities(path)?);
                // Who shows none may have a token, or a key.
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated();
                let unfit = |cause: String| TlsError::Unfit { path: path.clone(), cause };
                config.with_client_cert_verifier(verifier.build().map_err(|error| unfit(error.to_string()))?)
            }
        };
        let (certificates, key) = files::identity(&files.certificate, &files.key)?;
        let config = config.with_single_cert(certificates, key);
        Ok(Self(Arc::new(config.map_err(|error| TlsError::unfit(&files.certificate, error))?)))
    }

    /// Shakes hands with somebody who speaks another protocol over TLS.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub(crate) async fn shake(&self, socket: TcpStream) -> io::Result<TlsStream<Buffered>> {
        TlsAcceptor::from(Arc::clone(&self.0)).accept(buffered(socket)).await.map_err(told)
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The peer left, or there is something about it that is not to be believed.
    pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<Peer> {
        let stream = self.shake(socket).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = shown.map(|certificate| names::of_certificate(certificate));
        Ok(Peer { socket: Stream::Tls(TlsSocket::new(stream.into())), names })
    }
}
