//! The folder of a cluster on this machine: whether it can be written, and what the data nodes left in it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::plan::{Kind, Member};
use super::screen::Screen;
use crate::files;
use crate::limits;

/// The folder can't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write in {}: {source}; name another folder with --dir or make this one writable", dir.display())]
pub struct Error {
    dir: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Makes the folder if it is missing, and tries whether it can be written.
///
/// # Errors
/// It can't.
pub(crate) fn probe(dir: &Path) -> Result<(), Error> {
    let written = || {
        files::create_folder(dir)?;
        let file = dir.join(format!(".writable-{}", std::process::id()));
        files::create(&file)?;
        fs::remove_file(file)
    };
    written().map_err(|source| Error { dir: dir.to_owned(), source })
}

/// Says what the data nodes keep, now that nobody writes any more.
pub(crate) fn summarise(members: &[Member], screen: &Screen) {
    screen.say("\nStopped. What is on disk:");
    for member in members.iter().filter(|member| member.kind == Kind::Data) {
        match kept(&member.dir) {
            Ok((records, bytes)) => {
                screen.say(format!("  {}/data.txt    {records} records, {bytes} bytes", member.dir.display()));
            }
            Err(error) => screen.say(format!("  {}: cannot be read: {error}", member.dir.display())),
        }
    }
}

/// Lines and bytes of the files with records in a data node's folder.
fn kept(dir: &Path) -> std::io::Result<(u64, u64)> {
    let (mut records, mut bytes) = (0, 0);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == "data.txt" || (name.starts_with("data-") && name.ends_with(".txt")) {
            let mut file = files::read(&entry.path())?;
            let mut chunk = vec![0; limits::READ_BUFFER_BYTES];
            loop {
                let n = file.read(&mut chunk)?;
                let Some(read) = chunk.get(..n).filter(|read| !read.is_empty()) else {
                    break;
                };
                records += read.iter().filter(|&&byte| byte == b'\n').count() as u64;
                bytes += n as u64;
            }
        }
    }
    Ok((records, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_lines_of_data_files_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("data.txt", "a\nb\n"), ("data-1.txt", "c\n"), ("node.log", "d\n"), ("data.torn", "e\n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(kept(dir.path()).unwrap(), (3, 6));
    }

    #[test]
    fn a_folder_that_is_a_file_cannot_be_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(probe(&file.path().join("logs")).is_err());
    }
}
