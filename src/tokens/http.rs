//! Who is let in over HTTP: the page, its API, and the numbers of heads and data nodes.
//!
//! Who comes from this machine is, as long as no proxy passed the request on. Others say the secret of a token, as `Bearer` or as
//! the password of `Basic`, which browsers ask for; or they come through a proxy that is known and names its user; or nothing
//! is asked, if that was said. The decisions are pure, given the time; [`HttpDoor`] keeps what they need between requests.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{HeaderMap, StatusCode};
use tokio::time::{Instant, sleep};

use super::tries::Tries;
use super::{Role, SecretHash, Token, Tokens, file};
use crate::limits;
use crate::net::network::Network;
use crate::reload::{self, Watched};
use crate::wire::said::Who;
use crate::wire::secret::Secret;

/// Fields by which a proxy says that it passes a request on.
const PASSED_ON: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Fields in which a proxy names its user.
const USERS: [&str; 3] = ["remote-user", "x-forwarded-user", "x-remote-user"];

/// Scheme of a token that a program says.
const BEARER: &str = "bearer";

/// Scheme of a token that a person types into a browser, as the password.
const BASIC: &str = "basic";

/// What is asked of those who come from other machines.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpRules {
    /// Nothing.
    pub(crate) open: bool,
    /// The file of tokens.
    pub(crate) tokens: Option<PathBuf>,
    /// Secrets are taken from other machines over plain HTTP, too.
    pub(crate) in_the_clear: bool,
    /// Where the proxies are that name their users.
    pub(crate) proxies: Vec<Network>,
}

impl HttpRules {
    /// Whether somebody from another machine could be let in.
    #[must_use]
    pub(crate) const fn lets_others_in(&self) -> bool {
        self.open || self.tokens.is_some() || !self.proxies.is_empty()
    }
}

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// From where.
    pub(crate) ip: IpAddr,
    /// Over TLS.
    pub(crate) secured: bool,
}

/// Who was let in.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Somebody of whom nothing is asked.
    Anybody,
    /// Who has a token.
    Bearer(Arc<Token>),
    /// The user of a proxy: that one knows what it lets its users do.
    User(String),
}

impl Caller {
    /// Whether it may do this.
    ///
    /// # Errors
    /// Its token does not let it.
    pub(crate) fn may(&self, role: Role) -> Result<(), Denied> {
        match self {
            Self::Bearer(token) if !token.may(role) => Err(Denied::forbidden(format!(
                "the token {} has not the role {role} that this needs; take another token",
                token.name
            ))),
            _ => Ok(()),
        }
    }

    /// Whether it may write as this source.
    ///
    /// # Errors
    /// Its token does not let it.
    pub(crate) fn may_write_as(&self, who: Option<Who>) -> Result<(), Denied> {
        match self {
            Self::Bearer(token) if !token.may_write_as(who) => {
                let who = who.map_or_else(|| "without a name".to_owned(), |who| format!("as {who}"));
                Err(Denied::forbidden(format!("the token {} does not let write {who}; take another token", token.name)))
            }
            _ => Ok(()),
        }
    }

    /// Its name, for the log.
    #[must_use]
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Anybody => None,
            Self::Bearer(token) => Some(&token.name),
            Self::User(name) => Some(name),
        }
    }
}

/// Why somebody is not let in: what is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Denied {
    /// 401 where a token may help.
    pub(crate) status: StatusCode,
    /// What happened, and what to do.
    pub(crate) text: String,
}

impl Denied {
    fn unauthorized(text: &str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, text: text.to_owned() }
    }

    const fn forbidden(text: String) -> Self {
        Self { status: StatusCode::FORBIDDEN, text }
    }

    /// What has a browser ask its user for a token, if that may help.
    #[must_use]
    pub(crate) fn challenge(&self) -> Option<&'static str> {
        (self.status == StatusCode::UNAUTHORIZED).then_some("Basic realm=\"acopio\", charset=\"UTF-8\"")
    }
}

/// Lets in, or does not. Shared by all connections.
#[derive(Debug)]
pub(crate) struct HttpDoor {
    rules: HttpRules,
    /// The name of this machine: a browser on it may open the page by that.
    host: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tokens: Tokens,
    tries: Tries,
}

impl HttpDoor {
    /// With the tokens that the file has now.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn new(rules: HttpRules) -> Result<Self, file::Error> {
        let tokens = rules.tokens.as_deref().map(file::read).transpose()?.map(|(tokens, _)| tokens);
        let state = State { tokens: tokens.unwrap_or_default(), tries: Tries::default() };
        let host = gethostname::gethostname().to_string_lossy().to_ascii_lowercase();
        Ok(Self { rules, host, state: Mutex::new(state) })
    }

    /// Who this is. One that says a wrong secret waits for the answer, as at a head.
    ///
    /// # Errors
    /// It is not let in: tell it.
    pub(crate) async fn admit(&self, peer: Peer, headers: &HeaderMap) -> Result<Caller, Denied> {
        let admitted = self.look(peer, headers, Instant::now(), SystemTime::now());
        if admitted.is_err() && headers.contains_key(AUTHORIZATION) {
            sleep(limits::ADMISSION_REFUSED_AFTER).await;
        }
        admitted
    }

    /// Whether somebody who was let in would be let in now.
    #[must_use]
    pub(crate) fn still(&self, caller: &Caller) -> bool {
        let Caller::Bearer(token) = caller else { return true };
        let now = self.state().tokens.of_name(&token.name);
        now.is_some_and(|now| now.evidence == token.evidence && !now.is_over(SystemTime::now()))
    }

    /// Reads the tokens whenever they change and at SIGHUP, until it is dropped.
    pub(crate) async fn follow(&self) {
        let Some(path) = &self.rules.tokens else { return };
        let Some(mut watched) = Watched::new(vec![path.clone()]) else { return };
        loop {
            if watched.look().await {
                match file::read(path) {
                    Ok((tokens, wrong)) => {
                        reload::tell(&wrong);
                        tracing::info!("{} tokens in {}", tokens.len(), path.display());
                        self.state().tokens = tokens;
                    }
                    Err(error) => tracing::warn!("{error}; the tokens of before count"),
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, peer: Peer, headers: &HeaderMap, now: Instant, wall: SystemTime) -> Result<Caller, Denied> {
        let ip = peer.ip.to_canonical();
        if self.rules.proxies.iter().any(|network| network.has(ip)) {
            return user(headers).map(Caller::User).ok_or_else(|| {
                let text = format!("the proxy at {ip} names no user; have it send the field Remote-User");
                Denied::forbidden(text)
            });
        }
        let is_passed_on = PASSED_ON.iter().any(|name| headers.contains_key(*name));
        let is_here = ip.is_loopback() && !is_passed_on;
        if self.rules.open || is_here && self.is_named_here(headers) {
            return Ok(Caller::Anybody);
        }
        if self.rules.tokens.is_none() {
            return Err(Denied::forbidden(if is_here { REBOUND } else { ELSEWHERE }.to_owned()));
        }
        self.bearer(Peer { ip, ..peer }, secret(headers), now, wall).map(Caller::Bearer)
    }

    /// Whether a browser of this machine was told to come here, and not made to by a page whose name leads here, too.
    fn is_named_here(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST) else { return true };
        let host = host.to_str().unwrap_or_default().to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
            _ => &host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        // Nobody elsewhere owns a name without a dot.
        !name.contains('.') || name.ends_with(".localhost") || name == self.host || bare.parse::<IpAddr>().is_ok()
    }

    fn bearer(&self, peer: Peer, secret: Option<Secret>, now: Instant, wall: SystemTime) -> Result<Arc<Token>, Denied> {
        let state = &mut *self.state();
        let Some(secret) = secret else {
            let token = state.tokens.of_address(peer.ip).filter(|token| !token.is_over(wall));
            return token.ok_or_else(|| Denied::unauthorized(NONE));
        };
        if !(peer.secured || peer.ip.is_loopback() || self.rules.in_the_clear) {
            return Err(Denied::forbidden(IN_THE_CLEAR.to_owned()));
        }
        if !state.tries.may(peer.ip, now) {
            let text = format!("too many wrong tokens came from {}; try again in some seconds", peer.ip);
            return Err(Denied { status: StatusCode::TOO_MANY_REQUESTS, text });
        }
        let token = state.tokens.of_secret(&SecretHash::of(&secret));
        if token.is_none() {
            state.tries.wrong(peer.ip, now);
        }
        token.filter(|token| !token.is_over(wall)).ok_or_else(|| Denied::unauthorized(WRONG))
    }
}

const ELSEWHERE: &str = "other machines are not let in here, nor what a proxy passes on; start it with --tokens FILE, or with --proxy if \
    a proxy in front names its users";
const REBOUND: &str =
    "this is open to who comes by the name of this machine, as http://localhost or by its address; open it so";
const NONE: &str =
    "a token is asked for here; give its secret as the password, or in the field 'Authorization: Bearer SECRET'";
const WRONG: &str = "there is no such token: it is wrong, revoked or over; ask for another one";
const IN_THE_CLEAR: &str = "tokens are taken over TLS alone here, for one that crosses a network in the clear can be read there; have \
    this one revoked, and start this with --tls-cert, or with --tokens-in-the-clear if the network is to be trusted";

/// The user that a proxy names.
fn user(headers: &HeaderMap) -> Option<String> {
    let named = USERS.iter().find_map(|name| headers.get(*name))?.to_str().ok()?.trim();
    let fits = !named.is_empty() && named.len() <= limits::HTTP_USER_BYTES_MAX;
    (fits && named.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')).then(|| named.to_owned())
}

/// The secret that a request says. A word that is no secret counts as a wrong one: it is hashed, and found nowhere.
fn secret(headers: &HeaderMap) -> Option<Secret> {
    let said = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, rest) = said.split_once(' ').unwrap_or((said, ""));
    let word = match scheme.to_ascii_lowercase().as_str() {
        BEARER => Some(rest.trim().as_bytes().to_vec()),
        BASIC => BASE64_STANDARD.decode(rest.trim()).ok().and_then(|both| {
            let colon = both.iter().position(|byte| *byte == b':')?;
            both.get(colon + 1..).map(<[u8]>::to_vec)
        }),
        _ => None,
    };
    let none = || Secret::from_random([0; crate::wire::secret::SECRET_DIGITS / 2]);
    Some(word.and_then(|word| Secret::from_bytes(word.trim_ascii()).ok()).unwrap_or_else(none))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use std::time::Duration;

    const SECRET: &str = "00112233445566778899aabbccddeeff";

    fn door(rules: HttpRules, tokens: &str) -> HttpDoor {
        let (tokens, wrong) = Tokens::parse(tokens);
        assert_eq!(wrong, []);
        let rules = HttpRules { tokens: (tokens.len() > 0).then(PathBuf::new), ..rules };
        HttpDoor { rules, host: "lab.example".to_owned(), state: Mutex::new(State { tokens, tries: Tries::default() }) }
    }

    fn line(rest: &str) -> String {
        format!("guest sha256={} {rest}", SecretHash::of(&SECRET.parse().unwrap()))
    }

    fn asks(door: &HttpDoor, from: &str, secured: bool, fields: &[(&'static str, &str)]) -> Result<Caller, u16> {
        let peer = Peer { ip: from.parse().unwrap(), secured };
        let headers = fields
            .iter()
            .map(|(name, value)| (hyper::header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        door.look(peer, &headers.collect(), Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30))
            .map_err(|denied| denied.status.as_u16())
    }

    fn basic(word: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(word))
    }

    #[test]
    fn who_is_on_this_machine_is_let_in_unless_a_proxy_or_another_sites_page_sent_it() {
        let door = door(HttpRules::default(), "");
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "lab",
            "Lab.example:80",
            "acopio.localhost",
            "web:8080",
            "",
        ] {
            assert!(asks(&door, "127.0.0.1", false, &[("host", host)]).is_ok(), "{host}");
        }
        assert!(asks(&door, "::1", false, &[]).is_ok() && asks(&door, "::ffff:127.0.0.1", false, &[]).is_ok());
        for host in ["evil.example:8080", "evil.example", "localhost.evil.example"] {
            assert_eq!(asks(&door, "127.0.0.1", false, &[("host", host)]).unwrap_err(), 403, "{host}");
        }
        for name in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
            assert_eq!(asks(&door, "127.0.0.1", false, &[(name, "10.0.0.7")]).unwrap_err(), 403, "{name}");
        }
        assert_eq!(asks(&door, "10.0.0.7", true, &[]).unwrap_err(), 403);
        // Whom nobody trusts names nobody.
        assert_eq!(asks(&door, "10.0.0.7", true, &[("remote-user", "ana")]).unwrap_err(), 403);
    }

    #[test]
    fn others_say_a_token_over_tls_or_are_let_in_by_their_address() {
        let plcs = "\nplcs from=10.0.7.0/24 roles=read";
        let asked = door(HttpRules::default(), &(line("roles=read as=taller/*") + plcs));
        let bearer = [("authorization", "Bearer 00112233445566778899aabbccddeeff")];
        let Ok(Caller::Bearer(token)) = asks(&asked, "10.0.0.7", true, &bearer) else { panic!("it has a token") };
        let caller = Caller::Bearer(token);
        assert!(caller.name() == Some("guest") && caller.may(Role::Read).is_ok() && caller.may(Role::Write).is_err());
        assert!(caller.may_write_as(None).is_err() && asked.still(&caller));
        assert!(asks(&asked, "10.0.0.7", true, &[("authorization", &basic(&format!("ana:{SECRET}")))]).is_ok());
        assert_eq!(asks(&asked, "10.0.0.7", false, &bearer).unwrap_err(), 403, "in the clear");
        assert_eq!(asks(&asked, "10.0.0.7", true, &[]).unwrap_err(), 401);
        assert!(asks(&asked, "10.0.7.9", false, &[]).is_ok(), "it can't say one");
        // What a proxy of this machine passes on comes from elsewhere.
        assert_eq!(asks(&asked, "127.0.0.1", false, &[("x-forwarded-for", "10.0.0.7")]).unwrap_err(), 401);
        let trusting = door(HttpRules { in_the_clear: true, ..HttpRules::default() }, &line("roles=read"));
        assert!(asks(&trusting, "10.0.0.7", false, &bearer).is_ok());
        let over = door(HttpRules::default(), &line("roles=read until=2001-01-01"));
        assert_eq!(asks(&over, "10.0.0.7", true, &bearer).unwrap_err(), 401);
        over.state().tokens = Tokens::default();
        assert!(!over.still(&caller));
    }

    #[test]
    fn guessing_is_bounded_whatever_is_said() {
        let door = door(HttpRules::default(), &line("roles=read"));
        let words =
            ["Bearer x", "Bearer", "Basic !", &basic("x"), "Digest x", "Bearer 00112233445566778899aabbccddeefe"];
        for n in 0..limits::WRONG_TOKENS_FREE as usize {
            let said = words[n % words.len()];
            assert_eq!(asks(&door, "10.0.0.7", true, &[("authorization", said)]).unwrap_err(), 401, "{said}");
        }
        let right = [("authorization", "Bearer 00112233445566778899aabbccddeeff")];
        assert_eq!(asks(&door, "10.0.0.7", true, &right).unwrap_err(), 429);
        assert!(asks(&door, "10.0.0.8", true, &right).is_ok());
    }

    #[test]
    fn a_proxy_that_is_known_names_its_users() {
        let proxies = vec!["127.0.0.1".parse().unwrap()];
        let door = door(HttpRules { proxies, ..HttpRules::default() }, "");
        let named = |user| asks(&door, "127.0.0.1", false, &[("remote-user", user), ("x-forwarded-for", "10.0.0.7")]);
        assert_eq!(named("ana").unwrap().name(), Some("ana"));
        for user in ["", " ", "a\tb", &"n".repeat(limits::HTTP_USER_BYTES_MAX + 1)] {
            assert_eq!(named(user).unwrap_err(), 403);
        }
        assert_eq!(asks(&door, "127.0.0.1", false, &[]).unwrap_err(), 403);
        assert!(asks(&door, "127.0.0.2", false, &[]).is_ok(), "that is this machine, and no proxy");
    }

    #[test]
    fn nothing_is_asked_where_that_was_said() {
        let door = door(HttpRules { open: true, ..HttpRules::default() }, "");
        assert!(asks(&door, "10.0.0.7", false, &[("host", "web:8080"), ("via", "x")]).is_ok());
    }
}
