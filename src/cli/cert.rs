//! `acopio cert`: a small authority, and certificates for heads and clients.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;

use super::{Global, Outcome, logging, print, values};
use crate::authority::{self, AUTHORITY, Wanted};
use crate::limits;
use crate::tokens::is_token_name;

const AFTER_HELP: &str = "\
Examples:
  acopio cert --dir ca --name head --host 10.0.0.5,acopio.lan
      a head's certificate, for those who dial it by that address or name
  acopio head --tls-cert ca/head.crt
      speaks TLS on its port, beside all else
  acopio send --head 10.0.0.5:5000 --ca ca/ca.crt hola
  acopio cert --dir ca --name esp7
      a client's, for a head that is started with --tls-ca ca/ca.crt

The first time it makes the authority, too: ca.crt, for everybody who dials a
head, and ca.key, which stays where it is: who has it lets in whom he likes.
Keys are for their user alone. A certificate of a name that is there is made
anew with the same key; a head takes it within a second.";

/// Makes certificates for TLS, and the small authority that signs them
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Cert {
    /// Folder of the authority and its certificates; it is made if it is missing
    #[arg(long, env = "ACOPIO_CERT_DIR", value_name = "DIR", default_value = AUTHORITY)]
    dir: PathBuf,
    /// Whose certificate it is: the name of its files, and of a client at heads
    #[arg(long, env = "ACOPIO_CERT_NAME", value_name = "NAME", value_parser = name)]
    name: String,
    /// Names and addresses by which a head is dialled; several with commas, or the flag several times. On its own machine it
    /// is reached by localhost, 127.0.0.1 and ::1 in any case [default: it is a client's]
    #[arg(long, env = "ACOPIO_CERT_HOST", value_name = "HOST", value_delimiter = ',')]
    host: Vec<String>,
    /// Days for which it is good
    #[arg(long, env = "ACOPIO_CERT_DAYS", value_name = "N", default_value_t = limits::CERTIFICATE_DAYS_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=limits::CERTIFICATE_DAYS_MAX))]
    days: u32,
    /// From when on it is good [default: a day ago, so that clocks that are a little wrong do not matter]
    #[arg(long, hide = true, env = "ACOPIO_CERT_FROM", value_name = "TIME", value_parser = humantime::parse_rfc3339)]
    from: Option<SystemTime>,
}

fn name(text: &str) -> Result<String, String> {
    let name = values::name(text)?;
    if name == AUTHORITY || name.starts_with('.') || name.contains('/') || !is_token_name(&name) {
        return Err(
            "not a name: take a word that can be a file's and is not ca, without commas, plus, = and #".to_owned()
        );
    }
    Ok(name)
}

impl Cert {
    /// Makes it, and says how it is used.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let from = self.from.unwrap_or_else(|| SystemTime::now() - limits::CERTIFICATE_BEFORE);
        let time = Duration::from_secs(u64::from(self.days) * 86_400);
        let wanted = Wanted { dir: &self.dir, name: &self.name, hosts: &self.host, from, time };
        let made = authority::make(&wanted)?;
        let (ca, certificate) = (made.authority.display(), made.certificate.display());
        let until = humantime::format_rfc3339_seconds(made.until);
        let mut out = String::new();
        if made.is_new_authority {
            out += &format!("{ca} is a new authority, for all who dial its heads; its key beside it stays here\n");
        }
        let whose = if made.hosts.is_empty() { "a client".to_owned() } else { made.hosts.join(", ") };
        out += &format!("{certificate} and its key beside it are for {whose}, and good until {until}\n\n");
        out += &match self.host.first() {
            Some(host) => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                format!(
                    "acopio head --tls-cert {certificate}\n\
                     acopio send --head {host}:5000 --ca {ca} hola\n\
                     openssl s_client -quiet -connect {host}:5000 -CAfile {ca} -verify_return_error\n"
                )
            }
            None => format!(
                "acopio head --clients tls --tls-cert HEAD.crt --tls-ca {ca}\n\
                 acopio send --head HOST:5000 --ca {ca} --cert {certificate} hola\n"
            ),
        };
        print::out("the commands", &out)?;
        Ok(Outcome::Done)
    }
}
