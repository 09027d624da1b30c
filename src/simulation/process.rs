//! A role that runs on a simulated host: it can be asked to stop, paused, or killed between two of its steps.
//!
//! Each has a LocalSet of its own, so that all its tasks are gone at once.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::{LocalSet, spawn_local};

use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Gate {
    set: RefCell<Option<LocalSet>>,
    paused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    ended: RefCell<Option<String>>,
}

/// A running role. Dropping it kills it.
pub(crate) struct Process {
    gate: Rc<Gate>,
    shutdown: CancellationToken,
    asked: Cell<bool>,
}

/// Polls the tasks of a process, unless it is paused.
struct Drive(Rc<Gate>);

impl Future for Drive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.waker.replace(Some(cx.waker().clone()));
        match &mut *self.0.set.borrow_mut() {
            Some(_) if self.0.paused.get() => Poll::Pending,
            Some(set) => Pin::new(set).poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl Process {
    /// Starts a role; what it returns says how it ended. Call it inside a LocalSet.
    pub(crate) fn start<F: Future<Output = String> + 'static>(role: impl FnOnce(CancellationToken) -> F) -> Self {
        let shutdown = CancellationToken::new();
        let gate = Rc::new(Gate::default());
        let set = LocalSet::new();
        let (role, told) = (role(shutdown.clone()), Rc::downgrade(&gate));
        set.spawn_local(async move {
            let ended = role.await;
            if let Some(gate) = told.upgrade() {
                gate.ended.replace(Some(ended));
            }
        });
        gate.set.replace(Some(set));
        spawn_local(Drive(Rc::clone(&gate)));
        Self { gate, shutdown, asked: Cell::new(false) }
    }

    /// Asks it to end in order.
    pub(crate) fn stop(&self) {
        self.asked.set(true);
        self.shutdown.cancel();
    }

    /// Stops its steps, or lets them go on.
    pub(crate) fn pause(&self, paused: bool) {
        self.gate.paused.set(paused);
        self.wake();
    }

    /// Whether it was asked to end and has not.
    pub(crate) fn is_stopping(&self) -> bool {
        self.asked.get() && self.ended().is_none()
    }

    /// Whether it was asked to end.
    pub(crate) const fn was_asked(&self) -> bool {
        self.asked.get()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&self) -> Option<String> {
        self.gate.ended.borrow().clone()
    }

    fn wake(&self) {
        if let Some(waker) = self.gate.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let set = self.gate.set.take();
        drop(set);
        self.wake();
    }
}
