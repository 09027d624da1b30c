//! Reading through the cluster: a follower for the whole run, and a read of everything when all is healed.
//!
//! Both use the client library's reader, so what they get is what users get. What is right is the checker's.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::history::History;
use super::verdict::{Checker, Message, Order, Read, Verdict};
use crate::client::reader::{self, Config, Event, Query, ReadError, Reader};
use crate::limits;

/// What came of following.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Followed {
    /// What was delivered, against what was acknowledged.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// Longest time from a head's taking a message to its delivery, seconds: what nodes and heads that are away cost.
    pub(crate) longest_s: f64,
    /// How often it went on with another head.
    pub(crate) heads_lost: u64,
}

struct Following {
    checker: Checker,
    longest: Duration,
    heads_lost: u64,
    /// When the last message came.
    last: Instant,
}

/// Follows the cluster from its beginning on.
pub(crate) struct Follower {
    state: Rc<RefCell<Following>>,
    history: Rc<RefCell<History>>,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Follower {
    /// Begins to follow. Needs a `LocalSet`.
    #[must_use]
    pub(crate) fn start(heads: Vec<String>, history: &Rc<RefCell<History>>) -> Self {
        let checker = Checker::new(Order::Judged);
        let state = Following { checker, longest: Duration::ZERO, heads_lost: 0, last: Instant::now() };
        let state = Rc::new(RefCell::new(state));
        let mut task = JoinSet::new();
        let reader = reader::read(heads, Query { follow: true, ..Query::default() });
        task.spawn_local(follow(reader, Rc::clone(&state), Rc::clone(history)));
        Self { state, history: Rc::clone(history), _task: task }
    }

    /// Waits until everything that was acknowledged was delivered and nothing comes any more, or for `patience`.
    pub(crate) async fn finish(self, patience: Duration) -> Followed {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let has_all = self.state.borrow().checker.has_all(&self.history.borrow().expected);
            if has_all && self.state.borrow().last.elapsed() >= limits::TORTURE_FOLLOW_CALM {
                break;
            }
            sleep(limits::TORTURE_POLL_EVERY).await;
        }
        let Following { checker, longest, heads_lost, .. } = self.state.replace(Following {
            checker: Checker::new(Order::NotJudged),
            longest: Duration::ZERO,
            heads_lost: 0,
            last: deadline,
        });
        let verdict = checker.finish(&self.history.borrow().expected);
        Followed { verdict, longest_s: longest.as_secs_f64(), heads_lost }
    }
}

async fn follow(mut reader: Reader, state: Rc<RefCell<Following>>, history: Rc<RefCell<History>>) {
    let who = "the follower";
    while let Some(event) = reader.next().await {
        match event {
            Ok(Event::Message(message)) => {
                let mut state = state.borrow_mut();
                let taken = UNIX_EPOCH + Duration::from_nanos(message.id.time_ns);
                let late = SystemTime::now().duration_since(taken).unwrap_or_default();
                state.longest = state.longest.max(late);
                state.last = Instant::now();
                state.checker.read(&history.borrow().expected, &as_read(&message));
            }
            Ok(Event::End { .. }) => history.borrow_mut().trouble(format!("{who} came to an end")),
            Ok(event) => {
                state.borrow_mut().heads_lost += u64::from(matches!(event, Event::Lost { .. }));
                history.borrow_mut().reading(who, &event);
            }
            Err(error) => history.borrow_mut().trouble(format!("{who}: {error}")),
        }
    }
}

fn as_read(message: &reader::Message) -> Read {
    let reader::Message { id, client, seq, source, payload, .. } = message;
    Read { id: *id, client: *client, seq: *seq, source: *source, message: Message::parse(payload) }
}

/// Reads everything, once beginning with each head; the first verdict that is not good, or the last.
///
/// Nodes that are away are trouble; what is on the others is read and judged all the same.
pub(crate) async fn read_all(heads: &[String], history: &RefCell<History>) -> Verdict {
    let mut verdict = Verdict::default();
    for (at, head) in heads.iter().enumerate() {
        let mut turned = heads.to_vec();
        turned.rotate_left(at);
        verdict = match read_once(head, turned.clone(), false, history).await {
            Some(verdict) => verdict,
            None => read_once(head, turned, true, history).await.unwrap_or_default(),
        };
        if !verdict.is_good() {
            break;
        }
    }
    verdict
}

/// Reads everything. None if nodes are missing and `partial` does not allow it.
async fn read_once(head: &str, heads: Vec<String>, partial: bool, history: &RefCell<History>) -> Option<Verdict> {
    let who = format!("the read through {head}");
    let config = Config { retry_for: limits::TORTURE_READ_RETRY_TIME, ..Config::from(heads) };
    let mut reader = reader::read(config, Query { partial, ..Query::default() });
    let mut checker = Checker::new(Order::Judged);
    while let Some(event) = reader.next().await {
        match event {
            Ok(Event::Message(message)) => checker.read(&history.borrow().expected, &as_read(&message)),
            Ok(Event::End { .. }) => {}
            Ok(event) => history.borrow_mut().reading(&who, &event),
            Err(error @ ReadError::Missing { .. }) => {
                history.borrow_mut().trouble(format!("{who}: {error}"));
                return None;
            }
            Err(error) => history.borrow_mut().trouble(format!("{who}: {error}")),
        }
    }
    Some(checker.finish(&history.borrow().expected))
}
