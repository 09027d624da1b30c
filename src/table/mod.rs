//! What is read, as people and programs take it: messages, the numbers in them and buckets of these, as text, CSV, for
//! Excel, as JSON, in InfluxDB's lines or as Parquet. It writes to memory: `acopio read` prints it, and `acopio web` sends it.
//!
//! `shape` is the way in; `format`, `rows`, `csv`, `influx` and `parquet` are the forms. `readings` heeds rules and
//! corrections, `buckets` puts values together by time, and `moment` reads and shows times.

pub(crate) mod buckets;
mod csv;
pub(crate) mod format;
mod influx;
pub(crate) mod moment;
#[cfg(feature = "parquet")]
mod parquet;
pub(crate) mod readings;
pub(crate) mod rows;
pub(crate) mod shape;
