//! Settings of a client, validated by who builds them.

use std::sync::Arc;
use std::time::Duration;

use crate::limits;
use crate::net::{self, Net};
use crate::wire::id::ClientId;
use crate::wire::said::{Introduction, Said};
use crate::wire::secret::Secret;
use crate::wire::source::SourceName;

/// Settings of a [`Client`](super::Client).
#[derive(Clone, Debug)]
pub struct Config {
    /// Heads, `host:port` each; the first that answers is used, the next when it is lost.
    pub heads: Vec<String>,
    /// The client's identity: a retry repeats it, so that a reader can drop a second copy, and looks for one
    /// only if the id [`may_retry`](ClientId::may_retry).
    pub id: ClientId,
    /// The number of its first message: 1, or what follows the last one that is known to be kept, for a program that keeps
    /// messages on a disk of its own and goes on under the same identity.
    pub first_seq: u64,
    /// The name of the source whose messages it sends, where it is one.
    pub name: Option<SourceName>,
    /// Whether other connections may have that name at the same time. Else whoever says it last has it, and the head ends the
    /// connection before: right for a device, wrong for a command that may run twice.
    pub shares_name: bool,
    /// The secret of its token, for heads that ask clients for one.
    pub token: Option<Secret>,
    /// Whether messages are stored as those of text clients are, with `mensaje: ` in front.
    pub text: bool,
    /// Time to go on trying while no head keeps anything, waits for answers included; then what waits is given up.
    /// [`Duration::MAX`] is for ever.
    pub retry_for: Duration,
    /// Messages accepted and not settled; past it [`Sender::send`](super::Sender::send) waits.
    pub window_messages: usize,
    /// Payload bytes accepted and not settled.
    pub window_bytes: usize,
    /// A list that whoever made it keeps up to date; it goes before `heads`.
    pub(crate) followed: Option<net::Heads>,
    /// How it dials.
    pub(crate) net: Net,
    /// Seed of the jitter of its waits.
    pub(crate) seed: u64,
}

impl Config {
    /// The defaults, with a random identity.
    #[must_use]
    pub fn new(heads: Vec<String>) -> Self {
        Self {
            heads,
            id: ClientId::of_library(rand::random()),
            first_seq: 1,
            name: None,
            shares_name: false,
            token: None,
            text: false,
            retry_for: limits::CLIENT_RETRY_TIME_DEFAULT,
            window_messages: limits::CLIENT_IN_FLIGHT_MESSAGES_MAX,
            window_bytes: limits::CLIENT_IN_FLIGHT_BYTES_MAX,
            followed: None,
            net: Net::default(),
            seed: rand::random(),
        }
    }

    /// The same with a list of heads that may change.
    #[must_use]
    pub(crate) fn following(heads: net::Heads) -> Self {
        let net::Access { token, net } = heads.access().clone();
        Self { token, net, followed: Some(heads), ..Self::new(Vec::new()) }
    }

    /// The same over TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, tls: super::Tls) -> Self {
        Self { net: Net::Tls(tls), ..self }
    }

    /// What it says of itself.
    pub(super) fn introduction(&self) -> Introduction {
        let several = self.shares_name;
        Introduction { said: self.name.map(|name| Said { several, ..Said::only(name) }), token: self.token }
    }

    /// The heads of now.
    pub(crate) fn heads(&self) -> Arc<[String]> {
        self.followed.as_ref().map_or_else(|| self.heads.as_slice().into(), net::Heads::now)
    }
}
