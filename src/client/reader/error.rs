//! Why a read could not go on, or what it could not deliver.

use std::time::Duration;

use crate::wire::error::Refusal;
use crate::wire::id::RecordId;
use crate::wire::record::LineError;

/// What went wrong in a read. After [`Line`](Self::Line) it goes on; after any other it is over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// No head answered for as long as it was to be tried.
    #[error(
        "nothing could be read for {waited:?}; the last that was tried is head {head}: {cause}; see that a head runs there"
    )]
    NoHead {
        /// How long it was tried.
        waited: Duration,
        /// The last head.
        head: String,
        /// What it did.
        cause: String,
    },
    /// No head was named.
    #[error("no head was named; name one")]
    NoHeads,
    /// A head refused, and trying again would change nothing.
    #[error("head {head}: {refusal}")]
    Refused {
        /// The head.
        head: String,
        /// Cause and remedy.
        refusal: Refusal,
    },
    /// Some of what was asked for is on data nodes that are away.
    #[error(
        "{} missing: what only {} cannot be read; {}, or ask for what there is",
        plural(.nodes, "dataNode ", " is", "dataNodes ", " are"), if .nodes.len() == 1 { "it keeps" } else { "they keep" },
        remedy(.nodes)
    )]
    Missing {
        /// Their names.
        nodes: Vec<String>,
    },
    /// A line came damaged: its record is left out. The others are delivered.
    #[error(
        "a line from head {head} that begins {start:?} is damaged: {cause}; read it again, and run 'acopio verify' on the nodes"
    )]
    Line {
        /// The head.
        head: String,
        /// How the line begins: its id, if that is whole.
        start: String,
        /// What is wrong with it.
        cause: LineError,
    },
    /// A head sent records in another order than that of their ids.
    #[error("head {head} sent record {id} out of order; use the same version on both sides")]
    Disorder {
        /// The head.
        head: String,
        /// The record.
        id: RecordId,
    },
}

/// One that speaks text (raw or line, then its address) cannot be read though it is there.
fn remedy(names: &[String]) -> &'static str {
    let speaks_text = |name: &String| {
        let address = name.strip_prefix("raw-").or_else(|| name.strip_prefix("line-"));
        address.is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok())
    };
    match (names.iter().all(speaks_text), names.len()) {
        (true, _) => "what speaks text is read from its own files",
        (false, 1) => "start it again",
        (false, _) => "start them again",
    }
}

fn plural(names: &[String], one: &str, is: &str, many: &str, are: &str) -> String {
    let (before, after) = if names.len() == 1 { (one, is) } else { (many, are) };
    format!("{before}{}{after}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_nodes_are_named() {
        let missing = |names: &[&str]| {
            ReadError::Missing { nodes: names.iter().map(|&name| name.to_owned()).collect() }.to_string()
        };
        assert!(missing(&["data2"]).starts_with("dataNode data2 is missing: what only it keeps"));
        assert!(missing(&["data2"]).ends_with("; start it again, or ask for what there is"));
        assert!(missing(&["raw-10.0.0.9"]).contains("; what speaks text is read from its own files, or ask for"));
        assert!(missing(&["data2", "data4"]).starts_with("dataNodes data2, data4 are missing: what only they keep"));
    }
}
