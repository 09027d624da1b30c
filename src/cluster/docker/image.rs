//! The image: an empty file system with the running program in it, built without a registry.
//!
//! What the engine is sent is a tar archive made by a thread piece by piece; a slow engine slows the thread.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

use crate::cluster::plan::{CONTAINER_DIR, CONTAINER_KEYS, CONTAINER_PORT};
use crate::files::FOLDER_MODE;
use crate::limits;

/// Who the program is in a container of an image that nobody told otherwise: nobody on this machine.
pub(crate) const USER: u32 = 65_532;

/// Where the program is in the image.
pub(crate) const PROGRAM: &str = "/acopio";

/// Folder of the archive that becomes the root of the image.
const ROOT: &str = "root";

/// Folder of the archive with those that are the user's own.
const OWN: &str = "own";

/// What the image is, for whoever finds it.
const LABELS: &str =
    "LABEL org.opencontainers.image.title=acopio org.opencontainers.image.licenses=\"MIT OR Apache-2.0\"";

/// The instructions for the engine. The label says whose image it is.
#[must_use]
pub(crate) fn dockerfile(objects: &[PathBuf], label: (&str, &str)) -> String {
    // First of all: the engine bases images that begin alike on each other. It would not remove the one while the other
    // is there, or remove it from under the other while that is being built.
    let mut text = format!("FROM scratch\nLABEL {}={}\n", label.0, label.1);
    text += &format!("{LABELS}\nCOPY {ROOT}/ /\n");
    // The loader's cache of this machine is not in the image, so it is told where to look.
    let dirs: BTreeSet<String> =
        objects.iter().filter_map(|path| path.parent()).map(|dir| dir.display().to_string()).collect();
    if !dirs.is_empty() {
        let dirs: Vec<String> = dirs.into_iter().collect();
        text += &format!("ENV LD_LIBRARY_PATH={}\n", dirs.join(":"));
    }
    // What is in a folder is copied with its mode; what a folder is copied to, engines make with one of their own.
    text += &format!("COPY --chown={USER}:{USER} {OWN}/ /\n");
    text += &format!("ENV ACOPIO_DIR={CONTAINER_DIR} ACOPIO_LOGS={CONTAINER_DIR}\n");
    text += &format!("WORKDIR {CONTAINER_DIR}\nUSER {USER}:{USER}\nEXPOSE {CONTAINER_PORT}\nSTOPSIGNAL SIGTERM\n");
    text += &format!("HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD [\"{PROGRAM}\", \"health\"]\n");
    text += &format!("ENTRYPOINT [\"{PROGRAM}\"]\nCMD [\"--help\"]\n");
    text
}

/// Begins to make the archive that an image is built from.
#[must_use]
pub(crate) fn archive(program: PathBuf, objects: Vec<PathBuf>, label: (&str, &str)) -> Archive {
    let dockerfile = dockerfile(&objects, label);
    let (sender, chunks) = mpsc::channel(limits::ENGINE_CHUNKS_MAX);
    let failed = sender.clone();
    let thread = std::thread::Builder::new().name("image".to_owned()).spawn(move || {
        let pieces = Pieces(sender.clone());
        let pieces = BufWriter::with_capacity(limits::ENGINE_CHUNK_BYTES, pieces);
        if let Err(error) = write(&dockerfile, &program, &objects, pieces) {
            // The engine has hung up, or is told that there will be no more.
            drop(sender.blocking_send(Err(error)));
        }
    });
    if let Err(error) = thread {
        drop(failed.try_send(Err(error)));
    }
    Archive(chunks)
}

fn write(dockerfile: &str, program: &Path, objects: &[PathBuf], out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    text(&mut tar, "Dockerfile", dockerfile)?;
    // Names are looked up in the container's own /etc/hosts, then by the engine.
    text(&mut tar, &format!("{ROOT}/etc/nsswitch.conf"), "hosts: files dns\n")?;
    file(&mut tar, program, Path::new(PROGRAM))?;
    for object in objects {
        file(&mut tar, object, object)?;
    }
    for (name, mode) in [("", 0o755), (CONTAINER_DIR, FOLDER_MODE), (CONTAINER_KEYS, FOLDER_MODE)] {
        let mut folder = header(0, mode);
        folder.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut folder, format!("{OWN}{name}/"), io::empty())?;
    }
    tar.into_inner()?.flush()
}

fn text<W: Write>(tar: &mut tar::Builder<W>, path: &str, text: &str) -> io::Result<()> {
    tar.append_data(&mut header(text.len() as u64, 0o644), path, text.as_bytes())
}

/// A file of this machine, with what a link leads to, at an absolute path of the image.
fn file<W: Write>(tar: &mut tar::Builder<W>, from: &Path, to: &Path) -> io::Result<()> {
    let told = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", from.display()));
    let file = File::open(from).map_err(told)?;
    let len = file.metadata().map_err(told)?.len();
    let inside = Path::new(ROOT).join(to.strip_prefix("/").unwrap_or(to));
    tar.append_data(&mut header(len, 0o755), inside, io::Read::take(file, len))
}

/// The same for the same contents, whenever it is made: the engine then knows it and copies nothing.
fn header(len: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(len);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

/// Hands on what is written to it.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine does not listen any more");
        self.0.blocking_send(Ok(Bytes::copy_from_slice(piece))).map_err(gone)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An archive under way, in pieces.
#[derive(Debug)]
pub(crate) struct Archive(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Archive {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_LAB: (&str, &str) = ("acopio.demo", "lab");

    #[test]
    fn the_archive_holds_the_program_and_its_objects_at_their_paths() {
        let dir = tempfile::tempdir().unwrap();
        let (program, object) = (dir.path().join("acopio"), dir.path().join("libx.so.1.2"));
        std::fs::write(&program, "program").unwrap();
        std::fs::write(&object, vec![7; 200_000]).unwrap();
        let link = dir.path().join("libx.so.1");
        std::os::unix::fs::symlink(&object, &link).unwrap();
        let mut chunks = archive(program, vec![link.clone()], OF_LAB).0;
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.blocking_recv() {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        let mut archive = tar::Archive::new(&bytes[..]);
        let found: Vec<(String, u64, u32)> = archive
            .entries()
            .unwrap()
            .map(Result::unwrap)
            .map(|entry| (entry.path().unwrap().display().to_string(), entry.size(), entry.header().mode().unwrap()))
            .collect();
        let wanted = |path: &str, len: u64, mode: u32| found.contains(&(path.to_owned(), len, mode));
        assert!(wanted("root/acopio", 7, 0o755), "{found:?}");
        assert!(wanted(&format!("root{}", link.display()), 200_000, 0o755), "{found:?}");
        assert!(wanted("own/data/", 0, FOLDER_MODE) && wanted("own/keys/", 0, FOLDER_MODE), "{found:?}");
        assert!(found.iter().any(|(path, ..)| path == "Dockerfile"), "{found:?}");
    }

    #[test]
    fn a_program_that_is_gone_is_told_of_in_place_of_a_shorter_image() {
        let mut chunks = archive("/nowhere/acopio".into(), Vec::new(), OF_LAB).0;
        let mut last = None;
        while let Some(chunk) = chunks.blocking_recv() {
            last = Some(chunk);
        }
        assert!(last.unwrap().unwrap_err().to_string().contains("/nowhere/acopio"));
    }

    #[test]
    fn an_image_from_a_registry_is_used_in_the_same_way() {
        let of_registry = include_str!("../../../docker/Dockerfile");
        let used = |text: &str| {
            let words =
                ["LABEL", "ENV ACOPIO", "WORKDIR", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"];
            let of_use = |line: &&str| words.iter().any(|word| line.starts_with(word));
            text.lines().filter(of_use).filter(|line| *line != "WORKDIR /src").map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(used(of_registry), used(&dockerfile(&[], OF_LAB).replacen("LABEL acopio.demo=lab\n", "", 1)));
    }

    #[test]
    fn the_image_runs_the_program_as_nobody_and_asks_it_for_its_health() {
        let text = dockerfile(&["/lib64/ld.so".into(), "/usr/lib/libc.so.6".into()], OF_LAB);
        assert!(text.starts_with("FROM scratch\nLABEL acopio.demo=lab\n"), "what it has in common comes later");
        assert!(text.contains("ENV LD_LIBRARY_PATH=/lib64:/usr/lib\n"));
        assert!(text.contains("USER 65532:65532\n") && text.contains("ENTRYPOINT [\"/acopio\"]\n"));
        assert!(!dockerfile(&[], OF_LAB).contains("LD_LIBRARY_PATH"));
    }
}
