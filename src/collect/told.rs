//! What is told of an instrument that comes and goes: each change once, however often it is dialled.

use std::time::Duration;

use tokio::time::Instant;

/// What was told last of one source. Pure: the time is handed in.
#[derive(Debug)]
pub(super) struct Told {
    label: String,
    /// Since when it is away, and why; none while it is there.
    away: Option<(Instant, String)>,
    /// Whether it was there at all.
    was_there: bool,
}

impl Told {
    pub(super) const fn new(label: String) -> Self {
        Self { label, away: None, was_there: false }
    }

    /// It is there; what to say of that, if it is news.
    pub(super) fn there(&mut self, now: Instant) -> Option<String> {
        let away = self.away.take();
        let first = !std::mem::replace(&mut self.was_there, true);
        match away {
            _ if first => Some(format!("{}: connected", self.label)),
            Some((since, _)) => {
                let time = Duration::from_secs(now.duration_since(since).as_secs().max(1));
                Some(format!("{}: is back after {}", self.label, humantime::format_duration(time)))
            }
            None => None,
        }
    }

    /// It is away, for this reason; the same if it is news.
    pub(super) fn away(&mut self, cause: &str, now: Instant) -> Option<String> {
        let (since, known) = self.away.take().map_or((now, None), |(since, known)| (since, Some(known)));
        let is_news = known.as_deref() != Some(cause);
        self.away = Some((since, cause.to_owned()));
        is_news.then(|| format!("{}: {cause}; trying again until it is there", self.label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let now = Instant::now();
        let mut told = Told::new("balanza".to_owned());
        assert_eq!(told.away("refused", now).as_deref(), Some("balanza: refused; trying again until it is there"));
        assert_eq!(told.away("refused", now), None);
        assert!(told.away("no route", now).is_some());
        assert_eq!(told.there(now).as_deref(), Some("balanza: connected"));
        assert_eq!(told.there(now), None);
        told.away("closed", now);
        told.away("refused", now);
        let later = now + Duration::from_secs(90);
        assert_eq!(told.there(later).as_deref(), Some("balanza: is back after 1m 30s"));
    }
}
