//! Bounds of TLS and its certificates, and of the shares of who sends.

use std::time::Duration;

/// Bytes that are read at once from a connection over TLS: those of a record. Who says little uses as much of them.
pub(crate) const TLS_READ_BYTES: usize = 16 * 1024;

/// Longest file with certificates or the key of one, bytes: a system's store of authorities takes less than 300 KiB.
pub(crate) const CERTIFICATES_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Latest time that is shown, seconds since 1970: the end of the year 9999.
pub(crate) const TIME_SHOWN_MAX: u64 = 253_402_300_799;

/// Days for which a certificate is good: two years and a quarter, so that it is renewed in a yearly stop.
pub(crate) const CERTIFICATE_DAYS_DEFAULT: u32 = 825;

/// Most days for which a certificate is good.
pub(crate) const CERTIFICATE_DAYS_MAX: i64 = 36_500;

/// Time before now from which on a certificate is good: a clock may be as much behind.
pub(crate) const CERTIFICATE_BEFORE: Duration = Duration::from_secs(86_400);

/// For how long an authority is good: ten years.
pub(crate) const AUTHORITY_TIME: Duration = Duration::from_secs(3650 * 86_400);

/// Longest time that what a client sends waits for its share; who finds more before it is refused. One connection alone, with a
/// batch of 16 at a message a second, never does.
pub(crate) const SHARE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How much of a share may be used at once: who was held up for a moment catches up.
pub(crate) const SHARE_BURST: Duration = Duration::from_millis(250);

/// Time in which an address may open as many connections as it may have open: four times as many a second. Each costs some
/// tens of microseconds before it says a word.
pub(crate) const SHARE_ARRIVALS_TIME: Duration = SHARE_BURST;

/// How much of a share is read at once: a page takes the head's one thread some of a millisecond.
pub(crate) const SHARE_READS_STEP: Duration = Duration::from_millis(8);

/// How much of a share of reads may be used at once: of many readers that begin together each has its first page in its turn.
pub(crate) const SHARE_READS_BURST: Duration = SHARE_READS_STEP.saturating_mul(4);

/// Time after which who sends more than its share hears that: refusals cost work, too.
pub(crate) const SHARE_REFUSED_AFTER: Duration = Duration::from_secs(1);

/// Names and addresses with shares from which on those that wait for nothing are forgotten.
pub(crate) const SHARES_SWEPT_FROM: usize = 1024;

/// Handshakes of TLS that an address may begin at once: a classroom behind one address, or a gateway, that comes back.
pub(crate) const HANDSHAKES_FREE: u32 = 32;

/// Time between those that it begins beyond that. One takes a quarter of a millisecond of a head, so an address has a twentieth of it.
pub(crate) const HANDSHAKE_EVERY: Duration = Duration::from_millis(5);

/// Longest wait for that: who would wait longer is closed, and comes again. Those that wait take places of others meanwhile, 100 at most.
pub(crate) const HANDSHAKE_WAIT_MAX: Duration = Duration::from_millis(500);
