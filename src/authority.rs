//! A small authority in a folder, and the certificates that it makes: P-256, which microcontrollers verify, too.
//!
//! A certificate that is made for hosts is a head's; one that is made for none is a client's, and nobody takes it for a head's.
//! One of a name that is there already is made anew, with the same key.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::net::tls::names;
use crate::{files, limits};

/// What the authority's files are called, without their endings.
pub(crate) const AUTHORITY: &str = "ca";

/// Why a certificate can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file can't be read or written.
    #[error("cannot {doing} {}: {source}; look at its folder and its disk", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The files of the authority do not fit each other, or are none.
    #[error(
        "{} and the key beside it are no authority that 'acopio cert' made; put its files back, or take another --dir",
        path.display()
    )]
    NoAuthority {
        /// The certificate.
        path: PathBuf,
    },
    /// The key of a certificate that is to be made anew is none.
    #[error("{} has no key; remove it to have another one made", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// What was asked for can't be in a certificate.
    #[error("the certificate can't be made: {0}; look at its name and its hosts")]
    Unfit(#[from] rcgen::Error),
}

/// What is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    /// The authority's folder.
    pub(crate) dir: &'a Path,
    /// Whose certificate it is.
    pub(crate) name: &'a str,
    /// Names and addresses by which others dial it, if it is a head's.
    pub(crate) hosts: &'a [String],
    /// From when on it is good.
    pub(crate) from: SystemTime,
    /// For how long.
    pub(crate) time: Duration,
}

/// What was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The authority's certificate, and whether it is a new one.
    pub(crate) authority: PathBuf,
    pub(crate) is_new_authority: bool,
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// What it is for, if it is a head's.
    pub(crate) hosts: Vec<String>,
    /// When it ends.
    pub(crate) until: SystemTime,
}

/// Makes a certificate, and before it the authority if there is none.
///
/// # Errors
/// A file can't be read or written, or has not what it is to have.
pub(crate) fn make(wanted: &Wanted<'_>) -> Result<Made, Error> {
    let Wanted { dir, name, from, time, .. } = *wanted;
    files::create_folder(dir).map_err(io("make", dir))?;
    let authority = dir.join(AUTHORITY).with_extension("crt");
    let is_new_authority = !authority.exists();
    if is_new_authority {
        found(&authority, from)?;
    }
    let issuer = open(&authority)?;
    let mut hosts = wanted.hosts.to_vec();
    if !hosts.is_empty() {
        // Who dials it on its own machine.
        hosts.extend(["localhost", "127.0.0.1", "::1"].map(ToOwned::to_owned));
        hosts.sort();
        hosts.dedup();
    }
    let mut params = params(name, hosts.clone(), from, time)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !hosts.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    let certificate = dir.join(format!("{name}.crt"));
    let signed = params.signed_by(&key(&dir.join(format!("{name}.key")))?, &issuer)?;
    let ours = certificates(&authority)?;
    let fits = names::issuer_and_subject(signed.der()).map(|(issuer, _)| issuer)
        == names::issuer_and_subject(&ours).map(|(_, subject)| subject);
    if !fits {
        return Err(Error::NoAuthority { path: authority });
    }
    publish(&certificate, &signed.pem())?;
    Ok(Made { authority, is_new_authority, certificate, hosts, until: from + time })
}

fn params(name: &str, hosts: Vec<String>, from: SystemTime, time: Duration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = from.into();
    params.not_after = (from + time).into();
    let mut serial: [u8; 16] = rand::random();
    if let Some(first) = serial.first_mut() {
        // A positive number of that length.
        *first = *first & 0x7f | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Makes an authority. Its name is its own, so that two of them are told apart.
fn found(certificate: &Path, from: SystemTime) -> Result<(), Error> {
    let key = key(&certificate.with_extension("key"))?;
    let name = format!("acopio authority {:08x}", rand::random::<u32>());
    let mut params = params(&name, Vec::new(), from, limits::AUTHORITY_TIME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    publish(certificate, &params.self_signed(&key)?.pem())
}

/// The authority that is there.
fn open(certificate: &Path) -> Result<Issuer<'static, KeyPair>, Error> {
    let no_authority = || Error::NoAuthority { path: certificate.to_owned() };
    let der = certificates(certificate)?;
    let path = certificate.with_extension("key");
    let pem = fs::read_to_string(&path).map_err(io("read", &path))?;
    let key = KeyPair::from_pem(&pem).map_err(|_| no_authority())?;
    let public = key.der_bytes();
    let name = names::of_certificate(&der).into_iter().next().ok_or_else(no_authority)?;
    if !der.windows(public.len()).any(|part| part == public) {
        return Err(no_authority());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    Ok(Issuer::new(params, key))
}

fn certificates(path: &Path) -> Result<CertificateDer<'static>, Error> {
    let pem = fs::read(path).map_err(io("read", path))?;
    CertificateDer::from_pem_slice(&pem).map_err(|_| Error::NoAuthority { path: path.to_owned() })
}

/// The key in this file, which is made if it is missing.
fn key(path: &Path) -> Result<KeyPair, Error> {
    match fs::read_to_string(path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|_| Error::NoKey { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            files::make_secret(path, &key.serialize_pem()).map_err(io("write", path))?;
            Ok(key)
        }
        Err(error) => Err(io("read", path)(error)),
    }
}

/// Writes a certificate, which is no secret, whole or not at all.
fn publish(path: &Path, pem: &str) -> Result<(), Error> {
    let aside = path.with_extension("crt.new");
    let write = || {
        files::create(&aside)?.write_all(pem.as_bytes())?;
        fs::rename(&aside, path)
    };
    write().map_err(io("write", path))
}

fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_certificate_is_made_with_its_authority_and_anew_with_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = ["10.0.0.5".to_owned()];
        let wanted = |name, hosts| Wanted {
            dir: dir.path(),
            name,
            hosts,
            from: SystemTime::now(),
            time: Duration::from_secs(86_400),
        };
        let first = make(&wanted("cellar", &hosts)).unwrap();
        assert!(first.is_new_authority && first.hosts.contains(&"127.0.0.1".to_owned()));
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let (ca, key, certificate) = (read("ca.crt"), read("cellar.key"), read("cellar.crt"));
        let second = make(&wanted("cellar", &hosts)).unwrap();
        assert!(!second.is_new_authority);
        assert_eq!((read("ca.crt"), read("cellar.key")), (ca, key));
        assert_ne!(read("cellar.crt"), certificate);
        for name in ["ca.key", "cellar.key"] {
            assert_eq!(dir.path().join(name).metadata().unwrap().mode() & 0o777, files::SECRET_MODE);
        }
        // Another key than that of the authority.
        fs::copy(dir.path().join("cellar.key"), dir.path().join("ca.key")).unwrap();
        assert!(matches!(make(&wanted("esp7", &[])), Err(Error::NoAuthority { .. })));
    }

    #[test]
    fn a_certificate_has_its_common_name_and_its_first_host() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = ["cellar.lan".to_owned(), "zeta.lan".to_owned()];
        let (from, time) = (SystemTime::now(), Duration::from_secs(60));
        make(&Wanted { dir: dir.path(), name: "cellar", hosts: &hosts, from, time }).unwrap();
        let der = certificates(&dir.path().join("cellar.crt")).unwrap();
        assert_eq!(names::of_certificate(&der), ["cellar", "cellar.lan"]);
        // What is cut anywhere is no certificate, and nothing else happens.
        for length in 0..der.len() {
            names::of_certificate(&der[..length]);
        }
    }
}
