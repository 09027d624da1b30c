//! A guided run of failures on a cluster in containers: `acopio demo --script failures`.
//!
//! One step for each way to lose a container: stopped, paused, cut off, killed. At each it says what to look at, waits
//! for what the heads' heartbeat logs have to tell, sees that messages go on being kept, and reads everything back
//! through the heads that are left. `evidence` is where that comes from; nothing here believes the cluster's own word.

mod evidence;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::check::audit;
use crate::client::status;
use crate::cluster::docker::{Container, Demo};
use crate::cluster::plan::Kind;
use crate::cluster::tail::Tail;
use crate::limits;
use crate::wire::id::RecordId;
use crate::wire::text::{DESCONECTADO, NO_DISPONIBLE};
use evidence::Acknowledged;

/// A step of a drill: what was done, what was to come of it, what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// What was done, to whom.
    pub(crate) did: String,
    /// What had to come of it.
    pub(crate) expected: String,
    /// What was seen.
    pub(crate) saw: String,
    /// Whether that is what was expected.
    pub(crate) good: bool,
}

/// What a container is made to suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Stop,
    Pause,
    Disconnect,
    Kill,
}

impl Fault {
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Stop => ("stop", "start"),
            Self::Pause => ("pause", "unpause"),
            Self::Disconnect => ("network disconnect", "network connect"),
            Self::Kill => ("kill", "start"),
        }
    }

    const fn story(self) -> &'static str {
        match self {
            Self::Stop => "it is told to end (SIGTERM), says so to the heads and goes",
            Self::Pause => "it stands still with its connections open: only its silence tells",
            Self::Disconnect => "its network is gone: nothing comes from it, not even an end of its connections",
            Self::Kill => "it dies (SIGKILL) with what it was doing; there is no leader, so nobody takes over",
        }
    }
}

/// Why a step could not be done: told in its row.
type Cause = String;

/// A drill under way.
struct Drill<'a> {
    demo: &'a Demo,
    acknowledged: Acknowledged,
    rows: Vec<Row>,
}

/// Does all steps, on a demo with two heads or more, three data nodes or more, and two copies of each message. It ends
/// early after a step that went wrong.
pub(crate) async fn run(demo: &Demo) -> Vec<Row> {
    let registros = demo.of(Kind::Head).map(|head| head.member.dir.join("registro.log"));
    let mut drill = Drill { demo, acknowledged: Acknowledged::new(registros), rows: Vec::new() };
    drill.all().await;
    drill.rows
}

/// What an audit says of the files of a demo that ended. `temp` is a folder for its own files.
///
/// # Errors
/// They can't be read.
pub(crate) fn verdict(dir: &std::path::Path, temp: PathBuf) -> Result<audit::Report, audit::Error> {
    let paths = vec![dir.to_owned()];
    let settings = audit::Settings { registros: paths.clone(), data: paths, since: RecordId::ZERO, check: None, temp };
    audit::audit(&settings, &mut |_, _, _| {})
}

impl Drill<'_> {
    async fn all(&mut self) {
        if let Err(cause) = self.begin().await {
            self.row("start the cluster", "messages are kept and read back", cause, false);
            return;
        }
        let nodes: Vec<Container> = self.demo.of(Kind::Data).take(3).cloned().collect();
        let heads: Vec<Container> = self.demo.of(Kind::Head).take(1).cloned().collect();
        let faults = [Fault::Stop, Fault::Pause, Fault::Disconnect];
        let steps = faults.into_iter().zip(nodes).chain([Fault::Kill].into_iter().zip(heads));
        for (number, (fault, victim)) in (1..).zip(steps) {
            if !self.step(number, fault, &victim).await {
                return;
            }
        }
    }

    /// Waits until the cluster is whole and keeps messages.
    async fn begin(&mut self) -> Result<(), Cause> {
        self.say("\n== the cluster as it is to be");
        self.whole().await?;
        let kept = self.kept().await?;
        let read = self.read(None).await?;
        let (row, good) = (read.words(), read.lost == 0);
        self.say(&format!("   {row}"));
        self.row("start the cluster", "messages are kept and read back", format!("{kept} kept; {row}"), good);
        if good { Ok(()) } else { Err("the cluster was not whole to begin with".to_owned()) }
    }

    /// One step; false if it went wrong.
    async fn step(&mut self, number: usize, fault: Fault, victim: &Container) -> bool {
        let (word, back) = fault.words();
        let name = &victim.member.name;
        let did = format!("{word} {name}");
        self.say(&format!("\n== step {number}: {did}: {}", fault.story()));
        self.look_at(fault, victim).await;
        let expected = match victim.member.kind {
            Kind::Head => "the other head goes on; 0 lost; it takes part again",
            _ => "evicted; others keep; 0 lost; it registers again",
        };
        let result = self.suffer(fault, victim).await;
        let result = match result {
            Ok(saw) => {
                self.say(&format!("== {back} {name}"));
                self.mend(fault, victim).await.map(|()| saw)
            }
            Err(cause) => Err(cause),
        };
        let good = result.is_ok();
        let saw = match result {
            Ok(saw) => format!("{saw}; back again"),
            Err(cause) => cause,
        };
        self.say(&format!("   {}: {saw}", if good { "as expected" } else { "NOT as expected" }));
        self.row(&did, expected, saw, good);
        good
    }

    /// What a person would look at meanwhile.
    async fn look_at(&self, fault: Fault, victim: &Container) {
        let watcher = self.heads(Some(victim)).next();
        if let Some(head) = watcher {
            self.say(&format!("   look at: tail -F {}/heartbeat.log", head.member.dir.display()));
            self.say(&format!("            tail -F {}/registro.log", head.member.dir.display()));
        }
        // A head that can't be reached now is told of by the read below.
        if let Some(address) = self.addresses(Some(victim)).await.ok().and_then(|found| found.into_iter().next()) {
            self.say(&format!("            acopio read --head {address} --count; acopio status --head {address}"));
        }
        if fault == Fault::Disconnect {
            self.say(&format!("            docker network inspect {}", self.demo.settings.name));
        } else {
            self.say(&format!("            docker ps -a --filter label=acopio.demo={}", self.demo.settings.name));
        }
    }

    /// Does it, and waits for all that has to come of it; what was seen.
    async fn suffer(&mut self, fault: Fault, victim: &Container) -> Result<String, Cause> {
        let name = &victim.member.name;
        let logs = self.heartbeats(Some(victim));
        self.inflict(fault, victim).await?;
        let wanted = match victim.member.kind {
            Kind::Head => "disponible name=".to_owned(),
            _ if fault == Fault::Stop => format!("{DESCONECTADO} name={name} "),
            _ => format!("{NO_DISPONIBLE} name={name} "),
        };
        let line = self.told(logs, &wanted).await?;
        let kept = self.kept().await?;
        self.say(&format!("   {kept} messages were kept meanwhile"));
        let read = self.read(Some(victim)).await?;
        self.say(&format!("   {}", read.words()));
        if read.lost > 0 {
            return Err(read.words());
        }
        let seen = match victim.member.kind {
            Kind::Head => "the other has all nodes".to_owned(),
            _ => evidence::cause(&line).map_or_else(|| "evicted".to_owned(), |cause| format!("evicted, {cause}")),
        };
        Ok(format!("{seen}; {kept} kept; {}", read.words()))
    }

    async fn inflict(&self, fault: Fault, victim: &Container) -> Result<(), Cause> {
        let (engine, id, name) = (&self.demo.engine, &victim.id, &victim.name);
        match fault {
            Fault::Stop => engine.stop(id, name).await,
            Fault::Pause => engine.pause(id, name).await,
            Fault::Disconnect => engine.disconnect(&self.demo.network, id, name).await,
            Fault::Kill => engine.kill(id, name).await,
        }
        .map_err(|error| error.to_string())
    }

    /// Brings it back, and waits until it takes part again.
    async fn mend(&mut self, fault: Fault, victim: &Container) -> Result<(), Cause> {
        let (engine, id, name) = (&self.demo.engine, &victim.id, &victim.name);
        let (logs, wanted) = match victim.member.kind {
            Kind::Head => (vec![heartbeat(victim)], " registered ".to_owned()),
            _ => (self.heartbeats(None), format!(" disponible name={} registered ", victim.member.name)),
        };
        match fault {
            Fault::Stop | Fault::Kill => engine.start(id, name).await,
            Fault::Pause => engine.unpause(id, name).await,
            Fault::Disconnect => engine.connect(&self.demo.network, id, &victim.member.name).await,
        }
        .map_err(|error| error.to_string())?;
        self.told(logs, &wanted).await?;
        self.whole().await
    }

    /// Waits until each of these heartbeat logs has a line with this in it, and shows them; the last of them.
    async fn told(&self, logs: Vec<(String, Tail)>, wanted: &str) -> Result<String, Cause> {
        let mut found = String::new();
        for (head, mut tail) in logs {
            let wait = async {
                loop {
                    let lines = tail.lines().map_err(|error| format!("{head}/heartbeat.log: {error}"))?;
                    let lines: Vec<String> = lines.into_iter().filter(|line| line.contains(wanted)).collect();
                    if !lines.is_empty() {
                        return Ok(lines);
                    }
                    sleep(limits::CONTAINER_POLL).await;
                }
            };
            let late = || format!("{head}/heartbeat.log has no line with '{}'", wanted.trim());
            let lines: Vec<String> = timeout(self.patience(), wait).await.map_err(|_| late()).flatten()?;
            for line in lines.iter().take(limits::SCRIPT_LINES_SHOWN_MAX) {
                self.say(&format!("   {head}/heartbeat.log: {line}"));
                found.clone_from(line);
            }
        }
        Ok(found)
    }

    /// Waits until some more messages are acknowledged than by now; how many more.
    async fn kept(&mut self) -> Result<usize, Cause> {
        self.acknowledged.update()?;
        let before = self.acknowledged.count();
        let wait = async {
            loop {
                self.acknowledged.update()?;
                let more = self.acknowledged.count().saturating_sub(before);
                if more >= limits::SCRIPT_MESSAGES_MIN {
                    return Ok(more);
                }
                sleep(limits::CONTAINER_POLL).await;
            }
        };
        let late = || format!("fewer than {} messages were kept meanwhile", limits::SCRIPT_MESSAGES_MIN);
        timeout(limits::SCRIPT_STEP_TIME_MAX, wait).await.map_err(|_| late()).flatten()
    }

    /// Reads everything that is acknowledged by now, through the heads but one.
    async fn read(&mut self, without: Option<&Container>) -> Result<evidence::Read, Cause> {
        self.acknowledged.update()?;
        let heads = self.addresses(without).await?;
        let late = || "a read of everything did not end".to_owned();
        timeout(2 * self.patience(), self.acknowledged.read(heads)).await.map_err(|_| late()).flatten()
    }

    /// Waits until all nodes are registered with all heads, and no record is short of copies.
    async fn whole(&self) -> Result<(), Cause> {
        let nodes = self.demo.of(Kind::Data).count();
        let wait = async {
            loop {
                let mut whole = true;
                // A head that was started again has another port.
                for head in self.addresses(None).await? {
                    let report = status(&head).await;
                    whole &= report.is_ok_and(|report| {
                        report.nodes.len() == nodes && report.short_of_copies == 0 && report.lacking.is_empty()
                    });
                }
                if whole {
                    return Ok(());
                }
                sleep(limits::CONTAINER_POLL).await;
            }
        };
        let late = || format!("the {nodes} data nodes are not all there, with all copies");
        timeout(2 * self.patience(), wait).await.map_err(|_| late()).flatten()
    }

    async fn addresses(&self, without: Option<&Container>) -> Result<Vec<String>, Cause> {
        let mut found = Vec::new();
        for head in self.heads(without) {
            let address: Option<SocketAddr> = self.demo.head_address(head).await.map_err(|error| error.to_string())?;
            found.extend(address.map(|address| address.to_string()));
        }
        Ok(found)
    }

    fn heads<'b>(&'b self, without: Option<&'b Container>) -> impl Iterator<Item = &'b Container> {
        self.demo.of(Kind::Head).filter(move |head| without.is_none_or(|without| without.id != head.id))
    }

    /// The heartbeat logs of the heads but one, from here on.
    fn heartbeats(&self, without: Option<&Container>) -> Vec<(String, Tail)> {
        self.heads(without).map(heartbeat).collect()
    }

    /// A silent node is evicted within two heartbeats; the machine may be slow.
    fn patience(&self) -> Duration {
        let heartbeat = humantime::parse_duration(&self.demo.settings.plan.heartbeat).unwrap_or_default();
        limits::SCRIPT_STEP_TIME_MAX + 2 * heartbeat
    }

    fn say(&self, line: &str) {
        self.demo.screen.say(line);
    }

    fn row(&mut self, did: &str, expected: &str, saw: String, good: bool) {
        self.rows.push(Row { did: did.to_owned(), expected: expected.to_owned(), saw, good });
    }
}

fn heartbeat(head: &Container) -> (String, Tail) {
    (head.member.name.clone(), Tail::at_end(head.member.dir.join("heartbeat.log")))
}
