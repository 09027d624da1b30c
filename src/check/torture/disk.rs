//! What is done to disks: a small file system that can be filled, and bits that flip in sealed files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::verdict::Message;
use crate::data::segments::sealed_id;
use crate::wire::record;
use crate::{files, limits};

/// The file that fills a disk.
const FILLER: &str = "filler";

/// A file system in memory, mounted on a folder; unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `bytes` on a folder that is there.
    ///
    /// # Errors
    /// Only root may mount, and not everywhere; the text says what the system said.
    pub(crate) fn mount(dir: &Path, bytes: u64) -> Result<Self, String> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "tmpfs"]).arg(dir);
        command.stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("mount: {error}"))?;
        if output.status.success() {
            return Ok(Self { dir: dir.to_owned() });
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.lines().next().unwrap_or("mount failed").trim().to_owned())
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    /// Whatever keeps it from being written, but for the lack of room that it is to bring about.
    pub(crate) fn fill(&self) -> io::Result<()> {
        let mut file = files::open(files::options().create(true).append(true), &self.dir.join(FILLER))?;
        let mut piece = vec![0; limits::READ_BUFFER_BYTES];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// The file that took it can't be removed.
    pub(crate) fn free(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(FILLER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Copies what is on it to the disk below, where it is found once this one is unmounted.
    ///
    /// # Errors
    /// A file can't be copied.
    pub(crate) fn keep(self) -> io::Result<()> {
        let beside = self.dir.with_extension("kept");
        files::create_folder(&beside)?;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() != FILLER && entry.file_type()?.is_file() {
                fs::copy(entry.path(), beside.join(entry.file_name()))?;
            }
        }
        let dir = self.dir.clone();
        drop(self);
        fs::rename(beside, dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nobody is left to tell; a mount that stays shows in `mount`.
        drop(Command::new("umount").arg("-l").arg(&self.dir).stdin(Stdio::null()).status());
    }
}

/// A bit that was flipped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flipped {
    /// In which file.
    pub(crate) file: String,
    /// In which byte.
    pub(crate) offset: u64,
    /// The messages whose line it is; two if it ends a line.
    pub(crate) messages: Vec<Message>,
}

/// Flips a bit of a sealed file in a data node's folder: `draw` says which. None while there is none.
///
/// # Errors
/// The folder can't be read, or the file can't be written.
pub(crate) fn flip(dir: &Path, draw: u64) -> io::Result<Option<Flipped>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        if let Ok(name) = entry?.file_name().into_string()
            && sealed_id(&name).is_some()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    let place = usize::try_from(draw % (names.len().max(1) as u64)).unwrap_or(0);
    let Some(name) = names.get(place) else { return Ok(None) };
    let file: File = OpenOptions::new().read(true).write(true).open(dir.join(name))?;
    let offset = (draw / 8 / names.len() as u64) % file.metadata()?.len().max(1);
    let messages = messages_at(&file, offset)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&byte.map(|byte| byte ^ (1 << (draw % 8))), offset)?;
    Ok(Some(Flipped { file: name.clone(), offset, messages }))
}

/// The messages whose lines become no record if the byte at `offset` is another.
fn messages_at(file: &File, offset: u64) -> io::Result<Vec<Message>> {
    let around = limits::TORTURE_RECORD_BYTES_MAX;
    let first = offset.saturating_sub(around);
    let mut bytes = vec![0; usize::try_from(offset - first + 2 * around).unwrap_or(0)];
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, first + len as u64)? {
            0 => break,
            n => len += n,
        }
    }
    bytes.truncate(len);
    let mut found = Vec::new();
    let mut at = first;
    let mut spoilt_before = false;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let end = at + line.len() as u64;
        let ends_here = end == offset + 1 && line.ends_with(b"\n");
        if (at..end).contains(&offset) || spoilt_before {
            let whole = line.strip_suffix(b"\n").unwrap_or(line);
            if let Ok(line) = record::decode(whole)
                && let Some((message, _)) = Message::parse(&line.payload())
            {
                found.push(message);
            }
        }
        // Without its newline a line and the next one are one.
        spoilt_before = ends_here;
        at = end;
    }
    Ok(found)
}

/// Removes everything in a data node's folder.
///
/// # Errors
/// Something can't be removed.
pub(crate) fn wipe(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::{ClientId, RecordId};
    use crate::wire::ledger::Place;

    #[test]
    fn the_records_of_a_flipped_byte_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data-1795234260----0----6.txt");
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for n in 1..=20 {
            let id = RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 1 };
            let text = Message { writer: 3, n }.to_string();
            let place = Some(Place { number: 1, entry: n as u32 });
            let fields = record::Fields { id, client: ClientId(7), seq: n, place, source: None };
            record::encode(&mut bytes, fields, text.as_bytes()).unwrap();
            ends.push(bytes.len() as u64 - 1);
        }
        fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        let at = |offset| -> Vec<u64> { messages_at(&file, offset).unwrap().iter().map(|message| message.n).collect() };
        assert_eq!((at(0), at(ends[0] - 1), at(ends[0]), at(ends[0] + 1)), (vec![1], vec![1], vec![1, 2], vec![2]));
        assert_eq!((at(ends[9] - 5), at(ends[9]), at(ends[19])), (vec![10], vec![10, 11], vec![20]));
    }

    #[test]
    fn one_bit_of_a_sealed_file_is_flipped_and_no_other_file_touched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("data.txt"), "uno\n").unwrap();
        assert_eq!(flip(dir.path(), 77).unwrap(), None);
        let name = "data-1795234260----0----6.txt";
        fs::write(dir.path().join(name), vec![0; 100]).unwrap();
        // What is flipped here is no record.
        for draw in [0, 77, u64::MAX] {
            fs::write(dir.path().join(name), vec![0; 100]).unwrap();
            let flipped = flip(dir.path(), draw).unwrap().unwrap();
            let bytes = fs::read(dir.path().join(name)).unwrap();
            assert_eq!((flipped.file.as_str(), bytes.len()), (name, 100));
            assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
            assert_ne!(bytes[flipped.offset as usize], 0);
        }
        assert_eq!(fs::read(dir.path().join("data.txt")).unwrap(), b"uno\n");
        wipe(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
