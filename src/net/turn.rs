//! A connection's turn: how much its task does before the other tasks of its thread have theirs.
//!
//! A role runs on one thread, so a peer that always has more to say would keep all others waiting. Whoever serves one
//! counts what it does here, and rests when the turn is over. What is counted is the caller's business.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::limits;

/// What is left of a turn.
#[derive(Debug)]
pub(crate) struct Turn {
    left: usize,
}

impl Default for Turn {
    fn default() -> Self {
        Self { left: limits::TURN_BYTES }
    }
}

impl Turn {
    /// Notes one frame, batch or line that took this many bytes, in and out. Lets others run if that ends the turn.
    pub(crate) async fn spend(&mut self, bytes: usize) {
        if self.ends_with(bytes) {
            rest().await;
        }
    }

    /// Ends the turn: for what takes as long as the whole of one.
    pub(crate) async fn end(&mut self) {
        self.spend(limits::TURN_BYTES).await;
    }

    const fn ends_with(&mut self, bytes: usize) -> bool {
        self.left = self.left.saturating_sub(limits::TURN_STEP_BYTES.saturating_add(bytes));
        let over = self.left == 0;
        if over {
            self.left = limits::TURN_BYTES;
        }
        over
    }
}

/// Resolves once all other tasks that were ready have run and the sockets were looked at. tokio's own
/// [`yield_now`](tokio::task::yield_now) resolves whenever it is polled again, and what else a connection's task waits for
/// would have it polled at once: the peer's answers are written by the same task.
async fn rest() {
    let rested = Arc::new(Rested::default());
    let waker = Waker::from(Arc::clone(&rested));
    let mut yielded = pin!(tokio::task::yield_now());
    let mut began = false;
    std::future::poll_fn(|cx| {
        if rested.over.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        rested.task.lock().unwrap_or_else(PoisonError::into_inner).replace(cx.waker().clone());
        if !std::mem::replace(&mut began, true) {
            // Outside of a runtime it is woken at once.
            return yielded.as_mut().poll(&mut Context::from_waker(&waker));
        }
        Poll::Pending
    })
    .await;
}

/// Tells that the runtime woke who yielded, apart from who else woke its task.
#[derive(Default)]
struct Rested {
    over: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Rested {
    fn wake(self: Arc<Self>) {
        self.over.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        task.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::sync::Notify;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    #[test]
    fn a_turn_is_bounded_in_frames_and_in_bytes() {
        let steps = |bytes| {
            let mut turn = Turn::default();
            (1..).find(|_| turn.ends_with(bytes)).unwrap()
        };
        assert_eq!(steps(0), limits::TURN_BYTES / limits::TURN_STEP_BYTES);
        assert_eq!(steps(limits::TURN_BYTES / 2), 2);
        assert_eq!(steps(usize::MAX), 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_rests_stays_behind_the_others_though_its_task_is_woken() {
        let others = async {
            let (turns, wake) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
            let (counted, woken) = (Rc::clone(&turns), Rc::clone(&wake));
            spawn_local(async move {
                let mut turn = Turn::default();
                let talks = async {
                    loop {
                        counted.set(counted.get() + 1);
                        woken.notify_one();
                        turn.end().await;
                    }
                };
                let writes = async {
                    loop {
                        wake.notified().await;
                    }
                };
                tokio::join!(writes, talks)
            });
            for _ in 0..10 {
                let before = turns.get();
                yield_now().await;
                assert!(turns.get() <= before + 2, "{} turns to one", turns.get() - before);
            }
            assert!(turns.get() > 1);
        };
        LocalSet::new().run_until(others).await;
    }
}
