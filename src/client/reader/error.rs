//! Why a read could not go on, or what it could not deliver.

use std::time::Duration;

use crate::client::troubles::{Trouble, in_words};
use crate::wire::error::Refusal;
use crate::wire::id::RecordId;
use crate::wire::peer::{missing_cause, missing_name};
use crate::wire::record::LineError;

/// What went wrong in a read. After [`Line`](Self::Line) it goes on; after any other it is over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// No head answered for as long as it was to be tried.
    #[error("nothing could be read for {waited:?}: {}", in_words(.heads))]
    NoHead {
        /// How long it was tried.
        waited: Duration,
        /// What became of each head.
        heads: Vec<Trouble>,
    },
    /// No head was named.
    #[error("no head was named; name one")]
    NoHeads,
    /// Every head refused, and trying again would change nothing.
    #[error("{}", in_words(.heads))]
    Refused {
        /// Cause and remedy of each head.
        heads: Vec<Trouble>,
        /// The last of the refusals.
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
    /// Files could not be read.
    #[error("{cause}")]
    Local {
        /// Which, and why.
        cause: String,
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

/// Whether this is how a head names a node that speaks text, which cannot be read though it is there.
fn speaks_text(name: &str) -> bool {
    let address = name.strip_prefix("raw-").or_else(|| name.strip_prefix("line-"));
    address.is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok())
}

/// Who is away, and who is there and can't give all that it keeps.
fn lacking(nodes: &[String]) -> String {
    let mut said = Vec::new();
    let away: Vec<&str> = nodes.iter().map(String::as_str).filter(|node| missing_cause(node).is_none()).collect();
    match &away[..] {
        [] => {}
        [one] => said.push(format!("dataNode {one} is missing: what only it keeps cannot be read; {}", remedy(&away))),
        many => said.push(format!(
            "dataNodes {} are missing: what only they keep cannot be read; {}",
            many.join(", "),
            remedy(&away)
        )),
    }
    let here = nodes.iter().filter_map(|node| Some((missing_name(node), missing_cause(node)?)));
    said.extend(
        here.map(|(name, cause)| format!("dataNode {name} is there and cannot give all that it keeps: {cause}")),
    );
    said.join("; ")
}

fn remedy(away: &[&str]) -> &'static str {
    match away {
        _ if away.iter().all(|name| speaks_text(name)) => "what speaks text is read from its own files",
        [_] => "start it again, give it up if its folder is lost (acopio drain NODE --gone)",
        _ => "start them again, give up those whose folders are lost (acopio drain NODE --gone)",
    }
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
        assert!(missing(&["data2"]).contains("; start it again, give it up if "));
        assert!(missing(&["data2"]).ends_with("(acopio drain NODE --gone), or ask for what there is"));
        assert!(missing(&["raw-10.0.0.9"]).contains("; what speaks text is read from its own files, or ask for"));
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
