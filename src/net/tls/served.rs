//! TLS on the side of who is dialled: a head, on the port on which it takes plain connections, too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::files::{self, TlsError};
use super::{TlsSocket, buffered, names, provider, told};
use crate::net::Stream;

/// What a head shows, and whom it believes.
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

    /// Shakes hands.
    ///
    /// # Errors
    /// The peer left, or there is something about it that is not to be believed.
    pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<Peer> {
        let stream = TlsAcceptor::from(Arc::clone(&self.0)).accept(buffered(socket)).await.map_err(told)?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = shown.map(|certificate| names::of_certificate(certificate));
        Ok(Peer { socket: Stream::Tls(TlsSocket::new(stream.into())), names })
    }
}
