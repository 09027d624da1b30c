//! Watches over one process: starts it again when it died, and does to it what it is ordered to.
//!
//! A signal goes to the process that is held here and was not waited for yet, so never to another one that got its number.
//! What happens to its files happens while it is down.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use rustix::process::Signal as Posix;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::DRAINED;
use super::child::{self, End, Running, Talk};
use super::keys;
use super::plan::{Kind, Member};
use super::screen::Screen;
use super::up::Settings;
use crate::data::synced;
use crate::limits;

/// What somebody orders of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Be killed.
    Kill,
    /// Be paused.
    Pause,
    /// Be killed, and lose the folder.
    Wipe,
    /// Be killed, and lose what was not synced.
    CutPower,
    /// Go on if it is paused, and start if it is down.
    Mend,
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    /// It runs, and was ready when it was last asked to be.
    Up,
    /// It was started again, and is not yet registered.
    Coming,
    /// It is stopped by a signal.
    Paused,
    /// It died by itself, or by somebody else's hand.
    Dead,
    /// It was killed from here.
    Killed,
    /// It was killed from here, and its folder is gone.
    Wiped,
    /// It was killed from here, and what it had not synced is gone.
    WithoutPower,
    /// It ended because it was asked to, as one that was drained, and is not started again.
    Over,
}

/// What every watcher of a member shares.
pub(crate) struct Shared {
    pub(crate) program: PathBuf,
    pub(crate) verbose: bool,
    pub(crate) restart_after: Option<Duration>,
    pub(crate) screen: Screen,
    pub(crate) members: Vec<Member>,
    /// How the page is talked to, if there is one.
    pub(crate) talk: Option<Talk>,
    seen: RefCell<BTreeMap<String, Seen>>,
    /// The last lines about what was done and what came of it.
    said: RefCell<VecDeque<String>>,
    /// When anything changed about a member.
    changed: Cell<Instant>,
}

/// What is known of a member.
struct Seen {
    pid: u32,
    condition: Condition,
    orders: Option<mpsc::Sender<Order>>,
}

impl Shared {
    pub(crate) fn new(settings: &Settings, screen: Screen, members: Vec<Member>, talk: Option<Talk>) -> Self {
        Self {
            program: settings.program.clone(),
            verbose: settings.verbose,
            restart_after: settings.restart_after,
            screen,
            members,
            talk,
            seen: RefCell::default(),
            said: RefCell::default(),
            changed: Cell::new(Instant::now()),
        }
    }

    /// Says what was done, or what came of it.
    pub(crate) fn say(&self, text: String) {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut said = self.said.borrow_mut();
        said.push_back(format!("{} {text}", now.get(11..19).unwrap_or_default()));
        while said.len() > limits::UP_SAID_MAX {
            said.pop_front();
        }
        self.screen.say(text);
    }

    /// The last of these lines, the oldest first.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.borrow().iter().cloned().collect()
    }

    /// Starts a member's process.
    ///
    /// # Errors
    /// The system can't.
    pub(crate) fn start(&self, member: &Member) -> Result<Running, child::Error> {
        let talk = self.talk.as_ref().filter(|_| member.kind == Kind::Web);
        Running::start_talking(&self.program, self.verbose, member, &self.screen, talk)
    }

    /// Something about a member is not as it was.
    pub(crate) fn changes(&self) {
        self.changed.set(Instant::now());
    }

    /// When that was last.
    pub(crate) fn changed(&self) -> Instant {
        self.changed.get()
    }

    /// Whether all heads and data nodes run that are to.
    pub(crate) fn all_up(&self) -> bool {
        let mut members = self.members.iter().filter(|member| matches!(member.kind, Kind::Head | Kind::Data));
        members.all(|member| matches!(self.condition(&member.name), Some(Condition::Up | Condition::Over)))
    }

    /// Remembers that a process was started.
    pub(crate) fn runs(&self, member: &Member, running: &Running, condition: Condition) {
        self.changes();
        let (mut seen, pid) = (self.seen.borrow_mut(), running.pid().unwrap_or_default());
        let orders = seen.remove(&member.name).and_then(|seen| seen.orders);
        seen.insert(member.name.clone(), Seen { pid, condition, orders });
    }

    /// The process id of a member: that of its last process, if it is down.
    pub(crate) fn pid(&self, member: &Member) -> u32 {
        self.seen.borrow().get(&member.name).map_or(0, |seen| seen.pid)
    }

    /// How a member is; nothing is known of one that was not started.
    pub(crate) fn condition(&self, name: &str) -> Option<Condition> {
        self.seen.borrow().get(name).map(|seen| seen.condition)
    }

    fn set(&self, member: &Member, condition: Condition) {
        self.changes();
        if let Some(seen) = self.seen.borrow_mut().get_mut(&member.name) {
            seen.condition = condition;
        }
    }

    /// Orders something of a member.
    ///
    /// # Errors
    /// Nobody takes the order, in words.
    pub(crate) fn order(&self, name: &str, order: Order) -> Result<(), String> {
        let seen = self.seen.borrow();
        let orders = seen.get(name).and_then(|seen| seen.orders.as_ref());
        match orders.map(|orders| orders.try_send(order)) {
            Some(Ok(())) => Ok(()),
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                Err(format!("{name} has as many orders as may wait; try again in a moment"))
            }
            _ => Err(format!("{name} is over: it was drained or told to end, and is not started again")),
        }
    }

    fn told_of_end(&self, member: &Member, pid: u32, end: &End, over: Option<String>) {
        let next = over.unwrap_or_else(|| match self.restart_after {
            None => "it is not started again (--restart-after never)".to_owned(),
            Some(after) => format!("it is started again in {}", humantime::format_duration(after)),
        });
        self.say(format!("{} (pid {pid}) {}; {next}", member.name, end.words));
    }
}

/// What a process came to.
enum Life {
    /// It still runs, and the end was asked for.
    Stopping,
    /// It is gone and comes back: at once if that was ordered while it died.
    Gone { at_once: bool },
    /// It is gone and does not.
    Over,
}

/// Watches over one member.
pub(crate) struct Watcher {
    member: Member,
    shared: Rc<Shared>,
    stop: CancellationToken,
    orders: mpsc::Receiver<Order>,
    /// Its logs are opened anew when those of `up` would be.
    hangups: Option<Signal>,
}

impl Watcher {
    /// For this member, until `stop`.
    pub(crate) fn new(member: Member, shared: Rc<Shared>, stop: CancellationToken) -> Self {
        let (sender, orders) = mpsc::channel(limits::UP_ORDERS_MAX);
        if let Some(seen) = shared.seen.borrow_mut().get_mut(&member.name) {
            seen.orders = Some(sender);
        }
        Self { member, shared, stop, orders, hangups: signal(SignalKind::hangup()).ok() }
    }

    /// Watches until the end is asked for; the process that runs then, with its name.
    pub(crate) async fn run(mut self, first: Running) -> Option<(String, Running)> {
        let mut child = first;
        loop {
            let pid = child.pid().unwrap_or_default();
            match self.lives(&mut child).await {
                Life::Stopping => return Some((format!("{} (pid {pid})", self.member.name), child)),
                Life::Gone { at_once } => child = self.comes_back(at_once).await?,
                Life::Over => {
                    self.orders.close();
                    self.stop.cancelled().await;
                    return None;
                }
            }
        }
    }

    async fn lives(&mut self, child: &mut Running) -> Life {
        let pid = child.pid().unwrap_or_default();
        let mut ready = child.readiness();
        let (mut ordered, mut at_once) = (None, false);
        let end = loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Life::Stopping,
                end = child.ended() => break end,
                () = hung_up(&mut self.hangups) => drop(child.signal(Posix::HUP)),
                () = listens(&mut ready), if ready.is_some() => {
                    if self.shared.condition(&self.member.name) == Some(Condition::Coming) {
                        self.shared.set(&self.member, Condition::Up);
                    }
                }
                Some(order) = self.orders.recv() => {
                    // While it dies it is neither paused nor continued: it is started again as soon as that is seen.
                    let dying = ordered.is_some();
                    at_once = dying && order == Order::Mend;
                    let is_deadly = !matches!(order, Order::Pause | Order::Mend);
                    // Who is being killed and loses its files is not only killed.
                    if (is_deadly || !dying) && self.obeys(child, order) && (order != Order::Kill || !dying) {
                        ordered = Some(order);
                    }
                }
            }
        };
        let over = self.over(child, &end).await;
        let stays = over.is_some();
        self.shared.told_of_end(&self.member, pid, &end, over);
        match ordered {
            _ if stays => self.shared.set(&self.member, Condition::Over),
            Some(order) => self.loses(order).await,
            None => self.shared.set(&self.member, Condition::Dead),
        }
        if stays { Life::Over } else { Life::Gone { at_once } }
    }

    /// Why it is not to come back, now that it ended; nothing if it is.
    async fn over(&self, child: &mut Running, end: &End) -> Option<String> {
        if self.member.kind != Kind::Data {
            return None;
        }
        // One that ends without an error was asked to: a drained one must not come back.
        if end.in_order {
            return Some("it was drained or told to end, and is not started again".to_owned());
        }
        // One that was killed has said nothing of the kind.
        child.last_error().await.filter(|error| error.contains(DRAINED)).map(|_| {
            let dir = self.member.dir.display();
            format!(
                "it was drained, and is not started again; to have it back, remove {dir}/ and start all of it again"
            )
        })
    }

    /// Does to the process what was ordered; whether it dies of it.
    fn obeys(&self, child: &Running, order: Order) -> bool {
        let (shared, name) = (&self.shared, &self.member.name);
        match order {
            Order::Kill | Order::Wipe | Order::CutPower => child.signal(Posix::KILL),
            Order::Pause if shared.condition(name) == Some(Condition::Paused) => {
                shared.say(format!("{name} is paused already; r has it go on"));
                false
            }
            Order::Pause => {
                if child.signal(Posix::STOP) {
                    shared.set(&self.member, Condition::Paused);
                    shared.say(format!("{name} is paused (SIGSTOP); r has it go on"));
                }
                false
            }
            Order::Mend => {
                if shared.condition(name) == Some(Condition::Paused) && child.signal(Posix::CONT) {
                    shared.set(&self.member, Condition::Up);
                    shared.say(format!("{name} goes on (SIGCONT)"));
                }
                false
            }
        }
    }

    /// What becomes of its files, now that it is down.
    async fn loses(&mut self, order: Order) {
        let (shared, name) = (Rc::clone(&self.shared), self.member.name.clone());
        let condition = match order {
            Order::Wipe => {
                let (dir, members) = (self.member.dir.clone(), shared.members.clone());
                let wiped = tokio::task::spawn_blocking(move || wipe(&dir).map(|()| keys::hand_out(&members)));
                match wiped.await {
                    Ok(Ok(Ok(_))) => {
                        let dir = self.member.dir.display();
                        shared.say(format!("{name} is wiped: {dir}/ is empty, and what only it had is lost"));
                        Condition::Wiped
                    }
                    Ok(Ok(Err(error))) => self.is_only_killed(&error.to_string()),
                    Ok(Err(cause)) => self.is_only_killed(&cause),
                    Err(error) => self.is_only_killed(&error.to_string()),
                }
            }
            Order::CutPower => {
                let dir = self.member.dir.clone();
                match tokio::task::spawn_blocking(move || synced::drop_unsynced(&dir)).await {
                    Ok(Ok(lost)) => {
                        shared.say(format!("{name} lost its power: {lost}"));
                        // The system that comes up again is another run of it.
                        self.member.set_value("--boot-id", format!("cut-{:016x}", rand::random::<u64>()).into());
                        Condition::WithoutPower
                    }
                    Ok(Err(error)) => self.is_only_killed(&error.to_string()),
                    Err(error) => self.is_only_killed(&error.to_string()),
                }
            }
            Order::Kill | Order::Pause | Order::Mend => Condition::Killed,
        };
        shared.set(&self.member, condition);
    }

    fn is_only_killed(&self, cause: &str) -> Condition {
        self.shared.say(format!("{} is killed, but keeps its files: {cause}", self.member.name));
        Condition::Killed
    }

    /// Starts it again, at once, after its time or as soon as it is ordered to; nothing if the end was asked for.
    async fn comes_back(&mut self, mut at_once: bool) -> Option<Running> {
        loop {
            if !std::mem::take(&mut at_once) {
                self.waits().await?;
            }
            let shared = Rc::clone(&self.shared);
            match shared.start(&self.member) {
                Ok(child) => {
                    // Others never say that they are ready.
                    let tells = matches!(self.member.kind, Kind::Head | Kind::Data | Kind::Web);
                    shared.runs(&self.member, &child, if tells { Condition::Coming } else { Condition::Up });
                    shared.say(format!("{} runs again, pid {}", self.member.name, shared.pid(&self.member)));
                    return Some(child);
                }
                Err(error) => shared.say(error.to_string()),
            }
        }
    }

    /// Waits until it is to be started; nothing if the end was asked for.
    async fn waits(&mut self) -> Option<()> {
        let mut over = pin!(after(self.shared.restart_after));
        loop {
            let order = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = &mut over => return Some(()),
                Some(order) = self.orders.recv() => order,
            };
            match order {
                Order::Mend => return Some(()),
                Order::Wipe | Order::CutPower => self.loses(order).await,
                Order::Kill | Order::Pause => {
                    self.shared.say(format!("{} is down: there is no process now", self.member.name));
                }
            }
        }
    }
}

/// Removes a folder with all that is in it. Links in it are removed, and what they lead to is not touched.
fn wipe(dir: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}; remove it by hand", dir.display());
    let found = std::fs::symlink_metadata(dir).map_err(failed)?;
    if !found.is_dir() {
        return Err(format!("{} is a link or no folder, and what it leads to may be somebody else's", dir.display()));
    }
    std::fs::remove_dir_all(dir).map_err(failed)
}

/// Resolves once it listens, or can't say so any more.
async fn listens(ready: &mut Option<oneshot::Receiver<()>>) {
    if let Some(receiver) = ready {
        let said = receiver.await;
        *ready = None;
        if said.is_err() {
            // It is gone, which is told elsewhere.
            std::future::pending().await
        }
    }
}

/// Resolves at the next SIGHUP; never if those can't be watched for.
async fn hung_up(hangups: &mut Option<Signal>) {
    match hangups {
        Some(hangups) => drop(hangups.recv().await),
        None => std::future::pending().await,
    }
}

/// Resolves after a time, or never.
pub(crate) async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_wipe_removes_the_folder_alone_and_nothing_that_a_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (node, other) = (dir.path().join("data2"), dir.path().join("other"));
        for folder in [&node, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("data.txt"), "x").unwrap();
        }
        std::os::unix::fs::symlink(&other, node.join("link")).unwrap();
        wipe(&node).unwrap();
        assert!(!node.exists() && other.join("data.txt").exists());
        std::os::unix::fs::symlink(&other, &node).unwrap();
        assert!(wipe(&node).unwrap_err().contains("is a link"));
        assert!(other.join("data.txt").exists() && node.exists());
        fs::remove_file(&node).unwrap();
        assert!(wipe(&node).unwrap_err().contains("remove it by hand"));
    }
}
