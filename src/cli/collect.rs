//! `acopio collect`: flags of what collects from instruments, and what is said in the end.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use crate::clock::Clock;
use crate::collect::serial::{Flow, Mode, Settings};
use crate::collect::{self, Config, Counts, Ends, Manner, Place, Question, Source};
use crate::limits;
use crate::wire::source::SourceName;
use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use clap::builder::BoolishValueParser;
use tokio::sync::oneshot;

use super::heads::Heads;
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio collect tcp://192.168.1.40:4001 --as balanza
      every line that the instrument at that port says
  acopio collect /dev/ttyUSB0 --as gps --baud 4800
      the same from a serial line, 8N1 unless --mode says otherwise
  acopio collect horno=tcp://plc:4001 gps=/dev/ttyS0 --spool /var/lib/acopio
      two at once; what the cluster does not keep yet waits on this disk
  acopio collect tcp://dmm:5025 --as dmm --send 'MEAS?\\n' --every 5s
      an instrument that has to be asked
  tail -F /var/log/scale.log | acopio collect - --as balanza --spool spool
      standard input, until it ends
  acopio collect --spool spool
      sends what waits there, and ends

A line ends at a newline, with --cr at a carriage return, too, and with --gap
after a silence. In front of each stands the time at which it was read,
@2026-11-21T04:11:00.250Z, which 'acopio read --fields' takes for the time of
the reading where the device says none; --no-stamp leaves it out.

An instrument or a head that is away is tried again for ever. Meanwhile lines
wait in memory, 64 MiB of them, and are lost with the process; with --spool
they wait on disk, survive kill -9 at once and a power cut after a second, and
are sent by the next start: each comes once in 'acopio read'. Where there is no
room, standard input waits; of instruments the newest lines are lost, and that
is told. One process has a spool.

Exit codes:
  0    all that was read is kept, or waits in the spool
  1    something is lost, or the spool cannot be used; standard error says what
  2    bad usage
  130  forced to end by a second signal";

/// Collects lines from instruments that are servers, from serial lines and from standard input
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Collect {
    #[command(flatten)]
    heads: Heads,
    /// Where lines come from: tcp://HOST:PORT, the path of a serial line, or - for standard input; with NAME= in front it
    /// has a name of its own, which several sources need
    #[arg(value_name = "[NAME=]SOURCE", value_parser = source)]
    sources: Vec<Source>,
    /// The name of the source whose messages these are: 1 to 32 of A-Za-z0-9._-, and / inside for groups
    #[arg(long = "as", env = "ACOPIO_AS", value_name = "NAME", value_parser = values::source)]
    name: Option<SourceName>,
    /// A carriage return ends a line, too
    #[arg(long, env = "ACOPIO_CR", value_parser = BoolishValueParser::new())]
    cr: bool,
    /// A silence of this length ends a line: for instruments that end theirs with nothing
    #[arg(long, env = "ACOPIO_GAP", value_name = "TIME", value_parser = values::duration)]
    gap: Option<Duration>,
    /// Send this to each instrument once it is connected; \r, \n, \t, \\ and \x02 stand for bytes
    #[arg(long, env = "ACOPIO_COLLECT_SEND", value_name = "TEXT", value_parser = question)]
    send: Option<Bytes>,
    /// Send it again each such time
    #[arg(long, env = "ACOPIO_COLLECT_EVERY", value_name = "TIME", requires = "send", value_parser = values::duration)]
    every: Option<Duration>,
    /// Bits per second of serial lines
    #[arg(long, env = "ACOPIO_BAUD", value_name = "N", default_value = "9600",
        value_parser = clap::value_parser!(u32).range(50..=4_000_000))]
    baud: u32,
    /// Bits, parity and stop bits of serial lines: 8N1, 7E1, 8O1, 8N2
    #[arg(long, env = "ACOPIO_MODE", value_name = "MODE", default_value = "8N1")]
    mode: Mode,
    /// How a serial line and its instrument ask each other to wait: none, rts or xon
    #[arg(long, env = "ACOPIO_FLOW", value_name = "FLOW", default_value = "none")]
    flow: Flow,
    /// Leave out the time at which a line was read: the payload is what the device sent, and its time that of the head
    #[arg(long, env = "ACOPIO_NO_STAMP", value_parser = BoolishValueParser::new())]
    no_stamp: bool,
    /// Keep lines in this folder until the cluster keeps them
    #[arg(long, env = "ACOPIO_SPOOL", value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Most bytes of it
    #[arg(long, env = "ACOPIO_SPOOL_BYTES", value_name = "SIZE", default_value = limits::SPOOL_BYTES_DEFAULT,
        value_parser = spool_bytes)]
    spool_bytes: u64,
}

/// `[NAME=]PLACE`.
fn source(text: &str) -> Result<Source, String> {
    if is_place(text) {
        return Ok(Source { name: None, place: place(text)? });
    }
    let (name, rest) = text.split_once('=').ok_or_else(|| WHERE.to_owned())?;
    let name = values::source(name)?;
    Ok(Source { name: Some(name), place: place(rest)? })
}

const WHERE: &str = "write tcp://HOST:PORT, the path of a serial line such as /dev/ttyUSB0, or - for standard input, with NAME= in \
                     front if it is to have a name";

fn is_place(text: &str) -> bool {
    text == "-" || text.starts_with("tcp://") || text.starts_with(['/', '.'])
}

fn place(text: &str) -> Result<Place, String> {
    match text.strip_prefix("tcp://") {
        Some(address) => values::address(address.strip_suffix('/').unwrap_or(address)).map(Place::Tcp),
        None if text == "-" => Ok(Place::Stdin),
        None if is_place(text) => Ok(Place::Serial(text.into())),
        None => Err(WHERE.to_owned()),
    }
}

/// The bytes that a text with escapes stands for.
fn question(text: &str) -> Result<Bytes, String> {
    const WANTED: &str = "write \\r, \\n, \\t, \\\\ or \\x and two hexadecimal digits";
    let (mut bytes, mut chars) = (Vec::new(), text.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = chars.by_ref().take(2).filter(char::is_ascii_hexdigit).collect();
                u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2).ok_or(WANTED)?
            }
            _ => return Err(WANTED.to_owned()),
        });
    }
    match bytes.len() {
        0 => Err("nothing is no question; leave it out".to_owned()),
        len if len > limits::COLLECT_QUESTION_BYTES_MAX => {
            Err(format!("longer than {} bytes", limits::COLLECT_QUESTION_BYTES_MAX))
        }
        _ => Ok(bytes.into()),
    }
}

fn spool_bytes(text: &str) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    if bytes < limits::SPOOL_BYTES_MIN {
        return Err(format!("a long line would have no room in it; {} or more", limits::SPOOL_BYTES_MIN));
    }
    Ok(bytes)
}

impl Collect {
    /// Collects until it is told to stop, or all has ended.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        let sources = match self.named() {
            Ok(sources) => sources,
            Err(words) => {
                print::err(&format!("acopio: {words}"));
                return Ok(Outcome::Unusable);
            }
        };
        logging::start(global, &[])?;
        let manner = Manner {
            ends: Ends { cr: self.cr, gap: self.gap },
            question: self.send.map(|text| Question { text, every: self.every }),
            serial: Settings { baud: self.baud, mode: self.mode, flow: self.flow },
            clock: Clock::default(),
        };
        let (heads, stamps, bytes_max) = (self.heads, !self.no_stamp, self.spool_bytes);
        let folder = self.spool.clone();
        let counts = runtime::run_role(limits::STOP_TIME_MAX, runtime::EndsWith::Signals, async |shutdown| {
            // Instruments are read while heads that announce themselves are looked for.
            let (found, config_heads) = oneshot::channel();
            let spool = folder.map(|folder| (folder, bytes_max));
            let config = Config { heads: config_heads, sources, manner, stamps, spool };
            let mut collected = pin!(collect::run(config, shutdown.clone()));
            tokio::select! {
                collected = &mut collected => return Ok(collected?),
                heads = heads.followed(&shutdown) => drop(heads?.map(|heads| found.send(heads))),
            }
            Ok(collected.await?)
        })?;
        tracing::info!("{}", in_words(&counts));
        let is_whole = counts.lost == 0 && !counts.failed;
        Ok(if is_whole { Outcome::Done } else { Outcome::Failed })
    }

    /// The sources with their names, if they can be told apart.
    fn named(&self) -> Result<Vec<Source>, String> {
        let mut sources = self.sources.clone();
        if sources.is_empty() && self.spool.is_none() {
            return Err(format!("nothing to collect from; {WHERE}"));
        }
        if sources.len() > limits::COLLECT_SOURCES_MAX {
            return Err(format!("more than {} sources; start another one", limits::COLLECT_SOURCES_MAX));
        }
        match sources.as_mut_slice() {
            [only] if only.name.is_none() => only.name = self.name,
            [] => {}
            many => {
                if let Some(nameless) = many.iter().find(|source| source.name.is_none()) {
                    return Err(format!("{nameless} has no name beside others; write NAME= in front of it"));
                }
                if self.name.is_some() {
                    return Err("--as is for one source that has no name; leave it out".to_owned());
                }
            }
        }
        for (k, source) in sources.iter().enumerate() {
            let others = sources.iter().take(k);
            if let Some(other) = others.clone().find(|other| other.place == source.place) {
                return Err(format!("{} is read twice; leave one out", other.place));
            }
            if let Some(other) = others.clone().find(|other| other.name == source.name) {
                return Err(format!("{other} and {source} have one name; give each its own"));
            }
        }
        if self.send.is_some() && !sources.iter().any(|source| source.place != Place::Stdin) {
            return Err("--send is for instruments, and there is none; leave it out".to_owned());
        }
        Ok(sources)
    }
}

fn in_words(counts: &Counts) -> String {
    let Counts { read, kept, waiting, lost, .. } = counts;
    let waiting = if *waiting > 0 {
        format!(", {waiting} wait in the spool: start it again to send them")
    } else {
        String::new()
    };
    let lost = if *lost > 0 { format!(", {lost} are lost") } else { String::new() };
    format!("{read} lines were read; {kept} are kept{lost}{waiting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_place_and_maybe_a_name() {
        let read = |text: &str| source(text).map(|source| (source.name.map(|name| name.to_string()), source.place));
        let tcp = |address: &str| Place::Tcp(address.to_owned());
        assert_eq!(read("tcp://h:1"), Ok((None, tcp("h:1"))));
        assert_eq!(read("taller/horno=tcp://[::1]:502/"), Ok((Some("taller/horno".to_owned()), tcp("[::1]:502"))));
        assert_eq!(read("/dev/serial/by-id/usb=1"), Ok((None, Place::Serial("/dev/serial/by-id/usb=1".into()))));
        assert_eq!(read("a=-"), Ok((Some("a".to_owned()), Place::Stdin)));
        for (text, wanted) in [
            ("h:1", "tcp://HOST:PORT"),
            ("", "tcp://HOST:PORT"),
            ("a=udp://h:1", "tcp://HOST:PORT"),
            ("a=", "tcp://HOST:PORT"),
            ("tcp://h", "HOST:PORT"),
            ("tcp://h:0", "port 0"),
            ("a b=-", "A-Za-z0-9._-"),
            ("acopio/x=-", "acopio/"),
        ] {
            assert!(source(text).unwrap_err().contains(wanted), "{text}: {}", source(text).unwrap_err());
        }
    }

    #[test]
    fn a_question_has_escapes() {
        assert_eq!(question(r"MEAS?\r\n\x02\t\\ñ").unwrap(), Bytes::from("MEAS?\r\n\x02\t\\ñ"));
        for wrong in ["", r"\", r"\q", r"\x1", r"\xg0", r"\x+1", &"x".repeat(2000)] {
            question(wrong).unwrap_err();
        }
    }
}
