//! Rows as a Parquet file, which pandas, DuckDB and Spark read: written group by group, so memory does not grow with it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::rows::{Cell, Column, Kind};
use crate::limits::{PARQUET_GROUP_BYTES_MAX, PARQUET_GROUP_ROWS_MAX};

/// What was written and not yet taken.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is written.
pub(crate) struct Parquet {
    pipe: Pipe,
    file: SerializedFileWriter<Pipe>,
    columns: Vec<Values>,
    rows: usize,
    bytes: usize,
    /// Texts of columns of numbers.
    texts: u64,
}

impl std::fmt::Debug for Parquet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parquet").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// The values of a column in this group, and for each row whether it has one.
enum Values {
    Text(Vec<ByteArray>, Vec<i16>),
    Number(Vec<f64>, Vec<i16>),
    Whole(Vec<i64>, Vec<i16>),
}

impl Parquet {
    /// A file with these columns, each of which may be empty.
    pub(crate) fn new(columns: &[Column]) -> io::Result<Self> {
        let pipe = Pipe::default();
        let members = columns.iter().enumerate().map(|(k, column)| {
            let kind = match column.kind {
                Kind::Text => "binary {} (UTF8)",
                Kind::Number => "double {}",
                Kind::Whole => "int64 {}",
                Kind::Time => "int64 {} (TIMESTAMP(NANOS,true))",
            };
            format!("optional {};", kind.replace("{}", &name(&column.name, k, columns)))
        });
        let schema = format!("message acopio {{ {} }}", members.collect::<Vec<_>>().join(" "));
        let schema = parse_message_type(&schema)
            .map_err(|error| io::Error::other(format!("these names cannot be columns of Parquet: {error}; use csv")))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = SerializedFileWriter::new(pipe.clone(), Arc::new(schema), Arc::new(properties))?;
        let mut new = Self { pipe, file, columns: Vec::new(), rows: 0, bytes: 0, texts: 0 };
        new.columns = columns.iter().map(|column| Values::new(column.kind)).collect();
        Ok(new)
    }

    /// A row; what is full goes out.
    pub(crate) fn row(&mut self, out: &mut Vec<u8>, row: &[Cell]) -> io::Result<()> {
        for (values, cell) in self.columns.iter_mut().zip(row) {
            let (bytes, is_text) = values.push(cell);
            self.bytes += bytes;
            self.texts += u64::from(is_text);
        }
        self.rows += 1;
        if self.rows >= PARQUET_GROUP_ROWS_MAX || self.bytes >= PARQUET_GROUP_BYTES_MAX {
            self.group(out)?;
        }
        Ok(())
    }

    fn group(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.rows > 0 {
            let mut group = self.file.next_row_group()?;
            for values in &mut self.columns {
                let Some(mut column) = group.next_column()? else { break };
                match values {
                    Values::Text(all, has) => column.typed::<ByteArrayType>().write_batch(all, Some(has), None)?,
                    Values::Number(all, has) => column.typed::<DoubleType>().write_batch(all, Some(has), None)?,
                    Values::Whole(all, has) => column.typed::<Int64Type>().write_batch(all, Some(has), None)?,
                };
                column.close()?;
                values.clear();
            }
            group.close()?;
            (self.rows, self.bytes) = (0, 0);
        }
        out.append(&mut self.pipe.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// The last group and the end of the file; how many texts were left out of columns of numbers.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<u64> {
        self.group(out)?;
        self.file.finish()?;
        out.append(&mut self.pipe.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(std::mem::take(&mut self.texts))
    }
}

/// A name as the schema's text can have it: one word, and no other column's.
fn name(name: &str, place: usize, columns: &[Column]) -> String {
    let word: String = name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    let is_taken = columns.iter().take(place).any(|column| column.name.eq_ignore_ascii_case(&word));
    if word == name && !is_taken { word } else { format!("{word}_{place}") }
}

impl Values {
    const fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(Vec::new(), Vec::new()),
            Kind::Number => Self::Number(Vec::new(), Vec::new()),
            Kind::Whole | Kind::Time => Self::Whole(Vec::new(), Vec::new()),
        }
    }

    /// Takes a cell: how many bytes it has, and whether it is a text that does not fit.
    fn push(&mut self, cell: &Cell) -> (usize, bool) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let has = match (&mut *self, cell) {
            (Self::Text(all, _), Cell::Text(text)) => {
                all.push(text.as_bytes().into());
                true
            }
            (Self::Number(all, _), Cell::Number(number)) => {
                all.push(*number);
                true
            }
            (Self::Whole(all, _), Cell::Whole(number)) => {
                all.push(whole(*number));
                true
            }
            (Self::Whole(all, _), Cell::Time(time)) => {
                all.push(whole(time.0));
                true
            }
            _ => false,
        };
        let (Self::Text(_, levels) | Self::Number(_, levels) | Self::Whole(_, levels)) = self;
        levels.push(i16::from(has));
        match cell {
            Cell::Text(text) => (text.len() + 16, !has),
            _ => (16, false),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Text(all, has) => (all.clear(), has.clear()),
            Self::Number(all, has) => (all.clear(), has.clear()),
            Self::Whole(all, has) => (all.clear(), has.clear()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::UnixNs;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;

    #[test]
    fn rows_are_read_back_from_all_groups() {
        let columns = [("id", Kind::Text), ("time", Kind::Time), ("temp", Kind::Number), ("a b", Kind::Whole)];
        let columns = columns.map(|(name, kind)| Column::new(name, kind));
        let (mut parquet, mut out) = (Parquet::new(&columns).unwrap(), Vec::new());
        let rows = PARQUET_GROUP_ROWS_MAX + 10;
        for k in 0..rows as u64 {
            let temp = if k == 3 { Cell::Text("ON".to_owned()) } else { Cell::Number(k as f64 / 2.0) };
            let last = if k % 2 == 0 { Cell::Whole(k) } else { Cell::Empty };
            parquet.row(&mut out, &[Cell::Text(format!("r{k}")), Cell::Time(UnixNs(k)), temp, last]).unwrap();
        }
        assert!(!out.is_empty(), "the first group is out");
        assert_eq!(parquet.finish(&mut out).unwrap(), 1);
        let file = SerializedFileReader::new(bytes::Bytes::from(out)).unwrap();
        assert_eq!(file.num_row_groups(), 2);
        let names: Vec<&str> =
            file.metadata().file_metadata().schema_descr().columns().iter().map(|c| c.name()).collect();
        assert_eq!(names, ["id", "time", "temp", "a_b_3"]);
        let mut read = 0;
        for (k, row) in file.get_row_iter(None).unwrap().enumerate() {
            let row = row.unwrap();
            assert_eq!(row.get_string(0).unwrap(), &format!("r{k}"));
            assert_eq!(row.get_double(2).ok(), (k != 3).then_some(k as f64 / 2.0));
            assert_eq!(row.get_long(3).ok(), (k % 2 == 0).then_some(k as i64));
            read += 1;
        }
        assert_eq!(read, rows);
    }
}
