//! Power loss for real: a file system that is cut off between two writes, mounted again, and counted.
//!
//! The node's folder lies on an ext4 of its own, in a file. FS_IOC_SHUTDOWN without a flush stops it as a power cut
//! would: whatever was not synced is gone. Everything that was acknowledged has to be there afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests stop at the first surprise, too"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Head, need, payloads, verify_clean};

/// An ext4 in a file; unmounted when it is dropped.
struct Ext4 {
    image: PathBuf,
    mountpoint: PathBuf,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?} (this test needs e2fsprogs and python3): {said}");
}

impl Ext4 {
    fn make(dir: &Path) -> Self {
        let disk = Self { image: dir.join("disk.img"), mountpoint: dir.join("disk") };
        std::fs::create_dir(&disk.mountpoint).unwrap();
        std::fs::File::create(&disk.image).unwrap().set_len(96 << 20).unwrap();
        run(Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&disk.image));
        need("a file system in a file", &mut disk.mounting());
        disk
    }

    fn mounting(&self) -> Command {
        let mut command = Command::new("mount");
        command.args(["-o", "loop"]).arg(&self.image).arg(&self.mountpoint);
        command
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(&self.mountpoint));
    }

    /// Cuts the power: nothing that is not on the disk by now will ever be.
    fn cut(&self) {
        let script = "import fcntl, os, struct, sys\n\
                      fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        run(Command::new("python3").args(["-c", script]).arg(&self.mountpoint));
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.mountpoint).output());
    }
}

/// Loads a node on a disk of its own, cuts the power, and returns what was acknowledged and what is there afterwards.
fn lose_power(dir: &Path, sync: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let disk = Ext4::make(dir);
    let head = Head::start(dir, &[]);
    // Small files, so that some are sealed on the way.
    let node = head.node(&disk.mountpoint, 1, &["--sync", sync, "--segment-bytes", "64KiB"]);
    let mut client = head.line();
    let mut acknowledged = BTreeSet::new();
    for batch in 0..400 {
        let texts: Vec<String> = (0..10).map(|k| format!("batch {batch} message {k}")).collect();
        client.send(&texts.join("\n"));
        for text in texts {
            assert!(client.read().ends_with(" , mensaje: recibido"), "{text}");
            acknowledged.insert(format!("mensaje: {text}"));
        }
    }
    // In flight when it happens, so that the tail may be torn.
    client.send(&"never answered\n".repeat(500));
    disk.cut();
    node.kill();
    disk.unmount();
    run(&mut disk.mounting());
    let kept = payloads(&disk.mountpoint).into_keys().collect();
    let back = head.node(&disk.mountpoint, 1, &["--segment-bytes", "64KiB"]);
    back.kill();
    verify_clean(&disk.mountpoint, &["data1"]);
    disk.unmount();
    (acknowledged, kept)
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (acknowledged, kept) = lose_power(dir.path(), "always");
    let lost: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(lost.is_empty(), "{} of {} are lost, {:?} is the first", lost.len(), acknowledged.len(), lost.first());
}

/// The test above can fail: without syncs, a power cut does take acknowledged messages away.
#[test]
fn without_syncs_a_power_cut_loses_messages() {
    let dir = tempfile::tempdir().unwrap();
    let (acknowledged, kept) = lose_power(dir.path(), "never");
    assert!(acknowledged.difference(&kept).count() > 0, "the cut took nothing away: it cut nothing");
}
