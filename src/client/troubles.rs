//! What each head of a list did last, so that an error names all of them.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::net::framed::Ended;
use crate::wire::error::{Code, Refusal};

/// Why a head could not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("head {head}: {cause}")]
pub struct Trouble {
    /// The head.
    pub head: String,
    /// What it did, or what became of the connection to it.
    pub cause: String,
}

/// What is known of one head.
#[derive(Debug)]
struct Known {
    head: String,
    cause: Option<String>,
    /// What kind of trouble it was, until it serves: the same again is no news.
    kind: String,
    /// Trying it again would change nothing.
    is_final: bool,
    /// When that was.
    at: Instant,
}

/// The last trouble with each head.
#[derive(Debug)]
pub(super) struct Troubles {
    heads: Vec<Known>,
    /// What the last refusal was; a loss if there was none.
    code: Code,
}

impl Troubles {
    /// No trouble yet.
    pub(super) fn new(heads: &[String]) -> Self {
        let known = |head: &String| Known {
            head: head.clone(),
            cause: None,
            kind: String::new(),
            is_final: false,
            at: Instant::now(),
        };
        Self { heads: heads.iter().map(known).collect(), code: Code::Timeout }
    }

    /// Notes why the head at this place of the list was left; false if that is no news.
    pub(super) fn note(&mut self, place: usize, ended: &Ended, is_final: bool) -> bool {
        if let Ended::Refused(refusal) = ended {
            self.code = refusal.code;
        }
        let Some(known) = self.heads.get_mut(place) else { return true };
        let remedy = match ended {
            ended if ended.is_of_trust() => "",
            Ended::Io(_) | Ended::Closed | Ended::Silent(_) => "; see that a head runs there",
            _ => "",
        };
        (known.is_final, known.at) = (is_final, Instant::now());
        known.cause = Some(format!("{ended}{remedy}"));
        let kind = ended.kind();
        let is_news = known.kind != kind;
        known.kind = kind;
        is_news
    }

    /// The same, unless it is known already why.
    pub(super) fn note_if_none(&mut self, place: usize, ended: &Ended) {
        if self.heads.get(place).is_some_and(|known| known.cause.is_none()) {
            self.note(place, ended, false);
        }
    }

    /// The head at this place has served: the next trouble with it is news.
    pub(super) fn served(&mut self, place: usize) {
        self.forget(place);
        if let Some(known) = self.heads.get_mut(place) {
            known.kind.clear();
        }
    }

    /// The head at this place is there.
    pub(super) fn forget(&mut self, place: usize) {
        if let Some(known) = self.heads.get_mut(place) {
            (known.cause, known.is_final) = (None, false);
        }
    }

    /// Whether a head other than the one at this place may do better: one without trouble, or whose trouble is old.
    pub(super) fn has_better(&self, place: usize) -> bool {
        let others = self.heads.iter().enumerate().filter(|(other, _)| *other != place);
        others.into_iter().any(|(_, known)| known.cause.is_none() || known.at.elapsed() >= limits::CLIENT_SILENCE_MAX)
    }

    /// Whether no head is worth another try.
    pub(super) fn are_final(&self) -> bool {
        !self.heads.is_empty() && self.heads.iter().all(|known| known.is_final)
    }

    /// Every head and its trouble.
    pub(super) fn list(&self) -> Vec<Trouble> {
        let trouble = |known: &Known| Trouble {
            head: known.head.clone(),
            cause: known.cause.clone().unwrap_or_else(|| "its turn did not come".to_owned()),
        };
        self.heads.iter().map(trouble).collect()
    }

    /// What became of messages that were tried so long.
    pub(super) fn refusal(&self, waited: Duration) -> Refusal {
        let tried = if self.are_final() { String::new() } else { format!("; tried for {waited:?}") };
        Refusal { code: self.code, text: format!("{}{tried}", in_words(&self.list())), retry: true }
    }
}

/// All of it on one line.
pub(super) fn in_words(troubles: &[Trouble]) -> String {
    troubles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_head_is_named_with_its_last_trouble() {
        let mut troubles = Troubles::new(&["a:1".to_owned(), "b:2".to_owned(), "c:3".to_owned()]);
        troubles.note(0, &Ended::Closed, false);
        troubles.note(1, &Ended::Refused(Refusal::new(Code::NoNodes, "no hay dataNodes; start one")), false);
        troubles.note_if_none(1, &Ended::Closed);
        let refusal = troubles.refusal(Duration::from_secs(10));
        let wanted = "head a:1: it closed the connection; see that a head runs there; head b:2: no hay dataNodes; start one; \
                      head c:3: its turn did not come; tried for 10s";
        assert_eq!((refusal.code, refusal.text.as_str()), (Code::NoNodes, wanted));
        troubles.forget(1);
        troubles.note(1, &Ended::Closed, true);
        assert!(!troubles.are_final());
        troubles.note(0, &Ended::Closed, true);
        troubles.note(2, &Ended::Closed, true);
        assert!(troubles.are_final());
    }
}
