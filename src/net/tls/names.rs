//! Whose a certificate is: its common name, or the first DNS name that it is for. Reads as much of X.509 (RFC 5280) as that takes,
//! of certificates that were verified already. Pure.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;

/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// `id-ce-subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 17];

/// Who made a certificate, and whose it is, as they stand in it.
#[cfg(feature = "server")]
pub(crate) fn issuer_and_subject(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Der(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
    let issuer = fields.skip_to_issuer()?;
    fields.next()?;
    Some((issuer, fields.next()?.1))
}

/// The names that a certificate may be called by, its common name first.
pub(crate) fn of_certificate(certificate: &[u8]) -> Vec<String> {
    let Some(mut fields) = Der(certificate).enter(SEQUENCE).and_then(|mut whole| whole.enter(SEQUENCE)) else {
        return Vec::new();
    };
    let subject = fields.skip_to_subject();
    let common = subject.and_then(common_name);
    common.into_iter().chain(fields.first_dns_name()).collect()
}

fn common_name(mut subject: Der<'_>) -> Option<String> {
    let mut found = None;
    while let Some((_, set)) = subject.next() {
        let mut attribute = Der(set).enter(SEQUENCE)?;
        if attribute.next() == Some((OBJECT, COMMON_NAME)) {
            let (_, name) = attribute.next()?;
            found = std::str::from_utf8(name).ok().map(str::to_owned);
        }
    }
    found
}

/// Values of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value, and its tag.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let (bytes, behind) =
                rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (value, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, value))
    }

    /// What is in the next value, if it has this tag.
    fn enter(&mut self, wanted: u8) -> Option<Self> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, value)| Self(value))
    }

    /// The issuer: behind the version, if there is one, the serial number and the algorithm.
    fn skip_to_issuer(&mut self) -> Option<&'a [u8]> {
        if self.next()?.0 == VERSION {
            self.next()?;
        }
        self.next()?;
        self.next().map(|(_, issuer)| issuer)
    }

    /// The subject: behind the issuer and the validity.
    fn skip_to_subject(&mut self) -> Option<Self> {
        self.skip_to_issuer()?;
        self.next()?;
        self.enter(SEQUENCE)
    }

    fn first_dns_name(&mut self) -> Option<String> {
        let mut extensions = loop {
            let (tag, value) = self.next()?;
            if tag == EXTENSIONS {
                break Der(value).enter(SEQUENCE)?;
            }
        };
        loop {
            let mut extension = extensions.enter(SEQUENCE)?;
            if extension.next()? != (OBJECT, ALTERNATIVE_NAMES) {
                continue;
            }
            let value = std::iter::from_fn(|| extension.next()).find(|(tag, _)| *tag == OCTETS)?.1;
            let mut names = Der(value).enter(SEQUENCE)?;
            let (_, name) = std::iter::from_fn(|| names.next()).find(|(tag, _)| *tag == DNS_NAME)?;
            return std::str::from_utf8(name).ok().map(str::to_owned);
        }
    }
}
