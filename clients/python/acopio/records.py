r"""One record, one line of ``data.txt``: its fields, checked to the last bit. Writes no lines.

>>> line = b"1795815042BXidBcdoTy jNdBtfLvEs 2:-.0 -3DiNz mensaje: numero random: 96"
>>> record = decode(line)
>>> record.id, record.client, record.seq, record.place, record.payload
(RecordId('1795815042BXidBcdoTy'), 'jNdBtfLvEs', 3, '-.0', b'mensaje: numero random: 96')
>>> record.ledger, record.entry
('cdoTy.-', 1)
>>> print(record.time.isoformat())
2026-11-27T21:30:42.210430+00:00
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple, Optional, Sequence, Union

from .crc32c import checksums
from .ids import FRACTION_LAST, RecordId, digits, number

#: A number without leading zeros, of up to ten digits and of up to five.
_SEQ = rb"-|[0-9A-Z_a-z][-0-9A-Z_a-z]{0,9}"
_NUMBER = rb"(?:-|[0-9A-Z_a-z][-0-9A-Z_a-z]{0,4})"
#: The name of a source, 32 bytes at most, before the place.
_PART = rb"[-.0-9A-Z_a-z]+"
_SOURCE = rb"(?!acopio/)(?=[^: ]{1,32}:)" + _PART + rb"(?:/" + _PART + rb")*"
#: What may stand behind the place: the tag of a head, which only who has the cluster's key can check.
_WORD = rb"[^\x00-\x20\x7f@:~+]{1,63}"
#: Lines of format 1 have names of nodes where the place is.
_NAMES = rb"\+[!-*,-~]+"
_FIELDS = re.compile(
    rb"([0-9]{10}[-0-9A-Z_a-z]{10}) ([-0-9A-Z_a-z]{10}) (" + _SEQ + rb")"
    rb"(?:(?:@(" + _SOURCE + rb"))?:(" + _NUMBER + rb"\." + _NUMBER + rb")(?:~" + _WORD + rb")?|" + _NAMES + rb")? "
    rb"([-0-9A-Z_a-z]{6}) "
)
#: A backslash that begins no escape, where no two of them stand together.
_NO_ESCAPE = re.compile(rb"\\(?!x[0-9a-f]{2}|[nrt0])")
_FRACTION_LAST = FRACTION_LAST.encode()
#: Two digits at once.
_PAIRS = {digits(value, 2).encode(): value for value in range(4096)}
_CHECKSUM_END = 1 << 32
_str_new, _tuple_new = str.__new__, tuple.__new__


class LineError(ValueError):
    """What is wrong with a line."""


class Record(NamedTuple):
    """A message that the cluster keeps."""

    #: Its id, which is the time at which a head took it.
    id: RecordId
    #: Who sent it: ten characters, as in ``data.txt``.
    client: str
    #: The client's number for it.
    seq: int
    #: Which entry of which ledger of its head it is, as it stands in the line: ``number.entry``; empty for records of
    #: format 1.
    place: str
    #: Its bytes as they were sent, with ``mensaje: `` in front if it came as text.
    payload: bytes
    #: Another message of this client had its number before: the client began to count anew under the same id.
    reused: bool = False
    #: The name of its source, if its sender said one.
    source: Optional[str] = None

    @property
    def time(self) -> datetime:
        """The time at which a head took it, in UTC."""
        return self.id.time

    @property
    def ledger(self) -> str:
        """The name of its ledger: the head's incarnation, a dot and the ledger's number; empty for records of format 1."""
        return f"{self.id[15:]}.{self.place.partition('.')[0]}" if self.place else ""

    @property
    def entry(self) -> Optional[int]:
        """Its entry in its ledger."""
        return number(self.place.partition(".")[2]) if self.place else None

    @property
    def text(self) -> str:
        """The payload as text; what is not UTF-8 in it is replaced."""
        return self.payload.decode("utf-8", "replace")


def decode(line: bytes) -> Record:
    """Reads a line without its newline; LineError if it is no record, or was changed."""
    (record,) = decode_all([line])
    if isinstance(record, LineError):
        raise record
    return record


def decode_all(lines: Sequence[bytes]) -> list[Union[Record, LineError]]:
    """The same for many lines, in much less time for each: a LineError stands where a line is no record."""
    match = _FIELDS.match
    found = [match(line) for line in lines]
    computed = iter(checksums([line[: at.end() - 7] + line[at.end() :] for line, at in zip(lines, found) if at]))
    records: list[Union[Record, LineError]] = []
    for line, fields in zip(lines, found):
        try:
            if fields is None:
                raise LineError(_what_is_wrong(line))
            records.append(_record(line, fields, next(computed)))
        except LineError as error:
            records.append(error)
    return records


def _record(line: bytes, fields: re.Match[bytes], computed: int) -> Record:
    record, client, seq, source, place, crc = fields.groups()
    if record[10:15] > _FRACTION_LAST:
        raise LineError("the first field is not a record id")
    stored = _PAIRS[crc[:2]] << 24 | _PAIRS[crc[2:4]] << 12 | _PAIRS[crc[4:]]
    if stored != computed:
        if stored >= _CHECKSUM_END:
            raise LineError("the fourth field is not a checksum")
        raise LineError(f"the checksum does not match: the line says {stored:08x}, its bytes give {computed:08x}")
    payload = line[fields.end() :]
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise LineError("the payload is not UTF-8") from None
    if b"\\" in payload:
        payload = _unescaped(payload)
    where = "" if place is None else place.decode()
    name = None if source is None else source.decode()
    return _tuple_new(
        Record, (_str_new(RecordId, record.decode()), client.decode(), _number(seq), where, payload, False, name)
    )


def _number(seq: bytes) -> int:
    if len(seq) & 1:
        seq = b"-" + seq
    total = 0
    for at in range(0, len(seq), 2):
        total = total << 12 | _PAIRS[seq[at : at + 2]]
    return total


def _unescaped(text: bytes) -> bytes:
    # Only a pair of backslashes ends in one, so pairs are found from the left.
    pieces = text.split(b"\\\\")
    for at, piece in enumerate(pieces):
        if b"\\" in piece:
            if _NO_ESCAPE.search(piece):
                raise LineError("the payload holds a backslash that begins no escape")
            # Without digits behind it that could be taken for more of it.
            piece = piece.replace(b"\\0", b"\\x00")
            pieces[at] = piece.decode("unicode_escape").encode("latin-1")
    return b"\\".join(pieces)


def _what_is_wrong(line: bytes) -> str:
    if not line:
        return "empty line"
    fields = line.split(b" ", 4)
    if len(fields) < 5:
        return "fewer than five fields"
    names = ("record id", "client id", "sequence number", "checksum")
    patterns = (rb"[0-9]{10}[-\w]{10}", rb"[-\w]{10}", rb"(-|\w[-\w]{0,9})([@:+].*)?", rb"[-\w]{6}")
    for place, field, name, pattern in zip(("first", "second", "third", "fourth"), fields, names, patterns):
        if re.fullmatch(pattern, field) is None:
            return f"the {place} field is not a {name}"
    return "the third field says no entry of a ledger after its sequence number"
