//! `access.log`: who did what at this head, or was refused it, by name, role and address. Secrets are never in it.
//!
//! How much one address may cause is bounded as in all logs; the same again, and what is too much, is counted.

use std::fmt;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::alarms::Log;
use super::guests::Exit;
use super::state::Head;

/// Target of its lines.
pub(crate) const ACCESS: &str = "acopio::access";

impl Head {
    /// A client did something, or was refused it.
    pub(crate) fn note_client(&self, exit: &Exit, what: impl fmt::Display) {
        let (name, roles) = exit.bearer().unwrap_or_else(|| ("-".to_owned(), "-".to_owned()));
        self.note_access(exit.peer, &format!("{name} {roles}"), exit.secured.get(), what);
    }

    /// A data node did.
    pub(crate) fn note_node(&self, peer: SocketAddr, name: &str, secured: bool, what: impl fmt::Display) {
        self.note_access(peer, &format!("{name} node"), secured, what);
    }

    fn note_access(&self, peer: SocketAddr, who: &str, secured: bool, what: impl fmt::Display) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let line = format!("{who} {peer} {} {what}", if secured { "tls" } else { "plain" });
        let said = self.alarms.borrow_mut().accesses.note(Some(peer.ip()), &line, Log::Access, Instant::now());
        said.iter().for_each(|saying| Log::Access.write(saying));
    }
}
