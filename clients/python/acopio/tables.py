"""Records as a pandas DataFrame, where pandas is installed. Nothing else of this package needs it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Optional

from .access import Path, TlsChoice
from .client import Heads
from .errors import AcopioError
from .moments import Moment
from .protocol import RETRY_FOR
from .reader import Sources, read

if TYPE_CHECKING:
    # Any: pandas need not be there, and its types are not part of it.
    DataFrame = Any


class PandasMissing(AcopioError, ImportError):
    """pandas is not installed."""


def read_frame(
    heads: Heads,
    *,
    since: Optional[Moment] = None,
    until: Optional[Moment] = None,
    client: Optional[str] = None,
    sources: Sources = (),
    token: Optional[str] = None,
    tls: TlsChoice = False,
    ca: Optional[Path] = None,
    cert: Optional[Path] = None,
    key: Optional[Path] = None,
    partial: bool = False,
    encoding: Optional[str] = "utf-8",
    retry_for: float = RETRY_FOR,
) -> DataFrame:
    """Reads as ``read`` does, into a DataFrame with the columns ``id``, ``time`` (UTC, to the nanosecond), ``client``,
    ``seq``, ``source``, ``ledger``, ``entry`` and ``payload``; all of it is in memory at the end.

    ``payload`` is text in this encoding, what is not is replaced; with ``encoding=None`` it is bytes. With ``partial``
    the nodes that are missing are in ``frame.attrs["missing"]``.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise PandasMissing(
            "read_frame", f"pandas cannot be imported ({error})", "pip install pandas, or use read"
        ) from None
    columns: dict[str, list[Any]] = {"id": [], "time": [], "client": [], "seq": [], "source": []}
    columns.update(ledger=[], entry=[], payload=[])
    append = [columns[name].append for name in columns]
    reader = read(
        heads,
        since=since,
        until=until,
        client=client,
        sources=sources,
        token=token,
        tls=tls,
        ca=ca,
        cert=cert,
        key=key,
        partial=partial,
        retry_for=retry_for,
    )
    with reader:
        for record in reader:
            payload = record.payload if encoding is None else record.payload.decode(encoding, "replace")
            row = (str(record.id), record.id.time_ns, record.client, record.seq, record.source)
            row += (record.ledger, record.entry, payload)
            for put, value in zip(append, row):
                put(value)
    frame = pandas.DataFrame(columns)
    if not columns["id"]:
        # A column of nothing would be one of floating-point numbers.
        frame = frame.astype({name: "int64" if name in ("seq", "time") else "object" for name in columns})
    frame["time"] = pandas.to_datetime(frame["time"], unit="ns", utc=True)
    frame.attrs["missing"] = reader.missing
    return frame
