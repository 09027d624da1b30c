"""With what heads are dialled: a token, and TLS. Reads the files of certificates; opens no connection.

A head is believed if its certificate is of a known authority, is good by this machine's clock, and is for the name or
address by which the head was dialled. TLS is the standard library's.
"""

from __future__ import annotations

import os
import ssl
import stat
import sys
from datetime import datetime, timezone
from typing import NamedTuple, NoReturn, Optional, Union

from .errors import BadArgument
from .names import secret_of

#: A file.
Path = Union[str, "os.PathLike[str]"]
#: Whether TLS is spoken, or a context that says how.
TlsChoice = Union[bool, ssl.SSLContext]


class Access(NamedTuple):
    """What a head is shown, and how it has to prove who it is."""

    #: The secret of a token.
    token: Optional[str] = None
    #: How TLS is spoken; none for plain TCP.
    tls: Optional[ssl.SSLContext] = None


def access_of(
    token: Optional[str], tls: TlsChoice, ca: Optional[Path], cert: Optional[Path], key: Optional[Path]
) -> Access:
    """The same from what a caller gives; BadArgument if it can't be meant, or a file can't be used.

    >>> access_of(None, False, None, None, None)
    Access(token=None, tls=None)
    >>> access_of(None, False, None, "esp7.crt", None)
    Traceback (most recent call last):
    acopio.errors.BadArgument: cert= and key=: say nothing without TLS; add ca=FILE, or tls=True
    """
    return Access(secret_of(token), _context(tls, ca, cert, key))


def _context(
    tls: TlsChoice, ca: Optional[Path], cert: Optional[Path], key: Optional[Path]
) -> Optional[ssl.SSLContext]:
    if isinstance(tls, ssl.SSLContext):
        if ca is not None or cert is not None or key is not None:
            raise BadArgument("tls=", "it is a context, which has its files already", "leave out ca=, cert= and key=")
        return tls
    if not tls and ca is None:
        if cert is not None or key is not None:
            raise BadArgument("cert= and key=", "say nothing without TLS", "add ca=FILE, or tls=True")
        return None
    context = _believing(ca)
    # What the data nodes' side asks for, too; create_default_context of Python 3.9 takes less.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        _show(context, cert, key)
    elif key is not None:
        raise BadArgument("key=", "says nothing without a certificate", "add cert=FILE")
    return context


def _believing(ca: Optional[Path]) -> ssl.SSLContext:
    """A context that believes this authority alone, or those of the system."""
    try:
        return ssl.create_default_context(cafile=None if ca is None else os.fspath(ca))
    except (OSError, ssl.SSLError) as error:
        _unusable("authority", ca, error)


def _show(context: ssl.SSLContext, cert: Path, key: Optional[Path]) -> None:
    """Has a certificate shown to heads that ask for one."""
    key = os.path.splitext(os.fspath(cert))[0] + ".key" if key is None else os.fspath(key)
    try:
        mode = stat.S_IMODE(os.stat(key).st_mode)
    except OSError as error:
        _unusable("key", key, error)
    if mode & 0o007 and sys.platform != "win32":
        raise BadArgument(f"the key in {key}", f"is open to everybody (mode {mode:03o})", "chmod 600 the file")
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(os.fspath(cert), key, password="")
    except (OSError, ssl.SSLError) as error:
        mismatch = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        if mismatch:
            raise BadArgument(
                f"the certificate in {os.fspath(cert)}", f"belongs to another key than {key}", "give the right one"
            ) from None
        _unusable("certificate, or its key,", cert, error)


def _unusable(what: str, path: Optional[Path], error: OSError) -> NoReturn:
    where = "" if path is None else f" in {os.fspath(path)}"
    is_tls = isinstance(error, ssl.SSLError)
    cause = "it is no PEM that can be used" if is_tls else (error.strerror or str(error))
    raise BadArgument(f"the {what}{where}", cause, "name a file such as 'acopio cert' makes") from None


# ---- what went wrong on a connection --------------------------------------------------------------

#: Numbers of OpenSSL (X509_V_ERR_…) of what is wrong with a certificate.
_EARLY, _OVER = {9}, {10}
_OTHER_NAME = {62, 63, 64}
_UNKNOWN = {2, 7, 18, 19, 20, 21, 27}
#: Its words for what is no TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
#: And for what the head says of a certificate.
_UNKNOWN_TO_HEAD = ("UNKNOWN_CA", "DECRYPT_ERROR")
_CERTIFICATE_WRONG = ("CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED", "CERTIFICATE_UNKNOWN", "BAD_CERTIFICATE")


def tls_trouble(error: ssl.SSLError, host: str) -> "tuple[str, str]":
    """What happened to a connection over TLS, and what to do.

    >>> tls_trouble(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "cellar")[0]
    'TLS fails: [SSL: WRONG_VERSION_NUMBER] wrong version number'
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _wrong_certificate(error, host)
    reason = getattr(error, "reason", None) or ""
    if reason in _NO_TLS:
        return "it speaks no TLS", "start it with --tls-cert, or leave out tls= and ca= here"
    if reason.endswith(_UNKNOWN_TO_HEAD):
        return "it does not know the authority of the certificate that it is shown", "give it that one's ca.crt"
    if reason.endswith(_CERTIFICATE_WRONG):
        return "it does not believe the certificate that it is shown", "have another one made"
    if reason.endswith("CERTIFICATE_REQUIRED"):
        return "it asks for a certificate", "give cert=FILE, which 'acopio cert' makes with the head's authority"
    if reason.endswith(("PROTOCOL_VERSION", "HANDSHAKE_FAILURE", "UNSUPPORTED_PROTOCOL")):
        return "it speaks no TLS that is known here", "let it speak TLS 1.2 or 1.3"
    said = error.strerror or str(error)
    return f"TLS fails: {said}", "see that both sides take TLS 1.2 or 1.3"


def _wrong_certificate(error: ssl.SSLCertVerificationError, host: str) -> "tuple[str, str]":
    code = error.verify_code
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    if code in _OVER:
        return f"its certificate is over: the clock of this machine shows {now}", "have a new one made, or set the clock"
    if code in _EARLY:
        return f"its certificate is not good yet: the clock of this machine shows {now}", "set the clock right"
    if code in _OTHER_NAME:
        remedy = "dial it by one of its names, or have one made with this name: 'acopio cert --host'"
        return f"its certificate is not for {host}", remedy
    if code in _UNKNOWN:
        return "its certificate is from an authority that is not known here", "give the right one with ca=FILE (ca.crt)"
    return f"its certificate is not to be believed: {error.verify_message}", "have another one made with 'acopio cert'"
