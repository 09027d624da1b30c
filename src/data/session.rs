//! A data node's connection to one head: dial, register, keep what comes, answer, and dial again after a loss.
//!
//! The records go to [`super::commit`], what is promised of them to [`super::desk`]; this file moves frames.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::commit::{PutNumber, Sender};
use super::entries::Wanted;
use super::feed::{Feed, Place};
use super::membership::Doubt;
use super::node::Node;
use super::query::Query;
use super::record::Fields;
use super::scan::ScanError;
use super::sender::{HeadSender, Late, Taken, refusal, sync_mode};
use super::sources::Heard;
use super::troubles::{Saying, Troubles};
use crate::key::file::NodeKey;
use crate::ledger::frames;
use crate::ledger::kept::Put;
use crate::limits;
use crate::net::framed::{self, Ended};
use crate::net::{Backoff, Outbox, ReadHalf, Stream, Turn, proof, read_some};
use crate::wire::error::{Code, Refusal};
use crate::wire::filter::SourceFilter;
use crate::wire::frame::{self, Frame, NodeReport, SourceCount};
use crate::wire::ledger::{Incarnation, LedgerId};
use crate::wire::source::SourceName;
use crate::wire::text::FRAMED_NODE_OPENING;
use tokio_util::sync::CancellationToken;

/// Keeps this node registered with one head until it is asked to stop or its log is poisoned.
pub(crate) async fn keep(head: &str, me: &Rc<Node>, shutdown: &CancellationToken) {
    let mut rng = SmallRng::seed_from_u64(me.config.seed);
    let mut backoff = Backoff::default();
    let (mut doubt, mut troubles) = (Doubt::default(), Troubles::default());
    while !shutdown.is_cancelled() && me.commit.poisoned().is_none() {
        let ended = once(head, me, shutdown, &mut backoff, &mut doubt).await;
        if shutdown.is_cancelled() {
            return;
        }
        let Err(ended) = ended else { continue };
        say_if_twice(head, &ended, me, &mut doubt);
        match troubles.hear(&ended, Instant::now()) {
            Some(Saying::Stops) => tracing::info!("head {head} stops; trying again until it is back"),
            Some(Saying::Trouble(cause)) => tracing::warn!("head {head}: {cause}; trying again until it works"),
            None => {}
        }
        // A head that was understood up to there will say the same again.
        let waits = matches!(&ended, Ended::Garbled(_) | Ended::Unfit(_))
            || matches!(&ended, Ended::Refused(refusal) if refusal.code == Code::Storage);
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

/// A head refused this node because another is registered under its identity or name: says so if that is no shadow of
/// this one.
fn say_if_twice(head: &str, ended: &Ended, me: &Node, doubt: &mut Doubt) {
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
    me: &Rc<Node>,
    shutdown: &CancellationToken,
    backoff: &mut Backoff,
    doubt: &mut Doubt,
) -> Result<(), Ended> {
    let mut socket = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        dialled = me.config.net.dial(head, me.config.bind) => dialled?,
    };
    let mut buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES);
    let incarnation = match timeout(limits::HANDSHAKE_TIME_MAX, register(&mut socket, me, &mut buffer)).await {
        Ok(registered) => registered?,
        Err(_) => return Err(Ended::Silent(limits::HANDSHAKE_TIME_MAX)),
    };
    tracing::info!("Conexion establecida con {head}, registered as {}", me.config.name);
    tracing::debug!("from {} to {}", socket.local_addr()?, socket.peer_addr()?);
    backoff.reset();
    doubt.registered();
    let _registered = me.membership.enter();
    let sender = Rc::new(HeadSender::new(&me.desk, me.config.sync));
    sender.incarnations.borrow_mut().insert(incarnation);
    let session = me.commit.enter(Rc::clone(&sender) as Rc<dyn Sender>);
    me.fetching.enter(session, &sender.outbox);
    let (mut read_half, write_half) = socket.split();
    let pump = sender.outbox.pump(write_half);
    tokio::pin!(pump);
    // The reader comes last: one that always finds something must not keep acknowledgements from being written.
    let ended = tokio::select! {
        biased;
        broken = &mut pump => {
            left(me, &sender, session);
            return broken.map_err(Ended::from);
        }
        ended = tell(&sender, me, shutdown) => ended,
        ended = follow(&mut read_half, &sender, session, me, &mut buffer) => ended,
    };
    left(me, &sender, session);
    sender.outbox.close();
    if timeout(limits::CLOSE_TIME_MAX, pump).await.is_err() {
        tracing::debug!("head {head} does not read; its connection is cut");
    }
    ended
}

/// The connection is over, and with it every ledger that the head wrote on it. What was taken is kept all the same: it is
/// below their ends once it is committed.
fn left(me: &Rc<Node>, sender: &Rc<HeadSender>, session: u64) {
    me.fetching.exit(session);
    let serial = me.commit.added();
    let (me, sender) = (Rc::clone(me), Rc::clone(sender));
    tokio::task::spawn_local(async move {
        me.commit.until_settled(serial).await;
        me.commit.exit(session);
        me.desk.head_lost(sender.incarnations.take());
    });
}

/// The handshake and the Register frame, up to the head's Welcome; the head's incarnation.
async fn register(socket: &mut Stream, me: &Node, buffer: &mut BytesMut) -> Result<Incarnation, Ended> {
    let mut out = BytesMut::from(FRAMED_NODE_OPENING);
    let (name, sync, identity) = (me.config.name.clone(), sync_mode(me.config.sync), me.desk.identity());
    let hello = Frame::Register {
        node: identity.node,
        replaces: identity.replaces,
        old: identity.old,
        name,
        cluster: me.membership.cluster(),
        sync,
        report: report(me),
    };
    let nonce = me.config.nonces.draw();
    let key = me.config.key.as_ref().map(NodeKey::now);
    let encoded = match &key {
        Some(key) => proof::knock(&mut out, key, nonce, &hello),
        None => hello.encode(&mut out),
    };
    encoded.map_err(|error| Ended::Refused(error.refusal()))?;
    framed::open(socket, &out, buffer).await?;
    let proved = match &key {
        Some(key) => Some(proof::prove(socket, buffer, key, nonce, &hello).await?),
        None => None,
    };
    match framed::next_frame(socket, buffer).await? {
        Frame::Welcome { cluster, .. } if proved.is_some_and(|proved| proved != cluster) => {
            Err(Ended::Unfit("it names another cluster than the one that it proved to be of; see its log".to_owned()))
        }
        Frame::Welcome { cluster, incarnation, .. } => {
            me.membership.join(&cluster).map_err(|error| Ended::Unfit(error.to_string()))?;
            Ok(Incarnation(incarnation))
        }
        Frame::Failure(refusal) => Err(Ended::Refused(refusal)),
        other => Err(Ended::OutOfPlace(other.kind())),
    }
}

/// What is being answered on a connection; it ends with it.
struct Answering<'a> {
    me: &'a Rc<Node>,
    sender: &'a Rc<HeadSender>,
    session: u64,
    puts: u64,
    pages: JoinSet<()>,
    feeds: BTreeMap<u32, Rc<Feed>>,
}

/// The reader: every Put of a read goes into the commit buffer, pings are answered at once.
async fn follow(
    socket: &mut ReadHalf<'_>,
    sender: &Rc<HeadSender>,
    session: u64,
    me: &Rc<Node>,
    buffer: &mut BytesMut,
) -> Result<(), Ended> {
    // The end comes from the head, or with the connection: this node goes on reading until then.
    let never = CancellationToken::new();
    let mut answering = Answering { me, sender, session, puts: 0, pages: JoinSet::new(), feeds: BTreeMap::new() };
    let mut turn = Turn::default();
    loop {
        loop {
            sender.outbox.answers_read().await;
            let before = buffer.len();
            let Some(frame) = Frame::decode(buffer)? else { break };
            turn.spend(before - buffer.len()).await;
            answering.take(frame).await?;
        }
        if !read_some(socket, buffer, &never).await {
            return Err(Ended::Closed);
        }
        sender.heard.set(Instant::now());
    }
}

impl Answering<'_> {
    async fn take(&mut self, frame: Frame) -> Result<(), Ended> {
        let (me, sender) = (self.me, self.sender);
        match frame {
            Frame::Put { first, client, first_seq, place, members, source, tags, messages } => {
                me.commit.room().await;
                self.puts += 1;
                let ledger = place.ledger(first);
                sender.incarnations.borrow_mut().insert(ledger.incarnation);
                let put = Put { ledger, first: place.entry, count: messages.count().into(), members: &members };
                if let Err(why) = me.desk.put(&put) {
                    let (code, why) = refusal(why);
                    sender.refuse(Late { number: self.puts, code, why });
                    return Ok(());
                }
                let entries = place.entry..place.entry.saturating_add(messages.count().into());
                sender.taken.borrow_mut().push_back(Taken { number: self.puts, ledger, entries });
                let first = Fields { id: first, client, seq: first_seq, place: Some(place), source };
                let put = PutNumber { session: self.session, number: self.puts };
                me.commit.add(put, first, &tags, &messages).map_err(|error| protocol(error.to_string()))?;
            }
            Frame::Ping(n) => sender.outbox.answer(|out| frame::pong(out, n)),
            Frame::Pong(_) => {}
            Frame::Flush(round) => {
                sender.flush.set(Some(round));
                me.desk.look();
            }
            Frame::Close { ledger, end, settled } => {
                me.desk.close(ledger, end, settled).map_err(|lost| {
                    Ended::Unfit(format!(
                        "this folder has {} entries of ledger {}, and {} were acknowledged: it was restored from an older \
                         backup, or a file was cut; start it once with --new-id",
                        lost.count, lost.ledger, lost.settled
                    ))
                })?;
            }
            Frame::Adopt { ledger, entries, settled } => me.desk.adopt(ledger, entries, settled),
            Frame::Roster(roster) => {
                let roster = frames::of_roster(roster).map_err(|error| protocol(error.to_string()))?;
                me.desk.noted(&roster).map_err(|error| protocol(error.to_string()))?;
                sender.roster_told.set(None);
                me.desk.changed.notify_waiters();
            }
            Frame::Fetched { request, lines } => me.fetching.answered(self.session, request, &lines),
            Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
            other => self.take_question(other)?,
        }
        Ok(())
    }

    /// What is answered out of the files.
    fn take_question(&mut self, frame: Frame) -> Result<(), Ended> {
        let (me, sender) = (Rc::clone(self.me), Rc::clone(self.sender));
        while self.pages.try_join_next().is_some() {}
        match frame {
            Frame::Scan { request, .. } if self.pages.len() >= limits::NODE_SCANS_MAX => {
                refuse_scan(&sender.outbox, request);
            }
            Frame::Scan { request, from, until, client, sources, bytes_max } => {
                let bytes_max = (bytes_max as usize).min(limits::PAGE_BYTES_MAX);
                let query = Query { from, until, client, sources, bytes_max };
                self.pages.spawn_local(async move { page(&me, &sender, request, query).await });
            }
            Frame::SourcesQuery { request, behind, most } => {
                let page = sources_page(&me, request, behind, most.into());
                sender.outbox.answer(|out| page.encode(out)).map_err(|error| Ended::Refused(error.refusal()))?;
            }
            Frame::Fetch { request, ledger, entries } => {
                self.pages.spawn_local(async move { fetch(&me, &sender, request, ledger, entries).await });
            }
            Frame::Follow { request, client, sources, done, cursors } => {
                if self.feeds.len() >= limits::NODE_FEEDS_MAX {
                    return Err(protocol(format!("more than {} readers follow", limits::NODE_FEEDS_MAX)));
                }
                let feed = Rc::new(Feed::new(request, client, sources, Place { done, cursors }));
                self.feeds.insert(request, Rc::clone(&feed));
                self.pages.spawn_local(async move {
                    feed.run(&me.desk, &me.scans, &me.rot, &sender.outbox).await;
                });
            }
            Frame::Credit { request, bytes } => {
                if let Some(feed) = self.feeds.get(&request) {
                    feed.grant(bytes);
                }
                if bytes == 0 {
                    self.feeds.remove(&request);
                }
            }
            other => return Err(protocol(format!("frame {:#04x} is out of place from a head", other.kind()))),
        }
        Ok(())
    }
}

fn protocol(text: String) -> Ended {
    Ended::Refused(Refusal::new(Code::Protocol, text))
}

fn refuse_scan(outbox: &Outbox, request: u32) {
    let text = format!("{} pages are being made for this head already; ask again later", limits::NODE_SCANS_MAX);
    let refusal = Refusal::new(Code::Busy, text);
    // Its fields are fixed, so it fits.
    outbox.answer(|out| Frame::ScanFailed { request, refusal }.encode(out)).unwrap_or_default();
}

/// Which sources this node has.
fn sources_page(me: &Node, request: u32, behind: Option<SourceName>, most: usize) -> Frame {
    let most = most.clamp(1, limits::SOURCES_PAGE_MAX);
    let (mut some, unlisted) = me.commit.view().sources(behind, most + 1);
    let more = some.len() > most;
    some.truncate(most);
    let count = |(name, heard): (SourceName, Heard)| {
        let Heard { records, first, last } = heard;
        SourceCount { name, records, first, last }
    };
    Frame::SourcesPage { request, more, unlisted, sources: some.into_iter().map(count).collect() }
}

/// Answers a Scan. What is lacking by it is told before.
async fn page(me: &Rc<Node>, sender: &HeadSender, request: u32, query: Query) {
    let outbox = &sender.outbox;
    outbox.room(limits::NODE_PAGES_BYTES_MAX).await;
    let _making = me.making.acquire().await.ok();
    let found = match me.scans.page(query).await {
        Ok(page) => me.rot.met(&page).await.map(|()| page),
        Err(error) => Err(error),
    };
    me.commit.until_noted().await;
    let sent = match found {
        Ok(page) => {
            let rotten = if me.desk.identity().old { page.rotten } else { 0 };
            let greatest = me.commit.view().greatest().unwrap_or_default();
            sender.tell_news().map_err(drop).unwrap_or_default();
            if page.lost > 0 {
                // Why, before the reader has to be told.
                let state = Frame::NodeState(report(me));
                outbox.with(|out| state.encode(out)).unwrap_or_default();
            }
            let page = Frame::Page { request, next: page.next, greatest, rotten, lines: page.lines.into() };
            outbox.with(|out| page.encode(out))
        }
        Err(error) => {
            let code = if error == ScanError::Busy { Code::Busy } else { Code::Storage };
            let refusal = Refusal::new(code, error.to_string());
            outbox.with(|out| Frame::ScanFailed { request, refusal }.encode(out))
        }
    };
    if let Err(error) = sent {
        tracing::error!("a page cannot be sent: {error}");
        let refusal = Refusal::new(Code::Storage, "a page does not fit its frame; look at the log of the node");
        // Its fields are fixed, so it fits.
        outbox.with(|out| Frame::ScanFailed { request, refusal }.encode(out)).unwrap_or_default();
    }
}

/// Answers a Fetch: with nothing, if nothing is there or can be read.
async fn fetch(me: &Node, sender: &HeadSender, request: u32, ledger: LedgerId, entries: Range<u32>) {
    sender.outbox.room(limits::NODE_PAGES_BYTES_MAX).await;
    let lines = if entries.is_empty() {
        Vec::new()
    } else {
        let first = entries.start;
        let (sources, bytes_max) = (SourceFilter::default(), limits::FETCH_BYTES_MAX);
        let wanted = Wanted { ledger, entries, client: None, sources, bytes_max };
        let run = me.scans.entries(wanted).await.unwrap_or_default();
        me.rot.missed(ledger, first, &run).await;
        run.lines
    };
    let answer = Frame::Fetched { request, lines: lines.into() };
    if let Err(error) = sender.outbox.with(|out| answer.encode(out)) {
        tracing::error!("entries cannot be sent: {error}");
    }
}

/// What a head hears of this node's log.
fn report(me: &Node) -> NodeReport {
    let state = me.commit.state();
    NodeReport {
        writable: state.reason.is_empty(),
        records: state.records,
        bytes: state.bytes,
        syncs: state.syncs,
        written: state.written,
        free: state.free,
        reason: state.reason,
    }
}

/// Resolves when a head has to hear something before the second is over.
async fn news(said: Option<&NodeReport>, sender: &HeadSender, me: &Node) {
    let Some(said) = said else { return };
    loop {
        let (changed, kept, noted) =
            (me.commit.changed.notified(), me.desk.changed.notified(), me.commit.progress.notified());
        let reason = me.commit.state().reason;
        if reason != said.reason || me.commit.poisoned().is_some() || sender.has_news() {
            return;
        }
        let waits = !me.desk.is_ready();
        tokio::select! {
            biased;
            () = changed => {}
            () = kept => {}
            () = noted, if waits => {}
        }
    }
}

/// Tells the head how the log is and what it keeps, at most once a second if that changed, and now and then if it did not; at
/// once what matters to others; and asks to leave when this node stops. Ends only if the head does not let go in time.
async fn tell(sender: &HeadSender, me: &Rc<Node>, shutdown: &CancellationToken) -> Result<(), Ended> {
    let mut said: Option<NodeReport> = None;
    let mut said_at = Instant::now();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = news(said.as_ref(), sender, me) => {}
            _ = ticks.tick() => {}
        }
        let silence = sender.heard.get().elapsed();
        if silence > limits::HEAD_SILENCE_MAX {
            return Err(Ended::Silent(limits::HEAD_SILENCE_MAX));
        } else if silence > limits::HEAD_PING_AFTER && sender.outbox.is_empty() {
            sender.outbox.with(|out| frame::ping(out, 0));
        }
        sender.tell_news()?;
        let report = report(me);
        let now = said_at.elapsed() >= limits::REPORT_EVERY;
        if said.as_ref() != Some(&report) || now {
            let state = Frame::NodeState(report.clone());
            sender.outbox.with(|out| state.encode(out)).map_err(|error| Ended::Refused(error.refusal()))?;
            (said, said_at) = (Some(report), Instant::now());
        }
        if me.desk.is_out() && !me.drained.is_cancelled() {
            tracing::info!("{} is drained: other nodes have its records, and it ends", me.config.name);
            me.drained.cancel();
        }
        if let Some(error) = me.commit.poisoned() {
            return Err(Ended::Refused(Refusal::new(Code::Storage, error.to_string())));
        }
    }
    for frame in [Frame::NodeState(report(me)), Frame::Leave] {
        sender.outbox.with(|out| frame.encode(out)).map_err(|error| Ended::Refused(error.refusal()))?;
    }
    sleep(limits::DRAIN_TIME_MAX).await;
    Ok(())
}
