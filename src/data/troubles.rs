//! What a data node says of a head that it lost: the same trouble once, and nothing of a head that said it stops, for as
//! long as it may take to be back. Pure: the time is handed in.

use tokio::time::Instant;

use crate::limits;
use crate::net::framed::Ended;
use crate::wire::error::Code;

/// What was said of one head.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// The last trouble that was said.
    said: String,
    /// When it said that it stops.
    stopped: Option<Instant>,
}

/// What is to be said now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Saying {
    /// It stops.
    Stops,
    /// This is wrong, and what to do about it.
    Trouble(String),
}

impl Troubles {
    /// A connection to the head ended like this.
    pub(super) fn hear(&mut self, ended: &Ended, now: Instant) -> Option<Saying> {
        let stops = matches!(ended, Ended::Refused(refusal) if refusal.code == Code::Stopping);
        if stops {
            self.stopped = Some(now);
        }
        let is_gone = matches!(ended, Ended::Io(_) | Ended::Closed);
        if is_gone && self.stopped.is_some_and(|at| now.duration_since(at) < limits::HEAD_BACK_TIME) {
            return None;
        }
        // The same trouble again is said once.
        let kind = ended.kind();
        if kind == self.said {
            return None;
        }
        self.said = kind;
        Some(if stops { Saying::Stops } else { Saying::Trouble(format!("{ended}{}", remedy(ended))) })
    }
}

/// What to do about it, where the cause does not say so.
const fn remedy(ended: &Ended) -> &'static str {
    match ended {
        Ended::Io(_) => "; see that a head runs there",
        Ended::Closed => "; see its log for the cause",
        Ended::Silent(_) => "; see that it runs and can be reached",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error::Refusal;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_head_that_stops_may_be_away_for_a_while_and_any_other_trouble_is_said_once() {
        let (start, mut troubles) = (Instant::now(), Troubles::default());
        let stops = Ended::Refused(Refusal::new(Code::Stopping, "the head stops"));
        let refused = Ended::Io(Error::from(ErrorKind::ConnectionRefused));
        assert_eq!(troubles.hear(&stops, start), Some(Saying::Stops));
        for ended in [&refused, &Ended::Closed, &stops] {
            assert_eq!(troubles.hear(ended, start), None, "{ended}");
        }
        let later = start + limits::HEAD_BACK_TIME;
        let said = troubles.hear(&refused, later);
        assert!(
            matches!(&said, Some(Saying::Trouble(said)) if said.contains("see that a head runs there")),
            "{said:?}"
        );
        assert_eq!(troubles.hear(&refused, later), None, "once");
        assert!(matches!(troubles.hear(&Ended::Closed, later), Some(Saying::Trouble(_))));
        assert!(Troubles::default().hear(&refused, start).is_some(), "one that never said so");
    }
}
