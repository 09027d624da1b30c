//! Values of flags: each parser refuses what makes no sense and says what would.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::limits;
use crate::net::network::{Network, NoNetwork};
use crate::printable;
pub(crate) use crate::table::moment::{show, spelled};
use crate::wire::peer::is_name;
use crate::wire::source::{NotASource, SourceName};

/// A refusal, in the words that clap prints after the flag's name.
type Refused = String;

/// A duration such as `5s`, `250ms` or `1h 30m`: more than nothing, less than a year.
pub(crate) fn duration(text: &str) -> Result<Duration, Refused> {
    let value = spelled(text, "250ms, 5s or 2m")?;
    if value < limits::DURATION_FLAG_MIN {
        return Err(format!("less than {} is too short; write 250ms or 5s", show(limits::DURATION_FLAG_MIN)));
    }
    if value > limits::DURATION_FLAG_MAX {
        return Err(format!("more than {} is too long; write 5s or 2m", show(limits::DURATION_FLAG_MAX)));
    }
    Ok(value)
}

/// A duration, or `forever`.
pub(crate) fn or_forever(text: &str) -> Result<Duration, Refused> {
    if text == "forever" { Ok(Duration::MAX) } else { duration(text).map_err(|e| format!("{e}, or forever")) }
}

/// The time for which records are kept: more than a second, and as long as anybody likes.
pub(crate) fn keep(text: &str) -> Result<Duration, Refused> {
    let value = spelled(text, "30d or 1year")?;
    if value < limits::KEEP_MIN {
        return Err(format!("less than {} is too short; write 30d or 12h", show(limits::KEEP_MIN)));
    }
    Ok(value)
}

/// A duration, or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrNever(pub(crate) Option<Duration>);

/// Parses a duration or `never`.
pub(crate) fn or_never(text: &str) -> Result<OrNever, Refused> {
    if text == "never" {
        return Ok(OrNever(None));
    }
    duration(text).map(|value| OrNever(Some(value))).map_err(|e| format!("{e}, or never"))
}

/// When a data node syncs: the flag's own words, so that `up` can hand them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Before every acknowledgement.
    Always,
    /// This often; an acknowledgement may come before.
    Every(Duration),
    /// When the operating system likes.
    Never,
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Every(interval) => f.write_str(&show(*interval)),
            Self::Never => f.write_str("never"),
        }
    }
}

/// Parses `always`, an interval, or `never`.
pub(crate) fn sync(text: &str) -> Result<Sync, Refused> {
    match text {
        "always" => Ok(Sync::Always),
        "never" => Ok(Sync::Never),
        _ => duration(text).map(Sync::Every).map_err(|e| format!("{e}, or always, or never")),
    }
}

/// A number of bytes: `4096`, `64k`, `256MiB`, `1GB`. Powers of 1024 but for `kB`, `MB`, `GB`.
pub(crate) fn bytes(text: &str) -> Result<u64, Refused> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => {
            return Err(format!("{unit:?} is no unit of size; write 4096, 64KiB or 256MiB"));
        }
    };
    let number: u64 = number.parse().map_err(|_| "not a size; write 4096, 64KiB or 256MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "larger than any disk; write 4096, 64KiB or 256MiB".to_owned())
}

/// The size at which `data.txt` is sealed.
pub(crate) fn segment_bytes(text: &str) -> Result<u64, Refused> {
    let value = bytes(text)?;
    if value < limits::SEGMENT_BYTES_MIN {
        return Err(format!("a folder would fill with files; {} or more", limits::SEGMENT_BYTES_MIN));
    }
    Ok(value)
}

/// A pace in bytes a second: some kilobytes at least, or nothing would ever be done.
pub(crate) fn rate(text: &str) -> Result<u64, Refused> {
    let value = bytes(text)?;
    if value < limits::REPAIR_RATE_MIN {
        return Err(format!("too slow to be of use; {} or more", limits::REPAIR_RATE_MIN));
    }
    Ok(value)
}

/// The greatest message of a topic: what fits in memory some times over.
#[cfg(feature = "broker")]
pub(crate) fn topic_message(text: &str) -> Result<u64, Refused> {
    within(text, limits::TOPIC_FRAME_EXTRA_BYTES, limits::TOPIC_MESSAGE_BYTES_MAX)
}

/// The queue of messages that wait to be kept.
#[cfg(feature = "broker")]
pub(crate) fn keep_queue(text: &str) -> Result<u64, Refused> {
    within(text, limits::KEEP_QUEUE_BYTES_MIN, usize::MAX)
}

#[cfg(feature = "broker")]
fn within(text: &str, least: usize, most: usize) -> Result<u64, Refused> {
    let value = bytes(text)?;
    match usize::try_from(value) {
        Ok(value) if value < least => Err(format!("too small; {least} or more")),
        Ok(value) if value <= most => Ok(u64::try_from(value).unwrap_or(u64::MAX)),
        _ => Err(format!("too large; {most} or less")),
    }
}

/// The name or address of a host, without a port.
#[cfg(feature = "broker")]
pub(crate) fn host(text: &str) -> Result<String, Refused> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let is_ip = bare.parse::<std::net::IpAddr>().is_ok();
    let is_name = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if is_ip || is_name {
        Ok(bare.to_owned())
    } else {
        Err("not a host; write a name or an address, without a port".to_owned())
    }
}

/// `HOST:PORT` of somebody to dial; the name is looked up each time it is dialled.
pub(crate) fn address(text: &str) -> Result<String, Refused> {
    let (_, port) = host_and_port(text)?;
    if port == 0 {
        Err("port 0 is nobody's; write HOST:PORT, such as 127.0.0.1:5000".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// `HOST:PORT` to listen on; port 0 takes any free one.
pub(crate) fn listen(text: &str) -> Result<String, Refused> {
    host_and_port(text).map(|_| text.to_owned())
}

fn host_and_port(text: &str) -> Result<(&str, u16), Refused> {
    let wanted =
        || "not an address; write HOST:PORT, such as 127.0.0.1:5000, [::1]:5000 or [fe80::1%eth0]:5000".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = bare.is_some() || !host.contains([':', '[', ']']);
    if host.is_empty() || !plain || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wanted());
    }
    Ok((bare.unwrap_or(host), port.parse().map_err(|_| wanted())?))
}

/// A node's name: a word in the logs, a column in `status`, and a part of a record's field.
pub(crate) fn name(text: &str) -> Result<String, Refused> {
    if text.is_empty() || text.len() > limits::NODE_NAME_BYTES_MAX {
        return Err(format!("a name takes 1 to {} bytes; give another", limits::NODE_NAME_BYTES_MAX));
    }
    if let Some(bad) = text.chars().find(|c| c.is_whitespace() || printable::is_hidden(*c) || matches!(c, ',' | '+')) {
        return Err(format!("a name is one word without {bad:?}; give another"));
    }
    Ok(text.to_owned())
}

/// The name of a source that its user gives itself.
pub(crate) fn source(text: &str) -> Result<SourceName, Refused> {
    let name: SourceName = text.parse().map_err(|error: NotASource| error.to_string())?;
    if name.is_of_notes() {
        return Err(format!("{name} is the name of notes, which 'acopio note' sends; choose another"));
    }
    Ok(name)
}

/// An address, or a network such as `10.0.7.0/24`.
pub(crate) fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|error: NoNetwork| error.to_string())
}

/// A cluster's name: a word in the logs and the last one of `node.id`.
pub(crate) fn cluster(text: &str) -> Result<String, Refused> {
    if !is_name(text, limits::CLUSTER_NAME_BYTES_MAX) {
        let bytes = limits::CLUSTER_NAME_BYTES_MAX;
        return Err(format!("a cluster's name is one word of 1 to {bytes} bytes without commas and plus signs"));
    }
    Ok(text.to_owned())
}

/// This machine's name, made fit for a node; `data` if it has none.
pub(crate) fn host_name() -> String {
    let host = gethostname::gethostname();
    let fit: String = host
        .to_string_lossy()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(limits::NODE_NAME_BYTES_MAX)
        .collect();
    if fit.is_empty() { "data".to_owned() } else { fit }
}

/// What is said of an address that this flag named and that cannot be listened on.
pub(crate) fn cannot_listen(listen: &str, flag: &str, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another port with",
        io::ErrorKind::PermissionDenied => "choose a port above 1023 with",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; choose one with",
        _ => "choose another address with",
    };
    anyhow::anyhow!("cannot listen on {listen}: {error}; {remedy} {flag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_a_unit_and_refuse_nothing_and_ages() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        for text in ["", "5", "0s", "1us", "2years", "soon", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(keep("10years").map(show).as_deref(), Ok("10years"));
        assert!(keep("0s").is_err() && keep("30").is_err());
        for text in ["1M", "1 M", "2h 30M"] {
            let errors = [duration(text).unwrap_err(), keep(text).unwrap_err()];
            assert!(errors.iter().all(|error| error.contains("minutes or months")), "{text}: {errors:?}");
        }
        assert_eq!((keep("1m"), keep("1month")), (duration("60s"), duration("2630016s")));
        assert_eq!((or_forever("forever"), or_forever("5s")), (Ok(Duration::MAX), Ok(Duration::from_secs(5))));
        assert!(or_forever("never").unwrap_err().contains("or forever"));
        assert!(duration("0s").unwrap_err().contains("too short"));
        assert_eq!(or_never("never"), Ok(OrNever(None)));
        assert_eq!(or_never("5s"), Ok(OrNever(Some(Duration::from_secs(5)))));
    }

    #[test]
    fn a_shown_duration_is_read_back() {
        for millis in [1, 250, 5_000, 5_250, 90_000, 3_600_001] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&show(value)), Ok(value), "{}", show(value));
        }
    }

    #[test]
    fn sync_reads_back_what_it_shows() {
        for text in ["always", "never", "50ms", "5s"] {
            assert_eq!(sync(text).unwrap().to_string(), text);
        }
        assert!(sync("sometimes").unwrap_err().contains("or never"));
    }

    #[test]
    fn sizes_take_units() {
        let cases = [("4096", 4096), ("64k", 65536), ("256MiB", 256 << 20), ("1 GB", 1_000_000_000), ("8b", 8)];
        for (text, wanted) in cases {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for text in ["", "MiB", "1.5M", "-1", "5 parsecs", "99999999999999999999", "18446744073709551615k"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(segment_bytes("1k").is_err());
    }

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for text in ["127.0.0.1:5000", "head-1.lab:5000", "[::1]:5000", "[fe80::1%eth0]:5000"] {
            assert_eq!(address(text).as_deref(), Ok(text));
        }
        for text in ["", "5000", ":5000", "host:", "host:70000", "host:0", "::1:5000", "a b:5000", "[::1:5000"] {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(listen("0.0.0.0:0").is_ok());
    }

    #[test]
    fn a_name_is_one_word() {
        assert!(name("data-1.lab").is_ok());
        for text in ["", "two words", "a,b", "a+b", "line\n", &"x".repeat(65)] {
            assert!(name(text).is_err(), "{text}");
        }
        assert!(name(&host_name()).is_ok());
        assert!(cluster("casa").is_ok() && cluster("two words").is_err());
        assert!(source("esp7").is_ok() && source("a b").is_err() && source("acopio.notes").is_err());
    }
}
