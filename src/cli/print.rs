//! Everything that commands print goes through here: what comes from others is made visible first.

use std::io::{self, IsTerminal as _, Write as _};

use crate::limits;
use crate::printable;
use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

/// Prints lines, tables or JSON of [`json`] on standard output.
pub(crate) fn out(what: &str, text: &str) -> Result<()> {
    let written = io::stdout().write_all(printable::visible_lines(text).as_bytes());
    written.with_context(|| format!("cannot print {what}; give it a standard output"))
}

/// The same in place of what a terminal shows; elsewhere it follows what was printed before.
pub(crate) fn afresh(what: &str, text: &str) -> Result<()> {
    // The cursor to the first line, and nothing left below it.
    let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
    let written = io::stdout().write_all(format!("{clear}{}", printable::visible_lines(text)).as_bytes());
    written.with_context(|| format!("cannot print {what}; give it a standard output"))
}

/// Resolves once nobody reads standard output any more, as after `| head`: who only shows something has no more to do, though
/// it may have nothing to write by which it would notice.
pub(crate) async fn unread() {
    while !is_unread() {
        tokio::time::sleep(limits::UNREAD_LOOK_EVERY).await;
    }
}

fn is_unread() -> bool {
    let stdout = io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let asked = poll(&mut watched, Some(&Timespec::default()));
    asked.is_ok() && watched.iter().any(|out| out.revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

/// A line on standard error. If that is gone there is nobody to tell.
pub(crate) fn err(line: &str) {
    drop(writeln!(io::stderr(), "{}", printable::visible(line)));
}

/// Lines on standard error.
pub(crate) fn errors(text: &str) {
    drop(io::stderr().write_all(printable::visible_lines(text).as_bytes()));
}

/// A report as JSON over several lines, ready to be printed.
pub(crate) fn json(report: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(report).context("cannot write the report as JSON")?;
    Ok(format!("{}\n", printable::visible_json(&text)))
}
