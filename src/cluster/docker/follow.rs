//! What containers say, as it comes, by way of the engine. What they write is read as other members' files are (`tail`).

use std::time::SystemTime;

use tokio::time::sleep;

use super::engine::{Engine, State, next};
use crate::cluster::said::Said;
use crate::cluster::screen::Screen;
use crate::limits;
use tokio_util::sync::CancellationToken;

/// Shows what a container says, also after it was started again, until the end was asked for and it ended.
pub(crate) async fn output(
    engine: Engine,
    id: String,
    name: String,
    mut said: Said,
    ending: CancellationToken,
    screen: Screen,
) {
    let mut lines = Lines::default();
    loop {
        let mut pieces = engine.logs(&id, lines.since());
        while let Some(Ok(piece)) = next(&mut pieces).await {
            lines.take(&piece, |line| said.line(line));
        }
        // It ended, or the engine closed the connection; it may run again.
        let mut told = false;
        loop {
            match engine.state(&id).await {
                Ok(State::Running) => break,
                Ok(State::Gone) => return,
                _ if ending.is_cancelled() => return,
                Ok(State::Ended(code)) if !told => {
                    screen.say(format!("{name} ended with exit code {code}"));
                    told = true;
                }
                _ => {}
            }
            sleep(limits::CONTAINER_POLL).await;
        }
        sleep(limits::CONTAINER_POLL).await;
    }
}

/// Puts pieces of output together to lines, each once though the output is asked for again.
#[derive(Debug, Default)]
struct Lines {
    rest: String,
    /// Time of the last whole line, as the engine writes it: of one width, so that text compares like time.
    last: String,
}

impl Lines {
    /// The second from which output is asked for.
    fn since(&self) -> i32 {
        let time = humantime::parse_rfc3339(&self.last).ok();
        let seconds = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        seconds.and_then(|time| i32::try_from(time.as_secs()).ok()).unwrap_or_default()
    }

    fn take(&mut self, piece: &[u8], mut show: impl FnMut(&str)) {
        for part in String::from_utf8_lossy(piece).split_inclusive('\n') {
            let room = limits::CONTAINER_LINE_BYTES_MAX.saturating_sub(self.rest.len());
            let end = part.floor_char_boundary(room);
            self.rest.push_str(part.get(..end).unwrap_or_default());
            if part.ends_with('\n') {
                let whole = std::mem::take(&mut self.rest);
                let (time, line) = whole.trim_end().split_once(' ').unwrap_or((whole.trim_end(), ""));
                if time > self.last.as_str() {
                    show(line);
                    self.last = time.to_owned();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_in_pieces_is_shown_in_lines_each_once() {
        let mut lines = Lines::default();
        let mut shown = Vec::new();
        let first = b"2026-11-21T11:08:01.000000001Z one\n2026-11-21T11:08:01.000000002Z tw";
        lines.take(first, |line| shown.push(line.to_owned()));
        lines.take(b"o words\n", |line| shown.push(line.to_owned()));
        assert_eq!(lines.since(), 1_795_259_281);
        // Asked for again from that second on.
        lines.take(first, |line| shown.push(line.to_owned()));
        lines.take(b"o words\n2026-11-21T11:08:02.000000001Z three\n", |line| shown.push(line.to_owned()));
        assert_eq!(shown, ["one", "two words", "three"]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut lines = Lines::default();
        let mut shown = Vec::new();
        lines.take(b"2026-11-21T11:08:01.000000001Z ", |_| {});
        for _ in 0..100 {
            lines.take(&[b'x'; 4096], |_| {});
            assert!(lines.rest.len() <= limits::CONTAINER_LINE_BYTES_MAX);
        }
        lines.take(b"\n2026-11-21T11:08:01.000000002Z next\n", |line| shown.push(line.len()));
        assert_eq!(shown, [limits::CONTAINER_LINE_BYTES_MAX - 31, 4]);
    }
}
