//! The file of tokens: who is let in as a client, and what each may do. Pure; `file` reads and writes it, `admission` asks.
//!
//! One token a line: its name, and behind it words such as `sha256=…` (a hash of its secret; the file does not give the secret
//! away), `certificate` (for who shows one with that name) or `from=10.0.7.0/24` (for peers that can't say one), `roles=write,read`, `as=taller/*`, `until=2027-01-31` and
//! `rate=100`. A wrong line is told with its number, and the others count.

pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod tries;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use ring::digest;
use subtle::ConstantTimeEq as _;

use crate::limits;
use crate::net::network::{Network, NoNetwork};
use crate::reload::WrongLine;
use crate::wire::peer::is_name;
use crate::wire::said::Who;
use crate::wire::secret::Secret;
use crate::wire::source::SourceName;

/// The hash of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SecretHash([u8; digest::SHA256_OUTPUT_LEN]);

impl SecretHash {
    /// Of this secret: SHA-256 of its digits.
    #[must_use]
    pub(crate) fn of(secret: &Secret) -> Self {
        let digest = digest::digest(&digest::SHA256, secret.expose());
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(hash)
    }

    /// Whether it is the other one, in a time that does not tell how far they are alike.
    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

impl FromStr for SecretHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "sha256= has 64 digits 0-9a-f".to_owned();
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        if text.len() != 2 * hash.len() || !text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong());
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            let pair = text.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(hash))
    }
}

/// How it is known who has a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Evidence {
    /// By a secret that it says: this is its hash.
    Secret(SecretHash),
    /// By a certificate with its name.
    Certificate,
    /// By where it comes from: it can't say one.
    From(Network),
}

/// What somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Send messages.
    Write,
    /// Read messages, and ask for the status and the devices.
    Read,
    /// Have data nodes drained and the number of copies changed, where the cluster's key does not have to be proved for it, and
    /// ask for the status.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::Write, Self::Read, Self::Admin];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.to_string() == text);
        known.ok_or_else(|| format!("\"{}\" is no role; take write, read or admin", text.escape_debug()))
    }
}

/// Names of sources: one name, or all that begin alike, such as `taller/*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pattern {
    text: String,
    /// All that begin with the text.
    open: bool,
}

impl Pattern {
    /// Whether all sources of this name or group are among them.
    fn has(&self, who: Who) -> bool {
        let name = who.to_string();
        if self.open { name.starts_with(&self.text) } else { name == self.text }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.open { "*" } else { "" })
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{}\" names no sources; take a name, or one with * at its end", text.escape_debug());
        match text.strip_suffix('*') {
            Some(start) => {
                let is_start = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
                let fits = start.len() <= limits::SOURCE_NAME_BYTES_MAX && start.bytes().all(is_start);
                fits.then(|| Self { text: start.to_owned(), open: true }).ok_or_else(wrong)
            }
            None => {
                let name: SourceName = text.parse().map_err(|_| wrong())?;
                Ok(Self { text: name.to_string(), open: false })
            }
        }
    }
}

/// When a token ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Until {
    text: String,
    at: SystemTime,
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Until {
    /// The whole second that this time is in.
    #[must_use]
    pub(crate) fn of(time: SystemTime) -> Self {
        let at = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).as_second();
        let at = Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { text: at.to_string(), at: at.into() }
    }
}

/// A day, to its end in UTC, or a time such as `2027-01-31T12:00:00Z`.
impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{}\" is no day; write one such as 2027-01-31, or 2027-01-31T12:00:00Z", text.escape_debug());
        let at = match text.parse::<Timestamp>() {
            Ok(at) => at,
            Err(_) if text.len() == "2027-01-31".len() => {
                let day: Date = text.parse().map_err(|_| wrong())?;
                let next = day.checked_add(1.day()).map_err(|_| wrong())?;
                next.to_zoned(TimeZone::UTC).map_err(|_| wrong())?.timestamp()
            }
            Err(_) => return Err(wrong()),
        };
        Ok(Self { text: text.to_owned(), at: at.into() })
    }
}

/// One token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    /// Its name, which is no secret.
    pub(crate) name: String,
    /// How it is known who has it.
    pub(crate) evidence: Evidence,
    /// What it lets do.
    pub(crate) roles: Vec<Role>,
    /// As whom it lets write; as anybody if there are none.
    pub(crate) sources: Vec<Pattern>,
    /// When it ends.
    pub(crate) until: Option<Until>,
    /// Messages a second, of all who have it together.
    pub(crate) rate: Option<NonZeroU32>,
}

impl Token {
    /// What a certificate with this name lets do, unless a line of that name says otherwise.
    #[must_use]
    pub(crate) fn of_certificate(name: &str) -> Self {
        let roles = vec![Role::Write, Role::Read];
        let evidence = Evidence::Certificate;
        Self { name: name.to_owned(), evidence, roles, sources: Vec::new(), until: None, rate: None }
    }

    /// Whether it lets do this.
    #[must_use]
    pub(crate) fn may(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether it lets write as this source, or as all sources of this group; none is a client that says no name.
    #[must_use]
    pub(crate) fn may_write_as(&self, who: Option<Who>) -> bool {
        self.sources.is_empty() || who.is_some_and(|who| self.sources.iter().any(|pattern| pattern.has(who)))
    }

    /// Whether it has ended.
    #[must_use]
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        self.until.as_ref().is_some_and(|until| until.at <= now)
    }

    /// Whether nobody could tell which of the two a connection has.
    fn is_shown_as(&self, other: &Self) -> bool {
        self.evidence == other.evidence && self.evidence != Evidence::Certificate
    }

    /// A line that keeps out the certificate of this name.
    #[must_use]
    pub(crate) fn shutting(name: &str, since: Until) -> Self {
        Self { until: Some(since), ..Self::of_certificate(name) }
    }

    fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        if !is_token_name(name) {
            return Err(format!(
                "\"{}\" is no name of a token",
                name.chars().take(32).collect::<String>().escape_debug()
            ));
        }
        let (mut evidence, mut roles, mut sources) = (None, Vec::new(), Vec::new());
        let (mut until, mut rate) = (None, None);
        let mut seen: Vec<&str> = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if seen.contains(&key) {
                return Err(format!("{}= is there twice", key.escape_debug()));
            }
            seen.push(key);
            match key {
                "sha256" | "from" | "certificate" if evidence.is_some() => {
                    return Err("it has two of sha256=, from= and certificate; take one".to_owned());
                }
                "certificate" if word == key => evidence = Some(Evidence::Certificate),
                "sha256" => evidence = Some(Evidence::Secret(value.parse()?)),
                "from" => {
                    let network: Network = value.parse().map_err(|error: NoNetwork| error.to_string())?;
                    evidence = Some(Evidence::From(network));
                }
                "roles" => roles = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "as" => sources = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "until" => until = Some(value.parse()?),
                "rate" => rate = Some(value.parse().map_err(|_| "rate= has messages a second, 1 or more".to_owned())?),
                _ => {
                    return Err("a word is not known; take sha256=, from=, certificate, roles=, as=, until= and rate="
                        .to_owned());
                }
            }
        }
        let evidence = evidence.ok_or("it has none of sha256=, from= and certificate")?;
        if roles.is_empty() {
            return Err("it has no roles=".to_owned());
        }
        Ok(Self { name: name.to_owned(), evidence, roles, sources, until, rate })
    }
}

/// As a line of the file.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |words: Vec<String>| words.join(",");
        match &self.evidence {
            Evidence::Secret(hash) => write!(f, "{} sha256={hash}", self.name)?,
            Evidence::Certificate => write!(f, "{} certificate", self.name)?,
            Evidence::From(network) => write!(f, "{} from={network}", self.name)?,
        }
        write!(f, " roles={}", list(self.roles.iter().map(ToString::to_string).collect()))?;
        if !self.sources.is_empty() {
            write!(f, " as={}", list(self.sources.iter().map(ToString::to_string).collect()))?;
        }
        self.until.iter().try_for_each(|until| write!(f, " until={until}"))?;
        self.rate.iter().try_for_each(|rate| write!(f, " rate={rate}"))
    }
}

/// Whether a token may be called so.
#[must_use]
pub(crate) fn is_token_name(name: &str) -> bool {
    is_name(name, limits::NODE_NAME_BYTES_MAX) && !name.contains(['=', '#'])
}

/// What the file is called where a line of it is wrong.
const FILE: &str = "the tokens";

/// All tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    all: Vec<Arc<Token>>,
    /// Names of certificates whose lines are wrong: what they are to be kept from is not known, so they may nothing.
    shut: Vec<String>,
}

impl Tokens {
    /// Reads the file, with remarks behind a `#`.
    pub(crate) fn parse(text: &str) -> (Self, Vec<WrongLine>) {
        let (mut tokens, mut wrong) = (Self::default(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match Token::parse(line).and_then(|token| tokens.fitting(token)) {
                Ok(token) => tokens.all.push(Arc::new(token)),
                Err(cause) => {
                    tokens.shut(line);
                    wrong.push(WrongLine { of: FILE, line: number, cause });
                }
            }
        }
        (tokens, wrong)
    }

    /// The token, if it fits to those above it.
    fn fitting(&self, token: Token) -> Result<Token, String> {
        if self.all.len() >= limits::TOKENS_MAX {
            return Err(format!("there are more than {}", limits::TOKENS_MAX));
        }
        if self.all.iter().any(|other| other.name == token.name) {
            return Err(format!("there is a token {} above it", token.name));
        }
        if self.all.iter().any(|other| other.is_shown_as(&token)) {
            return Err("a token above it has the same secret or the same addresses".to_owned());
        }
        Ok(token)
    }

    /// Keeps out the certificate that a wrong line is of.
    fn shut(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        if let Some(name) = words.next().filter(|name| is_token_name(name))
            && words.any(|word| word.starts_with("certificate"))
        {
            self.shut.push(name.to_owned());
        }
    }

    /// How many there are.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.all.iter().map(|token| &**token)
    }

    /// The one with this secret. Takes as long whichever it is.
    #[must_use]
    pub(crate) fn of_secret(&self, hash: &SecretHash) -> Option<Arc<Token>> {
        let mut found = None;
        for token in &self.all {
            if let Evidence::Secret(own) = &token.evidence
                && own.is(hash)
            {
                found = Some(token);
            }
        }
        found.cloned()
    }

    /// The one of this name.
    #[must_use]
    pub(crate) fn of_name(&self, name: &str) -> Option<Arc<Token>> {
        self.all.iter().find(|token| token.name == name).map(Arc::clone)
    }

    /// What a peer may whose certificate has this name: what a line of that name says, or else write and read. None if its line
    /// is wrong.
    #[must_use]
    pub(crate) fn of_certificate(&self, name: &str) -> Option<Arc<Token>> {
        let line = self.of_name(name);
        let shut = line.is_none() && self.shut.iter().any(|other| other == name);
        (!shut).then(|| line.unwrap_or_else(|| Arc::new(Token::of_certificate(name))))
    }

    /// The one for peers from there: that of the narrowest network.
    #[must_use]
    pub(crate) fn of_address(&self, ip: IpAddr) -> Option<Arc<Token>> {
        let network = |token: &Token| match token.evidence {
            Evidence::From(network) if network.has(ip) => Some(network.bits),
            _ => None,
        };
        let there = self.all.iter().filter_map(|token| network(token).map(|bits| (bits, token)));
        there.max_by_key(|(bits, _)| *bits).map(|(_, token)| Arc::clone(token))
    }
}

#[cfg(test)]
mod tests;
