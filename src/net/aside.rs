//! Work that may block for long, on a thread of its own. A system that gives no thread is an error, not a panic.

use std::io;

use tokio::sync::oneshot;

/// Does `work` on a thread called `name`. Dropped early, the thread ends by itself once the work is done.
///
/// # Errors
/// The system gives no thread; or what the work says.
pub(crate) async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(move || drop(sender.send(work())))?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("its thread is gone")))
}
