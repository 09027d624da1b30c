//! Fault injection: what a person types, or a button says, to break a cluster that `up` owns, and what that asks for.
//!
//! Pure. `watcher` does it to processes, `link` to the network.

/// What is done, and to whom; members are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A data node is killed (-9).
    Kill(usize),
    /// A data node is paused (SIGSTOP).
    Pause(usize),
    /// Nothing passes between a data node and the heads; connections stay open.
    Cut(usize),
    /// A data node is killed and its folder is removed.
    Wipe(usize),
    /// The power of a data node's machine goes: it is killed, and what it had not synced is gone.
    PowerCut(usize),
    /// A head is killed (-9).
    KillHead(usize),
}

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Break something.
    Break(Fault),
    /// What is paused goes on, what is cut is connected, what is down is started.
    Mend,
    /// Show what there is to type.
    Help,
}

/// How many there are that something can be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Data nodes.
    pub(crate) nodes: usize,
    /// Heads.
    pub(crate) heads: usize,
}

/// A line that asks for nothing that can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadCommand {
    /// No key is written like this.
    #[error("{0:?} is no key; write one of k, p, c, w, b and the number of a data node, h and that of a head, r or ?")]
    Unknown(String),
    /// There is no such member.
    #[error("{key}{number}: there is no {kind}{number}; {}", there_are(kind, *count))]
    NoSuch {
        /// The letter.
        key: char,
        /// The number.
        number: u64,
        /// What is counted: `data` or `head`.
        kind: &'static str,
        /// How many there are.
        count: usize,
    },
    /// The letter stands alone.
    #[error("{key} needs a number, as in {key}1; {}", there_are(kind, *count))]
    NoNumber {
        /// The letter.
        key: char,
        /// What is counted.
        kind: &'static str,
        /// How many there are.
        count: usize,
    },
}

fn there_are(kind: &str, count: usize) -> String {
    match count {
        0 => format!("there is no {kind} at all"),
        1 => format!("there is {kind}1 alone"),
        _ => format!("there are {kind}1 to {kind}{count}"),
    }
}

/// The keys, as `?` and the help show them.
pub(crate) const KEYS: &str = "\
k2  kill data2 (-9)              p2  pause data2 (SIGSTOP)
c2  cut data2 from the network   w2  wipe data2: kill it, remove its folder
b2  cut the power of data2: kill it, drop what it had not synced
h1  kill head 1 (-9)             r   mend everything        ?  these keys";

/// Reads a line.
///
/// # Errors
/// It is no command, or there is nobody with that number.
pub(crate) fn parse(line: &str, shape: Shape) -> Result<Command, BadCommand> {
    let line = line.trim();
    match line {
        "" | "?" => return Ok(Command::Help),
        "r" => return Ok(Command::Mend),
        _ => {}
    }
    let unknown = || BadCommand::Unknown(line.chars().take(SHOWN_CHARS).collect());
    let mut rest = line.chars();
    let key = rest.next().ok_or_else(unknown)?;
    let (fault, kind, count): (fn(usize) -> Fault, _, _) = match key {
        'k' => (Fault::Kill, "data", shape.nodes),
        'p' => (Fault::Pause, "data", shape.nodes),
        'c' => (Fault::Cut, "data", shape.nodes),
        'w' => (Fault::Wipe, "data", shape.nodes),
        'b' => (Fault::PowerCut, "data", shape.nodes),
        'h' => (Fault::KillHead, "head", shape.heads),
        _ => return Err(unknown()),
    };
    let rest = rest.as_str().trim_start();
    if rest.is_empty() {
        return Err(BadCommand::NoNumber { key, kind, count });
    }
    let is_number = rest.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = rest.parse().ok().filter(|_| is_number).ok_or_else(unknown)?;
    match usize::try_from(number) {
        Ok(place) if (1..=count).contains(&place) => Ok(Command::Break(fault(place))),
        _ => Err(BadCommand::NoSuch { key, number, kind, count }),
    }
}

/// How much of a line that is no command is shown again.
const SHOWN_CHARS: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { nodes: 3, heads: 1 };

    #[test]
    fn keys_are_read() {
        let cases = [
            ("k2", Command::Break(Fault::Kill(2))),
            (" p3 ", Command::Break(Fault::Pause(3))),
            ("c1", Command::Break(Fault::Cut(1))),
            ("w 2", Command::Break(Fault::Wipe(2))),
            ("b1", Command::Break(Fault::PowerCut(1))),
            ("h1", Command::Break(Fault::KillHead(1))),
            ("r", Command::Mend),
            ("?", Command::Help),
            ("", Command::Help),
        ];
        for (line, wanted) in cases {
            assert_eq!(parse(line, SHAPE), Ok(wanted), "{line:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_told_in_words() {
        let said = |line: &str, shape| parse(line, shape).unwrap_err().to_string();
        assert_eq!(said("k9", SHAPE), "k9: there is no data9; there are data1 to data3");
        assert_eq!(said("p0", SHAPE), "p0: there is no data0; there are data1 to data3");
        assert_eq!(said("h2", SHAPE), "h2: there is no head2; there is head1 alone");
        assert_eq!(said("w", SHAPE), "w needs a number, as in w1; there are data1 to data3");
        assert_eq!(said("k1", Shape { nodes: 0, heads: 1 }), "k1: there is no data1; there is no data at all");
        for line in ["kill data2", "k-1", "k+1", "x1", "rr", "ñ", "k2 k3", "k99999999999999999999"] {
            assert!(said(line, SHAPE).contains("is no key; write one of"), "{line}");
        }
        assert!(said(&"\u{1b}[2J".repeat(99), SHAPE).len() < 200);
        assert!(!said("\u{1b}[2J", SHAPE).contains('\u{1b}'), "a terminal is not moved by what it is shown");
    }

    #[test]
    fn each_key_is_in_the_help_which_fits_a_terminal() {
        for key in ["k2", "p2", "c2", "w2", "b2", "h1", "r ", "? "] {
            assert!(KEYS.contains(&format!("{key} ")), "{key}");
        }
        assert!(KEYS.lines().all(|line| line.chars().count() <= 76), "{KEYS}");
    }
}
