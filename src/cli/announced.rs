//! Heads that are found over ZooKeeper: a head puts its address there, and whoever is told `zk://` reads the list.
//!
//! ZooKeeper is for finding alone: a cluster that has found itself goes on without it, with the heads that were known last.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::heads::ANNOUNCED;
use super::runtime;
use crate::coord::{BadServers, Config, Error, Party, Servers, Session, ZnodePath};
use crate::{limits, net};

/// Where heads announce themselves, below the path that was named.
const PARTY: &str = "/acopio/heads";

/// The servers and the path of `zk://…`, without that: semicolons stand for commas, which part heads.
pub(crate) fn servers(text: &str) -> Result<Servers, BadServers> {
    text.replace(';', ",").parse()
}

/// Where in ZooKeeper, and at which one: the path is made if it is missing, so it is no chroot.
fn place(servers: &Servers) -> Result<(Servers, ZnodePath)> {
    let above = servers.chroot().map_or("", ZnodePath::as_str);
    Ok((servers.without_chroot(), format!("{above}{PARTY}").parse()?))
}

/// The places and the plain addresses among these words.
fn sorted_out(words: &[String]) -> Result<(Vec<Servers>, Vec<String>)> {
    let (mut places, mut plain) = (Vec::new(), Vec::new());
    for word in words {
        match word.strip_prefix(ANNOUNCED) {
            Some(text) => places.push(servers(text)?),
            None => plain.push(word.clone()),
        }
    }
    Ok((places, plain))
}

/// The addresses of these heads as of now.
pub(crate) fn now(words: Vec<String>) -> Result<Vec<String>> {
    let (places, mut heads) = sorted_out(&words)?;
    if places.is_empty() {
        return Ok(words);
    }
    runtime::current_thread()?.block_on(async {
        for servers in places {
            let (at, path) = place(&servers)?;
            let session = Session::open(Config::new(at)).await?;
            let party = Party::new(&session, path);
            let found = tokio::time::timeout(limits::ZK_ANSWER_TIME_MAX, party.members()).await;
            session.close().await;
            let most: Duration = limits::ZK_ANSWER_TIME_MAX;
            heads.extend(found.with_context(|| format!("ZooKeeper {servers} gave no answer within {most:?}"))??);
        }
        if heads.is_empty() {
            bail!("no head is announced at {}; start one with acopio head --zookeeper", words.join(","));
        }
        heads.sort_unstable();
        heads.dedup();
        heads.truncate(limits::HEADS_MAX);
        Ok(heads)
    })
}

/// The addresses of these heads once there is one, followed by a thread of its own for as long as the process runs.
pub(crate) fn follow(words: &[String]) -> Result<impl Future<Output = Result<net::Heads>> + use<>> {
    let (places, plain) = sorted_out(words)?;
    let (first, known) = oneshot::channel();
    let runtime = runtime::current_thread()?;
    std::thread::spawn(move || runtime.block_on(follow_all(places, plain, first)));
    let words = words.join(",");
    Ok(async move { known.await.map_err(|_| anyhow!("nobody follows {words} any more; see why, and start again")) })
}

/// Follows all places; hands out the list once there is a head in it.
async fn follow_all(places: Vec<Servers>, plain: Vec<String>, first: oneshot::Sender<net::Heads>) {
    let mut first = Some(first);
    let (sender, mut receiver) = mpsc::channel(limits::HEADS_MAX);
    for (n, servers) in places.iter().cloned().enumerate() {
        let sender = sender.clone();
        tokio::spawn(async move {
            let error = follow_one(&servers, n, &sender).await;
            tracing::error!("heads at {servers} are not followed any more: {error:#}");
        });
    }
    drop(sender);
    let mut lists = vec![Vec::new(); places.len()];
    let mut heads: Option<net::Heads> = None;
    while let Some((n, list)) = receiver.recv().await {
        if let Some(slot) = lists.get_mut(n) {
            *slot = list;
        }
        let all: Vec<String> = plain.iter().chain(lists.iter().flatten()).cloned().collect();
        if let Some(heads) = &heads {
            if heads.set(all) {
                tracing::info!("heads are now {}", heads.now().join(", "));
            }
        } else if all.is_empty() {
            tracing::warn!("no head is announced yet; waiting for one");
        } else {
            let made = net::Heads::following(Vec::new());
            made.set(all);
            tracing::info!("heads are {}", made.now().join(", "));
            // Nobody may wait for it any more.
            drop(first.take().map(|first| first.send(made.clone())));
            heads = Some(made);
        }
    }
}

/// Tells the heads of one place, again and again.
async fn follow_one(servers: &Servers, n: usize, lists: &mpsc::Sender<(usize, Vec<String>)>) -> anyhow::Error {
    let followed = async {
        let (at, path) = place(servers)?;
        let session = Session::open(Config { patient: true, ..Config::new(at) }).await?;
        let mut watch = Party::new(&session, path).watch().await?;
        loop {
            let heads = watch.next().await?;
            // What is no address was put there by somebody else.
            let heads = heads.into_iter().filter(|head| super::values::address(head).is_ok()).collect();
            if lists.send((n, heads)).await.is_err() {
                bail!("nobody asks for them");
            }
        }
    };
    let result: Result<()> = followed.await;
    result.err().unwrap_or_else(|| anyhow!("it ended"))
}

/// Puts a head's address there until the end is asked for, and then takes it away.
pub(crate) fn announce(servers: &Servers, address: String, shutdown: CancellationToken) -> Result<JoinHandle<()>> {
    let (at, path) = place(servers)?;
    let config = Config { patient: true, ..Config::new(at) };
    Ok(tokio::spawn(async move {
        let error = match shutdown.run_until_cancelled(Session::open(config)).await {
            Some(Ok(session)) => {
                let ended = shutdown.run_until_cancelled(keep_there(&session, path, &address)).await;
                session.close().await;
                ended
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        if let Some(error) = error {
            tracing::error!("this head is not announced any more: {error}; who knows it goes on");
        }
    }))
}

async fn keep_there(session: &Session, path: ZnodePath, address: &str) -> Error {
    match Party::new(session, path).join(address).await {
        Ok(member) => {
            tracing::info!("announced as {address} at ZooKeeper {}", session.servers());
            member.keep().await
        }
        Err(error) => error,
    }
}

/// The address at which others reach a head: the one it listens on, or where that is any, this machine's on the way to
/// ZooKeeper.
pub(crate) fn reached_at(listening: std::net::SocketAddr, servers: &Servers) -> Result<String> {
    if !listening.ip().is_unspecified() {
        return Ok(listening.to_string());
    }
    let any: IpAddr = listening.ip();
    let found = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(servers.without_chroot().first().as_str()).and_then(|()| socket.local_addr())
    });
    let ip = found
        .with_context(|| format!("cannot tell by which address {servers} is reached; name one with --advertise"))?;
    Ok(std::net::SocketAddr::new(ip.ip().to_canonical(), listening.port()).to_string())
}
