//! Devices as heads know them, for commands that look at a time in which a device may have said nothing.

use anyhow::{Context as _, Result};

use super::devices;
use super::events::say;
use crate::client::reader::Config;
use crate::wire::filter::SourceFilter;
use crate::wire::source::SourceName;

/// A device that has records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: String,
    /// When its first message was taken, and its last one.
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) period_ns: Option<u64>,
}

/// Those that the filter lets pass; none where folders are read. None either while a data node does not tell of its devices:
/// what it alone knows may be the last that was heard of one.
///
/// # Errors
/// No head answers.
pub(crate) async fn known(config: &Config, sources: &SourceFilter) -> Result<Vec<Known>> {
    let heads = config.heads();
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let report = devices::ask(&config.asker(), &heads).await.context("cannot tell which devices there are")?;
    if !report.missing.is_empty() {
        let missing = report.missing.join(", ");
        say(&format!("without {missing} nobody knows who said nothing in this time; start what is away again"));
        return Ok(Vec::new());
    }
    let passes = |name: &str| name.parse().is_ok_and(|name: SourceName| sources.matches(Some(&name)));
    let devices = report.devices.into_iter().filter(|device| device.records > 0 && passes(&device.name));
    Ok(devices
        .map(|device| Known {
            name: device.name,
            first_ns: device.first_ns,
            last_ns: device.last_ns,
            // A float that is too large becomes the greatest number.
            period_ns: device.period_s.map(|period| (period * 1e9) as u64),
        })
        .collect())
}
