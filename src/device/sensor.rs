//! The sensor of a device: measures, writes the value into its znode, counts, and waits for the round to end.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::console::Console;
use super::record::Records;
use super::source::{NoValue, Source};
use super::value::Value;
use super::{Error, Style, paths};
use crate::coord::{self, Barrier, Counter, Ephemeral, Number, Session, Written};
use crate::limits;

/// A sensor.
pub(crate) struct Sensor {
    pub(crate) id: String,
    pub(crate) style: Style,
    pub(crate) session: Session,
    pub(crate) source: Source,
    pub(crate) period: watch::Receiver<Duration>,
    /// Tells when the round under way began: when the barrier was opened, or this device came to it.
    pub(crate) begun: watch::Sender<Option<Instant>>,
    pub(crate) console: Console,
    pub(crate) records: Records,
}

impl Sensor {
    /// Measures until the source ends. `there` is told once the device's znode is its own.
    pub(crate) async fn run(mut self, there: oneshot::Sender<()>) -> Result<(), Error> {
        let Some(value) = self.measure().await else { return Ok(()) };
        let znode = self.claim(value).await?;
        let _nobody_stands_any_more = there.send(());
        self.console.end(&format!("Node {}: {value} sent to zk", self.id));
        self.after(value).await?;
        while let Some(value) = self.measure().await {
            self.write(&znode, value).await?;
            self.after(value).await?;
        }
        Ok(())
    }

    /// The next value; none when no more come. Without one for now it says so and tries again in the next round.
    async fn measure(&mut self) -> Option<Value> {
        let mut said = String::new();
        loop {
            match self.source.measure().await {
                Ok(value) => return Some(value),
                Err(NoValue::Ended) => {
                    tracing::info!("no more values come; the device ends");
                    return None;
                }
                Err(NoValue::Bad(cause)) => {
                    if cause != said {
                        tracing::warn!("no value: {cause}; trying again each period");
                        said = cause;
                    }
                    self.one_period().await;
                }
            }
        }
    }

    /// Makes the device's znode. One of the same id may have been killed a moment ago: its znode goes with its session.
    async fn claim(&self, value: Value) -> Result<Ephemeral, Error> {
        let path = paths::measurement(&self.id)?;
        let data = value.to_string();
        match Ephemeral::claim(&self.session, path.clone(), data.as_bytes(), Duration::ZERO).await {
            Err(coord::Error::Taken { owner, .. }) => {
                let patience = self.session.timeout().unwrap_or_default() + limits::DEVICE_CLAIM_EXTRA;
                tracing::warn!(
                    "a device {} is there already, of session {owner:#x}; waiting {patience:?} for it to go",
                    self.id
                );
                let claimed = Ephemeral::claim(&self.session, path, data.as_bytes(), patience).await;
                claimed.map_err(|error| self.told(error))
            }
            result => Ok(result?),
        }
    }

    /// Another of the same id is no error of ZooKeeper's.
    fn told(&self, error: coord::Error) -> Error {
        match error {
            coord::Error::Taken { owner, .. } => Error::SecondOfOneId { id: self.id.clone(), owner },
            error => error.into(),
        }
    }

    async fn write(&self, znode: &Ephemeral, value: Value) -> Result<(), Error> {
        match znode.set(value.to_string().as_bytes()).await {
            Ok(Written::Set) => self.console.end(&format!("Node {}: {value} sent to zk", self.id)),
            Ok(Written::Recreated) => {
                let id = &self.id;
                self.console.say(&format!("Node {id}: Nodo fue eliminado por un fallo de conexión, recreando..."));
                self.console.end(&format!("Node {id}: {value} sent to zk (recreated)"));
            }
            Err(error @ (coord::Error::Taken { .. } | coord::Error::Closed)) => return Err(self.told(error)),
            Err(error) => tracing::warn!("{error}; trying again with the next value"),
        }
        Ok(())
    }

    /// What follows a measurement: it is counted and kept, and the round is waited for.
    async fn after(&mut self, value: Value) -> Result<(), Error> {
        if self.style == Style::Free {
            self.records.measurement(&self.id, value, None);
            self.begun.send_replace(Some(Instant::now()));
            self.one_period().await;
            return Ok(());
        }
        let counter = Counter::new(&self.session, paths::counter()?);
        let counted = match counter.add(Number::Int(1)).await {
            Ok(counted) => {
                self.console.say(&format!("Valor actual del contador: {counted}"));
                Some(counted.to_string())
            }
            Err(coord::Error::Closed) => return Err(coord::Error::Closed.into()),
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        };
        self.records.measurement(&self.id, value, counted);
        self.console.end(&format!("Node {}: Esperando en la barrera...", self.id));
        self.begun.send_if_modified(|begun| begun.replace(begun.unwrap_or_else(Instant::now)).is_none());
        let patience = *self.period.borrow() * limits::DEVICE_BARRIER_PERIODS_MAX;
        let patience = patience.max(limits::DEVICE_BARRIER_TIME_MIN);
        match timeout(patience, self.barrier()).await {
            Ok(Ok(())) => drop(self.begun.send_replace(Some(Instant::now()))),
            Ok(Err(coord::Error::Closed)) => return Err(coord::Error::Closed.into()),
            Ok(Err(error)) => {
                tracing::warn!("{error}; measuring each period");
                self.one_period().await;
            }
            Err(_) => {
                tracing::warn!("nobody opened the barrier for {patience:?}: nobody leads; measuring all the same")
            }
        }
        Ok(())
    }

    async fn barrier(&self) -> Result<(), coord::Error> {
        let barrier = Barrier::new(&self.session, paths::barrier()?);
        barrier.create().await?;
        barrier.wait().await
    }

    async fn one_period(&mut self) {
        period_from(&mut self.period, Instant::now()).await;
    }
}

/// Waits for one period from `start`; a change of the period counts at once.
pub(crate) async fn period_from(period: &mut watch::Receiver<Duration>, start: Instant) {
    loop {
        let end = start + *period.borrow_and_update();
        tokio::select! {
            biased;
            () = sleep_until(end) => return,
            // Without a sender it stays as it is.
            changed = period.changed() => if changed.is_err() { return sleep_until(end).await },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_period_counts_at_once() {
        let (sender, mut period) = watch::channel(Duration::from_secs(3600));
        let start = Instant::now();
        let change = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            sender.send_replace(Duration::from_secs(8));
        };
        tokio::join!(period_from(&mut period, start), change);
        assert_eq!(start.elapsed().as_secs(), 8);
        sender.send_replace(Duration::from_secs(1));
        period_from(&mut period, start).await;
        assert_eq!(start.elapsed().as_secs(), 8, "it is over already");
    }
}
