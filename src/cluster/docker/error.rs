//! What can go wrong with an engine, in words that say what to do.

use std::path::PathBuf;

use super::objects;
use crate::cluster::{files, keys};
use crate::limits::ENGINE_API_MIN;

/// Why containers could not be started, looked after or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers at the socket.
    #[error(
        "no docker engine at {}: {cause}; install one (Debian: apt install docker.io), start it (systemctl start \
         docker), or name its socket with --socket", socket.display()
    )]
    NoEngine {
        /// The socket.
        socket: PathBuf,
        /// What was tried, and what came of it.
        cause: String,
    },
    /// The keys can't be handed out.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// The socket is not for this user.
    #[error(
        "no permission to use the docker engine at {}; add this user to the group docker (usermod -aG docker NAME, \
         then log in anew), or start this as root", socket.display()
    )]
    Permission {
        /// The socket.
        socket: PathBuf,
    },
    /// An engine from before 2020.
    #[error(
        "the docker engine {version} is too old: it speaks API {api}, and {}.{} is needed; install Docker 20.10 or newer",
        ENGINE_API_MIN.0, ENGINE_API_MIN.1
    )]
    TooOld {
        /// Its version.
        version: String,
        /// What it speaks.
        api: String,
    },
    /// A port of the host is taken.
    #[error("cannot publish a port of {name}: {cause}; stop what listens there, or choose another port with --publish")]
    Port {
        /// The container.
        name: String,
        /// What the engine said.
        cause: String,
    },
    /// Something of that name is there, and was not made by a demo.
    #[error("the engine has {what} called {name} that no demo made; choose another --name")]
    NotOurs {
        /// What it is: a network.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A demo of that name runs, or was left behind by one that was killed.
    #[error(
        "a demo called {name} is there already; remove it with 'acopio demo --down --name {name}', or choose another \
         --name"
    )]
    Leftover {
        /// Its name.
        name: String,
    },
    /// Somebody else's containers use what a demo made.
    #[error(
        "the docker engine did not {doing}, since something that is not the demo's still uses it: {cause}; take that \
         away, then 'acopio demo --down' removes the rest"
    )]
    InUseByOthers {
        /// What was asked for.
        doing: String,
        /// What the engine said.
        cause: String,
    },
    /// The engine's disk is full.
    #[error("the disk of the docker engine is full: {cause}; free space, 'docker system df' tells what takes it")]
    NoSpace {
        /// What the engine said.
        cause: String,
    },
    /// The engine has no subnet left.
    #[error(
        "the docker engine has no subnet left for a network: {cause}; remove networks that nobody uses, 'docker network \
         prune' does"
    )]
    NoSubnet {
        /// What the engine said.
        cause: String,
    },
    /// The engine does not have this machine's files.
    #[error(
        "the docker engine does not see {}: it runs on another machine, or this program in a container; name a folder \
         that both see with --dir", dir.display()
    )]
    Unseen {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no such image.
    #[error("the engine has no image {0}; build it with 'acopio demo --image-only --image {0}', or leave out --image")]
    NoImage(String),
    /// The program can't be put into an image.
    #[error(transparent)]
    Objects(#[from] objects::Error),
    /// The folder of the cluster.
    #[error(transparent)]
    Folder(#[from] files::Error),
    /// Another cluster runs in the folder.
    #[error(transparent)]
    InUse(#[from] crate::lock::Error),
    /// A container ended at once.
    #[error("{name} did not start: {cause}")]
    Start {
        /// Which.
        name: String,
        /// Why, in its own words.
        cause: String,
    },
    /// It takes too long.
    #[error("the docker engine did not {doing} in time; see whether the machine is overloaded, and its own log")]
    Timeout {
        /// What was asked for.
        doing: String,
    },
    /// Anything else.
    #[error("the docker engine could not {doing}: {cause}; its own log may tell more")]
    Engine {
        /// What was asked for.
        doing: String,
        /// What it said.
        cause: String,
    },
}

impl Error {
    /// What an engine's error means. `doing` is what was asked for: `start data1`.
    #[must_use]
    pub(crate) fn of(doing: &str, error: bollard::errors::Error) -> Self {
        use bollard::errors::Error as Cause;
        match error {
            Cause::DockerResponseServerError { message, .. } | Cause::DockerStreamError { error: message } => {
                Self::said(doing, message)
            }
            Cause::RequestTimeoutError => Self::Timeout { doing: doing.to_owned() },
            other => Self::said(doing, in_words(&other)),
        }
    }

    fn said(doing: &str, message: String) -> Self {
        let cause = message.trim().replace('\n', " ");
        let has = |part: &str| cause.contains(part);
        let port = [
            "port is already allocated",
            "address already in use",
            "cannot assign requested address",
            "cannot expose privileged port",
        ];
        if has("no space left on device") || has("disk quota exceeded") {
            Self::NoSpace { cause }
        } else if port.into_iter().any(has) {
            let name = doing.strip_prefix("start ").unwrap_or(doing).to_owned();
            Self::Port { name, cause }
        } else if let Some((_, dir)) = cause.split_once("bind source path does not exist: ") {
            Self::Unseen { dir: dir.into() }
        } else if has("has active endpoints") || has("image is being used by") || has("is using its referenced image") {
            Self::InUseByOthers { doing: doing.to_owned(), cause }
        } else if has("non-overlapping") || has("fully subnetted") {
            Self::NoSubnet { cause }
        } else {
            Self::Engine { doing: doing.to_owned(), cause }
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        if !text.contains(&cause.to_string()) {
            text = format!("{text}: {cause}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> String {
        let message = message.to_owned();
        let error = bollard::errors::Error::DockerResponseServerError { status_code: 500, message };
        Error::of("start acopio-demo-head", error).to_string()
    }

    #[test]
    fn what_an_engine_says_becomes_what_to_do() {
        let taken = "driver failed programming external connectivity on endpoint acopio-demo-head (75): Bind for \
                     127.0.0.1:5000 failed: port is already allocated";
        assert!(said(taken).starts_with("cannot publish a port of acopio-demo-head: "), "{}", said(taken));
        let listening = "Error starting userland proxy: listen tcp4 127.0.0.1:5000: bind: address already in use";
        assert!(said(listening).ends_with("or choose another port with --publish"));
        let elsewhere =
            "Error starting userland proxy: listen tcp4 192.0.2.1:5000: bind: cannot assign requested address";
        assert!(said(elsewhere).ends_with("or choose another port with --publish"));
        let used = "error while removing network: network acopio-demo id 7f has active endpoints";
        assert!(said(used).contains("not the demo's still uses it") && said(used).contains("acopio demo --down"));
        let full = "write /var/lib/docker/tmp/x: no space left on device";
        assert!(said(full).contains("free space"));
        let subnets = "could not find an available, non-overlapping IPv4 address pool among the defaults";
        assert!(said(subnets).contains("docker network prune"));
        let unseen = "invalid mount config for type \"bind\": bind source path does not exist: /srv/logs/head";
        assert!(said(unseen).starts_with("the docker engine does not see /srv/logs/head: "), "{}", said(unseen));
        assert!(said("who knows").contains("could not start acopio-demo-head: who knows"));
    }
}
