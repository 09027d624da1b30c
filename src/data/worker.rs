//! Who does blocking work on a disk: a thread, which does jobs in order, or whoever asks, where handing over would take as
//! long as the job; or, in a simulation, the task that asks, after as long as a simulated disk takes.
//!
//! It knows no job: the work is a function from a job to its answer.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, mpsc as orders};
use std::thread;

use tokio::sync::oneshot;

use crate::net::aside;

/// Where work is done.
#[derive(Clone, Debug, Default)]
pub(crate) enum Executor {
    /// On a thread of its own for each worker.
    #[default]
    Thread,
    /// In the task that asks.
    #[cfg(feature = "simulation")]
    Inline(Latency),
}

impl Executor {
    /// Does one long job while others go on.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        name: &str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Thread => aside(name, || Ok(job())).await,
            #[cfg(feature = "simulation")]
            Self::Inline(_) => Ok(job()),
        }
    }
}

/// How long the next job of a simulated disk takes.
#[cfg(feature = "simulation")]
#[derive(Clone)]
pub(crate) struct Latency(pub(crate) std::sync::Arc<dyn Fn() -> std::time::Duration + Send + Sync>);

#[cfg(feature = "simulation")]
impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latency")
    }
}

/// Does jobs, one at a time, in order.
pub(crate) struct Worker<J, R>(Hand<J, R>);

enum Hand<J, R> {
    Thread {
        orders: orders::SyncSender<(J, oneshot::Sender<R>)>,
        /// The answer to the job in hand.
        under_way: Option<oneshot::Receiver<R>>,
        /// What does the jobs; the thread's while one is under way.
        work: Arc<Mutex<dyn FnMut(J) -> R + Send>>,
    },
    #[cfg(feature = "simulation")]
    Inline { latency: Latency, work: Box<dyn FnMut(J) -> R> },
}

impl<J: Send + 'static, R: Send + 'static> Worker<J, R> {
    /// A worker that does jobs with `work`; a thread of its has this name. It ends when the worker is dropped, once the
    /// job in hand is done.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(
        executor: &Executor,
        name: &str,
        work: impl FnMut(J) -> R + Send + 'static,
    ) -> io::Result<Self> {
        match executor {
            Executor::Thread => {
                let (sender, taken) = orders::sync_channel::<(J, oneshot::Sender<R>)>(1);
                let work: Arc<Mutex<dyn FnMut(J) -> R + Send>> = Arc::new(Mutex::new(work));
                let its = Arc::clone(&work);
                thread::Builder::new().name(name.to_owned()).spawn(move || {
                    while let Ok((job, answer)) = taken.recv() {
                        let Some(done) = do_it(&its, job) else { return };
                        // Who asked may be gone: the job is done all the same.
                        drop(answer.send(done));
                    }
                })?;
                Ok(Self(Hand::Thread { orders: sender, under_way: None, work }))
            }
            #[cfg(feature = "simulation")]
            Executor::Inline(latency) => Ok(Self(Hand::Inline { latency: latency.clone(), work: Box::new(work) })),
        }
    }

    /// Does one short job on the thread that asks, which stands still meanwhile; after one whose answer nobody awaited. None
    /// if a job has panicked.
    pub(crate) async fn work_here(&mut self, job: J) -> Option<R> {
        match &mut self.0 {
            Hand::Thread { under_way: None, work, .. } => do_it(work, job),
            _ => self.work(job).await,
        }
    }

    /// Does one job, after one whose answer nobody awaited. None if the thread is gone.
    pub(crate) async fn work(&mut self, job: J) -> Option<R> {
        match &mut self.0 {
            Hand::Thread { orders, under_way, .. } => {
                if let Some(before) = under_way {
                    drop(before.await);
                }
                let (answer, done) = oneshot::channel();
                // The channel has one place and no job is under way, so this never blocks.
                orders.try_send((job, answer)).ok()?;
                let answer = under_way.insert(done).await.ok();
                *under_way = None;
                answer
            }
            #[cfg(feature = "simulation")]
            Hand::Inline { latency, work } => {
                let time = latency.0();
                let mut pending = Pending { work: &mut **work, job: Some(job) };
                tokio::time::sleep(time).await;
                pending.finish()
            }
        }
    }
}

/// None if a job before it has panicked: what it left is not to be used.
fn do_it<J, R>(work: &Mutex<dyn FnMut(J) -> R + Send>, job: J) -> Option<R> {
    work.lock().ok().map(|mut work| work(job))
}

impl<J, R> fmt::Debug for Worker<J, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}

/// A job that is under way: like one on a thread, it is done even if nobody awaits it any more.
#[cfg(feature = "simulation")]
struct Pending<'a, J, R> {
    work: &'a mut dyn FnMut(J) -> R,
    job: Option<J>,
}

#[cfg(feature = "simulation")]
impl<J, R> Pending<'_, J, R> {
    fn finish(&mut self) -> Option<R> {
        self.job.take().map(|job| (self.work)(job))
    }
}

#[cfg(feature = "simulation")]
impl<J, R> Drop for Pending<'_, J, R> {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_thread_keeps_its_state_and_does_what_nobody_awaits() {
        let mut sum = 0;
        let work = move |n: u64| {
            sum += n;
            sum
        };
        let mut worker = Worker::start(&Executor::Thread, "test", work).unwrap();
        assert_eq!(worker.work(2).await, Some(2));
        {
            let dropped = worker.work(3);
            tokio::pin!(dropped);
            tokio::select! {
                biased;
                _ = &mut dropped => {}
                () = std::future::ready(()) => {}
            }
        }
        // After the one that nobody awaits, which is the thread's still.
        assert_eq!(worker.work_here(1).await, Some(6));
        assert_eq!(worker.work_here(1).await, Some(7));
        assert_eq!(worker.work(5).await, Some(12));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_job_that_panics_here_is_the_last() {
        let mut sum = 0;
        let work = move |n: u64| {
            sum += n;
            assert!(n < 9, "too many");
            sum
        };
        let mut worker = Worker::start(&Executor::Thread, "test", work).unwrap();
        assert_eq!(worker.work(2).await, Some(2));
        assert_eq!(worker.work(9).await, None);
        assert_eq!(worker.work_here(1).await, None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_thread_that_is_gone_is_told() {
        let mut worker =
            Worker::start(&Executor::Thread, "test", |_: ()| std::panic::resume_unwind(Box::new(()))).unwrap();
        assert_eq!(worker.work(()).await, None::<()>);
    }

    #[cfg(feature = "simulation")]
    #[tokio::test(start_paused = true)]
    async fn in_a_simulation_a_job_takes_its_time_and_is_done_even_if_who_asked_is_gone() {
        let latency = Latency(std::sync::Arc::new(|| std::time::Duration::from_secs(3)));
        let sum = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let inside = std::sync::Arc::clone(&sum);
        let work = move |n: u64| inside.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        let mut worker = Worker::start(&Executor::Inline(latency), "test", work).unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(worker.work(2).await, Some(0));
        assert_eq!(started.elapsed().as_secs(), 3);
        let dropped = tokio::time::timeout(std::time::Duration::from_secs(1), worker.work(5)).await;
        assert!(dropped.is_err());
        assert_eq!(sum.load(std::sync::atomic::Ordering::Relaxed), 7);
    }
}
