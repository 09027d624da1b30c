//! Reads certificates, keys and authorities, PEM as openssl and everybody else writes them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::limits;

/// Where systems keep the authorities that everybody believes.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The bits of a mode that let everybody read or change a file.
const OTHERS: u32 = 0o007;

/// Why TLS can't be spoken with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read the {what} in {}: {source}; name a file that is there, such as 'acopio cert' makes", path.display())]
    Io {
        /// What was to be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Everybody can read or change a key.
    #[error("the key in {} is open to everybody (mode {mode:03o}); chmod 600 the file", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is none in it.
    #[error("{} has no {what} in PEM; 'acopio cert' makes such files", path.display())]
    Missing {
        /// What was to be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// What is in it does not fit.
    #[error("the certificate in {} can't be used: {cause}; have one made with its key by 'acopio cert'", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The system has no store of authorities.
    #[error("no authorities are found on this system; give one with --ca FILE")]
    NoAuthorities,
    /// This program can't.
    #[error("TLS can't be used: {0}; report this")]
    Unusable(rustls::Error),
}

impl TlsError {
    /// These certificates and their key can't be used.
    pub(super) fn unfit(path: &Path, error: rustls::Error) -> Self {
        let cause = match error {
            rustls::Error::InconsistentKeys(_) => "it belongs to another key".to_owned(),
            error => error.to_string(),
        };
        Self::Unfit { path: path.to_owned(), cause }
    }
}

/// The file with the key of a certificate, unless it is named.
pub(crate) fn key_beside(certificate: &Path) -> PathBuf {
    certificate.with_extension("key")
}

/// A certificate, those of the authorities between it and the one that is believed, and its key.
pub(super) fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let bytes = read(key, "key", true)?;
    let key =
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::Missing { what: "key", path: key.to_owned() })?;
    Ok((certificates(certificate, "certificate")?, key))
}

/// The authorities in a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (known, _) = roots.add_parsable_certificates(certificates(path, "authority")?);
    if known == 0 {
        return Err(TlsError::Missing { what: "authority", path: path.to_owned() });
    }
    Ok(roots)
}

/// Those that everybody on this system believes; `SSL_CERT_FILE` names others.
pub(super) fn system_authorities() -> Result<RootCertStore, TlsError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let found = named.into_iter().chain(SYSTEM.iter().map(PathBuf::from)).find(|path| path.exists());
    authorities(&found.ok_or(TlsError::NoAuthorities)?)
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, what, false)?;
    let missing = || TlsError::Missing { what, path: path.to_owned() };
    let all: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|_| missing())?;
    if all.is_empty() { Err(missing()) } else { Ok(all) }
}

fn read(path: &Path, what: &'static str, is_secret: bool) -> Result<Vec<u8>, TlsError> {
    let io = |source| TlsError::Io { what, path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode() & 0o777;
    if is_secret && mode & OTHERS != 0 {
        return Err(TlsError::Open { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(limits::CERTIFICATES_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
