//! Whole numbers of any size that Python takes, and their hypotenuse to four decimals, exactly rounded. Pure.

use std::fmt;

use num_bigint::BigInt;

use crate::limits;

/// A whole number, or why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Whole(BigInt);

/// A text that is no whole number, or one too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It is no whole number.
    #[error("{0:?} is no whole number; write digits, such as 12")]
    NoNumber(String),
    /// It has more digits than Python takes.
    #[error("a number of more than {max} digits is refused, as in Python; send a smaller one", max = limits::CALC_DIGITS_MAX)]
    TooLarge,
}

impl Whole {
    /// A leg: what Python's `int` makes of a text.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn leg(text: &[u8]) -> Result<Self, Refused> {
        Self::parse(text, limits::CALC_DIGITS_MAX)
    }

    /// A square, which has twice the digits.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn square_of_leg(text: &[u8]) -> Result<Self, Refused> {
        Self::parse(text, 2 * limits::CALC_DIGITS_MAX)
    }

    fn parse(text: &[u8], digits_max: usize) -> Result<Self, Refused> {
        let text = text.trim_ascii();
        let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            let shown = String::from_utf8_lossy(text.get(..text.len().min(40)).unwrap_or_default()).into_owned();
            return Err(Refused::NoNumber(shown));
        }
        if digits.len() > digits_max {
            return Err(Refused::TooLarge);
        }
        let number = BigInt::parse_bytes(text, 10);
        number.map(Self).ok_or_else(|| Refused::NoNumber(String::from_utf8_lossy(text).into_owned()))
    }

    /// Its square.
    #[must_use]
    pub(crate) fn squared(&self) -> Self {
        Self(&self.0 * &self.0)
    }

    /// The root of the sum of two squares, to four decimals: the nearest number that has them.
    #[must_use]
    pub(crate) fn hypotenuse(a2: &Self, b2: &Self) -> Option<String> {
        let digits = ten_thousandths(a2, b2)?.to_string();
        let padded = format!("{digits:0>5}");
        let (whole, decimals) = padded.split_at(padded.len() - 4);
        Some(format!("{whole}.{decimals}"))
    }

    /// Whether a text is that root, as exact as the original's server has it: its numbers are doubles, of 53 bits.
    #[must_use]
    pub(crate) fn is_hypotenuse(text: &[u8], a2: &Self, b2: &Self) -> bool {
        let said = text.iter().rposition(|&byte| byte == b'.').and_then(|point| text.split_at_checked(point));
        let Some((whole, [_, decimals @ ..])) = said else { return false };
        if decimals.len() != 4 {
            return false;
        }
        match (Self::square_of_leg(&[whole, decimals].concat()), ten_thousandths(a2, b2)) {
            (Ok(Self(said)), Some(exact)) => {
                (said - &exact).magnitude() <= (&exact >> 52_u32).magnitude().max(&1_u32.into())
            }
            _ => false,
        }
    }
}

/// The root of the sum of two squares in ten thousandths, rounded to the nearest; none of a sum below zero.
fn ten_thousandths(a2: &Whole, b2: &Whole) -> Option<BigInt> {
    let sum = &a2.0 + &b2.0;
    // Twice the root in ten thousandths, rounded down; half of one more, rounded down, is the root rounded to nearest.
    (sum >= BigInt::ZERO).then(|| ((sum * 400_000_000_u32).sqrt() + 1_u32) / 2_u32)
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hypotenuse(a: &str, b: &str) -> String {
        let square = |text: &str| Whole::leg(text.as_bytes()).unwrap().squared();
        Whole::hypotenuse(&square(a), &square(b)).unwrap()
    }

    #[test]
    fn four_decimals_as_in_the_original() {
        for (a, b, wanted) in [
            ("12", "13", "17.6918"),
            ("3", "4", "5.0000"),
            ("0", "0", "0.0000"),
            ("1", "1", "1.4142"),
            ("-5", "+12", "13.0000"),
            (" 7\n", "007", "9.8995"),
            ("1", "200", "200.0025"),
        ] {
            assert_eq!(hypotenuse(a, b), wanted, "{a} {b}");
        }
    }

    #[test]
    fn large_numbers_are_exact() {
        // 3 and 4 times ten to the 400th: Python's floats end at 308 digits.
        let zeros = "0".repeat(400);
        assert_eq!(hypotenuse(&format!("3{zeros}"), &format!("4{zeros}")), format!("5{zeros}.0000"));
        // The root of 10^40 + 1 is 10^20 and half of 10^-20.
        assert_eq!(hypotenuse(&format!("1{}", "0".repeat(20)), "1"), format!("1{}.0000", "0".repeat(20)));
        let most = "9".repeat(limits::CALC_DIGITS_MAX);
        let square = Whole::leg(most.as_bytes()).unwrap().squared();
        assert_eq!(Whole::square_of_leg(square.to_string().as_bytes()), Ok(square));
    }

    #[test]
    fn the_originals_answer_is_taken_for_what_a_double_is() {
        let is = |text: &str, a: &str, b: &str| {
            let square = |text: &str| Whole::leg(text.as_bytes()).unwrap().squared();
            Whole::is_hypotenuse(text.as_bytes(), &square(a), &square(b))
        };
        // What Python prints for f"{math.sqrt(a * a + b * b):.4f}".
        for (a, b, python) in [
            ("12", "13", "17.6918"),
            ("0", "0", "0.0000"),
            ("123456789012345", "1", "123456789012345.0000"),
            ("98765432109876543", "12345678901234567", "99534046272534416.0000"),
            ("100000000000000000000", "1", "100000000000000000000.0000"),
        ] {
            assert!(is(python, a, b), "{a} {b}");
        }
        for other in ["17.6920", "17.6916", "17.69180", "17.691", "176918", "", ".", "-17.6918", "x.6918", "17.69x8"] {
            assert!(!is(other, "12", "13"), "{other}");
        }
        assert!(!is("99534046272534516.0000", "98765432109876543", "12345678901234567"));
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused_with_a_word() {
        for text in ["", "-", "1.5", "12 13", "0x10", "doce", "1_000", "--1"] {
            assert!(matches!(Whole::leg(text.as_bytes()), Err(Refused::NoNumber(_))), "{text}");
        }
        let long = "1".repeat(limits::CALC_DIGITS_MAX + 1);
        assert!(Whole::leg(long.as_bytes()).unwrap_err().to_string().contains("more than 4300 digits"));
        assert!(matches!(Whole::leg(&[b'x'; 100_000]), Err(Refused::NoNumber(shown)) if shown.len() == 40));
        assert_eq!(Whole::hypotenuse(&Whole::leg(b"-9").unwrap(), &Whole::leg(b"1").unwrap()), None);
    }
}
