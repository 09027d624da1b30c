//! TLS on a head's port: whether a connection speaks it, and its handshake.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::time::timeout;

use super::alarms::Log;
use super::guests::Exit;
use super::parting::{part, too_slow};
use super::state::Head;
use crate::limits;
use crate::net::Stream;
use crate::wire::handshake::TLS_FIRST_BYTE;
use crate::wire::text;

/// Looks at the first byte of a connection, and shakes hands if it speaks TLS; none if it is over.
pub(super) async fn secure(head: &Head, socket: Stream, peer: SocketAddr, exit: &Rc<Exit>) -> Option<Stream> {
    let (Some(secured), Stream::Tcp(tcp)) = (&head.config.secured, &socket) else { return Some(socket) };
    let mut first = [0];
    let looked = tokio::select! {
        biased;
        () = exit.told() => return Some(socket),
        looked = timeout(limits::HANDSHAKE_TIME_MAX, tcp.peek(&mut first)) => looked,
    };
    let words = match looked {
        Ok(Ok(1)) if first == [TLS_FIRST_BYTE] => {
            let Stream::Tcp(tcp) = socket else { return None };
            // Most connections never have it: they need no room for it.
            let accepted = Box::pin(async {
                secured.turn(peer.ip()).await?;
                let accepted = timeout(limits::HANDSHAKE_TIME_MAX, secured.acceptor().accept(tcp)).await;
                accepted.unwrap_or_else(|_| Err(io::Error::other(too_late())))
            });
            let accepted = accepted.await;
            let cause = match accepted {
                Ok(secure) => {
                    exit.secured.set(true);
                    exit.certificate.replace(secure.names);
                    return Some(secure.socket);
                }
                Err(error) => error.to_string(),
            };
            let ip = peer.ip().to_canonical();
            head.say(ip, Log::Warn, &format!("a peer at {ip} that speaks TLS is not let in: {cause}"));
            exit.secured.set(true);
            head.note_client(exit, format_args!("refused: {cause}"));
            return None;
        }
        Ok(_) if head.may_be_plain(peer) => return Some(socket),
        Ok(_) => {
            head.note_client(exit, format_args!("refused: {PLAIN}"));
            (text::error_line(PLAIN, PLAIN_REMEDY) + "\n").into_bytes()
        }
        Err(_) => too_slow(),
    };
    let ip = peer.ip().to_canonical();
    head.say(ip, Log::Warn, &format!("{ip}: {}", String::from_utf8_lossy(&words).trim_ascii()));
    let mut socket = socket;
    let (mut read_half, mut write_half) = socket.split();
    part(&mut read_half, &mut write_half, &words).await;
    None
}

fn too_late() -> String {
    format!("no handshake of TLS within {:?}", limits::HANDSHAKE_TIME_MAX)
}

const PLAIN: &str = "this head takes connections of other machines over TLS alone";
const PLAIN_REMEDY: &str = "connect with --ca FILE, which has the certificate of its authority (ca.crt)";

impl Head {
    /// Whether a peer from there may go on without TLS.
    fn may_be_plain(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        let is_text_node = || self.config.gate.text_nodes.iter().any(|network| network.has(ip));
        !self.config.admits.tls_alone || ip.is_loopback() || is_text_node()
    }
}
