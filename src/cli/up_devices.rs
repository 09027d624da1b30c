//! Flags of the measuring devices of `acopio up`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::values;
use crate::cluster::devices;
use crate::cluster::plan::{Devices, ZooKeeper};
use crate::coord::Servers;
use crate::limits;

/// Flags of devices, and of what they need.
#[derive(Debug, Args)]
pub(crate) struct UpDevices {
    /// Measuring devices that coordinate over ZooKeeper, with a web API that their leader sends means to
    #[arg(long, env = "ACOPIO_DEVICES", value_name = "N", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(0..=limits::UP_DEVICES_MAX as u64))]
    devices: u64,
    /// ZooKeeper servers, that run already, for the devices [default: one of its own, from Debian's package]
    #[arg(long, env = "ACOPIO_ZOOKEEPER", value_name = "HOST:PORT[,...][/CHROOT]")]
    zookeeper: Option<Servers>,
    /// Port of the devices' own ZooKeeper
    #[arg(long, env = "ACOPIO_ZOOKEEPER_PORT", value_name = "PORT", default_value_t = 2181,
        value_parser = clap::value_parser!(u16).range(1..))]
    zookeeper_port: u16,
    /// Time between two measurements, of the devices
    #[arg(long, env = "ACOPIO_PERIOD", value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    period: Duration,
}

impl UpDevices {
    /// The plan of the devices, if there are to be any.
    pub(crate) fn plan(&self, web: SocketAddr) -> Result<Option<Devices>> {
        if self.devices == 0 {
            return Ok(None);
        }
        let zookeeper = match &self.zookeeper {
            Some(servers) => ZooKeeper::Running(servers.to_string()),
            None => ZooKeeper::Child { port: self.zookeeper_port, classes: devices::find()? },
        };
        Ok(Some(Devices {
            count: usize::try_from(self.devices).unwrap_or(usize::MAX),
            zookeeper,
            web,
            period: values::show(self.period),
        }))
    }
}
