//! Who is let in as a client, and what it may do: everybody, or who has a token or a certificate.
//!
//! What a connection may do is in its [`Exit`] from the moment it is let in. When the file of tokens
//! changes, what each connection may do changes with it, and those whose token is gone or over end.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tokio::time::{Instant, sleep};

use super::grants::{Grant, Shown, denied, name_of, over};
use super::guests::Exit;
use super::state::Head;
use crate::limits;
use crate::reload::{self, Watched};
use crate::tokens::{Role, SecretHash, file};
use crate::wire::error::{Code, Refusal};
use crate::wire::said::Who;
use crate::wire::secret::Secret;

impl Exit {
    /// Whether the peer was let in with a token.
    pub(crate) fn is_granted(&self) -> bool {
        self.grant.borrow().is_some()
    }

    /// Whether the peer may do this; where no tokens are asked for, it may.
    ///
    /// # Errors
    /// Its token does not let it: tell it.
    pub(crate) fn may(&self, role: Role) -> Result<(), Refusal> {
        self.may_one_of(&[role])
    }

    /// Whether the peer has one of these roles.
    ///
    /// # Errors
    /// As [`may`](Self::may).
    pub(crate) fn may_one_of(&self, roles: &[Role]) -> Result<(), Refusal> {
        self.grant.borrow().as_ref().map_or(Ok(()), |grant| grant.may_one_of(roles))
    }

    /// Whether the peer may write as this source, or as all of this group.
    ///
    /// # Errors
    /// As [`may`](Self::may).
    pub(crate) fn may_write_as(&self, who: Option<Who>) -> Result<(), Refusal> {
        self.grant.borrow().as_ref().map_or(Ok(()), |grant| grant.may_write_as(who))
    }

    /// The name of its token or certificate, and what that lets it do.
    pub(super) fn bearer(&self) -> Option<(String, String)> {
        self.grant.borrow().as_ref().map(Grant::bearer)
    }

    /// Messages a second of all who have its token.
    pub(super) fn rate(&self) -> Option<u32> {
        self.grant.borrow().as_ref()?.rate()
    }
}

impl Head {
    /// Lets a client in, if it may come in; what it may do is in its exit from then on.
    ///
    /// # Errors
    /// It may not: tell it. All reasons take the same time.
    pub(crate) async fn admit(&self, peer: SocketAddr, secret: Option<Secret>, exit: &Rc<Exit>) -> Result<(), Refusal> {
        if !self.config.admits.asks() || exit.is_granted() {
            return Ok(());
        }
        match self.look(peer.ip().to_canonical(), secret, exit) {
            Ok(grant) => {
                exit.grant.replace(Some(grant));
                self.bearers.borrow_mut().push(Rc::downgrade(exit));
                Ok(())
            }
            Err(refusal) => {
                self.note_client(exit, format_args!("refused: {refusal}"));
                sleep(limits::ADMISSION_REFUSED_AFTER).await;
                Err(refusal)
            }
        }
    }

    /// Whether a client that comes from there has to say a token.
    pub(crate) fn wants_token(&self, ip: IpAddr, exit: &Exit) -> bool {
        let wants = self.config.admits.asks() && exit.certificate.borrow().is_none();
        wants && self.tokens.borrow().of_address(ip.to_canonical()).is_none()
    }

    fn look(&self, ip: IpAddr, secret: Option<Secret>, exit: &Exit) -> Result<Grant, Refusal> {
        let tokens = self.tokens.borrow();
        let is_safe = || exit.secured.get() || ip.is_loopback() || self.config.admits.in_the_clear;
        let shown = match secret {
            None => match &*exit.certificate.borrow() {
                Some(names) => Shown::Certificate(name_of(names)?),
                None => Shown::From(ip),
            },
            Some(_) if !is_safe() => return Err(denied(IN_THE_CLEAR.to_owned())),
            Some(_) if !self.tries.borrow_mut().may(ip, Instant::now()) => {
                let text = format!("too many wrong tokens came from {ip}; try again in some seconds");
                return Err(Refusal::new(Code::Busy, text));
            }
            Some(secret) => Shown::Secret(SecretHash::of(&secret)),
        };
        match shown.token(&tokens) {
            Some(token) if token.is_over(self.config.clock.now()) => Err(over(&token)),
            Some(token) => Ok(Grant::new(shown, token)),
            None if secret.is_some() => {
                self.tries.borrow_mut().wrong(ip, Instant::now());
                Err(denied(WRONG.to_owned()))
            }
            None if exit.certificate.borrow().is_some() => Err(denied(SHUT.to_owned())),
            None if self.config.admits.certificates => Err(denied(format!(
                "this head asks clients for a certificate or a token, and {ip} has neither; {HOW_CERTIFICATE}"
            ))),
            None => Err(denied(format!("this head asks clients for a token, and {ip} said none; {HOW}"))),
        }
    }

    /// Has every connection do what its token lets it do now, and ends those whose token is gone or over.
    fn look_again(&self) {
        let (tokens, now) = (self.tokens.borrow(), self.config.clock.now());
        self.bearers.borrow_mut().retain(|bearer| {
            let Some(exit) = bearer.upgrade() else { return false };
            let Some(grant) = exit.grant.borrow().clone() else { return false };
            match grant.still(&tokens, now) {
                Ok(grant) => {
                    exit.grant.replace(Some(grant));
                    true
                }
                Err(refusal) => {
                    self.note_client(&exit, format_args!("closed: {refusal}"));
                    exit.end(refusal);
                    false
                }
            }
        });
    }
}

const HOW: &str =
    "give the command --token-file FILE, or say token=SECRET behind the name; 'acopio token new' makes one";
const HOW_CERTIFICATE: &str =
    "give the command --cert FILE, which 'acopio cert' makes with the authority of this head, or --token-file FILE";
const WRONG: &str = "this head knows no such token: it is wrong or revoked; ask for another one";
const SHUT: &str =
    "the line of this certificate's name in the file of tokens is wrong, so that it may nothing; mend the line";
const IN_THE_CLEAR: &str = "this head takes tokens from its own machine alone, for one that crosses a network in the clear can be \
    read there; have this one revoked, and connect with --ca FILE if the head has a certificate, or start it with \
    --tokens-in-the-clear if the network is to be trusted";

/// Reads the file of tokens whenever it changes and at SIGHUP, until the head is dropped.
pub(crate) async fn follow(head: Rc<Head>) {
    if !head.config.admits.asks() {
        return;
    }
    let path = head.config.admits.tokens.as_ref().map(|(path, _)| path);
    let Some(mut watched) = Watched::new(path.into_iter().cloned().collect()) else { return };
    loop {
        let changed = watched.look().await;
        if let Some(path) = path.filter(|_| changed) {
            match file::read(path) {
                Ok((tokens, wrong)) => {
                    reload::tell(&wrong);
                    tracing::info!("{} tokens in {}", tokens.len(), path.display());
                    head.tokens.replace(tokens);
                }
                Err(error) => tracing::warn!("{error}; the tokens of before count"),
            }
        }
        head.look_again();
    }
}
