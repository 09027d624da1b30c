//! How a connection to the page begins, and whether a request is let in: over TLS or not, and by whom. What is asked of whom is
//! [`HttpDoor`](crate::tokens::http::HttpDoor)'s; what a caller may do follows from the path.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::guard::changes;
use super::routes::Problem;
use super::{Server, Web};
use crate::limits;
use crate::net::tls::served::Certificates;
use crate::tokens::Role;
use crate::tokens::http::{Denied, Peer};
use crate::wire::handshake::TLS_FIRST_BYTE;

/// Serves a connection, over TLS if that is what it speaks.
pub(super) async fn connection(socket: TcpStream, ip: IpAddr, certificates: Option<Certificates>, server: Server) {
    if let Err(error) = SockRef::from(&socket).set_tcp_user_timeout(Some(limits::WEB_UNREAD_TIME_MAX)) {
        tracing::debug!("{ip}: {error}");
    }
    let Some(certificates) = certificates else { return server.serve(socket, Peer { ip, secured: false }).await };
    let mut first = [0];
    match timeout(limits::WEB_HEAD_TIME_MAX, socket.peek(&mut first)).await {
        Ok(Ok(1)) if first == [TLS_FIRST_BYTE] => {}
        Ok(Ok(1)) => return server.serve(socket, Peer { ip, secured: false }).await,
        _ => return,
    }
    if let Err(error) = certificates.turn(ip).await {
        return tracing::debug!("{ip}: {error}");
    }
    match timeout(limits::HANDSHAKE_TIME_MAX, certificates.acceptor().shake(socket)).await {
        Ok(Ok(socket)) => server.serve(socket, Peer { ip, secured: true }).await,
        Ok(Err(error)) => tracing::debug!("{ip}: {error}"),
        Err(_) => tracing::debug!("{ip}: no handshake of TLS"),
    }
}

/// Lets a request in, with who makes it in its extensions, or answers why not.
pub(super) async fn admit(State(web): State<Arc<Web>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Whether the process is there, everybody may know.
    if path == "/healthz" {
        return next.run(request).await;
    }
    let role = if changes(request.method(), path) { Role::Write } else { Role::Read };
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        let text = "it is not known where the request comes from; report this".to_owned();
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    if web.certificates.is_some() && !peer.secured && !peer.ip.to_canonical().is_loopback() {
        let text = "other machines come over TLS alone here; open the same address with https://".to_owned();
        return Problem::new(StatusCode::FORBIDDEN, text).into_response();
    }
    match web.admits.admit(peer, request.headers()).await.and_then(|caller| caller.may(role).map(|()| caller)) {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            let mut response = next.run(request).await;
            // For the log.
            response.extensions_mut().insert(caller);
            response
        }
        Err(denied) => refusal(denied),
    }
}

fn refusal(denied: Denied) -> Response {
    let challenge = denied.challenge();
    let mut response = Problem::from(denied).into_response();
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}
