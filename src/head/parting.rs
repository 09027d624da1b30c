//! The last words to a peer that is let in no further.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

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
        hear_out(read_half).await
    };
    if let Ok(Err(error)) = timeout(limits::CLOSE_TIME_MAX, farewell).await {
        tracing::debug!("a refused peer left early: {error}");
    }
}

/// Reads what a peer goes on saying to its end, and drops it. One that says much is heard slowly, or it would cost as much
/// as if it were let in.
///
/// # Errors
/// The connection broke.
pub(super) async fn hear_out(read_half: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let (mut rest, mut heard) = (BytesMut::with_capacity(limits::READ_BUFFER_BYTES_MIN), 0);
    loop {
        let read = read_half.read_buf(&mut rest).await?;
        if read == 0 {
            return Ok(());
        }
        rest.clear();
        heard += read;
        if heard > limits::LINGER_BYTES {
            sleep(limits::LINGER_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn who_says_much_is_heard_slowly_and_to_the_end() {
        let hear = async |bytes: usize| {
            let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
            theirs.write_all(&vec![b'x'; bytes]).await.unwrap();
            drop(theirs);
            let begun = Instant::now();
            hear_out(&mut ours).await.unwrap();
            begun.elapsed()
        };
        assert!(hear(limits::LINGER_BYTES).await.is_zero());
        assert!(hear(limits::LINGER_BYTES + 100 * limits::READ_BUFFER_BYTES_MIN).await >= 100 * limits::LINGER_PAUSE);
    }
}
