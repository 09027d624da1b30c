//! Cells of CSV: RFC 4180, with any separator, and nothing that a spreadsheet would calculate.

/// Appends a line.
pub(super) fn line<'a>(out: &mut Vec<u8>, separator: char, cells: impl Iterator<Item = &'a str>) {
    for (k, cell) in cells.enumerate() {
        if k > 0 {
            out.extend_from_slice(separator.encode_utf8(&mut [0; 4]).as_bytes());
        }
        field(out, separator, cell);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a cell: quoted where it has to be, with an apostrophe before what a spreadsheet would calculate.
pub(super) fn field(out: &mut Vec<u8>, separator: char, text: &str) {
    let guarded;
    let text = if is_formula(text) {
        guarded = format!("'{text}");
        &guarded
    } else {
        text
    };
    if !text.contains(['"', separator, '\r', '\n']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for part in text.split_inclusive('"') {
        out.extend_from_slice(part.as_bytes());
        if part.ends_with('"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

/// Whether a spreadsheet takes the text for a formula; a number is none.
fn is_formula(text: &str) -> bool {
    let is_number = || {
        let plain = text.replacen(',', ".", 1);
        plain.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) && plain.parse::<f64>().is_ok()
    };
    text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number()
}
