//! Where a ZooKeeper is: `HOST:PORT[,HOST:PORT…][/chroot]`, as its own clients write it.

use std::fmt;
use std::str::FromStr;

use super::path::{BadPath, ZnodePath};
use crate::limits;

/// The port of a ZooKeeper that was named without one.
const PORT: u16 = 2181;

/// The servers of one ensemble, and the znode under which everything is done, if not the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    hosts: Vec<Server>,
    chroot: Option<ZnodePath>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

/// Text that names no ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadServers {
    /// A part is no address.
    #[error("{0:?} is not an address; write HOST:PORT[,HOST:PORT...][/chroot], such as 127.0.0.1:2181")]
    Address(String),
    /// More servers than an ensemble has.
    #[error("{0} servers are too many; name {max} or fewer", max = limits::ZK_SERVERS_MAX)]
    Many(usize),
    /// The chroot is no path.
    #[error("the chroot {0}")]
    Chroot(#[from] BadPath),
}

impl Servers {
    /// The znode under which everything is done.
    #[must_use]
    pub const fn chroot(&self) -> Option<&ZnodePath> {
        self.chroot.as_ref()
    }

    pub(super) fn hosts(&self) -> &[Server] {
        &self.hosts
    }

    /// The first of them, `HOST:PORT`.
    #[must_use]
    pub fn first(&self) -> String {
        self.hosts.first().map(ToString::to_string).unwrap_or_default()
    }

    /// The same servers, seen from the root.
    #[must_use]
    pub fn without_chroot(&self) -> Self {
        Self { hosts: self.hosts.clone(), chroot: None }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, server) in self.hosts.iter().enumerate() {
            write!(f, "{}{server}", if n == 0 { "" } else { "," })?;
        }
        self.chroot.as_ref().map_or(Ok(()), |chroot| write!(f, "{chroot}"))
    }
}

impl FromStr for Servers {
    type Err = BadServers;

    fn from_str(text: &str) -> Result<Self, BadServers> {
        let (hosts, chroot) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let chroot = if matches!(chroot, "" | "/") { None } else { Some(chroot.parse::<ZnodePath>()?) };
        let hosts = hosts.split(',').map(server).collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > limits::ZK_SERVERS_MAX {
            return Err(BadServers::Many(hosts.len()));
        }
        Ok(Self { hosts, chroot })
    }
}

fn server(text: &str) -> Result<Server, BadServers> {
    let bad = || BadServers::Address(text.to_owned());
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(bad)?)),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?,
        None => PORT,
    };
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']')) {
        return Err(bad());
    }
    Ok(Server { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back_as_they_are_shown() {
        for text in ["127.0.0.1:2181", "a:1,b:2,c:3/app/devices", "[::1]:2181/x"] {
            assert_eq!(text.parse::<Servers>().unwrap().to_string(), text);
        }
        let shown = |text: &str| text.parse::<Servers>().unwrap().to_string();
        assert_eq!(shown("zookeeper"), "zookeeper:2181");
        assert_eq!(shown("zookeeper/"), "zookeeper:2181");
        assert_eq!(shown("[::1]"), "[::1]:2181");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "a:1,,b:2", ":2181", "a:0", "a:70000", "a:b", "a b:1", "::1:5", "[::1]x", "a:1,", "/chroot"] {
            assert!(matches!(text.parse::<Servers>(), Err(BadServers::Address(_))), "{text}");
        }
        assert!(matches!("a:1/x/".parse::<Servers>(), Err(BadServers::Chroot(_))));
        assert!(matches!("a,".repeat(20).parse::<Servers>(), Err(BadServers::Address(_))));
        assert_eq!(vec!["a"; 17].join(",").parse::<Servers>(), Err(BadServers::Many(17)));
    }
}
