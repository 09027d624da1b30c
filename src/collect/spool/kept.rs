//! The small file beside the segments that says up to which number of which identity the cluster keeps the lines.
//!
//! It is written over in place at every acknowledgement and not synced: where it is lost or torn, lines are sent again under
//! the same numbers, which readers see once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::files;
use crate::limits::SPOOL_KEPT_BYTES;
use crate::wire::id::{self, ClientId};
use crate::wire::record;

/// Its name.
const NAME: &str = "kept";

/// What stands before the identity.
const WORDS: &str = "acopio collect: kept ";

/// Up to where lines are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) client: ClientId,
    pub(super) seq: u64,
}

impl Kept {
    /// Whether it says of this line that it is kept.
    pub(super) fn covers(&self, client: ClientId, seq: u64) -> bool {
        client == self.client && seq <= self.seq
    }

    /// A line of always the same length, so that it is written over whole.
    fn to_text(self) -> String {
        let mut seq = [b'-'; id::CLIENT_CHARS];
        id::put_fixed(&mut seq, self.seq);
        let text = format!("{WORDS}{} {}", self.client, String::from_utf8_lossy(&seq));
        format!("{text} {}\n", record::text_checksum(&text))
    }

    fn from_text(text: &str) -> Option<Self> {
        let (body, checksum) = text.strip_suffix('\n')?.rsplit_once(' ')?;
        let (client, seq) = body.strip_prefix(WORDS)?.split_once(' ')?;
        let kept = Self { client: ClientId::from_text(client.as_bytes())?, seq: id::number(seq.as_bytes())? };
        (record::text_checksum(body) == checksum).then_some(kept)
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct KeptFile(File);

impl KeptFile {
    /// Opens it, and what it says; nothing, if it is new or torn.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Kept)> {
        let options = &mut files::options();
        let file = files::open(options.read(true).write(true).create(true).truncate(false), &folder.join(NAME))?;
        let mut bytes = [0; SPOOL_KEPT_BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        let text = std::str::from_utf8(bytes.get(..read).unwrap_or_default()).unwrap_or_default();
        let kept = Kept::from_text(text).unwrap_or_default();
        Ok((Self(file), kept))
    }

    pub(super) fn write(&self, kept: Kept) -> io::Result<()> {
        self.0.write_all_at(kept.to_text().as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_noted_is_read_back_and_a_torn_note_says_nothing(
            one in (any::<u64>(), 0..1_u64 << 60), two in (any::<u64>(), 0..1_u64 << 60), at in 0..SPOOL_KEPT_BYTES,
        ) {
            let kept = |(client, seq)| Kept { client: ClientId::of_library(client), seq };
            let (one, two) = (kept(one), kept(two));
            let (old, new) = (one.to_text(), two.to_text());
            prop_assert!(old.len() == new.len() && old.len() <= SPOOL_KEPT_BYTES);
            prop_assert_eq!(Kept::from_text(&new), Some(two));
            let at = at.min(new.len());
            let torn = format!("{}{}", &new[..at], &old[at..]);
            prop_assert!([None, Some(one), Some(two)].contains(&Kept::from_text(&torn)));
        }
    }

    #[test]
    fn it_is_opened_again_with_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let (file, kept) = KeptFile::open(dir.path()).unwrap();
        assert_eq!(kept, Kept::default());
        let noted = Kept { client: ClientId::of_library(3), seq: 70 };
        file.write(noted).unwrap();
        assert_eq!(KeptFile::open(dir.path()).unwrap().1, noted);
        assert!(noted.covers(noted.client, 70) && !noted.covers(noted.client, 71) && !noted.covers(ClientId(1), 1));
        std::fs::write(dir.path().join(NAME), "x").unwrap();
        assert_eq!(KeptFile::open(dir.path()).unwrap().1, Kept::default());
    }
}
