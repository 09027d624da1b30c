//! Names of sources: which device, person or program a record is from.
//!
//! A name is a few bytes and copied where it goes, so that a batch without one costs nothing. How names are said on each
//! dialect is in [`text`](super::text) and [`frame`](super::frame); where they stand in a line, in [`record`](super::record).

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use crate::limits::SOURCE_NAME_BYTES_MAX;

/// No name begins with it: it would be taken for a version of the framed dialect.
const RESERVED: &str = "acopio/";

/// The source of notes that correct readings. A device that had the name would not be read: only `acopio note` says it.
pub(crate) const NOTES: &str = "acopio.notes";

/// What a name is, for whoever gave one that is none.
pub(crate) const RULE: &str = "take 1 to 32 of A-Za-z0-9._-, and / inside for groups";

/// The name of a source: 1 to 32 bytes of `A-Za-z0-9._-`, with `/` between parts of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName {
    /// Padded with zeros, which no name has: so names are in the order of their text.
    bytes: [u8; SOURCE_NAME_BYTES_MAX],
    len: NonZeroU8,
}

/// What is wrong with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Flaw {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// It is too long.
    #[error("it has {0} bytes")]
    Long(usize),
    /// It has a byte that no name has.
    #[error("'{}' is not in a name", .0.escape_ascii())]
    Byte(u8),
    /// A slash stands first, last, or beside another.
    #[error("a / stands between two parts of a name")]
    Slash,
    /// It begins as a version of the protocol does.
    #[error("names beginning with {RESERVED} are the protocol's own")]
    Reserved,
}

/// Text that is no name of a source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{text}\" is not a source's name: {flaw}; {RULE}")]
pub struct NotASource {
    text: String,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl SourceName {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(text: &[u8]) -> Result<Self, Flaw> {
        check_bytes(text)?;
        if text.ends_with(b"/") {
            return Err(Flaw::Slash);
        }
        let len = u8::try_from(text.len()).ok().and_then(NonZeroU8::new).ok_or(Flaw::Empty)?;
        let mut bytes = [0; SOURCE_NAME_BYTES_MAX];
        if let Some(field) = bytes.get_mut(..text.len()) {
            field.copy_from_slice(text);
        }
        Ok(Self { bytes, len })
    }

    /// The source of this name in a group.
    ///
    /// # Errors
    /// What is wrong with the whole name.
    pub fn join(group: &Self, rest: &[u8]) -> Result<Self, Flaw> {
        let len = group.as_bytes().len() + 1 + rest.len();
        if len > SOURCE_NAME_BYTES_MAX {
            return Err(Flaw::Long(len));
        }
        if rest.is_empty() {
            return Err(Flaw::Empty);
        }
        Self::from_bytes(&[group.as_bytes(), b"/", rest].concat())
    }

    /// Whether it is in this group.
    #[must_use]
    pub fn is_in(&self, group: &Self) -> bool {
        self.as_bytes().strip_prefix(group.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// Whether it is that of notes, which no device may have.
    #[must_use]
    pub(crate) fn is_of_notes(&self) -> bool {
        self.as_bytes() == NOTES.as_bytes()
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len.get())).unwrap_or_default()
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// Everything that holds for a name, and for the beginning of one that ends in a slash.
fn check_bytes(text: &[u8]) -> Result<(), Flaw> {
    if text.is_empty() {
        return Err(Flaw::Empty);
    }
    if text.len() > SOURCE_NAME_BYTES_MAX {
        return Err(Flaw::Long(text.len()));
    }
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/".contains(byte);
    if let Some(byte) = text.iter().find(|byte| !fits(byte)) {
        return Err(Flaw::Byte(*byte));
    }
    if text.starts_with(b"/") || text.windows(2).any(|two| two == b"//") {
        return Err(Flaw::Slash);
    }
    if text.starts_with(RESERVED.as_bytes()) {
        return Err(Flaw::Reserved);
    }
    Ok(())
}

impl FromStr for SourceName {
    type Err = NotASource;

    fn from_str(text: &str) -> Result<Self, NotASource> {
        Self::from_bytes(text.as_bytes()).map_err(|flaw| NotASource::of(text.as_bytes(), flaw))
    }
}

impl NotASource {
    /// Quotes what was given, shortened.
    pub(crate) fn of(text: &[u8], flaw: Flaw) -> Self {
        Self { text: super::text::quote(text), flaw }
    }
}

impl AsRef<str> for SourceName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names of every shape.
    pub(crate) fn any_name() -> impl Strategy<Value = SourceName> {
        let part = "[A-Za-z0-9._-]{1,10}";
        let fits = |text: String| SourceName::from_bytes(text.as_bytes()).ok();
        prop::collection::vec(part, 1..=3).prop_map(|parts| parts.join("/")).prop_filter_map("reserved", fits)
    }

    pub(crate) fn name(text: &str) -> SourceName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_its_text_and_sorts_as_it_does() {
        for text in ["a", "esp7", "taller/horno-1", "10.0.0.7", "_", "-", "x".repeat(32).as_str(), "acopio", "acopio.x"]
        {
            assert_eq!(name(text).as_str(), text);
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(size_of::<Option<SourceName>>(), size_of::<SourceName>(), "none costs nothing");
    }

    #[test]
    fn what_is_no_name_says_what_is_wrong_and_the_rule() {
        let long = "x".repeat(33);
        let cases = [
            ("", Flaw::Empty),
            (long.as_str(), Flaw::Long(33)),
            ("esp 7", Flaw::Byte(b' ')),
            ("esp@7", Flaw::Byte(b'@')),
            ("a:b", Flaw::Byte(b':')),
            ("a+b", Flaw::Byte(b'+')),
            ("a~b", Flaw::Byte(b'~')),
            ("ñ", Flaw::Byte(0xc3)),
            ("/a", Flaw::Slash),
            ("a/", Flaw::Slash),
            ("a//b", Flaw::Slash),
            ("/", Flaw::Slash),
            ("acopio/3", Flaw::Reserved),
        ];
        for (text, flaw) in cases {
            assert_eq!(text.parse::<SourceName>().unwrap_err().flaw, flaw, "{text}");
        }
        assert_eq!(
            "a b\n".parse::<SourceName>().unwrap_err().to_string(),
            "\"a b\" is not a source's name: ' ' is not in a name; take 1 to 32 of A-Za-z0-9._-, and / inside for groups"
        );
        assert!("x".repeat(500).parse::<SourceName>().unwrap_err().to_string().len() < 250);
    }

    proptest! {
        #[test]
        fn names_are_in_the_order_of_their_text(a in any_name(), b in any_name()) {
            prop_assert_eq!(a.cmp(&b), a.as_str().cmp(b.as_str()));
            prop_assert_eq!(a == b, a.as_str() == b.as_str());
        }

        #[test]
        fn any_bytes_are_a_name_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            match SourceName::from_bytes(&bytes) {
                Ok(name) => prop_assert_eq!(name.as_bytes(), &bytes[..]),
                Err(flaw) => prop_assert!(!flaw.to_string().is_empty()),
            }
        }
    }
}
