//! Rows and columns as they are printed: for people, as CSV, for Excel, as JSON. What is in them is not its business.

use std::fmt::Write as _;

use super::csv;
use super::moment::Zone;
use crate::limits;
use crate::printable;
use crate::reading::UnixNs;

/// What stands in a row's column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Empty,
    Text(String),
    Number(f64),
    Whole(u64),
    Time(UnixNs),
}

impl Cell {
    /// A text, or nothing.
    pub(crate) fn text(text: Option<&str>) -> Self {
        text.map_or(Self::Empty, |text| Self::Text(text.to_owned()))
    }

    /// A number, or nothing.
    pub(crate) fn number(number: Option<f64>) -> Self {
        number.map_or(Self::Empty, Self::Number)
    }
}

/// What a column holds, for formats that have types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Whole,
    Time,
}

/// A column's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

impl Column {
    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind }
    }
}

/// How Excel reads numbers and cells: as its language has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excel {
    /// Semicolons between cells and commas in numbers: most of Europe and Latin America
    Comma,
    /// Commas between cells and points in numbers: English, Mexico, Central America
    Point,
}

impl Excel {
    pub(crate) const fn separator(self) -> char {
        match self {
            Self::Comma => ';',
            Self::Point => ',',
        }
    }
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Text,
    Json,
    Csv,
    Excel(Excel),
}

/// Writes rows of these columns.
#[derive(Debug)]
pub(crate) struct Rows {
    style: Style,
    zone: Zone,
    columns: Vec<Column>,
    /// The widest cell of each column so far, but for those that are too wide for that: what comes is put below it.
    widths: Vec<usize>,
}

impl Rows {
    pub(crate) fn new(style: Style, zone: Zone, columns: Vec<Column>) -> Self {
        let widths = columns.iter().map(|column| column.name.chars().count()).collect();
        Self { style, zone, columns, widths }
    }

    /// What stands before the first row.
    pub(crate) fn header(&mut self, out: &mut Vec<u8>) {
        let names: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
        match self.style {
            Style::Json => {}
            Style::Text => {
                // Times are all of one width.
                let wide = self.zone.show(UnixNs::default(), 3).len();
                for (width, _) in
                    self.widths.iter_mut().zip(&self.columns).filter(|(_, column)| column.kind == Kind::Time)
                {
                    *width = wide;
                }
                self.line(out, &names);
            }
            Style::Csv => csv::line(out, ',', names.iter().map(String::as_str)),
            Style::Excel(excel) => {
                // Without it Excel takes UTF-8 for something else.
                out.extend_from_slice("\u{feff}".as_bytes());
                csv::line(out, excel.separator(), names.iter().map(String::as_str));
            }
        }
    }

    /// A row.
    pub(crate) fn row(&mut self, out: &mut Vec<u8>, cells: &[Cell]) {
        let words: Vec<String> = cells.iter().map(|cell| self.word(cell)).collect();
        match self.style {
            Style::Text => self.line(out, &words),
            Style::Csv => csv::line(out, ',', words.iter().map(String::as_str)),
            Style::Excel(excel) => csv::line(out, excel.separator(), words.iter().map(String::as_str)),
            Style::Json => {
                let members = self.columns.iter().zip(cells).zip(words).map(|((column, cell), word)| {
                    let value = match cell {
                        Cell::Empty => serde_json::Value::Null,
                        Cell::Number(number) => (*number).into(),
                        Cell::Whole(number) => (*number).into(),
                        Cell::Text(_) | Cell::Time(_) => word.into(),
                    };
                    format!("{}:{value}", serde_json::Value::from(column.name.as_str()))
                });
                let members: Vec<String> = members.collect();
                let json = format!("{{{}}}\n", members.join(","));
                out.extend_from_slice(printable::visible_json(&json).as_bytes());
            }
        }
    }

    fn word(&self, cell: &Cell) -> String {
        match (cell, self.style) {
            (Cell::Empty, Style::Text) => "-".to_owned(),
            (Cell::Empty, _) => String::new(),
            (Cell::Text(text), Style::Text) => printable::visible(text).into_owned(),
            (Cell::Text(text), _) => text.clone(),
            (Cell::Number(number), Style::Excel(Excel::Comma)) => number.to_string().replace('.', ","),
            (Cell::Number(number), _) => number.to_string(),
            (Cell::Whole(number), _) => number.to_string(),
            (Cell::Time(time), Style::Excel(_)) => self.zone.clock(*time),
            (Cell::Time(time), Style::Text) => self.zone.show(*time, 3),
            (Cell::Time(time), _) => self.zone.show(*time, 6),
        }
    }

    /// A line for people: what is a number to the right, the rest to the left.
    fn line(&mut self, out: &mut Vec<u8>, words: &[String]) {
        let mut line = String::new();
        for ((word, column), width) in words.iter().zip(&self.columns).zip(&mut self.widths) {
            let chars = word.chars().count();
            if chars <= limits::COLUMN_CHARS_MAX {
                *width = (*width).max(chars);
            }
            let width = *width;
            // Writing to a string does not fail.
            let written = match column.kind {
                Kind::Number | Kind::Whole => write!(line, "  {word:>width$}"),
                Kind::Text | Kind::Time => write!(line, "  {word:<width$}"),
            };
            written.unwrap_or_default();
        }
        out.extend_from_slice(line.trim_start_matches("  ").trim_end().as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(style: Style) -> String {
        let columns = [("time", Kind::Time), ("source", Kind::Text), ("temp", Kind::Number), ("n", Kind::Whole)];
        let columns = columns.map(|(name, kind)| Column::new(name, kind)).to_vec();
        let mut rows = Rows::new(style, Zone::utc(), columns);
        let mut out = Vec::new();
        rows.header(&mut out);
        let time = UnixNs(1_795_234_260_001_500_000);
        rows.row(&mut out, &[Cell::Time(time), Cell::Text("esp7".to_owned()), Cell::Number(21.5), Cell::Whole(7)]);
        rows.row(&mut out, &[Cell::Time(time), Cell::Text("=a;\n".to_owned()), Cell::Number(-121.25), Cell::Empty]);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_long_text_does_not_push_what_comes_to_the_right() {
        let columns = [("source", Kind::Text), ("value", Kind::Text)];
        let columns = columns.map(|(name, kind)| Column::new(name, kind)).to_vec();
        let mut rows = Rows::new(Style::Text, Zone::utc(), columns);
        let mut out = Vec::new();
        for text in ["x".repeat(100), "esp7".to_owned()] {
            rows.row(&mut out, &[Cell::Text(text), Cell::Whole(5)]);
        }
        assert_eq!(String::from_utf8(out).unwrap(), format!("{}  5\nesp7    5\n", "x".repeat(100)));
    }

    #[test]
    fn rows_are_written_in_every_style() {
        assert_eq!(
            written(Style::Text),
            "time                      source  temp  n\n\
             2026-11-21T04:11:00.001Z  esp7    21.5  7\n\
             2026-11-21T04:11:00.001Z  =a;\\n   -121.25  -\n"
        );
        assert_eq!(
            written(Style::Csv),
            "time,source,temp,n\r\n2026-11-21T04:11:00.001500Z,esp7,21.5,7\r\n\
             2026-11-21T04:11:00.001500Z,\"'=a;\n\",-121.25,\r\n"
        );
        assert_eq!(
            written(Style::Excel(Excel::Comma)),
            "\u{feff}time;source;temp;n\r\n2026-11-21 04:11:00;esp7;21,5;7\r\n2026-11-21 04:11:00;\"'=a;\n\";-121,25;\r\n"
        );
        assert!(written(Style::Excel(Excel::Point)).contains("\r\n2026-11-21 04:11:00,esp7,21.5,7\r\n"));
        assert_eq!(
            written(Style::Json),
            "{\"time\":\"2026-11-21T04:11:00.001500Z\",\"source\":\"esp7\",\"temp\":21.5,\"n\":7}\n\
             {\"time\":\"2026-11-21T04:11:00.001500Z\",\"source\":\"=a;\\n\",\"temp\":-121.25,\"n\":null}\n"
        );
    }
}
