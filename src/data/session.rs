//! A data node's connection to one head: dial, register, keep what comes, answer, and dial again after a loss.
//!
//! The records go to [`super::commit`]; this file moves frames.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::answers::{Answers, Question};
use super::commit::{Commit, Sender, Verdict};
use super::config::Config;
use super::log::{LogError, SyncPolicy};
use super::membership::{Doubt, Membership};
use super::repair::{self, Desk, Repair};
use super::scans::Scans;
use crate::limits;
use crate::net::framed::{self, Ended};
use crate::net::{Backoff, Outbox, ReadHalf, Stream, Turn, read_some};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame, NodeReport, SyncMode};
use crate::wire::text::FRAMED_NODE_OPENING;
use tokio_util::sync::CancellationToken;

/// Who this node is, for every session.
pub(crate) struct Identity {
    /// Settings.
    pub(crate) config: Config,
    /// What it is to its cluster.
    pub(crate) membership: Rc<Membership>,
    /// Its repair.
    pub(crate) repair: Rc<Repair>,
    /// What reads its records.
    pub(crate) scans: Rc<Scans>,
}

/// What to do about it, where the cause does not say so.
const fn remedy(ended: &Ended) -> &'static str {
    match ended {
        Ended::Io(_) => "; see that a head runs there",
        Ended::Closed => "; see its log for the cause",
        Ended::Silent(_) => "; see that it runs and can be reached",
        _ => "",
    }
}

struct HeadSender {
    outbox: Rc<Outbox>,
    repair: Rc<Repair>,
    /// The last Put that was answered.
    answered: Cell<u64>,
    /// Puts that came too late, and wait for their turn to be refused: no more than the window.
    late: RefCell<VecDeque<u64>>,
    /// When the head was heard last.
    heard: Cell<Instant>,
    sync: SyncMode,
}

impl HeadSender {
    /// Refuses a Put that came too late, once all before it are answered.
    fn refuse(&self, number: u64) {
        self.repair.refused();
        self.late.borrow_mut().push_back(number);
        self.refuse_next();
    }

    fn refuse_next(&self) {
        let next = || self.late.borrow_mut().pop_front_if(|number| *number == self.answered.get() + 1);
        while let Some(number) = next() {
            self.answered.set(number);
            self.outbox.answer(|out| frame::put_refused(out, number, Code::Busy, LATE));
        }
    }
}

/// Why a Put is refused whose ids a reader has passed.
const LATE: &str = "readers of another head have passed the id of this message; send it again and it gets a new one";

impl Sender for HeadSender {
    fn settled(&self, first: u64, last: u64, verdict: &Verdict) {
        match verdict {
            Verdict::Kept => self.outbox.answer(|out| frame::put_ack(out, last, self.sync)),
            Verdict::NotKept(error) => {
                self.repair.refused();
                let code = if matches!(error, LogError::Full { .. }) { Code::DiskFull } else { Code::Storage };
                let why = error.to_string();
                self.outbox.answer(|out| (first..=last).for_each(|number| frame::put_refused(out, number, code, &why)));
            }
        }
        self.answered.set(last);
        self.refuse_next();
    }
}

/// The promise that an acknowledgement makes under this policy.
const fn sync_mode(policy: SyncPolicy) -> SyncMode {
    match policy {
        SyncPolicy::Always => SyncMode::Always,
        SyncPolicy::Every(_) => SyncMode::Interval,
        SyncPolicy::Never => SyncMode::Never,
    }
}

/// Keeps this node registered with one head until it is asked to stop or its log is poisoned.
pub(crate) async fn keep(
    head: &str,
    me: &Identity,
    commit: &Rc<Commit>,
    answers: &Rc<Answers>,
    shutdown: &CancellationToken,
) {
    let mut rng = SmallRng::seed_from_u64(me.config.seed);
    let mut backoff = Backoff::default();
    let mut said = String::new();
    let mut doubt = Doubt::default();
    let mut untried = Some(Untried(answers));
    while !shutdown.is_cancelled() && commit.poisoned().is_none() {
        let ended = once(head, me, (commit, answers), shutdown, (&mut backoff, &mut doubt, &mut untried)).await;
        untried = None;
        if shutdown.is_cancelled() {
            return;
        }
        let (stops, waits, trouble);
        let cause = match ended {
            Ok(()) => continue,
            Err(ended) => {
                say_if_twice(head, &ended, me, &mut doubt);
                // A head that was understood up to there will say the same again.
                waits = matches!(&ended, Ended::Garbled(_));
                stops = matches!(&ended, Ended::Refused(refusal) if refusal.code == Code::Stopping);
                trouble = ended.kind();
                format!("head {head}: {ended}{}", remedy(&ended))
            }
        };
        // The same trouble again is said once.
        if trouble != said {
            if stops {
                tracing::info!("head {head} stops; trying again until it is back");
            } else {
                tracing::warn!("{cause}; trying again until it works");
            }
            said = trouble;
        }
        if !me.config.heads.lists(head) {
            tracing::info!("head {head} is not announced any more: it is given up");
            return;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = sleep(if waits { limits::BACKOFF_MAX } else { backoff.next(&mut rng) }) => {}
        }
    }
}

/// A head that was not reached yet; dropped once it was, or was not.
struct Untried<'a>(&'a Answers);

impl Drop for Untried<'_> {
    fn drop(&mut self) {
        self.0.tried();
    }
}

/// A head refused this node because another is registered under its identity or name: says so if that is no shadow of
/// this one.
fn say_if_twice(head: &str, ended: &Ended, me: &Identity, doubt: &mut Doubt) {
    let Ended::Refused(refusal) = ended else { return };
    let (what, remedy) = match refusal.code {
        Code::IdTaken => ("identity", "stop one of them, and start the one whose folder is a copy with --new-id"),
        Code::NameTaken => ("name", "give one of them another --name"),
        _ => return,
    };
    let elsewhere = me.membership.heads();
    if doubt.taken(Instant::now(), elsewhere) {
        tracing::error!(
            "two dataNodes have the {what} of {}: head {head} serves the other one, and {elsewhere} of the other heads \
             serve this one; {remedy}",
            me.config.name
        );
    }
}

/// One connection, from dialling to its end.
async fn once(
    head: &str,
    me: &Identity,
    (commit, answers): (&Rc<Commit>, &Rc<Answers>),
    shutdown: &CancellationToken,
    (backoff, doubt, untried): (&mut Backoff, &mut Doubt, &mut Option<Untried<'_>>),
) -> Result<(), Ended> {
    let mut socket = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        dialled = me.config.net.dial(head, me.config.bind) => dialled?,
    };
    let mut buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES);
    match timeout(limits::HANDSHAKE_TIME_MAX, register(&mut socket, me, (commit, answers), &mut buffer)).await {
        Ok(registered) => registered?,
        Err(_) => return Err(Ended::Silent(limits::HANDSHAKE_TIME_MAX)),
    }
    tracing::info!("Conexion establecida con {head}, registered as {}", me.config.name);
    tracing::debug!("from {} to {}", socket.local_addr()?, socket.peer_addr()?);
    backoff.reset();
    doubt.registered();
    let _registered = me.membership.enter();
    let sender = Rc::new(HeadSender {
        outbox: Rc::default(),
        repair: Rc::clone(&me.repair),
        answered: Cell::new(0),
        late: RefCell::default(),
        heard: Cell::new(Instant::now()),
        sync: sync_mode(me.config.sync),
    });
    let session = commit.enter(Rc::clone(&sender) as Rc<dyn Sender>);
    answers.enter(session, head, &sender.outbox);
    *untried = None;
    let link = || Rc::clone(&sender.outbox);
    let (receiver, keeping) =
        repair::receive::pair(link(), Rc::clone(&me.repair), Rc::clone(commit), Rc::clone(&me.scans));
    let desk = Desk { repair: Rc::clone(&me.repair), head: me.repair.enter(link()), receiver };
    let (mut read_half, write_half) = socket.split();
    let pump = sender.outbox.pump(write_half);
    tokio::pin!(pump);
    // The reader comes last: one that always finds something must not keep acknowledgements from being written.
    let ended = tokio::select! {
        biased;
        broken = &mut pump => {
            commit.exit(session);
            answers.exit(session);
            return broken.map_err(Ended::from);
        }
        ended = tell((&sender, &desk), session, me, (commit, answers), shutdown) => ended,
        () = keeping => Err(Ended::Closed),
        ended = follow(&mut read_half, (&sender, &desk), session, (commit, answers), &mut buffer) => ended,
    };
    commit.exit(session);
    answers.exit(session);
    sender.outbox.close();
    if timeout(limits::CLOSE_TIME_MAX, pump).await.is_err() {
        tracing::debug!("head {head} does not read; its connection is cut");
    }
    ended
}

/// The handshake and the Register frame, up to the head's Welcome.
async fn register(
    socket: &mut Stream,
    me: &Identity,
    (commit, answers): (&Commit, &Answers),
    buffer: &mut BytesMut,
) -> Result<(), Ended> {
    let mut out = BytesMut::from(FRAMED_NODE_OPENING);
    let (name, sync) = (me.config.name.clone(), sync_mode(me.config.sync));
    let (node, cluster) = (me.membership.node(), me.membership.cluster());
    let hello = Frame::Register { node, name, cluster, sync, report: report(me, commit, answers) };
    hello.encode(&mut out).map_err(|error| Ended::Refused(error.refusal()))?;
    framed::open(socket, &out, buffer).await?;
    match framed::next_frame(socket, buffer).await? {
        Frame::Welcome { cluster, .. } => me.membership.join(&cluster).map_err(|error| Ended::Unfit(error.to_string())),
        Frame::Failure(refusal) => Err(Ended::Refused(refusal)),
        other => Err(Ended::OutOfPlace(other.kind())),
    }
}

/// The reader: every Put of a read goes into the commit buffer, pings are answered at once.
async fn follow(
    socket: &mut ReadHalf<'_>,
    (sender, desk): (&HeadSender, &Desk),
    session: u64,
    (commit, answers): (&Commit, &Rc<Answers>),
    buffer: &mut BytesMut,
) -> Result<(), Ended> {
    let protocol = |text: String| Ended::Refused(Refusal::new(Code::Protocol, text));
    // The end comes from the head, or with the connection: this node goes on reading until then.
    let never = CancellationToken::new();
    let mut number = 0;
    // Pages that are being made; they end with the connection.
    let mut pages = JoinSet::new();
    let mut turn = Turn::default();
    loop {
        loop {
            sender.outbox.answers_read().await;
            let before = buffer.len();
            let Some(frame) = Frame::decode(buffer)? else { break };
            turn.spend(before - buffer.len()).await;
            match frame {
                Frame::Put { first, client, first_seq, copies, messages } => {
                    commit.room().await;
                    number += 1;
                    if answers.is_late(first) {
                        sender.refuse(number);
                        continue;
                    }
                    desk.put(first, messages.count());
                    commit
                        .add((session, number), first, (client, first_seq), &copies, &messages)
                        .map_err(|error| protocol(error.to_string()))?;
                }
                Frame::Ping(n) => sender.outbox.answer(|out| frame::pong(out, n)),
                Frame::Pong(_) => {}
                Frame::Scan { request, from, until, client, bytes_max, safe } => {
                    desk.safe(safe);
                    let question = Question { session, request, from, until, client, bytes_max, safe };
                    answers.hear(&question);
                    while pages.try_join_next().is_some() {}
                    if pages.len() >= limits::NODE_SCANS_MAX {
                        refuse_scan(&sender.outbox, request);
                    } else {
                        let (answers, outbox) = (Rc::clone(answers), Rc::clone(&sender.outbox));
                        pages.spawn_local(async move { answers.answer(question, &outbox).await });
                    }
                }
                Frame::Safe { id } => {
                    desk.safe(id);
                    answers.safe(session, id);
                }
                Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
                other => {
                    if let Frame::Members { least, members, .. } = &other {
                        answers.members(session, *least, members);
                    }
                    if let Some(other) = desk.take(other).map_err(Ended::Refused)? {
                        return Err(protocol(format!("frame {:#04x} is out of place from a head", other.kind())));
                    }
                }
            }
        }
        if !read_some(socket, buffer, &never).await {
            return Err(Ended::Closed);
        }
        sender.heard.set(Instant::now());
    }
}

fn refuse_scan(outbox: &Outbox, request: u32) {
    let text = format!("{} pages are being made for this head already; ask again later", limits::NODE_SCANS_MAX);
    let refusal = Refusal::new(Code::Busy, text);
    // Its fields are fixed, so it fits.
    outbox.answer(|out| Frame::ScanFailed { request, refusal }.encode(out)).unwrap_or_default();
}

/// What a head hears of this node.
fn report(me: &Identity, commit: &Commit, answers: &Answers) -> NodeReport {
    answers.report(&commit.state(), me.repair.counts(&commit.view()))
}

/// Resolves when a head has to hear something before the second is over: that this node can write, or can't; that it has
/// records, or such that nobody else has, which decides whether readers wait for it; that some are short of copies.
async fn news(said: Option<&NodeReport>, me: &Identity, commit: &Commit) {
    let Some(said) = said else { return };
    let mut counted: Option<Instant> = None;
    loop {
        let (changed, told) = (commit.changed.notified(), me.repair.changed());
        let state = commit.state();
        let first = said.records == 0 && state.records > 0;
        if state.reason != said.reason || first || commit.poisoned().is_some() {
            return;
        }
        let due = counted.map_or_else(Instant::now, |at| at + limits::COUNT_EVERY);
        let wait = Instant::now() < due;
        if !wait {
            counted = Some(Instant::now());
            let counts = me.repair.counts(&commit.view());
            if (said.sole == 0 && counts.sole > 0) || (said.short == 0 && counts.short > 0) {
                return;
            }
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = told => {}
            () = sleep_until(due), if wait => {}
        }
    }
}

/// Tells the head how the log is, at most once a second if that changed, and now and then if it did not; at once when
/// it stops or goes on writing, or has its first record; asks how far what it put is settled; and asks to leave when this
/// node stops. Ends only if the head
/// does not let go in time.
async fn tell(
    (sender, desk): (&HeadSender, &Desk),
    session: u64,
    me: &Identity,
    (commit, answers): (&Commit, &Answers),
    shutdown: &CancellationToken,
) -> Result<(), Ended> {
    let mut said: Option<NodeReport> = None;
    let mut said_at = Instant::now();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = news(said.as_ref(), me, commit) => {}
            _ = ticks.tick() => {}
        }
        let silence = sender.heard.get().elapsed();
        if silence > limits::HEAD_SILENCE_MAX {
            return Err(Ended::Silent(limits::HEAD_SILENCE_MAX));
        } else if silence > limits::HEAD_PING_AFTER && sender.outbox.is_empty() {
            sender.outbox.with(|out| frame::ping(out, 0));
        }
        if let Some(id) = desk.asks(&commit.view()) {
            answers.ask_one(session, id);
        }
        let report = report(me, commit, answers);
        let now = said_at.elapsed() >= limits::REPORT_EVERY || me.repair.is_draining();
        if said.as_ref() != Some(&report) || now {
            sender
                .outbox
                .with(|out| Frame::NodeState(report.clone()).encode(out))
                .map_err(|e| Ended::Refused(e.refusal()))?;
            (said, said_at) = (Some(report), Instant::now());
        }
        if let Some(error) = commit.poisoned() {
            return Err(Ended::Refused(Refusal::new(Code::Storage, error.to_string())));
        }
    }
    // Whether it keeps something alone is not known to anyone else once it is away.
    let last = Frame::NodeState(report(me, commit, answers));
    for frame in [last, Frame::Leave] {
        sender.outbox.with(|out| frame.encode(out)).map_err(|e| Ended::Refused(e.refusal()))?;
    }
    sleep(limits::DRAIN_TIME_MAX).await;
    Ok(())
}
