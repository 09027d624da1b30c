//! Settings that `/config` may override while the device runs: what is there goes before the flag, nonsense changes
//! nothing and is said, and without the znode the flag holds. A device never creates one.

use tokio::sync::watch;
use tokio::time::sleep;

use super::console::Console;
use super::value::BadSetting;
use crate::coord::{DataWatch, Error, Session, ZnodePath};
use crate::limits;

/// One setting.
pub(crate) struct Setting<T> {
    /// Its znode.
    pub(crate) path: ZnodePath,
    /// The name by which the seeds tell of it.
    pub(crate) name: &'static str,
    /// What holds without the znode.
    pub(crate) flag: T,
    /// Reads what the znode holds.
    pub(crate) parse: fn(&str) -> Result<T, BadSetting>,
    /// Shows it as the seeds do.
    pub(crate) show: fn(&T) -> String,
}

impl<T: Clone + PartialEq> Setting<T> {
    /// What holds now that the znode holds this, or is not there.
    fn decide(&self, found: Option<&[u8]>) -> Result<T, BadSetting> {
        match found {
            None => Ok(self.flag.clone()),
            Some(bytes) => (self.parse)(&String::from_utf8_lossy(bytes)),
        }
    }

    /// Follows the znode; ends only with the session. Each change is told in the seeds' words.
    pub(crate) async fn follow(&self, session: &Session, now: &watch::Sender<T>, console: &Console) -> Error {
        let mut watch = DataWatch::new(session, self.path.clone());
        loop {
            let found = match watch.next().await {
                Ok(found) => found,
                Err(Error::Closed) => return Error::Closed,
                Err(error) => {
                    tracing::warn!("{error}; {} stays {}", self.name, (self.show)(&now.borrow()));
                    sleep(limits::DEVICE_REFUSED_PAUSE).await;
                    continue;
                }
            };
            match self.decide(found.as_ref().map(|data| data.bytes.as_slice())) {
                Ok(value) => {
                    let changed = now.send_if_modified(|old| std::mem::replace(old, value.clone()) != value);
                    if changed {
                        console.watcher(&format!("Nuevo valor de {}: {}", self.name, (self.show)(&value)));
                    }
                }
                Err(bad) => {
                    tracing::warn!("{}: {bad}; {} stays {}", self.path, self.name, (self.show)(&now.borrow()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{period, show_period};
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_znode_goes_before_the_flag_and_nonsense_is_refused() {
        let setting = Setting {
            path: "/config/sampling_period".parse().unwrap(),
            name: "SAMPLING_PERIOD",
            flag: Duration::from_secs(5),
            parse: period,
            show: |period| show_period(*period),
        };
        assert_eq!(setting.decide(Some(b"8")), Ok(Duration::from_secs(8)));
        assert_eq!(setting.decide(None), Ok(Duration::from_secs(5)));
        for nonsense in [&b""[..], b"pronto", b"\xff", b"-3"] {
            assert!(setting.decide(Some(nonsense)).is_err());
        }
    }
}
