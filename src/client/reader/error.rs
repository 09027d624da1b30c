//! Why a read could not go on, or what it could not deliver.

use std::time::Duration;

use crate::wire::error::Refusal;
use crate::wire::id::RecordId;
use crate::wire::peer::{missing_cause, missing_name};
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
    /// Some of what was asked for is on data nodes that are away, or that are there and cannot give it.
    #[error("{}, or ask for what there is", lacking(.nodes))]
    Missing {
        /// Their names, and behind the names of those that are there the cause, in parentheses.
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

/// Who is away, and who is there and can't give all that it keeps.
fn lacking(nodes: &[String]) -> String {
    let mut said = Vec::new();
    let away: Vec<&str> = nodes.iter().map(String::as_str).filter(|node| missing_cause(node).is_none()).collect();
    match &away[..] {
        [] => {}
        [one] => said.push(format!("dataNode {one} is missing: what only it keeps cannot be read; start it again")),
        many => said.push(format!(
            "dataNodes {} are missing: what only they keep cannot be read; start them again",
            many.join(", ")
        )),
    }
    let here = nodes.iter().filter_map(|node| Some((missing_name(node), missing_cause(node)?)));
    said.extend(
        here.map(|(name, cause)| format!("dataNode {name} is there and cannot give all that it keeps: {cause}")),
    );
    said.join("; ")
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
        assert!(missing(&["data2", "data4"]).starts_with("dataNodes data2, data4 are missing: what only they keep"));
        let here = missing(&["data2 (data.txt is gone)"]);
        assert_eq!(
            here,
            "dataNode data2 is there and cannot give all that it keeps: data.txt is gone, or ask for what there is"
        );
        let both = missing(&["data1", "data2 (data.txt is gone)"]);
        assert!(
            both.starts_with("dataNode data1 is missing: ") && both.contains("; dataNode data2 is there"),
            "{both}"
        );
    }
}
