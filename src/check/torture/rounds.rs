//! A run: the cluster is started, each round's faults are inflicted and undone, the load ends, and all is quiet.
//!
//! What is done and in which order is the plan's; whether it was borne is found out afterwards.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::{self, Cluster, Victim};
use super::disk::{self, SmallDisk};
use super::history::History;
use super::load::{self, Load};
use super::plan::{self, Fault, Kind, Plan};
use super::reading::{self, Followed, Follower};

use super::verdict::Verdict;
use super::{Error, Settings};
use crate::client::{self, Leaving};
use crate::cluster::link::Link;
use crate::limits;
use crate::wire::id::ClientId;
use tokio_util::sync::CancellationToken;

/// What the parts of a run share.
pub(crate) struct Run<'s> {
    /// The settings.
    pub(crate) settings: &'s Settings,
    /// What happened so far.
    pub(crate) history: Rc<RefCell<History>>,
    /// The disk that can be filled, if there is one.
    pub(crate) disk: Option<&'s SmallDisk>,
    /// Ends the faults early.
    pub(crate) shutdown: CancellationToken,
}

/// What a run that was carried out found out on the way.
#[derive(Debug)]
pub(crate) struct Done {
    /// Seconds in which faults came.
    pub(crate) seconds: f64,
    /// Longest time from a wipe's end or the last healing until no head knew of a record short of copies, seconds; none if
    /// that was not waited for, or never reached.
    pub(crate) copies_s: Option<f64>,
    /// What was read through the healed cluster.
    pub(crate) read: Verdict,
    /// What was delivered to who followed all the time.
    pub(crate) follow: Followed,
}

impl Run<'_> {
    /// From the start of the cluster to its end.
    pub(crate) async fn torture(&self, plan: &Plan, ids: Vec<ClientId>) -> Result<Done, Error> {
        let settings = self.settings;
        let mut cluster = Cluster::start(cluster::Settings {
            program: settings.program.clone(),
            dir: settings.dir.clone(),
            heads: settings.heads,
            nodes: settings.nodes,
            replicas: settings.replicas,
            heartbeat: settings.heartbeat,
            segment_bytes: settings.segment_bytes,
        })
        .await?;
        let time = limits::TORTURE_WHOLE_TIME_MAX;
        if let Err(missing) = self.whole(&mut cluster, false, false, time).await? {
            return Err(Error::NotWhole { time, missing, dir: settings.dir.clone() });
        }
        let (nodes, heads) = (settings.nodes, settings.heads);
        self.history.borrow_mut().note("whole", &format!("{nodes} data nodes are registered with {heads} heads"));
        let follower = Follower::start(cluster.addresses(), &self.history);
        let (rate, lines) = (settings.rate, settings.lines);
        let load =
            Load::start(&load::Settings { heads: cluster.addresses(), library: ids, lines, rate }, &self.history);
        let began = Instant::now();
        let of_wipes = self.rounds(&mut cluster, plan, began + settings.run_for).await?;
        let seconds = began.elapsed().as_secs_f64();
        // What was sent before the last fault is acknowledged while the load goes on.
        sleep(settings.heartbeat).await;
        load.finish(Instant::now() + limits::TORTURE_RETRY_TIME + limits::TORTURE_SILENCE_MAX).await;
        let copies_s = self.settled(&mut cluster).await?.max(of_wipes).map(|time| time.as_secs_f64());
        let read = reading::read_all(&cluster.addresses(), &self.history).await;
        // What can't be read can't be followed, either.
        let patience = if read.is_good() { limits::TORTURE_FOLLOW_TIME_MAX } else { limits::TORTURE_FOLLOW_CALM };
        let follow = follower.finish(patience).await;
        for name in cluster.end().await {
            self.history.borrow_mut().trouble(format!("{name} did not end in time and was killed"));
        }
        Ok(Done { seconds, copies_s, read, follow })
    }

    /// Round after round until the time is over. The longest time until copies were made again.
    async fn rounds(&self, cluster: &mut Cluster, plan: &Plan, until: Instant) -> Result<Option<Duration>, Error> {
        let mut longest = None;
        for round in &plan.rounds {
            let begin = Instant::now() + round.pause;
            if begin >= until || !self.sleep_until(begin).await {
                self.sleep_until(until).await;
                break;
            }
            self.round(cluster, round, begin).await?;
            if let Err(missing) = self.whole(cluster, false, false, limits::TORTURE_WHOLE_TIME_MAX).await? {
                let time = limits::TORTURE_WHOLE_TIME_MAX;
                let text = format!("the cluster is not whole {time:?} after the faults were undone: {missing}");
                self.history.borrow_mut().trouble(text);
                break;
            }
            self.history.borrow_mut().note("whole", "the cluster is whole");
            // Two nodes that lost their files at a time would be more than two copies bear.
            if let Some(wipe) = round.faults.iter().find(|fault| fault.kind == Kind::Wipe) {
                self.give_up(cluster, wipe).await;
                longest = longest.max(self.copies(cluster, false, "a wipe").await?);
            }
        }
        Ok(longest)
    }

    /// Says that what a node was before it lost its files will not come back, as a person does who gives it another disk:
    /// reads would miss it for ever.
    async fn give_up(&self, cluster: &Cluster, wipe: &Fault) {
        let Some(head) = cluster.addresses().into_iter().next() else { return };
        let name = cluster.name(victim(wipe));
        match client::drain(&head, name, Leaving::Gone).await {
            Ok(()) => self.history.borrow_mut().note("note", &format!("what {name} was before the wipe is given up")),
            Err(error) => self.history.borrow_mut().trouble(format!("the wiped {name} cannot be given up: {error}")),
        }
    }

    /// Inflicts the faults of a round and undoes them, each in its time.
    async fn round(&self, cluster: &mut Cluster, round: &plan::Round, begin: Instant) -> Result<(), Error> {
        let mut steps = Vec::new();
        for fault in &round.faults {
            steps.push((fault.after, false, fault));
            steps.push((fault.after + fault.hold, true, fault));
        }
        // The beginning of a fault without length is before its end: the sort is stable.
        steps.sort_by_key(|(at, _, _)| *at);
        for (at, ends, fault) in steps {
            if !self.sleep_until(begin + at).await {
                // What is not undone is healed below.
                break;
            }
            if ends {
                self.undo(cluster, fault)?;
            } else {
                self.inflict(cluster, fault, round.faults.len() == 1).await?;
            }
        }
        if let Some(disk) = self.disk {
            disk.free().map_err(self.settings.folder_error())?;
        }
        cluster.heal()
    }

    async fn inflict(&self, cluster: &mut Cluster, fault: &Fault, alone: bool) -> Result<(), Error> {
        let victim = victim(fault);
        let name = cluster.name(victim).to_owned();
        let hold = format!("{:.1} s", fault.hold.as_secs_f64());
        let link = || match fault.link {
            Some(head) => format!("{name}'s link to {}", cluster.name(Victim::Head(head))),
            None => format!("{name}'s links to all heads"),
        };
        let text = match fault.kind {
            Kind::Kill | Kind::Head => format!("{name} is killed for {hold}"),
            Kind::Wipe => format!("{name} is killed and wiped, for {hold}"),
            Kind::Stop | Kind::HeadStop => format!("{name} is paused for {hold}"),
            Kind::Cut => format!("cut for {hold}: {}", link()),
            Kind::Stall => format!("stalled for {hold}: {}", link()),
            Kind::Full => format!("{name}'s disk is full for {hold}"),
            Kind::Flip => format!("{name} has a bit flipped"),
        };
        if fault.kind != Kind::Flip {
            self.history.borrow_mut().fault(fault.kind, alone, &text);
        }
        match fault.kind {
            Kind::Kill | Kind::Head => cluster.kill(victim).await,
            Kind::Wipe => {
                cluster.kill(victim).await;
                disk::wipe(&cluster.folder(fault.victim)).map_err(self.settings.folder_error())?;
            }
            Kind::Stop | Kind::HeadStop => cluster.pause(victim),
            Kind::Cut => cluster.link(fault.victim, fault.link, Link::Cut),
            Kind::Stall => cluster.link(fault.victim, fault.link, Link::Stalled),
            Kind::Full => {
                if let Some(disk) = self.disk {
                    disk.fill().map_err(self.settings.folder_error())?;
                }
            }
            Kind::Flip => self.flip(&cluster.folder(fault.victim), fault, alone, &text).await?,
        }
        Ok(())
    }

    /// Flips a bit as soon as there is a sealed file.
    async fn flip(&self, folder: &Path, fault: &Fault, alone: bool, text: &str) -> Result<(), Error> {
        let deadline = Instant::now() + limits::TORTURE_SEALED_TIME_MAX;
        loop {
            if let Some(flipped) = disk::flip(folder, fault.draw).map_err(self.settings.folder_error())? {
                let text = format!("{text}: byte {} of {}", flipped.offset, flipped.file);
                let mut history = self.history.borrow_mut();
                history.fault(fault.kind, alone, &text);
                history.flipped(&flipped.messages);
                return Ok(());
            }
            if Instant::now() >= deadline || !self.sleep_until(Instant::now() + limits::TORTURE_POLL_EVERY).await {
                self.history.borrow_mut().note("note", "no file is sealed yet, so no bit is flipped");
                return Ok(());
            }
        }
    }

    fn undo(&self, cluster: &mut Cluster, fault: &Fault) -> Result<(), Error> {
        let victim = victim(fault);
        match fault.kind {
            Kind::Kill | Kind::Wipe | Kind::Head => cluster.run(victim)?,
            Kind::Stop | Kind::HeadStop => cluster.unpause(victim),
            Kind::Cut | Kind::Stall => cluster.link(fault.victim, fault.link, Link::Open),
            Kind::Full => {
                if let Some(disk) = self.disk {
                    disk.free().map_err(self.settings.folder_error())?;
                }
            }
            Kind::Flip => {}
        }
        let text = format!("{}: {} is over", cluster.name(victim), fault.kind);
        self.history.borrow_mut().over(fault.kind, &text);
        Ok(())
    }

    /// Waits until the cluster is whole; inside, what is missing after `time`.
    async fn whole(
        &self,
        cluster: &mut Cluster,
        settled: bool,
        copies: bool,
        time: Duration,
    ) -> Result<Result<(), String>, Error> {
        let ended = |how| self.history.borrow_mut().trouble(how);
        cluster.whole(settled, copies, Instant::now() + time, ended).await
    }

    /// Waits until no head knows of a record short of copies, if that is judged; how long it took.
    async fn copies(&self, cluster: &mut Cluster, settled: bool, after: &str) -> Result<Option<Duration>, Error> {
        let Some(time) = self.settings.copies_within else { return Ok(None) };
        let began = Instant::now();
        if let Err(missing) = self.whole(cluster, settled, true, time).await? {
            self.history.borrow_mut().trouble(format!("copies are missing {time:?} after {after}: {missing}"));
            return Ok(None);
        }
        let took = began.elapsed().saturating_sub(limits::TORTURE_COPIES_CALM);
        self.history.borrow_mut().note("copies", &format!("no record is short of copies since {took:?} after {after}"));
        Ok(Some(took))
    }

    /// Waits until nothing is in flight, and until copies are made again if that is asked for; how long that took.
    async fn settled(&self, cluster: &mut Cluster) -> Result<Option<Duration>, Error> {
        let time = limits::TORTURE_WHOLE_TIME_MAX;
        if let Err(missing) = self.whole(cluster, true, false, time).await? {
            let text = format!("the cluster is not settled {time:?} after the faults were undone: {missing}");
            self.history.borrow_mut().trouble(text);
        }
        self.copies(cluster, true, "the faults were undone").await
    }

    /// Sleeps; false if told to stop.
    async fn sleep_until(&self, until: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            () = sleep_until(until) => true,
        }
    }
}

const fn victim(fault: &Fault) -> Victim {
    if fault.kind.is_of_a_head() { Victim::Head(fault.victim) } else { Victim::Node(fault.victim) }
}
