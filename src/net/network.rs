//! An address, or all addresses that begin with the same bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that begin with the same bits; the others of its own address are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    address: IpAddr,
    /// How many bits; fewer mean more addresses.
    pub(crate) bits: u32,
}

/// It is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is neither an address nor a network such as 10.0.7.0/24", .0.escape_debug())]
pub(crate) struct NoNetwork(String);

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let parsed = || {
            let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
            let address: IpAddr = address.parse().ok()?;
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits: u32 = bits.map_or(Some(all), |bits| bits.parse().ok().filter(|bits| *bits <= all))?;
            if bits == all {
                // A peer of IPv4 is one, whatever the socket that it came by.
                let address = address.to_canonical();
                return Some(Self { address, bits: if address.is_ipv4() { 32 } else { 128 } });
            }
            let address = match address {
                IpAddr::V4(ip) => {
                    Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into()
                }
                IpAddr::V6(ip) => {
                    Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into()
                }
            };
            Some(Self { address, bits })
        };
        parsed().ok_or_else(|| NoNetwork(text.to_owned()))
    }
}

/// As it is read.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.address.is_ipv4() { 32 } else { 128 };
        if self.bits == all { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.bits) }
    }
}

impl Network {
    /// Whether an address is in it.
    #[must_use]
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => (net.to_bits() ^ ip.to_bits()).leading_zeros() >= self.bits,
            (IpAddr::V6(net), IpAddr::V6(ip)) => (net.to_bits() ^ ip.to_bits()).leading_zeros() >= self.bits,
            _ => false,
        }
    }
}

/// Who has one address of IPv6 has all that begin with its first 64 bits.
pub(crate) fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        ip => ip,
    }
}
