//! `nombres.txt` beside a head's logs: names for devices that say none, by the address or the network that they come from.
//!
//! A wrong line is told with its number, and the others count. Pure: `names` reads the file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use crate::limits;
use crate::net::network::{Network, NoNetwork};
use crate::reload::WrongLine;
use crate::wire::said::{Said, Who};
use crate::wire::source::SourceName;
use crate::wire::text::Dialect;

/// Its name.
pub(crate) const FILE: &str = "nombres.txt";

/// Names by address.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    /// The narrowest network first.
    lines: Vec<(Network, Said)>,
}

impl Book {
    /// How many names it has.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Reads it: an address or a network, a name and options on each line, and remarks behind a `#`.
    pub(crate) fn parse(text: &str) -> (Self, Vec<WrongLine>) {
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        let mut first: HashMap<Network, usize> = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match Self::parse_line(line) {
                Ok(_) if lines.len() >= limits::BOOK_LINES_MAX => {
                    let cause = format!("there are more than {} names; name networks", limits::BOOK_LINES_MAX);
                    wrong.push(WrongLine { of: FILE, line: number, cause });
                    break;
                }
                Ok((network, said)) => match first.entry(network) {
                    Entry::Vacant(place) => {
                        place.insert(number);
                        lines.push((network, said));
                    }
                    Entry::Occupied(before) => {
                        let cause = format!("it is for the same addresses as line {}", before.get());
                        wrong.push(WrongLine { of: FILE, line: number, cause });
                    }
                },
                Err(cause) => wrong.push(WrongLine { of: FILE, line: number, cause }),
            }
        }
        lines.sort_by_key(|(network, _)| std::cmp::Reverse(network.bits));
        (Self { lines }, wrong)
    }

    fn parse_line(line: &str) -> Result<(Network, Said), String> {
        let (network, words) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let network: Network = network.parse().map_err(|error: NoNetwork| error.to_string())?;
        let said = Said::parse(words.as_bytes(), Dialect::Line).map_err(|error| error.to_string())?;
        // An address is not a device: nobody's connection ends for another's.
        Ok((network, Said { several: true, ..said }))
    }

    /// What a peer from there says of itself by this. In a group, its address is the rest of its name.
    pub(crate) fn said_of(&self, ip: IpAddr) -> Option<Said> {
        let (_, said) = self.lines.iter().find(|(network, _)| network.has(ip))?;
        match said.who {
            Who::Source(_) => Some(*said),
            Who::Group(group) => {
                let rest = ip.to_string().replace(':', "-");
                let source = SourceName::join(&group, rest.as_bytes()).ok()?;
                Some(Said { who: Who::Source(source), ..*said })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(book: &Book, ip: &str) -> Option<String> {
        book.said_of(ip.parse().unwrap()).map(|said| said.to_string())
    }

    #[test]
    fn the_narrowest_network_gives_the_name() {
        let text = "# devices that say nothing\n10.0.0.7 esp7\n10.0.0.0/8\tnave callado cr # all others\n\n\
                    10.0.7.0/24 taller/\nfe80::7 csv29\n0.0.0.0/0 otros\n";
        let (book, wrong) = Book::parse(text);
        assert_eq!(wrong, []);
        for (ip, wanted) in [
            ("10.0.0.7", Some("esp7 varios")),
            ("10.0.0.8", Some("nave callado cr varios")),
            ("10.0.7.12", Some("taller/10.0.7.12 varios")),
            ("192.168.1.1", Some("otros varios")),
            ("fe80::7", Some("csv29 varios")),
            ("fe80::8", None),
        ] {
            assert_eq!(said(&book, ip).as_deref(), wanted, "{ip}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_and_the_others_count() {
        let (book, wrong) = Book::parse("10.0.0.7 esp@7\nhola\n10.0.0.8 esp8\n10.0.0.0/33 x\n10.0.0.9\n");
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert!(wrong[0].starts_with("line 1 of nombres.txt: \"esp@7\" is not a source's name: '@'"), "{wrong:?}");
        assert!(
            wrong[1].starts_with("line 2 of nombres.txt: \"hola\" is neither an address nor a network"),
            "{wrong:?}"
        );
        assert!(wrong[2].starts_with("line 4 ") && wrong[3].contains("it is empty"), "{wrong:?}");
        assert_eq!(said(&book, "10.0.0.8").as_deref(), Some("esp8 varios"));
        assert_eq!(said(&book, "10.0.0.7"), None);
    }

    #[test]
    fn a_second_line_for_the_same_addresses_is_told() {
        let text = "10.0.0.7 uno\n10.0.7.0/24 a/\n10.0.0.7/32 dos\n::ffff:10.0.0.7 tres\n10.0.7.9/24 b/\n0.0.0.0/0 c\n";
        let (book, wrong) = Book::parse(text);
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        let wanted = [(3, 1), (4, 1), (5, 2)].map(|(line, first)| {
            format!("line {line} of nombres.txt: it is for the same addresses as line {first}; it is passed over")
        });
        assert_eq!(wrong, wanted);
        assert_eq!(said(&book, "10.0.0.7").as_deref(), Some("uno varios"));
        assert_eq!(said(&book, "10.0.7.9").as_deref(), Some("a/10.0.7.9 varios"));
        assert_eq!(said(&book, "192.168.0.1").as_deref(), Some("c varios"));
    }

    #[test]
    fn a_name_that_would_be_too_long_is_none() {
        let (book, _) = Book::parse("::/0 un-grupo-de-veinte-letras/\n");
        assert_eq!(said(&book, "2001:db8:85a3:1111:2222:8a2e:370:7334"), None);
        assert_eq!(said(&book, "::1").as_deref(), Some("un-grupo-de-veinte-letras/--1 varios"));
    }
}
