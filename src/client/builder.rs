//! Settings of a client, one after the other, for who writes a program of a few lines.

use std::time::Duration;

use super::{Client, Config};
use crate::wire::secret::NotASecret;
use crate::wire::source::{NotASource, SourceName};

/// Settings of a [`Client`], one after the other; [`Client::builder`] begins.
#[derive(Clone, Debug)]
pub struct Builder {
    config: Config,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { config: Config::new(Vec::new()) }
    }

    /// A head, `host:port`; without any it is `127.0.0.1:5000`. Each call adds one, which is tried when those before it do not
    /// answer.
    #[must_use]
    pub fn head(mut self, address: impl Into<String>) -> Self {
        self.config.heads.push(address.into());
        self
    }

    /// The name of the source whose messages it sends, such as `esp7` or `taller/horno`.
    ///
    /// # Errors
    /// It is no name.
    pub fn name(mut self, name: &str) -> Result<Self, NotASource> {
        self.config.name = Some(name.parse::<SourceName>()?);
        Ok(self)
    }

    /// Other connections may have the name at the same time.
    #[must_use]
    pub const fn shared(mut self) -> Self {
        self.config.shares_name = true;
        self
    }

    /// The secret of its token, for heads that ask clients for one.
    ///
    /// # Errors
    /// It is no secret.
    pub fn token(mut self, secret: &str) -> Result<Self, NotASecret> {
        self.config.token = Some(secret.parse()?);
        Ok(self)
    }

    /// Over TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: super::Tls) -> Self {
        self.config = self.config.with_tls(tls);
        self
    }

    /// Time to go on trying while no head keeps anything.
    #[must_use]
    pub const fn retry_for(mut self, time: Duration) -> Self {
        self.config.retry_for = time;
        self
    }

    /// The settings so far, for [`connect`](super::connect) and [`Keeper`](super::Keeper).
    #[must_use]
    pub fn config(mut self) -> Config {
        if self.config.heads.is_empty() {
            self.config.heads.push("127.0.0.1:5000".to_owned());
        }
        self.config
    }

    /// The client. It must be called on a tokio runtime.
    #[must_use]
    pub fn build(self) -> Client {
        Client::new(self.config())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_built_step_by_step() {
        let builder = Client::builder().head("a:5000").head("b:5000").name("taller/horno").unwrap().shared();
        let config = builder.retry_for(Duration::from_secs(1)).config();
        assert_eq!(config.heads, ["a:5000", "b:5000"]);
        assert_eq!(config.introduction().said.unwrap().to_string(), "taller/horno varios");
        assert_eq!(Client::builder().config().heads, ["127.0.0.1:5000"]);
        let secret = "ab".repeat(16);
        let config = Client::builder().token(&secret).unwrap().config();
        assert_eq!(config.introduction().token.unwrap().expose(), secret.as_bytes());
        assert!(!format!("{config:?}").contains(&secret));
        assert!(Client::builder().token("ab").is_err());
        let error = Client::builder().name("a b").unwrap_err().to_string();
        assert!(error.contains("take 1 to 32 of A-Za-z0-9._-"), "{error}");
    }
}
