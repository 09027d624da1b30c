//! The lines of the seeds' devices, word for word. Who shows them is handed in: it must not block.

use std::sync::Arc;

/// Shows lines; clones show in the same place.
#[derive(Clone)]
pub(crate) struct Console(Arc<dyn Fn(&str) + Send + Sync>);

impl Console {
    /// A console that shows each line with this.
    pub(crate) fn new(show: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(show))
    }

    /// A line.
    pub(crate) fn say(&self, line: &str) {
        (self.0)(line);
    }

    /// A line, and an empty one after it.
    pub(crate) fn end(&self, line: &str) {
        self.say(line);
        self.say("");
    }

    /// What a watcher has seen.
    pub(crate) fn watcher(&self, line: &str) {
        self.say("-----WATCHER-----");
        self.say(line);
        self.end("-----");
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console")
    }
}
