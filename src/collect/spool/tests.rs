//! Tests of the spool: what is kept over ends of every kind, in which order it comes back, and how it is bounded.

use super::*;
use crate::limits::SPOOL_BYTES_MIN;

const ONE: ClientId = ClientId(1 << 59 | 1);
const TWO: ClientId = ClientId(1 << 59 | 2);

fn open(dir: &Path, client: ClientId) -> (Spool, Found) {
    Spool::open(dir, SPOOL_BYTES_MIN, client).unwrap()
}

fn push(spool: &mut Spool, texts: &[&str]) {
    texts.iter().for_each(|text| spool.push("balanza".parse().ok(), 5, Bytes::from((*text).to_owned())).unwrap());
}

fn handed(spool: &mut Spool) -> Vec<(ClientId, u64, String)> {
    let mut handed = Vec::new();
    while let Some(line) = spool.next().unwrap() {
        spool.hand_over();
        assert_eq!(line.source, "balanza".parse().ok());
        handed.push((line.client, line.seq, String::from_utf8(line.payload.into()).unwrap()));
    }
    handed
}

fn of(client: ClientId, from: u64, texts: &[&str]) -> Vec<(ClientId, u64, String)> {
    (from..).zip(texts).map(|(seq, text)| (client, seq, (*text).to_owned())).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some());
    names.retain(|path| path.file_name().unwrap() != "collect.lock");
    names.sort();
    names
}

#[test]
fn what_is_not_kept_is_handed_over_again_under_the_same_numbers_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, found) = open(dir.path(), ONE);
    assert_eq!(found, Found::default());
    push(&mut spool, &["a", "b", "c"]);
    assert_eq!(handed(&mut spool), of(ONE, 1, &["a", "b", "c"]));
    push(&mut spool, &["d"]);
    assert_eq!(handed(&mut spool), of(ONE, 4, &["d"]));
    spool.kept(ONE, 2, 2);
    assert_eq!(spool.waiting(), 2);
    spool.rewind();
    assert_eq!(handed(&mut spool), of(ONE, 3, &["c", "d"]));
    // As a kill -9 leaves it.
    drop(spool);
    let (mut spool, found) = open(dir.path(), TWO);
    assert_eq!(found.waiting, 2);
    push(&mut spool, &["e"]);
    assert_eq!(handed(&mut spool), [of(ONE, 3, &["c", "d"]), of(TWO, 1, &["e"])].concat());
    spool.kept(ONE, 4, 2);
    assert_eq!(segments(dir.path()).len(), 1, "what is all kept is gone");
    drop(spool);
    let (mut spool, found) = open(dir.path(), ClientId(1 << 59 | 3));
    assert_eq!(found.waiting, 1);
    assert_eq!(handed(&mut spool), of(TWO, 1, &["e"]));
    spool.kept(TWO, 1, 1);
    spool.close();
    assert!(segments(dir.path()).is_empty());
}

#[test]
fn a_torn_line_and_a_damaged_one_cost_themselves_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), ONE);
    push(&mut spool, &["a", "b", "c", "d"]);
    drop(spool);
    let path = segments(dir.path()).pop().unwrap();
    let text = std::fs::read_to_string(&path).unwrap().replace(" b\n", " x\n");
    std::fs::write(&path, &text[..text.len() - 3]).unwrap();
    let (mut spool, found) = open(dir.path(), TWO);
    assert_eq!(found, Found { waiting: 2, damaged: 1, torn: 1 });
    push(&mut spool, &["e"]);
    let wanted = [of(ONE, 1, &["a"]), of(ONE, 3, &["c"]), of(TWO, 1, &["e"])].concat();
    assert_eq!(handed(&mut spool), wanted);
    spool.kept(ONE, 1, 1);
    spool.kept(ONE, 3, 1);
    spool.kept(TWO, 1, 1);
    spool.close();
    let left = segments(dir.path());
    assert_eq!(left, [path.with_extension("damaged")], "what is damaged is not removed");
}

#[test]
fn a_full_spool_takes_nothing_more_until_a_segment_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), ONE);
    let line = Bytes::from(vec![b'x'; 10_000]);
    let mut taken = 0;
    while spool.push(None, 5, line.clone()).is_ok() {
        taken += 1;
    }
    assert!(matches!(spool.push(None, 5, line.clone()), Err(NotTaken::Full(_))));
    let bytes: u64 = segments(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(taken > 90 && bytes <= SPOOL_BYTES_MIN && bytes == spool.bytes, "{taken} {bytes}");
    spool.kept(ONE, taken / 2, taken / 2);
    spool.push(None, 5, line.clone()).unwrap();
    while spool.push(None, 5, line.clone()).is_ok() {}
    // All is kept, and in files that could not be removed before.
    spool.kept(ONE, u64::MAX, u64::MAX);
    spool.push(None, 5, Bytes::from(vec![0; crate::limits::COLLECT_LINE_BYTES_MAX])).unwrap();
    assert_eq!(spool.waiting(), 1);
}

#[test]
fn a_spool_is_of_one_collector() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path(), ONE);
    let error = Spool::open(dir.path(), SPOOL_BYTES_MIN, TWO).unwrap_err().to_string();
    assert!(error.contains("is in use by another process (pid ") && error.contains("name collect)"), "{error}");
    drop(first);
    open(dir.path(), TWO);
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Spool::open(&file.join("spool"), SPOOL_BYTES_MIN, TWO).unwrap_err().to_string();
    assert!(error.starts_with("cannot make the folder") && error.contains("--spool"), "{error}");
}

#[test]
fn lines_are_due_for_a_sync_until_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), ONE);
    assert_eq!(spool.sync_due(), None);
    push(&mut spool, &["a"]);
    assert!(spool.sync_due().is_some());
    spool.kept(ONE, 1, 1);
    assert_eq!(spool.sync_due(), None, "what is kept needs no disk");
    push(&mut spool, &["b"]);
    spool.sync()().unwrap();
    assert_eq!(spool.sync_due(), None);
    push(&mut spool, &["c"]);
    assert!(spool.sync_due().is_some());
}
