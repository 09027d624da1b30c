//! `acopio zk watch`: a line for each change, in the words of the seed's exercise.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use super::super::{Outcome, print, runtime};
use crate::coord::{ChildrenWatch, Config, DataWatch, Session, Stat, ZnodePath, python};
use crate::limits;

const AFTER_HELP: &str = "\
Examples:
  acopio zk watch data /NORMAL
      Stat and Data at the start and each change
  acopio zk watch children /PAI
      Children are now: ['FILHO1']

Both go on over lost connections and sessions, until they are stopped. To
watch children, their parent has to be there; the watch ends when it is
deleted.";

/// Watches: the present at the start, then each change
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Watch {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What a znode holds, and its numbers; it need not be there
    Data {
        /// Which znode
        path: ZnodePath,
    },
    /// The names of a znode's children
    Children {
        /// Which znode
        path: ZnodePath,
    },
}

impl Watch {
    pub(crate) fn run(self, config: Config) -> Result<Outcome> {
        runtime::run_role(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |shutdown| {
            let session = Session::open(config).await?;
            let result = match &self.what {
                What::Data { path } => data(&session, path, &shutdown).await,
                What::Children { path } => children(&session, path, &shutdown).await,
            };
            session.close().await;
            result.map(runtime::done)
        })
    }
}

async fn data(session: &Session, path: &ZnodePath, shutdown: &CancellationToken) -> Result<()> {
    let mut watch = DataWatch::new(session, path.clone());
    while let Some(next) = shutdown.run_until_cancelled(watch.next()).await {
        let text = match next? {
            Some(data) => format!("Stat: {}\nData: {}\n\n", stat(&data.stat), python::bytes(&data.bytes)),
            None => "Stat: None\nData: None\n\n".to_owned(),
        };
        print::out("the change", &text)?;
    }
    Ok(())
}

async fn children(session: &Session, path: &ZnodePath, shutdown: &CancellationToken) -> Result<()> {
    let mut watch = ChildrenWatch::new(session, path.clone());
    let mut seen = false;
    while let Some(next) = shutdown.run_until_cancelled(watch.next()).await {
        match next? {
            Some(children) => print::out("the change", &format!("Children are now: {}\n", python::list(&children)))?,
            None if seen => {
                tracing::info!("{path} was deleted: the watch of its children ends");
                return Ok(());
            }
            None => bail!("there is no {path} whose children to watch; make it with acopio zk create {path}"),
        }
        seen = true;
    }
    Ok(())
}

/// As kazoo shows it.
fn stat(stat: &Stat) -> String {
    let Stat { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, .. } = *stat;
    let Stat { ephemeral_owner, data_length, num_children, .. } = *stat;
    format!(
        "ZnodeStat(czxid={czxid}, mzxid={mzxid}, ctime={ctime}, mtime={mtime}, version={version}, cversion={cversion}, \
         aversion={aversion}, ephemeralOwner={ephemeral_owner}, dataLength={data_length}, numChildren={num_children}, \
         pzxid={pzxid})"
    )
}
