//! The side of who dials, where a frame is proved with a key: knock, see that the head has the key, prove that this side
//! has it. What the proofs are is the business of `key`.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;

use super::Stream;
use super::framed::{Ended, next_frame};
use crate::key::{PeerKey, Said, Side};
use crate::wire::frame::{Frame, FrameError};
use crate::wire::proof::{Knock, Nonce};

/// Appends a Knock with this nonce, and the frame that is proved.
///
/// # Errors
/// The frame is out of bounds.
pub(crate) fn knock(out: &mut BytesMut, key: &PeerKey, nonce: Nonce, frame: &Frame) -> Result<(), FrameError> {
    Frame::Knock(Knock { holder: key.of(), hint: key.hint(), nonce }).encode(out)?;
    frame.encode(out)
}

/// Sees that the head has the key, and proves that this side has it; the name of the head's cluster. What the head says then
/// is its answer to the frame.
///
/// # Errors
/// The head refuses, or does not have the key: nothing more is to be said to it.
pub(crate) async fn prove(
    socket: &mut Stream,
    buffer: &mut BytesMut,
    key: &PeerKey,
    peer: Nonce,
    frame: &Frame,
) -> Result<String, Ended> {
    let (head, proof, cluster) = loop {
        match next_frame(socket, buffer).await? {
            Frame::Challenge { nonce, proof, cluster } => break (nonce, proof, cluster),
            Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
            Frame::Ping(_) => {}
            // It takes this side in without a proof of its own: whoever listens there may say that it is a head.
            _ => return Err(Ended::Unfit(NO_PROOF.to_owned())),
        }
    };
    let mut proved = BytesMut::new();
    frame.encode(&mut proved)?;
    let said = Said { peer, head, cluster: &cluster, frame: &proved, channel: socket.channel() };
    if !key.verifies(Side::Head, &said, &proof) {
        return Err(Ended::Unfit(WRONG_PROOF.to_owned()));
    }
    let mut out = BytesMut::new();
    Frame::Proof(key.prove(Side::Peer, &said)).encode(&mut out)?;
    socket.write_all(&out).await?;
    Ok(cluster)
}

/// A head that has no key, or nothing that is a head.
const NO_PROOF: &str = "it does not prove that it has the cluster's key; it may be no head of this cluster: start it with \
                        the key, or leave out --key here";

/// A head that has another key.
const WRONG_PROOF: &str = "its key is not the one that this side has: it is a head of another cluster, or only says that it \
                           is one, or somebody stands in between; give both sides the key of one cluster with --key";
