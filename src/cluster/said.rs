//! What a member of a cluster says, line by line, whether it is a process or a container: shown, and looked through for
//! the two things that others wait for.

use tokio::sync::oneshot;

use super::plan::Kind;
use super::screen::Screen;
use super::{LISTENING, REGISTERED};

/// Takes the lines of one member.
#[derive(Debug)]
pub(crate) struct Said {
    kind: Kind,
    name: String,
    screen: Screen,
    ready: Option<oneshot::Sender<()>>,
    last_error: Option<String>,
}

impl Said {
    /// For this member; the other half resolves once it listens or is registered with a head, and fails if it ended
    /// before.
    #[must_use]
    pub(crate) fn new(kind: Kind, name: &str, screen: Screen) -> (Self, oneshot::Receiver<()>) {
        let (ready, is_ready) = oneshot::channel();
        (Self { kind, name: name.to_owned(), screen, ready: Some(ready), last_error: None }, is_ready)
    }

    /// A line, without its newline.
    pub(crate) fn line(&mut self, line: &str) {
        if (line.contains(LISTENING) || line.contains(REGISTERED))
            && let Some(ready) = self.ready.take()
        {
            let _nobody_waits_any_more = ready.send(());
        }
        if let Some(error) = line.strip_prefix("acopio: ") {
            self.last_error = Some(error.to_owned());
        }
        self.screen.show(self.kind, &self.name, line);
    }

    /// The last error that it told.
    #[must_use]
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.clone()
    }
}
