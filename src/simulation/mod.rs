//! Whole clusters in one thread, on a simulated network, simulated disks and a paused clock, with the faults of a seed.
//!
//! The heads, data nodes and clients are the real ones; only their sockets, disks and clocks are not. `shape` draws a
//! cluster and its faults from a seed, `world` runs it, `process` is what can be killed or paused, `writers` are its
//! clients and `readers` who reads them back, `verdict` judges what is found on the disks afterwards and `reading` what was
//! read. The same seed gives the same run, event for event.
//! It measures nothing: simulated time says nothing about real time.

mod process;
mod readers;
pub(crate) mod reading;
pub(crate) mod shape;
pub(crate) mod verdict;
mod world;
mod writers;

pub(crate) use shape::Shape;

use crate::client::reader;
use crate::data::simulated::Lie;
use crate::head;
use crate::ledger::planted;

/// A fault of the program, planted to show that the verdict finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// Data nodes acknowledge before they sync.
    AckBeforeSync,
    /// Data nodes do not sync their folder after they made or renamed a file.
    FolderUnsynced,
    /// A head forgets what a lost node had in flight.
    NoReplacement,
    /// A reader leaves messages out.
    ReaderDrops,
    /// A reader delivers second copies.
    ReaderRepeats,
    /// A head settles entries before all members have acknowledged them.
    AckEarly,
    /// A head closes ledgers at the greatest of what their members acknowledged.
    CloseAtGreatest,
    /// A node that makes copies promises them before it has them all.
    PartPromises,
    /// An identity goes out before others promise what it promised.
    OutUnrepaired,
}

impl Planted {
    /// Plants a fault in the roles of this thread, or none.
    fn sow(planted: Option<Self>) {
        head::core::FORGETS.set(planted == Some(Self::NoReplacement));
        planted::plant(match planted {
            Some(Self::AckEarly) => Some(planted::Planted::AckEarly),
            Some(Self::CloseAtGreatest) => Some(planted::Planted::CloseAtGreatest),
            Some(Self::PartPromises) => Some(planted::Planted::PartPromises),
            Some(Self::OutUnrepaired) => Some(planted::Planted::OutUnrepaired),
            _ => None,
        });
        reader::PLANTED.set(match planted {
            Some(Self::ReaderDrops) => Some(reader::Planted::Drops),
            Some(Self::ReaderRepeats) => Some(reader::Planted::Repeats),
            _ => None,
        });
    }

    /// The lie of the disk that stands for it, if one does.
    const fn lie(self) -> Option<Lie> {
        match self {
            Self::AckBeforeSync => Some(Lie::Sync),
            Self::FolderUnsynced => Some(Lie::SyncDir),
            _ => None,
        }
    }
}

/// What came of one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// What happened, a line each, with the simulated time in front.
    pub history: Vec<String>,
    /// What must not be; empty if all is well.
    pub problems: Vec<String>,
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages that a reader delivered.
    pub read: u64,
    /// Messages that were delivered out of the order of their client, because a retry came later than a reader waits.
    pub late: u64,
    /// A hash over every byte that was read from a socket and when, every acknowledgement and every record.
    pub digest: u64,
}

/// Runs the cluster and the faults of a seed to the end, and judges.
///
/// # Errors
/// The runtime cannot be started: no file descriptors or memory.
pub fn run(seed: u64, planted: Option<Planted>) -> std::io::Result<Run> {
    world::run(&Shape::draw(seed), planted)
}
