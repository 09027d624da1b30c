//! Where a sensor's values come from: random as the seeds', a command, a file, or lines that are handed in.

use std::path::PathBuf;
use std::process::Stdio;

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

use super::value::{Value, shown};
use crate::limits;

/// The seeds' temperatures.
const RANDOM: std::ops::RangeInclusive<u32> = 75..=85;

/// Where values come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A whole number from 75 to 85, with this seed.
    Random(SmallRng),
    /// The first word of what a shell command prints.
    Command(String),
    /// The first word of a file.
    File(PathBuf),
    /// The last of the lines that come in; each counts once.
    Lines(watch::Receiver<String>),
}

/// No value for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoValue {
    /// The command, the file or the line gives none.
    #[error("{0}")]
    Bad(String),
    /// No more lines come.
    #[error("the input has ended")]
    Ended,
}

impl Source {
    /// Random values of this seed.
    #[must_use]
    pub(crate) fn random(seed: u64) -> Self {
        Self::Random(SmallRng::seed_from_u64(seed))
    }

    /// Measures. A line is waited for; everything else has a moment.
    ///
    /// # Errors
    /// There is no value.
    pub(crate) async fn measure(&mut self) -> Result<Value, NoValue> {
        let what = match self {
            Self::Random(rng) => return Value::new(f64::from(rng.random_range(RANDOM))).ok_or(NoValue::Ended),
            Self::Lines(lines) => {
                lines.changed().await.map_err(|_| NoValue::Ended)?;
                let line = lines.borrow_and_update().clone();
                return Value::first_in(&line).ok_or_else(|| bad("the input", &line));
            }
            Self::Command(command) => command.clone(),
            Self::File(path) => path.display().to_string(),
        };
        let text = match timeout(limits::DEVICE_SOURCE_TIME_MAX, self.read()).await {
            Ok(text) => text.map_err(|cause| NoValue::Bad(format!("{what}: {cause}")))?,
            Err(_) => {
                let time = limits::DEVICE_SOURCE_TIME_MAX;
                return Err(NoValue::Bad(format!("{what}: no value within {time:?}")));
            }
        };
        Value::first_in(&text).ok_or_else(|| bad(&what, &text))
    }

    async fn read(&self) -> Result<String, String> {
        match self {
            Self::Command(command) => run(command).await,
            Self::File(path) => {
                let file = File::open(path).await.map_err(|error| error.to_string())?;
                beginning(file).await
            }
            Self::Random(_) | Self::Lines(_) => Ok(String::new()),
        }
    }
}

fn bad(what: &str, text: &str) -> NoValue {
    NoValue::Bad(format!("{what}: {:?} does not begin with a number", shown(text.trim())))
}

/// The beginning of what a shell command prints; it is killed if the value is not waited for any more.
async fn run(command: &str) -> Result<String, String> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let Some(stdout) = child.stdout.take() else { return Err("its output cannot be read".to_owned()) };
    let text = beginning(stdout).await?;
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() { Ok(text) } else { Err(format!("it failed: {status}")) }
}

async fn beginning(from: impl tokio::io::AsyncRead + Unpin) -> Result<String, String> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limits::DEVICE_VALUE_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(most).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn random_values_are_the_seeds() {
        let mut source = Source::random(7);
        for _ in 0..100 {
            let value = source.measure().await.unwrap().number();
            assert!((75.0..=85.0).contains(&value) && value.fract() == 0.0, "{value}");
        }
    }

    #[tokio::test]
    async fn a_command_gives_its_first_word() {
        assert_eq!(Source::Command("echo 21.5 °C".to_owned()).measure().await.unwrap().to_string(), "21.5");
        for (command, wanted) in [
            ("echo hola", "\"hola\" does not begin with a number"),
            ("true", "\"\" does not begin with a number"),
            ("echo 3; exit 4", "it failed: exit status: 4"),
        ] {
            let error = Source::Command(command.to_owned()).measure().await.unwrap_err().to_string();
            assert!(error.starts_with(command) && error.contains(wanted), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_gives_its_first_word() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "42\n").unwrap();
        assert_eq!(Source::File(file.path().to_owned()).measure().await.unwrap().to_string(), "42");
        let missing = Source::File("/nowhere/x".into()).measure().await.unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/x: "), "{missing}");
    }

    #[tokio::test]
    async fn a_line_counts_once_and_the_last_one_wins() {
        let (lines, receiver) = watch::channel(String::new());
        let mut source = Source::Lines(receiver);
        lines.send_replace("1".to_owned());
        lines.send_replace("2".to_owned());
        assert_eq!(source.measure().await.unwrap().to_string(), "2");
        tokio::select! {
            biased;
            value = source.measure() => unreachable!("{value:?} again"),
            () = tokio::task::yield_now() => {}
        }
        lines.send_replace("x".to_owned());
        assert!(matches!(source.measure().await, Err(NoValue::Bad(_))));
        drop(lines);
        assert!(matches!(source.measure().await, Err(NoValue::Ended)));
    }
}
