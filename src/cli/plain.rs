//! Ports of a head that take lines without a handshake: `--plain [IP:]PORT=NAME[,option…]`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, Result};

use super::values;
use crate::limits;
use crate::net::Listener;
use crate::wire::said::Said;
use crate::wire::text::Dialect;

/// Such a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    ip: Option<IpAddr>,
    port: u16,
    said: Said,
}

impl FromStr for Plain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "write [IP:]PORT=NAME, such as 5001=plc39 or 127.0.0.1:5001=plc39,cr,callado".to_owned();
        let (address, words) = text.split_once('=').ok_or_else(wanted)?;
        let (ip, port) = match address.parse::<SocketAddr>() {
            Ok(address) => (Some(address.ip()), address.port()),
            Err(_) => (None, address.parse().map_err(|_| wanted())?),
        };
        let said = Said::parse(words.replace(',', " ").as_bytes(), Dialect::Line).map_err(|error| error.to_string())?;
        Ok(Self { ip, port, said })
    }
}

/// Listens on all of them; where none is named, on the address that the head listens on.
pub(crate) async fn open(all: &[Plain], ip: IpAddr) -> Result<Vec<(Listener, Said)>> {
    if all.len() > limits::PLAIN_PORTS_MAX {
        anyhow::bail!("{} plain ports are more than {}; let some share a port", all.len(), limits::PLAIN_PORTS_MAX);
    }
    let mut open = Vec::new();
    for Plain { ip: own, port, said } in all {
        let address = SocketAddr::new(own.unwrap_or(ip), *port).to_string();
        let listener =
            Listener::bind(&address).await.map_err(|error| values::cannot_listen(&address, "--plain", &error))?;
        let at = listener.local_addr().context("cannot tell a plain port; start the head again")?;
        tracing::info!("lines of {said} are taken on {at}");
        open.push((listener, *said));
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_port_has_a_name() {
        let plain: Plain = "5001=plc39,cr,callado".parse().unwrap();
        assert_eq!((plain.ip, plain.port, plain.said.to_string().as_str()), (None, 5001, "plc39 callado cr"));
        let plain: Plain = "[::1]:0=lora/".parse().unwrap();
        assert_eq!((plain.ip, plain.port, plain.said.to_string().as_str()), ("::1".parse().ok(), 0, "lora/"));
        for (text, said) in [
            ("5001", "write [IP:]PORT=NAME"),
            ("=x", "write [IP:]PORT=NAME"),
            ("70000=x", "write [IP:]PORT=NAME"),
            ("5001=", "it is empty"),
            ("5001=a b@", "is not an option"),
            ("5001=x,calado", "is not an option"),
        ] {
            let error = text.parse::<Plain>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
