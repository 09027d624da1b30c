//! What a peer says of itself before anything else: names, and the version in a head's first answer. Pure text.
//!
//! The handshake itself, as a head sees it, is in [`super::text`].

use super::secret::hidden_from;
use super::text::{FRAMED_CONFIRMATION, VERSION, quote};
use crate::limits::HANDSHAKE_BYTES_MAX;
use crate::printable;

/// What a version begins with.
const PROTOCOL: &str = "acopio/";

/// Longest version of another that is repeated, bytes.
const VERSION_BYTES_MAX: usize = 32;

/// Whether this is a name for a node or a cluster: one word of 1 to `bytes_max` bytes without commas and plus signs.
#[must_use]
pub fn is_name(text: &str, bytes_max: usize) -> bool {
    let fits = !text.is_empty() && text.len() <= bytes_max;
    fits && !text.chars().any(|c| c.is_whitespace() || printable::is_hidden(c) || c == ',' || c == '+')
}

/// Why an answer to `peticion acopio/2` is not `confirmacion acopio/2`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unconfirmed {
    /// A head of another version.
    #[error("it speaks {theirs} and this is {VERSION} (\"{answer}\"); run the same version of acopio on both sides")]
    Version {
        /// Its version.
        theirs: String,
        /// The beginning of its answer.
        answer: String,
    },
    /// A head that takes no such connection, in its own words.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("it answered \"{0}\" in place of confirmacion acopio/2; is it an acopio head of this version?")]
    Other(String),
}

/// Reads the answer to `peticion acopio/2`: the length of the confirmation at its beginning, or `None` if that may
/// still come.
///
/// # Errors
/// It is another answer; of a line, all has been waited for.
pub fn confirmation(answer: &[u8]) -> Result<Option<usize>, Unconfirmed> {
    if answer.starts_with(FRAMED_CONFIRMATION) {
        return Ok(Some(FRAMED_CONFIRMATION.len()));
    }
    let words = [b"confirmacion ".as_slice(), b"error: "];
    let begun = words.iter().any(|word| word.starts_with(answer) || answer.starts_with(word));
    let whole = memchr::memchr(b'\n', answer).is_some() || answer.len() >= HANDSHAKE_BYTES_MAX;
    if begun && !whole { Ok(None) } else { Err(unconfirmed(answer)) }
}

/// What is wrong with an answer that is whole, or of which nothing more comes.
#[must_use]
pub fn unconfirmed(answer: &[u8]) -> Unconfirmed {
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line.get(..HANDSHAKE_BYTES_MAX).unwrap_or(line)).into_owned();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-');
    let mut words = line.split(|c: char| !is_part(c));
    let theirs = words.rfind(|word| {
        let number = word.strip_prefix(PROTOCOL).unwrap_or_default();
        number.starts_with(|c: char| c.is_ascii_digit()) && *word != VERSION && word.len() <= VERSION_BYTES_MAX
    });
    match theirs {
        Some(theirs) => Unconfirmed::Version { theirs: theirs.to_owned(), answer: quote(answer) },
        None => match line.strip_prefix("error: ").filter(|_| answer.contains(&b'\n')) {
            Some(words) => {
                let end = hidden_from(words.as_bytes()).and_then(|end| words.get(..end)).unwrap_or(words);
                Unconfirmed::Refused(end.chars().map(|c| if printable::is_hidden(c) { ' ' } else { c }).collect())
            }
            None => Unconfirmed::Other(quote(answer)),
        },
    }
}

/// A node that an answer lacks though it is there: its name and the cause, as a list that is parted by commas takes it.
#[must_use]
pub fn missing_because(name: &str, cause: &str) -> String {
    let plain = |c: char| if c == ',' || c == '(' || c == ')' || c.is_control() { ' ' } else { c };
    let cause: String = cause.chars().map(plain).collect();
    format!("{name} ({})", cause.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The name of a node that an answer lacks.
#[must_use]
pub fn missing_name(node: &str) -> &str {
    node.split_once(" (").map_or(node, |(name, _)| name)
}

/// Why an answer lacks a node that is there.
#[must_use]
pub fn missing_cause(node: &str) -> Option<&str> {
    node.split_once(" (").map(|(_, cause)| cause.strip_suffix(')').unwrap_or(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_their_length() {
        assert!(is_name("cellar-1.lab", 63) && is_name("ñandú", 63));
        for text in ["", "two words", "a,b", "a+b", "a\tb", "a\u{1}b", "a\u{202e}b"] {
            assert!(!is_name(text, 63), "{text:?}");
        }
        assert!(is_name("abc", 3) && !is_name("abcd", 3));
    }

    #[test]
    fn a_confirmation_is_waited_for_in_pieces() {
        let whole = b"confirmacion acopio/2\nrest";
        for cut in 0..22 {
            assert_eq!(confirmation(&whole[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(confirmation(whole), Ok(Some(22)));
    }

    #[test]
    fn other_versions_are_named_once_their_line_is_whole() {
        let cases: [&[u8]; 3] = [
            b"confirmacion acopio/3\n",
            b"error: version acopio/2 is not known here; speak acopio/3\n",
            b"error: version acopio/3 is too new\n",
        ];
        for answer in cases {
            assert_eq!(confirmation(&answer[..answer.len() - 1]), Ok(None));
            let error = confirmation(answer).unwrap_err();
            assert!(matches!(&error, Unconfirmed::Version { theirs, .. } if theirs == "acopio/3"), "{error}");
            let text = error.to_string();
            assert!(text.contains("it speaks acopio/3 and this is acopio/2"), "{text}");
        }
    }

    #[test]
    fn what_is_no_head_is_told_at_once() {
        let cases: [&[u8]; 4] = [b"SSH-2.0-x", b"HTTP/1.1 400 Bad Request\r\n", b"confirmacion\n", b"\xff\xfe"];
        for answer in cases {
            assert!(matches!(confirmation(answer), Err(Unconfirmed::Other(_))), "{answer:?}");
        }
        let refused = confirmation(b"error: over TLS alone, token=1234; connect with --ca\n").unwrap_err();
        assert_eq!(refused, Unconfirmed::Refused("over TLS alone, token=".to_owned()));
        let endless = [b"error: ".as_slice(), &[b'x'; HANDSHAKE_BYTES_MAX]].concat();
        assert!(matches!(confirmation(&endless), Err(Unconfirmed::Other(_))));
    }
}
