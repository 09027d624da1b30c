//! A disk in memory that loses, tears, refuses and rots on demand, for tests and simulations.
//!
//! Fault model. A file has a durable image and a cache image; reads see the cache. `sync` copies the cache to the
//! durable image; `sync_dir` does so for names. A [`crash`](SimDisk::crash) keeps what is durable and treats the rest
//! as a disk may:
//! - of the bytes appended since the last sync, a random number stays, and each page of them on its own is whole,
//!   zeros or garbage, and the last one may be torn anywhere; a cut that was not synced may not have happened;
//! - of the names made, changed or removed since the last `sync_dir`, each on its own stays or is lost; a file without a name is
//!   gone.
//!
//! On demand: a capacity (a write past it leaves a part and says `StorageFull`), the n-th write, sync or directory sync
//! fails with an I/O error (a failed sync drops what was not durable in a later crash, though reads still show it),
//! all calls fail from the n-th on (a process killed there), and bits flip. Hands rename, replace, cut and write into files
//! under a program that has them open. `Lie`s plant the faults of a careless program, to show that a checker sees them. Not
//! modelled: loss of synced data other than by flips and hands, hard links, directories in directories.

use super::storage::{FileId, LogFile, ReadAt, Room, Seen, Storage};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Page of the simulated disk, bytes: small, so that short logs tear in many places.
const PAGE: usize = 64;

/// A fault of a careless program, planted below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// `sync` answers without syncing, as if acknowledging came first.
    Sync,
    /// `sync_dir` answers without syncing.
    SyncDir,
    /// `truncate` answers without cutting.
    Truncate,
}

/// What is to go wrong; counts are of calls from now on, 0 being the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Bytes that all files together may hold.
    pub(crate) capacity: Option<u64>,
    /// There is no room for another file, though there may be for bytes.
    pub(crate) no_inodes: bool,
    /// The append that fails after writing a part.
    pub(crate) fail_write: Option<u32>,
    /// The `sync` that fails.
    pub(crate) fail_sync: Option<u32>,
    /// The `sync_dir` that fails.
    pub(crate) fail_sync_dir: Option<u32>,
    /// The changing call from which on every one fails and does nothing: the process was killed.
    pub(crate) die: Option<u32>,
    /// The planted fault.
    pub(crate) lie: Option<Lie>,
}

#[derive(Debug, Default, Clone)]
struct Node {
    durable: Vec<u8>,
    cache: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: Vec<Node>,
    durable_names: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
    faults: Faults,
    syncs: u64,
    bytes_read: u64,
}

/// A simulated disk. Clones are handles on the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Inner>>);

/// A file of a [`SimDisk`] that somebody took away.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken(usize);

/// An open file of a [`SimDisk`]. Reading sees what was written, synced or not, as a page cache would show it.
#[derive(Debug, Clone)]
pub(crate) struct SimFile {
    disk: SimDisk,
    node: usize,
}

fn counted(count: &mut Option<u32>) -> bool {
    match count {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn once(count: &mut Option<u32>) -> bool {
    let now = counted(count);
    if now {
        *count = None;
    }
    now
}

fn io_error() -> Error {
    Error::other("simulated I/O error")
}

impl Inner {
    fn alive(&mut self) -> Result<()> {
        if counted(&mut self.faults.die) { Err(Error::other("simulated death")) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|node| self.nodes.get(*node)).map(|node| node.cache.len() as u64).sum()
    }

    fn seen(&self, node: usize) -> Option<Seen> {
        let links = self.names.values().filter(|other| **other == node).count() as u64;
        let bytes = self.nodes.get(node)?.cache.len() as u64;
        Some(Seen { id: FileId { device: 0, inode: node as u64 }, links, bytes })
    }

    fn node(&mut self, node: usize) -> Result<&mut Node> {
        self.nodes.get_mut(node).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn append(&mut self, node: usize, bytes: &[u8]) -> Result<()> {
        self.alive()?;
        let room = self.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if once(&mut self.faults.fail_write) {
            let part = bytes.get(..bytes.len() / 2).unwrap_or_default();
            self.node(node)?.cache.extend_from_slice(part);
            return Err(io_error());
        }
        self.node(node)?.cache.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        if room < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, node: usize) -> Result<()> {
        self.alive()?;
        self.syncs += 1;
        if once(&mut self.faults.fail_sync) {
            return Err(io_error());
        }
        if self.faults.lie != Some(Lie::Sync) {
            let node = self.node(node)?;
            node.durable.clone_from(&node.cache);
        }
        Ok(())
    }

    fn crash_file(node: &mut Node, rng: &mut SmallRng) {
        let common = node.durable.iter().zip(&node.cache).take_while(|(a, b)| a == b).count();
        let mut image = if node.cache.len() >= node.durable.len() || rng.random_bool(0.5) {
            node.durable.clone()
        } else {
            node.cache.clone()
        };
        if common == node.durable.len() && node.cache.len() > common {
            let tail = node.cache.get(common..).unwrap_or_default();
            let stays = rng.random_range(0..=tail.len());
            for page in tail.get(..stays).unwrap_or_default().chunks(PAGE) {
                match rng.random_range(0..6) {
                    0 => image.resize(image.len() + page.len(), 0),
                    1 => image.extend(page.iter().map(|_| rng.random::<u8>())),
                    _ => image.extend_from_slice(page),
                }
            }
        }
        node.cache.clone_from(&image);
        node.durable = image;
    }

    fn crash(&mut self, rng: &mut SmallRng) {
        let mut names = self.durable_names.clone();
        let changed: Vec<_> = self.names.keys().chain(names.keys()).cloned().collect();
        for name in changed {
            let (before, after) = (self.durable_names.get(&name), self.names.get(&name));
            if before != after && rng.random_bool(0.5) {
                match after {
                    Some(node) => drop(names.insert(name, *node)),
                    // A rename is one change: the old name goes only if the new one stays.
                    None if before.is_some_and(|node| names.values().filter(|n| *n == node).count() > 1) => {
                        names.remove(&name);
                    }
                    // A removal stays or is lost like any other change. A name that is gone for a rename is another matter.
                    None if before.is_some_and(|node| self.names.values().all(|n| n != node)) => {
                        names.remove(&name);
                    }
                    None => {}
                }
            }
        }
        for node in &mut self.nodes {
            Self::crash_file(node, rng);
        }
        // Of two names for one file, the newer one wins: the rename happened.
        let newer: Vec<usize> =
            names.iter().filter(|(name, _)| !self.durable_names.contains_key(*name)).map(|(_, node)| *node).collect();
        names.retain(|name, node| !newer.contains(node) || self.durable_names.get(name) != Some(node));
        self.durable_names.clone_from(&names);
        self.names = names;
        self.faults = Faults { lie: self.faults.lie, ..Faults::default() };
    }
}

impl SimDisk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk with the same files, as a copy of the folder has them: what is read is there, and durable.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub(crate) fn copy(&self) -> Self {
        let inner = self.inner();
        let nodes =
            inner.nodes.iter().map(|node| Node { durable: node.cache.clone(), cache: node.cache.clone() }).collect();
        let (names, durable_names) = (inner.names.clone(), inner.names.clone());
        let faults = Faults { lie: inner.faults.lie, ..Faults::default() };
        Self(Arc::new(Mutex::new(Inner { nodes, durable_names, names, faults, syncs: 0, bytes_read: 0 })))
    }

    /// Cuts the power: what was not durable is lost, torn or kept as `seed` says. Faults end, but for the lie.
    pub(crate) fn crash(&self, seed: u64) {
        self.inner().crash(&mut SmallRng::seed_from_u64(seed));
    }

    /// Lets go wrong what `change` says.
    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.inner().faults);
    }

    /// Flips one bit of a file, on the disk and in the cache; nothing if it is shorter than that.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn flip(&self, name: &str, bit: usize) {
        let mut inner = self.inner();
        let node = inner.names.get(name).copied();
        if let Some(node) = node.and_then(|node| inner.nodes.get_mut(node)) {
            for image in [&mut node.durable, &mut node.cache] {
                if let Some(byte) = image.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }

    /// Takes a file away under whoever has it open; it keeps what is in it. What is answered puts it back.
    #[cfg(test)]
    pub(crate) fn take_away(&self, name: &str) -> Option<Taken> {
        let mut inner = self.inner();
        inner.durable_names.remove(name);
        inner.names.remove(name).map(Taken)
    }

    /// Gives a file that was taken away a name, in place of what has it.
    #[cfg(test)]
    pub(crate) fn put_back(&self, name: &str, file: Taken) {
        let mut inner = self.inner();
        inner.durable_names.insert(name.to_owned(), file.0);
        inner.names.insert(name.to_owned(), file.0);
    }

    /// Puts another file in the place of one, as an editor does.
    #[cfg(test)]
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) {
        let file = {
            let mut inner = self.inner();
            inner.nodes.push(Node { durable: bytes.to_vec(), cache: bytes.to_vec() });
            Taken(inner.nodes.len() - 1)
        };
        self.put_back(name, file);
    }

    /// Changes what is in a file, under whoever has it open.
    #[cfg(test)]
    pub(crate) fn meddle(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut inner = self.inner();
        let node = inner.names.get(name).copied();
        if let Some(node) = node.and_then(|node| inner.nodes.get_mut(node)) {
            change(&mut node.durable);
            change(&mut node.cache);
        }
    }

    /// The contents of a file as a reader sees it; empty if there is none.
    #[must_use]
    pub(crate) fn contents(&self, name: &str) -> Vec<u8> {
        let inner = self.inner();
        inner.names.get(name).and_then(|node| inner.nodes.get(*node)).map(|node| node.cache.clone()).unwrap_or_default()
    }

    /// Bytes that all files together hold.
    #[must_use]
    pub(crate) fn used(&self) -> u64 {
        self.inner().used()
    }

    /// How many times a file was synced.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// Bytes that were read from open files.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn bytes_read(&self) -> u64 {
        self.inner().bytes_read
    }

    fn file(&self, node: usize) -> SimFile {
        SimFile { disk: self.clone(), node }
    }
}

impl Storage for SimDisk {
    type File = SimFile;

    fn open_append(&self, name: &str) -> Result<SimFile> {
        let node = self.inner().names.get(name).copied().ok_or(ErrorKind::NotFound)?;
        Ok(self.file(node))
    }

    fn open_read(&self, name: &str) -> Result<Arc<dyn ReadAt>> {
        self.open_append(name).map(|file| file.reader())
    }

    fn create(&self, name: &str) -> Result<SimFile> {
        let mut inner = self.inner();
        inner.alive()?;
        if inner.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if inner.faults.no_inodes || inner.faults.capacity.is_some_and(|capacity| inner.used() >= capacity) {
            return Err(ErrorKind::StorageFull.into());
        }
        inner.nodes.push(Node::default());
        let node = inner.nodes.len() - 1;
        inner.names.insert(name.to_owned(), node);
        drop(inner);
        Ok(self.file(node))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        if inner.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let node = inner.names.remove(from).ok_or(ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        inner.names.remove(name).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        if once(&mut inner.faults.fail_sync_dir) {
            return Err(io_error());
        }
        if inner.faults.lie != Some(Lie::SyncDir) {
            inner.durable_names = inner.names.clone();
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.inner().names.keys().cloned().collect())
    }

    fn read_small(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>> {
        let exists = self.inner().names.contains_key(name);
        let bytes = self.contents(name);
        match exists {
            false => Err(ErrorKind::NotFound.into()),
            true if bytes.len() > bytes_max => Err(ErrorKind::FileTooLarge.into()),
            true => Ok(bytes),
        }
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        let no_room = inner.faults.capacity.is_some_and(|capacity| inner.used() + bytes.len() as u64 > capacity);
        if no_room || inner.faults.no_inodes {
            return Err(ErrorKind::StorageFull.into());
        }
        inner.nodes.push(Node { durable: bytes.to_vec(), cache: bytes.to_vec() });
        let node = inner.nodes.len() - 1;
        inner.names.insert(name.to_owned(), node);
        inner.durable_names = inner.names.clone();
        Ok(())
    }

    fn look(&self, name: &str) -> Result<Option<Seen>> {
        let inner = self.inner();
        Ok(inner.names.get(name).and_then(|node| inner.seen(*node)))
    }

    fn room(&self) -> Result<Room> {
        let inner = self.inner();
        let bytes = inner.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(inner.used()));
        Ok(Room { bytes, files: inner.faults.no_inodes.then_some(0) })
    }
}

impl LogFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.disk.inner().append(self.node, bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.disk.inner().sync(self.node)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        ReadAt::read_at(self, buffer, offset)
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        Arc::new(self.clone())
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        let mut inner = self.disk.inner();
        inner.alive()?;
        if inner.faults.lie != Some(Lie::Truncate) {
            let node = inner.node(self.node)?;
            node.cache.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn seen(&self) -> Result<Seen> {
        self.disk.inner().seen(self.node).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl ReadAt for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut inner = self.disk.inner();
        let inner = &mut *inner;
        let cache = &inner.nodes.get(self.node).ok_or(ErrorKind::NotFound)?.cache;
        let rest = usize::try_from(offset).ok().and_then(|at| cache.get(at..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        inner.bytes_read += len as u64;
        Ok(len)
    }
}
