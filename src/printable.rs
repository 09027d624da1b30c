//! Text of others as people may see it: what could move a cursor, hide, or turn the order of what is shown is written out.
//!
//! One rule for logs, the registro, tables, errors and messages. Not here: how a payload stands in `data.txt`, which has
//! to be read back (`wire::record`).

#[cfg(feature = "server")]
use std::borrow::Cow;

/// Whether a character is written out: C0 and C1 controls, and what has no width or turns the direction of writing.
#[must_use]
pub(crate) const fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The text with such characters as `\n`, `\t` or `\u{1b}`.
#[cfg(feature = "server")]
#[must_use]
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    written_out(text, |_| false, |out, c| out.extend(c.escape_default()))
}

/// The same for a text of several lines, which stay lines.
#[cfg(feature = "server")]
#[must_use]
pub(crate) fn visible_lines(text: &str) -> Cow<'_, str> {
    written_out(text, |c| c == '\n', |out, c| out.extend(c.escape_default()))
}

/// The same for JSON, where it changes no value: such characters stand only in its strings.
#[cfg(feature = "server")]
#[must_use]
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    written_out(
        json,
        |c| c == '\n',
        |out, c| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        },
    )
}

#[cfg(feature = "server")]
fn written_out(text: &str, stays: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let is_out = |c: char| is_hidden(c) && !stays(c);
    if !text.contains(is_out) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_out(c) { escape(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_deceive_is_written_out() {
        assert_eq!(visible("a\x1b[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(
            visible("\u{9b}2J \u{202e}txt.exe a\u{200b}b \u{feff}"),
            "\\u{9b}2J \\u{202e}txt.exe a\\u{200b}b \\u{feff}"
        );
        assert_eq!(visible_lines("a\n\tb\n"), "a\n\\tb\n");
        assert!(matches!(visible("ñandú, 価 — \\ \"x\""), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn json_keeps_its_value(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let shown = visible_json(&json);
            prop_assert!(!shown.contains(is_hidden));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }

        #[test]
        fn nothing_hidden_is_left(text in any::<String>()) {
            prop_assert!(!visible(&text).contains(is_hidden));
            prop_assert!(text.chars().filter(|c| c.is_control()).all(is_hidden));
        }
    }
}
