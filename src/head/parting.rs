//! The last words to a peer that is let in no further.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits;
use crate::net::{ReadHalf, WriteHalf};
use crate::wire::text;

/// To one that does not say what it wants.
pub(super) fn too_slow() -> Vec<u8> {
    let cause = format!("no handshake within {:?}", limits::HANDSHAKE_TIME_MAX);
    (text::error_line(cause, "say 'peticion' first") + "\n").into_bytes()
}

/// Says the last words and lets the peer read them: a close with unread input would take them away.
pub(super) async fn part(read_half: &mut ReadHalf<'_>, write_half: &mut WriteHalf<'_>, words: &[u8]) {
    let farewell = async {
        write_half.write_all(words).await?;
        write_half.shutdown().await?;
        let mut rest = [0_u8; 4096];
        while read_half.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    if let Ok(Err(error)) = timeout(limits::CLOSE_TIME_MAX, farewell).await {
        tracing::debug!("a refused peer left early: {error}");
    }
}
