//! `acopio web`: flags of the role that takes values over HTTP.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster;
use crate::limits;
use crate::net::network::Network;
use crate::net::tls::served::{Certificates, Files};
use crate::reading::Rules;
use crate::tokens::http::{HttpDoor, HttpRules};
use crate::web::{self, Classroom, Target};
use crate::wire::source::SourceName;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::BoolishValueParser;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::heads::Heads;
use super::logging::{self, LogFile, Takes};
use super::{Global, Outcome, asked, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio web
      serve http://127.0.0.1:8080/
  curl 'http://127.0.0.1:8080/nuevo?dato=83.0'
      store a value: 200 once the cluster keeps it
  curl -d 83.0 http://127.0.0.1:8080/nuevo
      the same
  curl http://127.0.0.1:8080/listar
      the last values
  acopio web --listen 0.0.0.0:443 --tls-cert ca/page.crt --tokens tokens
      for other machines: with TLS, and for who has a token
  acopio web --listen 0.0.0.0:80 --open --redis redis://redis:6379
      for everybody who reaches it

Paths:
  /nuevo          GET with ?dato=83.0, or POST with a form, the bare number or
                  JSON, {\"dato\": 83.0}: 200 it is kept; 400 there is no
                  finite number; 503 it is not known to be kept, and why
  /               the page: sources, curves, the cluster
  /listar         the last values, read from the cluster
  /api/v1/…       sources, messages, series, live, status, values: see
                  /api/v1/openapi.json; POST to messages stores one
  /metrics        numbers for Prometheus
  /healthz        the process serves
  /readyz         values would be kept and are listed; if not, 503 and why

A value is stored as the text `dato: 83.0`; a text client that sends such a
line stores a value as well. Whoever is on this machine is let in; others as
--tokens, --proxy or --open say.";

/// Shows the cluster on a page, answers programs, and takes messages and values over HTTP
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Web {
    #[command(flatten)]
    pub(super) heads: Heads,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "ACOPIO_WEB_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:8080",
        value_parser = values::listen)]
    listen: String,
    /// The name of the source under which values are kept, as `acopio read --from NAME` finds them
    #[arg(long = "as", env = "ACOPIO_WEB_AS", value_name = "NAME", default_value = "web",
        value_parser = values::source)]
    name: SourceName,
    /// Time in which a value has to be kept; then the answer is 503
    #[arg(long, env = "ACOPIO_KEEP_FOR", value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    keep_for: Duration,
    /// How many values are listed, the last ones
    #[arg(long, env = "ACOPIO_VALUES", value_name = "N", default_value_t = limits::WEB_VALUES_DEFAULT as u64,
        value_parser = clap::value_parser!(u64).range(1..=limits::WEB_VALUES_MAX as u64))]
    values: u64,
    /// Hand each value on to this Redis with RedisTimeSeries, after it is kept; what it missed it gets later
    #[arg(long, env = "ACOPIO_REDIS", value_name = "URL")]
    redis: Option<String>,
    /// Key of the time series there
    #[arg(long, env = "ACOPIO_REDIS_KEY", value_name = "KEY", default_value = "temperature")]
    redis_key: String,
    /// What payloads mean that do not say it themselves, and which values are out of range: a file with a line for each
    /// device, such as 'esp7: temp °C 5..45'
    #[arg(long, env = "ACOPIO_RULES", value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Ask who comes from another machine for a token of this file, which 'acopio token' makes: its secret as the password in a
    /// browser, or in the field 'Authorization: Bearer SECRET'
    #[arg(long, env = "ACOPIO_WEB_TOKENS", value_name = "FILE", conflicts_with = "open")]
    tokens: Option<PathBuf>,
    /// Take tokens over plain HTTP, too, though whoever sees the network can read them there
    #[arg(long, env = "ACOPIO_WEB_TOKENS_IN_THE_CLEAR", requires = "tokens", value_parser = BoolishValueParser::new())]
    tokens_in_the_clear: bool,
    /// Addresses or networks of proxies that name their users in Remote-User or X-Forwarded-User, with a comma between: these
    /// users are let in. Who else reaches the page could say such a field, too: only the proxy counts
    #[arg(long, env = "ACOPIO_WEB_PROXY", value_name = "NETWORK", value_delimiter = ',', value_parser = values::network)]
    proxy: Vec<Network>,
    /// Let in whoever comes from another machine, and ask nothing
    #[arg(long, env = "ACOPIO_WEB_OPEN", value_parser = BoolishValueParser::new())]
    open: bool,
    /// Certificate for TLS, PEM: other machines have to come with https:// then. 'acopio cert --host' makes one
    #[arg(long, env = "ACOPIO_WEB_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key [default: the file beside it with the ending .key]
    #[arg(long, env = "ACOPIO_WEB_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Folder of the logs: web.log
    #[arg(long, env = "ACOPIO_LOGS", value_name = "DIR", default_value = "logs/web")]
    logs: PathBuf,
    /// Be told the state of the cluster on standard input, and hand on orders on standard output: `acopio up` does that
    #[arg(long, hide = true, env = "ACOPIO_CLASSROOM", value_parser = BoolishValueParser::new())]
    classroom: bool,
    /// Stop in order when standard input ends
    #[arg(long, hide = true, env = "ACOPIO_UNTIL_STDIN_CLOSES", value_parser = BoolishValueParser::new())]
    until_stdin_closes: bool,
}

impl Web {
    /// Serves until it is told to stop.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        // Heads and data nodes of this machine go first. Where the system does not have it, this is as urgent as they are.
        let yields = rustix::process::nice(limits::WEB_NICE);
        logging::start(global, &[LogFile { dir: &self.logs, name: "web", takes: Takes::All, beside_data: false }])?;
        if let Err(error) = yields {
            tracing::debug!("this process is as urgent as heads and data nodes: {error}");
        }
        // Who is told something on standard input sees its end there.
        let ends_with = runtime::EndsWith::service(self.until_stdin_closes && !self.classroom);
        runtime::run_role(limits::STOP_TIME_MAX, ends_with, async |shutdown| self.serve(shutdown).await)
            .map(runtime::done)
    }

    async fn serve(self, shutdown: CancellationToken) -> Result<()> {
        let Some(heads) = self.heads.followed(&shutdown).await? else { return Ok(()) };
        let rules = HttpRules {
            open: self.open,
            tokens: self.tokens,
            in_the_clear: self.tokens_in_the_clear,
            proxies: self.proxy,
        };
        let files = self.tls_cert.map(|certificate| Files::new(&certificate, self.tls_key.as_deref(), None));
        let certificates = files.map(Certificates::read).transpose()?;
        let (lets_others_in, is_open) = (rules.lets_others_in(), rules.open);
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let redis = self.redis.map(|url| Target::new(&url, self.redis_key)).transpose().context("--redis")?;
        let config = web::Config {
            heads,
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            name: Some(self.name),
            keep_for: self.keep_for,
            values: usize::try_from(self.values).unwrap_or(usize::MAX),
            redis,
            admits: HttpDoor::new(rules)?,
            certificates,
            classroom: if self.classroom { Some(classroom(&shutdown)?) } else { None },
            rules: self.rules.as_deref().map_or_else(|| Ok(Rules::default()), asked::rules)?,
        };
        let listener = TcpListener::bind(&self.listen);
        let listener = listener.await.map_err(|error| values::cannot_listen(&self.listen, "--listen", &error))?;
        let address = listener.local_addr().context("cannot tell the address listened on; start it again")?;
        if !address.ip().is_loopback() && !lets_others_in {
            bail!(
                "{address} is for other machines, and nothing says who of them is let in; give --tokens FILE ('acopio token new' \
                 makes one), --proxy ADDRESS for a proxy that names its users, or --open where the network is trusted"
            );
        }
        if !address.ip().is_loopback() && is_open {
            tracing::warn!("nothing is asked here: whoever reaches {address} reads all messages and stores some");
        }
        tracing::info!("{}{scheme}://{address}/", cluster::LISTENING);
        web::run(config, listener, shutdown).await;
        Ok(())
    }
}

/// The pipes of `up`: a thread reads the state, and ends the role where it ends; another one writes orders.
fn classroom(shutdown: &CancellationToken) -> Result<Classroom> {
    let (state, states) = watch::channel(String::new());
    let (orders, mut ordered) = mpsc::channel::<String>(limits::UP_ORDERS_MAX);
    let ends = shutdown.clone();
    runtime::thread("state", move || {
        let mut input = BufReader::new(io::stdin());
        let mut line = String::new();
        while let Ok(1..) = input.by_ref().take(limits::UP_STATE_BYTES_MAX).read_line(&mut line) {
            state.send_replace(line.trim_end().to_owned());
            line.clear();
        }
        ends.cancel();
    })?;
    runtime::thread("orders", move || {
        while let Some(order) = ordered.blocking_recv() {
            // Without `up` there is nobody to break anything.
            drop(writeln!(io::stdout(), "{order}"));
        }
    })?;
    Ok(Classroom { state: states, orders })
}
