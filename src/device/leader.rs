//! The leader of the devices: in each round it collects what they have written, sends the mean to the web API, and opens
//! the barrier. It stops at the first doubt about its leadership; the election sees to that.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::api::{self, ApiUrl};
use super::console::Console;
use super::paths;
use super::record::{Leadership, Records, Sent};
use super::round::{Outcome, Reading, Rounds, Unreadable};
use super::sensor::period_from;
use super::settings::Setting;
use super::value::{Value, shown};
use crate::coord::{Barrier, Cause, ChildrenWatch, Election, Error, Fence, Session, Term, python};
use crate::limits;

/// A candidate for leadership.
pub(crate) struct Leader {
    pub(crate) id: String,
    pub(crate) session: Session,
    pub(crate) period: watch::Receiver<Duration>,
    /// When the round under way began, as this device's sensor saw it.
    pub(crate) begun: watch::Receiver<Option<Instant>>,
    pub(crate) api: Setting<ApiUrl>,
    pub(crate) api_time: Duration,
    pub(crate) console: Console,
    pub(crate) records: Records,
}

/// What lasts longer than a doubt.
#[derive(Default)]
struct Led {
    term: Option<Fence>,
    round: u64,
    rounds: Rounds,
    /// The devices that were told of as late or unreadable.
    told: Vec<String>,
}

impl Leader {
    /// Stands in the election, and leads each time it is its turn. Ends only with an error.
    pub(crate) async fn run(&self) -> Error {
        let path = match paths::election() {
            Ok(path) => path,
            Err(error) => return error,
        };
        let election = Election::new(&self.session, path, self.id.as_str());
        let mut led = Led::default();
        match election.run(async |term| self.lead(&term, &mut led).await).await {
            Ok(error) | Err(error) => error,
        }
    }

    async fn lead(&self, term: &Term, led: &mut Led) -> Error {
        if led.term != Some(term.fence()) {
            *led = Led { term: Some(term.fence()), ..Led::default() };
        }
        tracing::info!("device {} leads, term {}, pid {}", self.id, term.fence(), std::process::id());
        let api = watch::Sender::new(self.api.flag.clone());
        tokio::select! {
            error = self.rounds(term, led, api.subscribe()) => error,
            error = self.watch_devices() => error,
            error = self.api.follow(&self.session, &api, &self.console) => error,
        }
    }

    /// Round after round, each one period from the opening of the barrier: the first may have begun under another leader.
    async fn rounds(&self, term: &Term, led: &mut Led, api: watch::Receiver<ApiUrl>) -> Error {
        let mut period = self.period.clone();
        let mut begun = self.begun.borrow().unwrap_or_else(Instant::now);
        let mut said = String::new();
        loop {
            period_from(&mut period, begun).await;
            match self.round(term, led, &api).await {
                Ok(()) => said.clear(),
                Err(Error::Closed) => return Error::Closed,
                Err(error) => {
                    let words = error.to_string();
                    if words != said {
                        tracing::warn!("a round fails: {words}; trying again each period");
                        said = words;
                    }
                }
            }
            begun = Instant::now();
        }
    }

    async fn round(&self, term: &Term, led: &mut Led, api: &watch::Receiver<ApiUrl>) -> Result<(), Error> {
        let (devices, readings) = self.collect().await?;
        led.round += 1;
        let outcome = led.rounds.judge(readings);
        self.console.say("LEADER :");
        let list = python::list(&devices);
        self.console.say(&format!("Hay {} dispositivos activos: {list}", devices.len()));
        for (device, value) in &outcome.counted {
            self.console.say(&format!("Valor del dispositivo {device} a considerar : {value}"));
        }
        tell_who_did_not_count(&outcome, &mut led.told);
        if let Some(mean) = outcome.mean
            // Between the reading and now another may have become the leader.
            && term.is_certain()
        {
            self.console.say(&format!("La media es: {mean:?}"));
            self.console.say("Enviando request...");
            let sent = self.send(mean, api).await;
            if sent == Sent::Taken {
                self.console.end("El nuevo valor fue enviado a la API correctamente!");
            }
            let by = Leadership { leader: &self.id, term: term.fence().0, round: led.round };
            self.records.mean(&by, &outcome, mean, &sent);
        }
        self.console.say("Abriendo la barrera...");
        Barrier::new(&self.session, paths::barrier()?).remove().await?;
        Ok(())
    }

    /// The names of all devices, and what they have written. One that vanishes meanwhile is skipped.
    async fn collect(&self) -> Result<(Vec<String>, Vec<Reading>), Error> {
        let parent = paths::measurements()?;
        let mut devices = match self.session.children(&parent).await {
            Err(error) if error.cause() == Some(&Cause::NoNode) => Vec::new(),
            devices => devices?,
        };
        if devices.len() > limits::DEVICES_MAX {
            tracing::warn!("{} devices are too many; {} are collected", devices.len(), limits::DEVICES_MAX);
            devices.truncate(limits::DEVICES_MAX);
        }
        let mut readings = Vec::with_capacity(devices.len());
        for device in &devices {
            let path = match parent.child(device) {
                Ok(path) => path,
                // A stranger's name, which ZooKeeper takes and this program does not: it holds up no round.
                Err(bad) => {
                    let value = Err(Unreadable::Refused(bad.to_string()));
                    readings.push(Reading { device: shown(device), written: 0, value });
                    continue;
                }
            };
            let (written, value) = match self.session.get(&path).await {
                Ok((data, stat)) => (stat.mzxid, value(&data)),
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) if error.cause() == Some(&Cause::NoNode) => continue,
                Err(error) => (0, Err(Unreadable::Refused(error.to_string()))),
            };
            readings.push(Reading { device: device.clone(), written, value });
        }
        Ok((devices, readings))
    }

    /// Sends a mean, a second time if the API may be there in a moment.
    async fn send(&self, mean: f64, api: &watch::Receiver<ApiUrl>) -> Sent {
        let mut tries = 1;
        loop {
            let url = api.borrow().clone();
            let Err(error) = api::send(&url, mean, self.api_time).await else { return Sent::Taken };
            if tries < limits::DEVICE_API_TRIES && error.may_pass() {
                tracing::warn!("the web API at {url}: {error}; trying again");
                tries += 1;
                sleep(limits::DEVICE_API_PAUSE).await;
                continue;
            }
            tracing::warn!("the web API at {url}: {error}; this mean is not there, the next round goes on");
            return Sent::Not(error.to_string());
        }
    }

    /// Tells each time who the devices are.
    async fn watch_devices(&self) -> Error {
        loop {
            match self.devices_until_gone().await {
                Ok(()) => {}
                Err(Error::Closed) => return Error::Closed,
                Err(error) => {
                    tracing::warn!("{error}; trying again");
                    sleep(limits::DEVICE_REFUSED_PAUSE).await;
                }
            }
        }
    }

    async fn devices_until_gone(&self) -> Result<(), Error> {
        let path = paths::measurements()?;
        self.session.ensure(&path).await?;
        let mut watch = ChildrenWatch::new(&self.session, path);
        while let Some(devices) = watch.next().await? {
            let list = python::list(&devices);
            self.console.watcher(&format!("Dispositivos conectados: {list}"));
        }
        Ok(())
    }
}

fn value(data: &[u8]) -> Result<Value, Unreadable> {
    if data.is_empty() {
        return Err(Unreadable::Empty);
    }
    let text = String::from_utf8_lossy(data.get(..limits::DEVICE_VALUE_BYTES_MAX).unwrap_or(data));
    Value::parse(&text).ok_or_else(|| Unreadable::NoNumber(shown(&text)))
}

/// Says who is late or unreadable when that changes, not in every round.
fn tell_who_did_not_count(outcome: &Outcome, told: &mut Vec<String>) {
    let late =
        outcome.late.iter().map(|device| format!("device {device} is late: it has written nothing in this round"));
    let unreadable = outcome.unreadable.iter().filter(|(_, cause)| **cause != Unreadable::Empty);
    let unreadable = unreadable.map(|(device, cause)| format!("device {device} does not count: {cause}"));
    let now: Vec<String> = late.chain(unreadable).collect();
    for words in now.iter().filter(|words| !told.contains(words)) {
        tracing::warn!("{words}");
    }
    *told = now;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_znode_holds_a_number_or_says_why_not() {
        assert_eq!(value(b"82").unwrap().number(), 82.0);
        assert_eq!(value(b"82.5\n").unwrap().number(), 82.5);
        assert_eq!(value(b""), Err(Unreadable::Empty));
        assert_eq!(value(b"ochenta"), Err(Unreadable::NoNumber("ochenta".to_owned())));
        assert!(value(&[b'1'; 1_000_000]).is_err() && value(b"\xff\x00").is_err());
    }
}
