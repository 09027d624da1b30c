//! What the measuring devices of a cluster on this machine need: a ZooKeeper, which is found where Debian's package puts
//! it, and the znodes that hold for all of them.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use tokio::time::timeout;

use super::plan::{Devices, ZOO_CFG, ZooKeeper};
use crate::coord::{self, Session, ZnodePath};
use crate::{files, limits};

/// Where Debian's package has the program.
const CLASSES: [&str; 2] = ["/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar"];

/// What else it takes to run it.
const PROGRAMS: [&str; 2] = ["java", "setpriv"];

/// The devices can't be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no ZooKeeper on this machine.
    #[error(
        "no ZooKeeper on this machine ({0} is not there): install it with 'apt-get install zookeeper', or name one that runs \
        with --zookeeper HOST:PORT"
    )]
    NotInstalled(String),
    /// A port is taken.
    #[error("cannot listen on {address}: {source}; stop what listens there, or choose another port with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder of ZooKeeper can't be written.
    #[error("cannot write {}: {source}; name another folder with --dir or make this one writable", path.display())]
    Folder {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// ZooKeeper does not serve, or refuses.
    #[error(transparent)]
    ZooKeeper(#[from] coord::Error),
    /// The servers that were named are none.
    #[error(transparent)]
    Servers(#[from] coord::BadServers),
    /// It takes too long.
    #[error("ZooKeeper at {servers} does not serve after {time:?}; see what it said above", time = limits::UP_ZOOKEEPER_TIME_MAX)]
    Slow {
        /// Where.
        servers: String,
    },
}

/// The class path of the ZooKeeper that is installed on this machine.
///
/// # Errors
/// There is none.
pub(crate) fn find() -> Result<String, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let missing = CLASSES.iter().find(|file| !Path::new(file).is_file());
    if let Some(missing) = missing.or_else(|| PROGRAMS.iter().find(|name| !there(name))) {
        return Err(Error::NotInstalled((*missing).to_owned()));
    }
    Ok(CLASSES.join(":"))
}

/// Sees that the ports are free, and writes the settings of the ZooKeeper that is to be started. Its data of earlier times
/// stays.
///
/// # Errors
/// A port is taken, or the folder can't be written.
pub(crate) fn prepare(devices: &Devices, dir: &Path) -> Result<(), Error> {
    let ZooKeeper::Child { port, .. } = devices.zookeeper else { return Ok(()) };
    free(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "--zookeeper-port")?;
    let dir = dir.join("zk");
    let data = dir.join("data");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Folder { path, source }
    };
    files::create_folder(&data).map_err(failed(&data))?;
    let data = data.canonicalize().map_err(failed(&data))?;
    let settings = dir.join(ZOO_CFG);
    let written = files::create(&settings).and_then(|mut file| file.write_all(zoo_cfg(port, &data).as_bytes()));
    written.map_err(failed(&settings))
}

fn free(address: SocketAddr, flag: &'static str) -> Result<(), Error> {
    TcpListener::bind(address).map(drop).map_err(|source| Error::Listen { address, flag, source })
}

/// Short ticks, so that a lost device is noticed soon; no admin server, which would take another port.
fn zoo_cfg(port: u16, data: &Path) -> String {
    format!(
        "tickTime=500\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
         4lw.commands.whitelist=srvr,ruok\nautopurge.purgeInterval=24\n",
        data.display()
    )
}

/// Waits until ZooKeeper serves, and writes what holds for all devices.
///
/// # Errors
/// It does not serve, or refuses.
pub(crate) async fn configure(devices: &Devices) -> Result<(), Error> {
    let servers = devices.zookeeper.servers();
    // One that was started with the others needs its time; one that runs already answers, or its address is wrong.
    let patient = matches!(devices.zookeeper, ZooKeeper::Child { .. });
    let config = coord::Config { patient, ..coord::Config::new(servers.parse()?) };
    let written = async {
        let session = Session::open(config).await?;
        let period = humantime::parse_duration(&devices.period).unwrap_or(limits::DEVICE_PERIOD_DEFAULT);
        let period = period.as_secs_f64().to_string();
        for (name, value) in [("sampling_period", period), ("api_url", devices.api())] {
            write(&session, &format!("/config/{name}").parse().map_err(coord::Error::from)?, value.as_bytes()).await?;
        }
        session.close().await;
        Ok(())
    };
    timeout(limits::UP_ZOOKEEPER_TIME_MAX, written).await.unwrap_or(Err(Error::Slow { servers }))
}

async fn write(session: &Session, path: &ZnodePath, value: &[u8]) -> Result<(), Error> {
    session.ensure(path).await?;
    session.set(path, value, None).await?;
    Ok(())
}
