//! What a check of a folder found: the faults, in words and places, and what was counted. How they are found is not
//! here.

use serde::Serialize;

use crate::data::recover::Place;
use crate::limits::{QUARANTINE_PLACES_MAX, VERIFY_PROBLEMS_MAX};

/// What kind of fault a place has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A bad line with good records behind it, or in a sealed file.
    Rot,
    /// The bad end of `data.txt`: the next start cuts it off and keeps it aside.
    Torn,
    /// A sealed file whose first record is not the one it is named after.
    Name,
    /// The same id twice in a row, with different contents.
    Forked,
    /// Records that were in the folder and are not: a file is gone, or lost its end.
    Lost,
    /// Entries that the folder's identity promises and that are in none of its files.
    Lacking,
    /// `node.state` can't be relied on: the next start takes another identity.
    State,
    /// A record that no head of the cluster took, by its tag.
    Forged,
    /// A record that the file's sidecar leaves out, so that readers pass it over: remove the sidecar, and the next start
    /// makes it again. A sidecar that is missing or garbled is no fault, for readers see that.
    Index,
}

/// A fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// What kind it is.
    pub(crate) kind: Kind,
    /// The file.
    pub(crate) file: String,
    /// Where it begins, bytes from the start of the file.
    pub(crate) offset: u64,
    /// Its length, bytes.
    pub(crate) len: u64,
    /// Number of its first line; the first of a file is 1.
    pub(crate) line: u64,
    /// What is wrong, in words.
    pub(crate) reason: String,
}

/// A ledger of which a folder has something that it does not promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// The ledger.
    pub(crate) ledger: String,
    /// Its entries here.
    pub(crate) entries: u64,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Report {
    /// Files of records.
    pub(crate) files: u64,
    /// Good records.
    pub(crate) records: u64,
    /// Bytes of all files of records.
    pub(crate) bytes: u64,
    /// Least id.
    pub(crate) first_id: Option<String>,
    /// Greatest id.
    pub(crate) last_id: Option<String>,
    /// Records with a lesser id than the one before them in their file. Usual with several heads.
    pub(crate) out_of_order: u64,
    /// Records that repeat the one before them, id and contents. Usual after a copy was sent again.
    pub(crate) repeated: u64,
    /// The node that runs on the folder, as it says itself.
    pub(crate) running: Option<String>,
    /// Bytes of a write in progress at the end of `data.txt`, while a node runs.
    pub(crate) growing_bytes: u64,
    /// Rotten places that are not mended: bad lines, and bad ends of sealed files.
    pub(crate) rotten: u64,
    /// Rotten places in a folder that lacks nothing it promises: what they were was fetched again, or was nothing. No
    /// fault.
    pub(crate) mended: u64,
    /// Whose folder it is; none if the next start takes another identity.
    pub(crate) identity: Option<String>,
    /// Records of format 1, in no ledger: they are read and not counted.
    pub(crate) unplaced: u64,
    /// Records that no head of the cluster took, if their tags were checked.
    pub(crate) forged: u64,
    /// Records without a right tag that are old enough for that, if tags were checked.
    pub(crate) unproved: u64,
    /// It was a folder of format 1.
    #[serde(skip)]
    pub(super) old: bool,
    /// Ledgers that it promises.
    pub(crate) ledgers: u64,
    /// Entries of those that are not here.
    pub(crate) lacking: u64,
    /// Ledgers of which it has something that it does not promise: what another identity left, copies that are not whole.
    pub(crate) parts: u64,
    /// The first of those.
    pub(crate) parts_first: Vec<Part>,
    /// Faults in all; [`problems`](Self::problems) lists the first ones of each file.
    pub(crate) problem_count: u64,
    /// The faults, file by file; at most [`QUARANTINE_PLACES_MAX`] of each kind for a file, and
    /// [`VERIFY_PROBLEMS_MAX`] in all.
    pub(crate) problems: Vec<Problem>,
}

impl Report {
    /// Whether there is no fault.
    #[must_use]
    pub(crate) fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    /// Adds a problem of a file, of which `listed` of its kind are listed already.
    pub(super) fn add_bounded(&mut self, kind: Kind, file: &str, place: Place, reason: String, listed: &mut usize) {
        if *listed < QUARANTINE_PLACES_MAX {
            *listed += 1;
            self.add(kind, file, place, reason);
        } else {
            self.problem_count += 1;
        }
    }

    /// Adds a problem of a file.
    pub(super) fn add(&mut self, kind: Kind, file: &str, place: Place, reason: String) {
        self.problem_count += 1;
        if self.problems.len() < VERIFY_PROBLEMS_MAX {
            let Place { offset, len, line } = place;
            self.problems.push(Problem { kind, file: file.to_owned(), offset, len, line, reason });
        }
    }
}
