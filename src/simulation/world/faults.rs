//! Lets go wrong what a shape says, ends it again, and starts what ended on its own.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;

use super::hosts::{IN_ORDER, of_copies, set_copies};
use super::{PORT, Step, WATCH_EVERY, World, ip};
use crate::limits;
use crate::net::simulated::Down;
use crate::simulation::process::Process;
use crate::simulation::shape::{DiskFault, Fault, Host};

impl World {
    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Fault(fault) => self.fault(fault),
            Step::Start(host) => self.start(host),
            Step::Resume(host) => {
                self.note(&format!("{host:?} goes on"));
                self.resume(host);
            }
            Step::Mend(from, to, both) => {
                self.note(&format!("the road from {from:?} to {to:?} is mended"));
                self.cut(from, to, both, false);
            }
            Step::Fast(n) => {
                if let Some(node) = self.nodes.get(n) {
                    node.slow_ms.store(0, Ordering::Relaxed);
                }
                self.note(&format!("the disk of Node({n}) is fast again"));
            }
            Step::Room(n) => {
                self.room(n);
                self.note(&format!("the disk of Node({n}) has room again"));
            }
            Step::Read(partial) => {
                self.note("somebody reads");
                self.ask_for_all(partial);
            }
            Step::Watch => self.watch(),
            Step::Force(host) => {
                if self.process(host).is_some_and(|process| process.as_ref().is_some_and(Process::is_stopping)) {
                    self.note(&format!("{host:?} did not end in time"));
                    self.kill(host, Down::Killed);
                    self.after(WATCH_EVERY, Step::Start(host));
                }
            }
        }
    }

    /// Starts again what ended on its own, as whoever runs the cluster would.
    pub(super) fn watch(&mut self) {
        self.after(WATCH_EVERY, Step::Watch);
        self.look_at_claims();
        let hosts: Vec<Host> =
            (0..self.heads.len()).map(Host::Head).chain((0..self.nodes.len()).map(Host::Node)).collect();
        for host in hosts {
            let asked = self.process(host).is_some_and(|process| process.as_ref().is_some_and(Process::was_asked));
            let ended = self.process(host).and_then(|process| process.as_ref().and_then(Process::ended));
            if let Some(ended) = ended {
                self.note(&format!("{host:?} ended: {ended}"));
                self.kill(host, Down::Killed);
                let left = ended == IN_ORDER && !asked || ended.contains("was drained");
                if let Host::Node(n) = host
                    && left
                {
                    self.leave(n);
                }
                if let Host::Node(n) = host
                    && ended.contains("--new-id")
                {
                    self.start_anew(n);
                }
                let time = Duration::from_millis(self.rng.random_range(0..5_000));
                self.after(time, Step::Start(host));
            }
        }
    }

    pub(super) fn cut(&mut self, from: Host, to: Host, both: bool, cut: bool) {
        self.net.cut(ip(from), ip(to), cut);
        if both {
            self.net.cut(ip(to), ip(from), cut);
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.note(&format!("{fault:?}"));
        match fault {
            Fault::Kill(host, time) => {
                if self.kill(host, Down::Killed) {
                    self.after(time, Step::Start(host));
                }
            }
            Fault::Power(host, time) => {
                if self.kill(host, Down::Dark) {
                    self.after(time, Step::Start(host));
                }
            }
            Fault::Stop(host) => {
                if let Some(Some(process)) = self.process(host) {
                    process.stop();
                    self.after(limits::STOP_TIME_MAX, Step::Force(host));
                }
            }
            Fault::Pause(host, time) => {
                if let Some(Some(process)) = self.process(host) {
                    process.pause(true);
                    self.after(time, Step::Resume(host));
                }
            }
            Fault::Wipe(n, time) => self.wipe(n, time),
            Fault::Cut { from, to, both, time } => {
                self.cut(from, to, both, true);
                self.after(time, Step::Mend(from, to, both));
            }
            Fault::Reset(a, b) => self.net.reset(ip(a), ip(b)),
            Fault::Slow(n, by, time) => {
                if let Some(node) = self.nodes.get(n) {
                    node.slow_ms.store(by.as_millis() as u64, Ordering::Relaxed);
                }
                self.after(time, Step::Fast(n));
            }
            Fault::Fail(n, what, after) => {
                if let Some(node) = self.nodes.get(n) {
                    node.disk.faults(|faults| match what {
                        DiskFault::Write => faults.fail_write = Some(after),
                        DiskFault::Sync => faults.fail_sync = Some(after),
                        DiskFault::SyncDir => faults.fail_sync_dir = Some(after),
                    });
                }
            }
            Fault::Full(n, room, time) => {
                if let Some(node) = self.nodes.get(n) {
                    let used = node.disk.used();
                    node.disk.faults(|faults| faults.capacity = Some(used + room));
                }
                self.after(time, Step::Room(n));
            }
            Fault::Drain(n) => self.drain(n),
            Fault::Backup(n) => {
                if let Some(node) = self.nodes.get_mut(n) {
                    node.backup = Some(node.disk.copy());
                }
            }
            Fault::Restore(n, time) => self.restore(n, time),
            Fault::Forget(n, time) => {
                let was_up = self.kill(Host::Head(n), Down::Killed);
                if let Some(head) = self.heads.get(n) {
                    head.state.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                if was_up {
                    self.after(time, Step::Start(Host::Head(n)));
                }
            }
            Fault::Copies(copies) => {
                let change = self.change(of_copies(copies));
                let head = format!("{}:{PORT}", ip(Host::Head(self.rng.random_range(0..self.heads.len()))));
                tokio::task::spawn_local(async move { set_copies(change, &head, copies).await });
            }
            Fault::Rot(n) => self.rot(n),
            Fault::Jump(n, ns) => {
                if let Some(head) = self.heads.get(n) {
                    head.clock.jump(ns);
                }
            }
        }
    }
}
