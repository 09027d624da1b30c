//! `acopio token`: makes, lists and revokes the tokens of clients, in the file that `acopio head --tokens` reads.

use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Global, Outcome, logging, print, values};
use crate::net::network::Network;
use crate::tokens::{Evidence, Pattern, Role, SecretHash, Token as Made, Until, file, is_token_name};
use crate::wire::secret::{SECRET_DIGITS, Secret};

const AFTER_HELP: &str = "\
Examples:
  acopio token new --tokens tokens --role write --as 'taller/*' cellar > c.token
      whoever has c.token may send as taller/horno, and read nothing:
      chmod 600 c.token; acopio send --token-file c.token --as taller/horno 21.5
  acopio token new --tokens tokens --role read --until 2027-01-31 guest
      may read, to the end of that day in UTC
  acopio token new --tokens tokens --role write --from 10.0.7.0/24 plcs
      for devices that can't say a token: by the addresses that they come from
  acopio head --clients token --tokens tokens
      asks clients for tokens; it reads the file whenever that changes

The secret is shown once, on standard output. The file has only a hash of it
(what 'printf %s SECRET | sha256sum' prints), and is for its user alone. Each
line of it is a token; a # begins a remark.

A token that is revoked or over ends its connections: within a second, or at
once if the head gets SIGHUP. A certificate is shut out in the same way:
  acopio token revoke --tokens tokens --certificate esp7";

/// Makes, lists and revokes the tokens of clients
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a token, and shows its secret, which nothing shows again
    New(New),
    /// Shows the tokens, without what is secret
    List {
        /// File of tokens
        #[arg(long = "tokens", visible_alias = "file", env = "ACOPIO_TOKENS", value_name = "FILE")]
        file: PathBuf,
    },
    /// Takes a token out of the file; the line of a certificate is replaced by one that keeps it out
    Revoke {
        /// Name of the token
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
        /// File of tokens
        #[arg(long = "tokens", visible_alias = "file", env = "ACOPIO_TOKENS", value_name = "FILE")]
        file: PathBuf,
        /// The name is that of a certificate, which has no line yet
        #[arg(long, env = "ACOPIO_TOKEN_CERTIFICATE", value_parser = BoolishValueParser::new())]
        certificate: bool,
    },
}

#[derive(Debug, Args)]
struct New {
    /// Name of the token, of which there is none yet; it is no secret
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// File of tokens; it is made if it is missing
    #[arg(long = "tokens", visible_alias = "file", env = "ACOPIO_TOKENS", value_name = "FILE")]
    file: PathBuf,
    /// What it lets do: write (send messages), read (read them, ask for the status and the devices), admin (drain, copies);
    /// several with commas, or the flag several times
    #[arg(long, env = "ACOPIO_TOKEN_ROLE", value_name = "ROLE", value_delimiter = ',', required = true)]
    role: Vec<Role>,
    /// As which sources it lets write: names, or what they begin with and *, such as 'taller/*'; several with commas, or the
    /// flag several times [default: as all, and without a name]
    #[arg(long = "as", env = "ACOPIO_TOKEN_AS", value_name = "NAMES", value_delimiter = ',')]
    sources: Vec<Pattern>,
    /// The day at whose end in UTC it is over, or a time such as 2027-01-31T12:00:00Z [default: never]
    #[arg(long, env = "ACOPIO_TOKEN_UNTIL", value_name = "DATE")]
    until: Option<Until>,
    /// Messages a second that all who have it may send together; the head reads no faster [default: as fast as it can]
    #[arg(long, env = "ACOPIO_TOKEN_RATE", value_name = "N")]
    rate: Option<NonZeroU32>,
    /// In place of a secret: it belongs to all peers of this address or network
    #[arg(long, env = "ACOPIO_TOKEN_FROM", value_name = "IP[/BITS]", value_parser = values::network)]
    from: Option<Network>,
    /// The name is that of a certificate, as 'acopio cert' makes it: it belongs to who shows that, in place of a secret
    #[arg(long, env = "ACOPIO_TOKEN_CERTIFICATE", value_parser = BoolishValueParser::new(), conflicts_with = "from")]
    certificate: bool,
}

fn name(text: &str) -> Result<String, String> {
    let wrong = || "not a name: take a word without commas, plus, = and #".to_owned();
    is_token_name(text).then(|| text.to_owned()).ok_or_else(wrong)
}

impl Token {
    /// Does what was asked for.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        match self.command {
            Command::New(new) => new.make()?,
            Command::List { file } => list(&file)?,
            Command::Revoke { name, file, certificate } => {
                file::revoke(&file, &name, certificate, std::time::SystemTime::now())?;
            }
        }
        Ok(Outcome::Done)
    }
}

impl New {
    fn make(self) -> Result<()> {
        let mut bytes = [0; SECRET_DIGITS / 2];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| anyhow::anyhow!("the system gives no random bytes; start acopio again later"))?;
        let secret = Secret::from_random(bytes);
        let evidence = match self.from {
            Some(network) => Evidence::From(network),
            None if self.certificate => Evidence::Certificate,
            None => Evidence::Secret(SecretHash::of(&secret)),
        };
        let is_secret = matches!(evidence, Evidence::Secret(_));
        let mut roles = self.role;
        roles.sort_by_key(|role| *role as u8);
        roles.dedup();
        let Self { name, sources, until, rate, .. } = self;
        file::add(&self.file, &Made { name, evidence, roles, sources, until, rate })?;
        if is_secret {
            let digits = std::str::from_utf8(secret.expose()).context("the secret is no text; report this")?;
            print::out("the secret", &format!("{digits}\n"))?;
        }
        Ok(())
    }
}

/// A line for each: its name, how it is shown, roles, sources, end, rate.
fn list(path: &std::path::Path) -> Result<()> {
    let (tokens, wrong) = file::read(path)?;
    let words = |words: Vec<String>| if words.is_empty() { "-".to_owned() } else { words.join(",") };
    let mut out = String::new();
    for token in tokens.iter() {
        let by = match token.evidence {
            Evidence::Secret(_) => "secret".to_owned(),
            Evidence::Certificate => "certificate".to_owned(),
            Evidence::From(network) => format!("from={network}"),
        };
        let roles = words(token.roles.iter().map(ToString::to_string).collect());
        let sources = words(token.sources.iter().map(ToString::to_string).collect());
        let until = token.until.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let until = if token.is_over(std::time::SystemTime::now()) { format!("{until} (over)") } else { until };
        let rate = token.rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate}/s"));
        out += &format!("{} {by} roles={roles} as={sources} until={until} rate={rate}\n", token.name);
    }
    print::out("the tokens", &out)?;
    wrong.iter().for_each(|wrong| print::err(&format!("acopio: {wrong}")));
    Ok(())
}
