//! The request of a leader to the web API: `GET {url}nuevo?dato=83.0`, bounded in time and size. One connection each.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::value::{BadSetting, shown};
use crate::limits;
use crate::net::Net;

/// Where the web API is. Shown as the seeds write it, with a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiUrl {
    text: String,
    /// `host:port` to dial.
    address: String,
    /// What goes into the field Host.
    host: String,
    /// The path, with a slash at its end.
    path: String,
}

impl FromStr for ApiUrl {
    type Err = BadSetting;

    fn from_str(text: &str) -> Result<Self, BadSetting> {
        let bad = |cause| BadSetting::Url { text: shown(text), cause };
        let uri: Uri = text.trim().parse().map_err(|_| bad("write http://HOST:PORT/"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("only http is spoken; put a proxy in between")),
            _ => return Err(bad("write http://HOST:PORT/")),
        }
        let authority = uri.authority().ok_or_else(|| bad("write http://HOST:PORT/"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(bad("leave out user and query"));
        }
        if authority.host().is_empty() {
            return Err(bad("it names no host"));
        }
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let slash = if uri.path().ends_with('/') { "" } else { "/" };
        let path = format!("{}{slash}", uri.path());
        Ok(Self { text: format!("http://{authority}{path}"), address, host: authority.to_string(), path })
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The API did not take a mean.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It can't be reached, or breaks off.
    #[error("{0}; see that it runs")]
    Away(String),
    /// It takes too long.
    #[error("no answer within {0:?}; see that it runs")]
    Slow(Duration),
    /// It answers something else than 200.
    #[error("it answers {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Refused {
        /// The answer.
        status: StatusCode,
        /// How its text begins.
        said: String,
    },
}

impl Error {
    /// Whether the same may succeed in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Refused { status, .. } if status.is_client_error())
    }
}

/// Sends a mean, written as Python writes it, and waits for 200.
///
/// # Errors
/// Why it is not known to be taken.
pub(crate) async fn send(url: &ApiUrl, mean: f64, time: Duration) -> Result<(), Error> {
    timeout(time, ask(url, mean)).await.unwrap_or(Err(Error::Slow(time)))
}

async fn ask(url: &ApiUrl, mean: f64) -> Result<(), Error> {
    let away = |error: &dyn fmt::Display| Error::Away(error.to_string());
    let socket = Net::Tcp.dial(&url.address, None).await.map_err(|error| away(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.map_err(|error| away(&error))?;
    let request = Request::get(format!("{}nuevo?dato={mean:?}", url.path))
        .header(header::HOST, &url.host)
        .header(header::USER_AGENT, concat!("acopio/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| away(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| away(&error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(());
        }
        let body = Limited::new(response.into_body(), limits::DEVICE_API_ANSWER_BYTES_MAX).collect().await;
        let said = body.map(|body| body.to_bytes()).unwrap_or_default();
        Err(Error::Refused { status, said: shown(String::from_utf8_lossy(&said).trim()) })
    };
    // The connection moves while the answer is waited for, and ends with it.
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(away(&error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[test]
    fn a_url_is_one_of_a_web_api() {
        for (text, shown, address) in [
            ("http://web-api:4000/", "http://web-api:4000/", "web-api:4000"),
            ("http://127.0.0.1", "http://127.0.0.1/", "127.0.0.1:80"),
            (" http://[::1]:8080/api\n", "http://[::1]:8080/api/", "[::1]:8080"),
        ] {
            let url: ApiUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.address.as_str()), (shown, address));
        }
        for text in [
            "",
            "x",
            "web:4000",
            "/",
            "https://h/",
            "ftp://h/",
            "http:///",
            "http://a@h/",
            "http://h/?x=1",
            "http://h h/",
        ] {
            assert!(text.parse::<ApiUrl>().is_err(), "{text}");
        }
    }

    /// What is asked of a server that gives this answer, and what comes of it.
    async fn asked(answer: &'static str) -> (String, Result<(), Error>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            while !asked.ends_with("\r\n\r\n") {
                let mut bytes = [0; 1024];
                let n = socket.read(&mut bytes).await.unwrap();
                asked.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
            asked
        });
        let sent = send(&url, 83.0, Duration::from_secs(10)).await;
        (server.await.unwrap(), sent)
    }

    #[tokio::test]
    async fn a_mean_is_taken_if_the_answer_is_200() {
        let (asked_for, sent) = asked("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(asked_for.starts_with("GET /api/nuevo?dato=83.0 HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked_for}");
        sent.unwrap();
        let (_, refused) = asked("HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\ncasa").await;
        let refused = refused.unwrap_err();
        assert!(refused.to_string().starts_with("it answers 500 ") && refused.to_string().ends_with(": casa"));
        assert!(refused.may_pass());
        let (_, refused) = asked("HTTP/1.0 400 Bad Request\r\n\r\nno number").await;
        assert!(!refused.unwrap_err().may_pass());
        let (_, garbage) = asked("hola\r\n\r\n").await;
        assert!(matches!(garbage.unwrap_err(), Error::Away(_)));
    }

    #[tokio::test]
    async fn an_api_that_says_nothing_is_not_waited_for_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let slow = send(&url, 1.0, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(slow, Error::Slow(_)) && slow.may_pass(), "{slow}");
        drop(listener);
        assert!(matches!(send(&url, 1.0, Duration::from_secs(5)).await, Err(Error::Away(_))));
    }
}
