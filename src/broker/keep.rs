//! Keeps messages in the cluster, on a thread of its own beside the topics: a bounded queue, a client of the library, and a
//! word about everything that is not kept.
//!
//! One client takes all of them in the order in which they came, so the order of each publisher is that of its messages in
//! the cluster. How a message is written is [`kept`]'s.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::kept;
use super::pace::Backlog;
use super::zmq::Message;
use super::{Error, Keep};
use crate::client::{self, Outcome};
use crate::{limits, net};

/// What is to be kept, and what became of it.
pub(super) struct Keeper {
    keep: Keep,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when there is something to keep, or nothing more comes.
    work: Notify,
    /// Told when something is settled.
    settled: Notify,
    /// Told when nothing more comes.
    stop: Notify,
    /// Told when all is done.
    ended: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue,
    order: Option<Order>,
    counts: Counts,
    /// Messages that were handed to the client.
    handed: u64,
    closing: bool,
    ended: bool,
}

impl State {
    /// Whether there is nothing to wait for before what waits is handed on.
    const fn has_enough(&self) -> bool {
        self.closing || self.queue.bytes >= limits::KEEP_GATHER_BYTES
    }
}

/// Messages that wait to be kept, in the form in which they are: what they take is theirs, and no more of what was read with
/// them.
#[derive(Default)]
struct Queue {
    parts: VecDeque<Part>,
    messages: usize,
    bytes: usize,
}

/// Messages that are handed on together.
#[derive(Default)]
struct Part {
    bytes: BytesMut,
    lengths: Vec<usize>,
}

impl Part {
    fn cost(&self) -> usize {
        self.bytes.len() + limits::KEEP_EXTRA_BYTES * self.lengths.len()
    }
}

impl Queue {
    /// Takes a message in if there is room for it.
    fn push(&mut self, message: &Message, bytes_max: usize) -> bool {
        let length = kept::encoded_len(message.frames());
        let cost = limits::KEEP_EXTRA_BYTES + length;
        if self.bytes + cost > bytes_max {
            return false;
        }
        if self.parts.back().is_none_or(|part| part.bytes.len() + length > limits::KEEP_PART_BYTES) {
            self.parts.push_back(Part::default());
        }
        if let Some(part) = self.parts.back_mut() {
            part.bytes.reserve(length);
            kept::encode(&mut part.bytes, message.frames());
            part.lengths.push(length);
        }
        self.bytes += cost;
        self.messages += 1;
        true
    }

    /// Hands out the oldest, so many that the queue is not locked for each.
    fn take(&mut self) -> Option<Part> {
        let part = self.parts.pop_front()?;
        self.bytes -= part.cost();
        self.messages -= part.lengths.len();
        Some(part)
    }
}

/// What became of messages, told in the order in which they came.
#[derive(Default)]
struct Order {
    /// Number of the first that is not told.
    first: u64,
    became: VecDeque<Option<bool>>,
    /// How many were offered and are not told.
    open: usize,
}

impl Order {
    /// Numbers begin at 1, as those of a client do.
    fn new() -> Self {
        Self { first: 1, became: VecDeque::new(), open: 0 }
    }

    fn settle(&mut self, first: u64, count: u32, kept: bool) {
        for number in first..first + u64::from(count) {
            let Some(at) = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else { continue };
            if at >= self.became.len() {
                self.became.resize(at + 1, None);
            }
            if let Some(became) = self.became.get_mut(at) {
                *became = Some(kept);
            }
        }
    }

    /// Hands out those before which nothing is open.
    fn tell(&mut self, into: &mut Vec<bool>) {
        while let Some(&Some(kept)) = self.became.front() {
            self.became.pop_front();
            self.first += 1;
            self.open = self.open.saturating_sub(1);
            into.push(kept);
        }
    }
}

/// What was kept and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    kept: u64,
    /// There was no room in the queue.
    no_room: u64,
    /// Longer than the cluster keeps.
    too_long: u64,
    /// The cluster refused them.
    refused: u64,
    /// Why it refused the last.
    cause: String,
}

impl Counts {
    const fn lost(&self) -> u64 {
        self.no_room + self.too_long + self.refused
    }
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(keep: &Keep) -> Result<Self, Error> {
        let order = keep.required.then(Order::new);
        let state = Mutex::new(State { order, ..State::default() });
        let shared = Arc::new(Shared { state, ..Shared::default() });
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let (its, heads) = (Arc::clone(&shared), keep.heads.clone());
        let queue_bytes = keep.queue_bytes;
        let run = move || {
            runtime.block_on(its.run(heads, queue_bytes));
            its.lock().ended = true;
            its.ended.notify_one();
        };
        let thread = std::thread::Builder::new().name("keep".to_owned()).spawn(run).map_err(Error::Thread)?;
        Ok(Self { keep: keep.clone(), shared, thread })
    }

    /// Whether a message is forwarded only once it is kept.
    pub(super) const fn is_required(&self) -> bool {
        self.keep.required
    }

    /// Bytes that may wait to be kept.
    pub(super) const fn queue_bytes(&self) -> usize {
        self.keep.queue_bytes
    }

    /// Whether a message is one of those that are kept.
    pub(super) fn wants(&self, message: &Message) -> bool {
        // An empty prefix is not compared: it lies nowhere in memory, and there `memcmp` is slow enough to be an eighth of all that
        // a broker does.
        self.keep.prefixes.iter().any(|prefix| prefix.is_empty() || message.topic().starts_with(prefix))
    }

    /// Whether the cluster has room for messages as long as this one.
    pub(super) fn takes(&self, message: &Message) -> bool {
        message.byte_len() + limits::KEEP_EXTRA_BYTES < limits::MESSAGE_BYTES_MAX
            || kept::encoded_len(message.frames()) <= limits::MESSAGE_BYTES_MAX
    }

    /// Takes in what is to be kept. What does not fit is counted; where it is required all of it is taken in, and who offers
    /// sees to the bound. What waits now is handed back; nothing where none of these is to be kept.
    pub(super) fn offer(&self, messages: &[Message]) -> Option<Backlog> {
        let bytes_max = if self.keep.required { usize::MAX } else { self.keep.queue_bytes };
        let (mut state, mut was_empty) = (None, false);
        for message in messages.iter().filter(|message| self.wants(message)) {
            let state: &mut MutexGuard<'_, State> = state.get_or_insert_with(|| {
                let state = self.shared.lock();
                was_empty = state.queue.messages == 0;
                state
            });
            if !self.takes(message) {
                state.counts.too_long += 1;
            } else if !state.queue.push(message, bytes_max) {
                state.counts.no_room += 1;
            } else if let Some(order) = &mut state.order {
                order.open += 1;
            }
        }
        let state = state?;
        let backlog = Backlog { bytes: state.queue.bytes, bytes_max, kept: state.counts.kept };
        drop(state);
        // Who keeps is woken for the first, and for enough: it goes on until nothing waits.
        if was_empty || backlog.bytes >= limits::KEEP_GATHER_BYTES {
            self.shared.work.notify_one();
        }
        Some(backlog)
    }

    /// How many that were offered are not settled yet: who begins to offer did not offer them.
    pub(super) fn open(&self) -> usize {
        self.shared.lock().order.as_ref().map_or(0, |order| order.open)
    }

    /// Waits until something is settled that was offered: for each message in turn whether it is kept.
    pub(super) async fn settled(&self, into: &mut Vec<bool>) {
        while into.is_empty() {
            let told = self.shared.settled.notified();
            if let Some(order) = &mut self.shared.lock().order {
                order.tell(into);
            }
            if into.is_empty() {
                told.await;
            }
        }
    }

    /// Ends once what waits is kept, or the time for it is over, and says what was not.
    pub(super) async fn end(self) {
        self.shared.lock().closing = true;
        self.shared.stop.notify_one();
        self.shared.work.notify_one();
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.lock().ended {
                break;
            }
            ended.await;
        }
        // It has nothing more to do.
        drop(self.thread.join());
    }
}

impl Shared {
    /// The state. A panic while it was held is a bug that has been reported already; the data is whole between calls.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, heads: net::Heads, queue_bytes: usize) {
        // Waiting is bounded by the queue, not by a time.
        let config = client::Config { retry_for: Duration::MAX, ..client::Config::following(heads) };
        let (sender, receipts) = client::connect(config);
        tokio::select! {
            biased;
            ((), ()) = async { tokio::join!(self.feed(sender), self.settle(receipts)) } => {}
            () = self.say(queue_bytes) => {}
            () = self.out_of_time() => {}
        }
        let state = self.lock();
        let Counts { kept, refused, .. } = state.counts;
        let (lost, waiting) = (state.counts.lost(), state.queue.messages);
        let open = state.handed.saturating_sub(kept + refused);
        drop(state);
        if open > 0 {
            tracing::error!("{open} messages had no answer yet at the end; they may be kept or not");
        }
        if waiting > 0 {
            tracing::error!("{waiting} messages were still waiting at the end and are not kept");
        }
        tracing::info!("{kept} messages were kept, {} were not", lost + waiting as u64);
    }

    /// Waits for more, where something waits that nobody else waits for: a sync of the cluster, and whatever is woken for it,
    /// costs as much for one message as for a thousand.
    async fn gather(&self) {
        let enough = async {
            loop {
                let work = self.work.notified();
                if self.lock().has_enough() {
                    return;
                }
                work.await;
            }
        };
        drop(timeout(limits::KEEP_GATHER_TIME, enough).await);
    }

    /// Hands messages to the client as it takes them.
    async fn feed(&self, sender: client::Sender) {
        // Where a message is forwarded once it is kept, somebody waits.
        let gathers = self.lock().order.is_none();
        loop {
            let work = self.work.notified();
            let (part, closing) = {
                let mut state = self.lock();
                let part = state.queue.take();
                state.handed += part.as_ref().map_or(0, |part| part.lengths.len() as u64);
                (part, state.closing)
            };
            let Some(Part { mut bytes, lengths }) = part else {
                if closing {
                    return;
                }
                work.await;
                if gathers {
                    self.gather().await;
                }
                continue;
            };
            // Refused is only what is too long, and that was seen to.
            if {
                let each = lengths.into_iter().map(|length| bytes.split_to(length).freeze());
                sender.send_all(each.map(|payload| (kept::source(&payload), payload))).await
            }
            .is_err()
            {
                return;
            }
        }
    }

    async fn settle(&self, mut receipts: client::Receipts) {
        while let Some(outcome) = receipts.next().await {
            let mut state = self.lock();
            let (first, count, kept) = match outcome {
                Outcome::Acked(ack) => {
                    state.counts.kept += u64::from(ack.count);
                    (ack.first_seq, ack.count, true)
                }
                Outcome::Refused { first_seq, count, refusal } => {
                    state.counts.refused += u64::from(count);
                    state.counts.cause = refusal.to_string();
                    (first_seq, count, false)
                }
            };
            let told = state.order.as_mut().map(|order| order.settle(first, count, kept));
            drop(state);
            if told.is_some() {
                self.settled.notify_one();
            }
        }
    }

    /// Says what is not kept, once a second, and when that ends.
    async fn say(&self, queue_bytes: usize) {
        let mut ticks = interval(limits::KEEP_SAY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut losing) = (Counts::default(), false);
        loop {
            ticks.tick().await;
            let now = self.lock().counts.clone();
            if now.no_room > before.no_room {
                let (lost, mib) = (now.no_room - before.no_room, queue_bytes >> 20);
                tracing::error!(
                    "{lost} messages were not kept: {mib} MiB of others wait; the cluster is away or too slow, see \
                     that heads and data nodes run, or raise --keep-queue"
                );
            }
            if now.too_long > before.too_long {
                let (lost, max) = (now.too_long - before.too_long, limits::MESSAGE_BYTES_MAX);
                tracing::error!("{lost} messages were not kept: they are longer than {max} bytes; send them in parts");
            }
            if now.refused > before.refused {
                let (lost, cause) = (now.refused - before.refused, &now.cause);
                tracing::error!("{lost} messages were not kept: {cause}");
            }
            if losing && now.lost() == before.lost() && now.kept > before.kept {
                tracing::info!("messages are kept again; {} were not since the start", now.lost());
            }
            losing = now.lost() > before.lost() || (losing && now.kept == before.kept);
            before = now;
        }
    }

    async fn out_of_time(&self) {
        self.stop.notified().await;
        sleep(limits::KEEP_END_TIME_MAX).await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_became_of_messages_is_told_in_their_order() {
        let mut order = Order::new();
        let mut told = Vec::new();
        order.settle(3, 2, true);
        order.tell(&mut told);
        assert!(told.is_empty(), "1 and 2 are open");
        order.settle(1, 1, true);
        order.settle(2, 1, false);
        order.tell(&mut told);
        assert_eq!(told, [true, false, true, true]);
        order.settle(5, 1, true);
        order.tell(&mut told);
        assert_eq!((told.len(), order.first), (5, 6));
    }

    #[test]
    fn a_queue_takes_what_fits_and_no_more() {
        let message = |bytes: usize| Message::new([Bytes::from(vec![b'x'; bytes])]);
        let form = |bytes: usize| kept::encoded_len([vec![0; bytes].as_slice()].into_iter());
        let mut queue = Queue::default();
        let max = 2 * (form(100) + limits::KEEP_EXTRA_BYTES);
        assert!(queue.push(&message(100), max) && queue.push(&message(100), max));
        assert!(!queue.push(&message(0), max), "even the smallest takes something");
        let part = queue.take().unwrap();
        assert_eq!((part.lengths, queue.bytes, queue.messages), (vec![form(100); 2], 0, 0));
        assert!(queue.push(&message(200), max) && queue.take().is_some() && queue.take().is_none());
        // A part is about as long as it is to be.
        let long = limits::KEEP_PART_BYTES / 2;
        assert!((0..4).all(|_| queue.push(&message(long), usize::MAX)));
        assert_eq!(queue.take().unwrap().lengths, [form(long)]);
        assert_eq!((queue.parts.len(), queue.messages), (3, 3));
    }

    #[tokio::test]
    async fn a_message_waits_for_others_for_a_moment_and_for_enough_or_the_end_no_longer() {
        let shared = Shared::default();
        let at_once = || async {
            tokio::select! {
                biased;
                () = shared.gather() => true,
                () = std::future::ready(()) => false,
            }
        };
        let message = Message::new([Bytes::from(vec![b'x'; limits::KEEP_GATHER_BYTES / 2])]);
        assert!(shared.lock().queue.push(&message, usize::MAX));
        assert!(!at_once().await, "it waits for more");
        shared.gather().await;
        assert!(shared.lock().queue.push(&message, usize::MAX));
        assert!(at_once().await, "it is enough");
        while shared.lock().queue.take().is_some() {}
        assert!(!at_once().await);
        shared.lock().closing = true;
        assert!(at_once().await, "nothing more comes");
    }
}
