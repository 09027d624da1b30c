//! Time in which nothing is heard from any head: what waits for a message before it waits longer by that, for the message
//! could not come. Shared by the task that talks to heads, which tells, and the reader, which asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    before: Duration,
}

/// How long nothing was heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Lull(Arc<Mutex<State>>);

impl Lull {
    fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing is heard from now on.
    pub(super) fn begin(&self) {
        self.with(|state| state.since = state.since.or_else(|| Some(Instant::now())));
    }

    /// A head is heard.
    pub(super) fn end(&self) {
        self.with(|state| state.before += state.since.take().map_or(Duration::ZERO, |since| since.elapsed()));
    }

    /// All of it until now.
    pub(super) fn total(&self) -> Duration {
        self.with(|state| state.before + state.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_lasts_from_its_first_moment_to_the_first_word() {
        let (lull, second) = (Lull::default(), Duration::from_secs(1));
        tokio::time::advance(second).await;
        assert_eq!(lull.total(), Duration::ZERO);
        for _ in 0..2 {
            lull.begin();
            tokio::time::advance(second).await;
        }
        assert_eq!(lull.total(), 2 * second);
        lull.end();
        lull.end();
        tokio::time::advance(second).await;
        assert_eq!(lull.clone().total(), 2 * second);
    }
}
