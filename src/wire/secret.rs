//! The secret of a client's token: what a client says to be let in where heads ask for tokens.
//!
//! It is shown nowhere: `Debug` hides it, and errors say what is wrong without it. What a token lets its client do is in the
//! head's file of tokens, which has a hash of it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Begins the word that says a secret.
pub const TOKEN: &str = "token=";

/// Digits of a secret; two are a byte.
pub const SECRET_DIGITS: usize = 32;

/// The secret of a token: 32 digits of hex, in small letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; SECRET_DIGITS]);

/// It is no secret of a token. It is not shown: it may be one with a digit too few.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error(
    "what is given for a token's secret is none; it has {SECRET_DIGITS} digits 0-9a-f, as 'acopio token new' shows them"
)]
pub struct NotASecret;

impl Secret {
    /// Of random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; SECRET_DIGITS / 2]) -> Self {
        let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
        let mut digits = [0; SECRET_DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Self(digits)
    }

    /// Reads its digits.
    ///
    /// # Errors
    /// They are not as many as they have to be, or others.
    pub fn from_bytes(text: &[u8]) -> Result<Self, NotASecret> {
        let digits: [u8; SECRET_DIGITS] = text.try_into().map_err(|_| NotASecret)?;
        let is_hex = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then_some(Self(digits)).ok_or(NotASecret)
    }

    /// Its digits, for the wire and for who made it, and for nobody else.
    #[must_use]
    pub const fn expose(&self) -> &[u8; SECRET_DIGITS] {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = NotASecret;

    fn from_str(text: &str) -> Result<Self, NotASecret> {
        Self::from_bytes(text.as_bytes())
    }
}

/// Without the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret may begin in foreign bytes that are to be shown: behind its word, or where it stands without it, whole or not.
pub(super) fn hidden_from(bytes: &[u8]) -> Option<usize> {
    let word = TOKEN.as_bytes();
    let named = bytes.windows(word.len()).position(|part| part.eq_ignore_ascii_case(word)).map(|at| at + word.len());
    let bare = bytes.windows(DIGITS_HIDDEN).position(|part| part.iter().all(u8::is_ascii_hexdigit));
    named.into_iter().chain(bare).min()
}

/// So many digits of a secret in a row are not shown.
const DIGITS_HIDDEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_shown_nowhere() {
        let secret = Secret::from_random([0xa7; 16]);
        assert_eq!(secret.expose(), "a7".repeat(16).as_bytes());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        for wrong in ["", "a7", &"A7".repeat(16), &"a7".repeat(17), &"g7".repeat(16)] {
            let error = wrong.parse::<Secret>().unwrap_err().to_string();
            assert!(error.contains("32 digits 0-9a-f") && (wrong.is_empty() || !error.contains(wrong)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(bytes: [u8; 16]) {
            let secret = Secret::from_random(bytes);
            prop_assert_eq!(Secret::from_bytes(secret.expose()), Ok(secret));
        }
    }
}
