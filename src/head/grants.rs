//! What a token or a certificate lets its bearer do. Pure.
//!
//! Who is asked for one, and when, is the business of `admission`.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::limits;
use crate::tokens::{Role, SecretHash, Token, Tokens, is_token_name};
use crate::wire::error::{Code, Refusal};
use crate::wire::said::Who;

/// Whom a head lets in as a client: everybody, unless tokens or certificates are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admits {
    /// The file of tokens, and what it said at the start.
    pub(crate) tokens: Option<(PathBuf, Tokens)>,
    /// Clients may show a certificate in place of a token.
    pub(crate) certificates: bool,
    /// Secrets are taken from other machines, too, over plain TCP.
    pub(crate) in_the_clear: bool,
    /// Nobody from another machine is let in over plain TCP.
    pub(crate) tls_alone: bool,
}

impl Admits {
    /// Whether something is asked of clients.
    pub(super) const fn asks(&self) -> bool {
        self.tokens.is_some() || self.certificates
    }
}

/// How it is known which token a connection has.
#[derive(Clone, Debug)]
pub(super) enum Shown {
    Secret(SecretHash),
    /// A certificate with this name.
    Certificate(String),
    From(IpAddr),
}

impl Shown {
    pub(super) fn token(&self, tokens: &Tokens) -> Option<Arc<Token>> {
        match self {
            Self::Secret(hash) => tokens.of_secret(hash),
            Self::Certificate(name) => tokens.of_certificate(name),
            Self::From(ip) => tokens.of_address(*ip),
        }
    }
}

/// What a connection was let in with.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    shown: Shown,
    token: Arc<Token>,
}

impl Grant {
    pub(super) const fn new(shown: Shown, token: Arc<Token>) -> Self {
        Self { shown, token }
    }

    /// Whether it has one of these roles.
    ///
    /// # Errors
    /// It has none: tell the peer.
    pub(super) fn may_one_of(&self, roles: &[Role]) -> Result<(), Refusal> {
        if roles.iter().any(|role| self.token.may(*role)) {
            return Ok(());
        }
        let words: Vec<String> = roles.iter().map(ToString::to_string).collect();
        let (name, role) = (&self.token.name, words.join(" or "));
        Err(denied(format!("the token {name} has not the role {role} that this needs; take another token")))
    }

    /// Whether it lets write as this source, or as all of this group.
    ///
    /// # Errors
    /// It does not: tell the peer.
    pub(super) fn may_write_as(&self, who: Option<Who>) -> Result<(), Refusal> {
        if self.token.may_write_as(who) {
            return Ok(());
        }
        let name = &self.token.name;
        let mut may = self.token.sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        may.truncate(may.floor_char_boundary(limits::TEXT_BYTES_MAX / 2));
        let who = who.map_or_else(|| "without a name".to_owned(), |who| format!("as {who}"));
        Err(denied(format!("the token {name} does not let write {who}; write as one of: {may}")))
    }

    /// The name of the token or certificate, and what that lets do.
    pub(super) fn bearer(&self) -> (String, String) {
        let roles: Vec<_> = self.token.roles.iter().map(ToString::to_string).collect();
        (self.token.name.clone(), roles.join(","))
    }

    /// Messages a second of all who have it.
    pub(super) fn rate(&self) -> Option<u32> {
        self.token.rate.map(NonZeroU32::get)
    }

    /// What it lets do by the tokens of now.
    ///
    /// # Errors
    /// Nothing more: tell the peer.
    pub(super) fn still(&self, tokens: &Tokens, now: SystemTime) -> Result<Self, Refusal> {
        match self.shown.token(tokens) {
            Some(token) if token.is_over(now) => Err(over(&token)),
            Some(token) => Ok(Self { token, ..self.clone() }),
            None => Err(denied(format!("the token {} is revoked; ask for another one", self.token.name))),
        }
    }
}

/// What a client is called by the names in its certificate.
pub(super) fn name_of(names: &[String]) -> Result<String, Refusal> {
    let name = names.iter().find(|name| is_token_name(name)).cloned();
    name.ok_or_else(|| {
        denied("the certificate has no name that is a word; make one with 'acopio cert --name'".to_owned())
    })
}

pub(super) fn denied(text: String) -> Refusal {
    Refusal::new(Code::Denied, text)
}

pub(super) fn over(token: &Token) -> Refusal {
    let until = token.until.as_ref().map(ToString::to_string).unwrap_or_default();
    denied(format!("the token {} was good until {until}; ask for another one", token.name))
}
