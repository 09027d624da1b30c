//! A measuring device: a sensor and a candidate for leadership at once, as the systems it is built after have it, on the
//! same znodes. It takes part with their Python programs in one set of devices, whoever leads.
//!
//! | znode | is |
//! |---|---|
//! | `/election` | the election; a candidate's data is its id |
//! | `/mediciones/<id>` | ephemeral; the device's last value |
//! | `/barrier` | the barrier at which sensors wait for the end of the round |
//! | `/counter` | counts measurements |
//! | `/config/sampling_period`, `/config/api_url` | go before the flags |
//!
//! A round lasts one period from the opening of the barrier. Then the leader collects, sends the mean to the web API, and
//! opens the barrier again. It needs ZooKeeper (`coord`); of the cluster it knows the client library alone, which keeps
//! measurements and means if heads are named.

mod api;
mod console;
mod leader;
mod record;
mod round;
mod sensor;
mod settings;
mod source;
mod value;

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use api::ApiUrl;
pub(crate) use console::Console;
pub(crate) use source::Source;
pub(crate) use value::period;

use crate::coord::{self, Session};
use crate::net;
use leader::Leader;
use sensor::Sensor;
use settings::Setting;

/// Settings of a device.
#[derive(Debug)]
pub(crate) struct Config {
    /// Its id: the name of its znode.
    pub(crate) id: String,
    /// The ZooKeeper session.
    pub(crate) zookeeper: coord::Config,
    /// Heads that keep its measurements; none keeps them in the znodes alone.
    pub(crate) heads: Option<net::Heads>,
    /// The web API, unless `/config/api_url` names another.
    pub(crate) api: ApiUrl,
    /// Time the web API has to answer.
    pub(crate) api_time: Duration,
    /// The period, unless `/config/sampling_period` says another.
    pub(crate) period: Duration,
    /// Where its values come from.
    pub(crate) source: Source,
    /// Where its lines are shown.
    pub(crate) console: Console,
}

/// Why a device ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// ZooKeeper is not to be had, or refuses.
    #[error(transparent)]
    ZooKeeper(#[from] coord::Error),
    /// Another device has the id.
    #[error(
        "a device {id} is there already: session {owner:#x} has its znode; give this one another id, or end that one"
    )]
    SecondOfOneId {
        /// The id.
        id: String,
        /// The other's session.
        owner: i64,
    },
}

/// How a sensor waits for the next measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// At the barrier, and it counts.
    Barrier,
    /// For one period.
    Free,
}

impl Style {
    /// A device called `app…` waits at no barrier, as the first of the systems that it is built after.
    fn of(id: &str) -> Self {
        if id.starts_with("app") { Self::Free } else { Self::Barrier }
    }
}

/// Where everything is.
mod paths {
    use crate::coord::{Error, ZnodePath};

    pub(crate) fn election() -> Result<ZnodePath, Error> {
        Ok("/election".parse()?)
    }

    pub(crate) fn measurements() -> Result<ZnodePath, Error> {
        Ok("/mediciones".parse()?)
    }

    pub(crate) fn measurement(id: &str) -> Result<ZnodePath, Error> {
        Ok(measurements()?.child(id)?)
    }

    pub(crate) fn barrier() -> Result<ZnodePath, Error> {
        Ok("/barrier".parse()?)
    }

    pub(crate) fn counter() -> Result<ZnodePath, Error> {
        Ok("/counter".parse()?)
    }

    pub(crate) fn config(name: &str) -> Result<ZnodePath, Error> {
        Ok(format!("/config/{name}").parse()?)
    }
}

/// Runs a device until it is asked to stop or its source ends. Then its znodes are gone at once.
///
/// # Errors
/// There is no ZooKeeper, it refuses, or another device has the id.
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let opened = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        opened = Session::open(config.zookeeper.clone()) => opened,
    };
    let session = opened?;
    let (records, storing) = record::open(config.heads.clone(), &config.id);
    let result = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        result = take_part(config, &session, records) => result,
    };
    session.close().await;
    storing.finish().await;
    tracing::info!("stopped");
    result
}

async fn take_part(config: Config, session: &Session, records: record::Records) -> Result<(), Error> {
    let Config { id, api, api_time, period, source, console, .. } = config;
    tracing::info!("device {id}: connected to ZooKeeper {}", session.servers());
    let setting = Setting {
        path: paths::config("sampling_period")?,
        name: "SAMPLING_PERIOD",
        flag: period,
        parse: value::period,
        show: |period| value::show_period(*period),
    };
    let (sender, period) = watch::channel(period);
    let (begins, begun) = watch::channel(None);
    let api = Setting {
        path: paths::config("api_url")?,
        name: "API_URL",
        flag: api,
        parse: str::parse,
        show: ToString::to_string,
    };
    let leader = Leader {
        id: id.clone(),
        session: session.clone(),
        period: period.clone(),
        begun,
        api,
        api_time,
        console: console.clone(),
        records: records.clone(),
    };
    let style = Style::of(&id);
    let (session_too, console_too) = (session.clone(), console.clone());
    let sensor =
        Sensor { id, style, session: session_too, source, period, begun: begins, console: console_too, records };
    let (there, is_there) = oneshot::channel();
    let candidate = async {
        // A second device of this id must not lead under its name.
        if is_there.await.is_err() {
            std::future::pending::<()>().await;
        }
        leader.run().await
    };
    tokio::select! {
        ended = sensor.run(there) => ended,
        error = candidate => Err(error.into()),
        error = setting.follow(session, &sender, &console) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_waits_at_no_barrier() {
        assert_eq!(
            (Style::of("1"), Style::of("app1"), Style::of("happy")),
            (Style::Barrier, Style::Free, Style::Barrier)
        );
    }
}
