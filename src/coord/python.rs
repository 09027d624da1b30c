//! Values as Python prints them: what the seeds' programs show, ours show in the same words.

/// A list of strings, `['1', '2']`.
#[must_use]
pub fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| string(item)).collect();
    format!("[{}]", items.join(", "))
}

/// A string, `'a'`.
#[must_use]
pub fn string(text: &str) -> String {
    let quote = quote_for(text.contains('\''), text.contains('"'));
    let mut out = String::from(quote);
    for c in text.chars() {
        if crate::printable::is_hidden(c) && !c.is_ascii() {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escape(&mut out, c, quote);
        }
    }
    out.push(quote);
    out
}

/// Bytes, `b'a'`.
#[must_use]
pub fn bytes(data: &[u8]) -> String {
    let quote = quote_for(data.contains(&b'\''), data.contains(&b'"'));
    let mut out = format!("b{quote}");
    for byte in data {
        if byte.is_ascii() {
            escape(&mut out, char::from(*byte), quote);
        } else {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push(quote);
    out
}

const fn quote_for(single: bool, double: bool) -> char {
    if single && !double { '"' } else { '\'' }
}

fn escape(out: &mut String, c: char, quote: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\\' => out.push_str("\\\\"),
        c if c == quote => out.extend(['\\', c]),
        c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_by_repr() {
        assert_eq!(list(&["1".to_owned(), "it's".to_owned()]), "['1', \"it's\"]");
        assert_eq!(list(&[]), "[]");
        assert_eq!(bytes(b"ol\xc3\xa1\n\x00'"), "b\"ol\\xc3\\xa1\\n\\x00'\"");
        assert_eq!(bytes(b"'\"\\"), "b'\\'\"\\\\'");
        assert_eq!(string("a\u{202e}b\u{1b}"), "'a\\u202eb\\x1b'");
    }
}
