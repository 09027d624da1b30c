//! What of this machine the program needs to run in an empty image: its loader and its shared objects.
//!
//! The loader itself is asked, since nobody else knows its search path: with `LD_TRACE_LOADED_OBJECTS` it lists what it
//! would load and where it found it, and does not start the program. A static program has no loader, prints its version
//! and needs nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::limits::IMAGE_OBJECTS_MAX;

/// Loaded by older C libraries when a name is looked up, so in no list: taken along where they lie beside the C library.
const LATE: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// Why an image can't be made of the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program can't be run to ask.
    #[error("cannot tell which shared objects {} needs: {source}; start it by its full path", program.display())]
    Ask {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One is not there.
    #[error("the shared object {0} is not on this machine; install what has it, or build a static program")]
    Missing(String),
    /// More than any build of ours has.
    #[error("the program needs more than {IMAGE_OBJECTS_MAX} shared objects; build it with fewer")]
    TooMany,
}

/// Asks the loader of `program`; the paths at which it finds its objects, the loader among them.
///
/// # Errors
/// It can't be asked, or something is missing.
pub(crate) fn needed(program: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut command = Command::new(program);
    command.arg("--version").env_clear().env("LD_TRACE_LOADED_OBJECTS", "1").stdin(Stdio::null());
    let output = command.output().map_err(|source| Error::Ask { program: program.to_owned(), source })?;
    let mut found = listed(&String::from_utf8_lossy(&output.stdout))?;
    let libc = found.iter().find(|path| path.file_name().is_some_and(|name| name == "libc.so.6"));
    if let Some(dir) = libc.and_then(|libc| libc.parent()).map(Path::to_owned) {
        found.extend(LATE.map(|name| dir.join(name)).into_iter().filter(|path| path.exists()));
    }
    found.sort();
    found.dedup();
    if found.len() > IMAGE_OBJECTS_MAX {
        return Err(Error::TooMany);
    }
    Ok(found)
}

/// The paths in a loader's list: `libm.so.6 => /lib/libm.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`. What the
/// kernel provides has no path.
fn listed(list: &str) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for line in list.lines() {
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        if path.trim() == "not found" {
            return Err(Error::Missing(name.trim().to_owned()));
        }
        let path = path.rsplit_once(" (0x").map(|(path, _)| path.trim());
        if let Some(path) = path.filter(|path| path.starts_with('/')) {
            found.push(path.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaders_list_is_read() {
        let glibc = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f)\n\
                     \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let wanted =
            ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(listed(glibc).unwrap(), wanted.map(PathBuf::from));
        let musl = "\t/lib/ld-musl-x86_64.so.1 (0x7f)\n\tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f)\n";
        assert_eq!(listed(musl).unwrap(), ["/lib/ld-musl-x86_64.so.1"; 2].map(PathBuf::from));
        assert_eq!(listed("acopio 0.1.0\n").unwrap(), Vec::<PathBuf>::new(), "a static program needs nothing");
        assert!(matches!(listed("\tlibx.so.1 => not found\n"), Err(Error::Missing(name)) if name == "libx.so.1"));
    }

    #[test]
    fn the_loader_of_this_very_program_answers() {
        let shell = Path::new("/bin/sh");
        let found = needed(shell).unwrap();
        assert!(found.iter().all(|path| path.is_absolute() && path.exists()), "{found:?}");
    }
}
