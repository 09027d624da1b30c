"""acopio from Python: messages into a storage cluster, and back out of it. Needs nothing but the standard library.

>>> import acopio
>>> receipt = acopio.send("127.0.0.1:5000", "hola")
>>> [record.text for record in acopio.read("127.0.0.1:5000", since=receipt.id)]
['hola']

``send`` and :class:`Client` store messages; ``read`` and ``follow`` read them back; ``read_frame`` makes a pandas
DataFrame; ``status_of`` asks a head how it is. All errors are :class:`AcopioError`. It speaks acopio/2, the framed
dialect of ``docs/wire.md``.
"""

from .client import Client, Pending, send
from .errors import (
    AcopioError,
    BadArgument,
    ClientClosed,
    DamagedLine,
    Disorder,
    HeadFailed,
    MessageTooLong,
    NodesMissing,
    NoHead,
    NotKept,
    ReadFailed,
    ReadRefused,
    TimedOut,
    Trouble,
    WindowFull,
)
from .ids import RecordId
from .ledger import Receipt
from .link import HeadLost, WaitingFor
from .protocol import Code, Sync
from .reader import Reader, follow, read
from .records import Record
from .status import status_of
from .tables import PandasMissing, read_frame

__version__ = "0.1.0"

__all__ = [
    "AcopioError",
    "BadArgument",
    "Client",
    "ClientClosed",
    "Code",
    "DamagedLine",
    "Disorder",
    "HeadFailed",
    "HeadLost",
    "MessageTooLong",
    "NoHead",
    "NodesMissing",
    "NotKept",
    "PandasMissing",
    "Pending",
    "ReadFailed",
    "ReadRefused",
    "Reader",
    "Receipt",
    "Record",
    "RecordId",
    "Sync",
    "TimedOut",
    "Trouble",
    "WaitingFor",
    "WindowFull",
    "follow",
    "read",
    "read_frame",
    "send",
    "status_of",
]
