"""Names of sources: which device, person or program a record is from. Nothing is said on the wire here.

>>> source_name("taller/horno")
'taller/horno'
"""

from __future__ import annotations

import re
from typing import Optional, Sequence, Union

from .errors import BadArgument
from .protocol import FILTER_NAMES_MAX, SOURCE_NAME_BYTES_MAX

_SECRET = re.compile("[0-9a-f]{32}")
_PART = "[A-Za-z0-9._-]+"
_NAME = re.compile(f"(?!acopio/){_PART}(?:/{_PART})*")


def source_name(text: str) -> str:
    """The same text, if it is a name; BadArgument if it is none."""
    if len(text) > SOURCE_NAME_BYTES_MAX or _NAME.fullmatch(text) is None:
        raise BadArgument(
            f"the name {text[:64]!r}",
            "is not a source's name",
            f"take 1 to {SOURCE_NAME_BYTES_MAX} of A-Za-z0-9._-, and / inside for groups",
        )
    return text


def secret_of(token: Optional[str]) -> Optional[str]:
    """The secret of a token, without white space around it, if it is one; BadArgument, without it, if it is none.

    >>> secret_of("00112233445566778899aabbccddeeff\\n")
    '00112233445566778899aabbccddeeff'
    """
    if token is None:
        return None
    if _SECRET.fullmatch(token.strip()) is None:
        raise BadArgument("the token", "is none", "give the 32 digits 0-9a-f that 'acopio token new' shows")
    return token.strip()


def source_names(names: Union[str, Sequence[str]]) -> tuple[str, ...]:
    """Names of sources and of groups, which end in a slash.

    >>> source_names("esp7"), source_names(["esp7", "taller/"])
    (('esp7',), ('esp7', 'taller/'))
    """
    all_of_them = (names,) if isinstance(names, str) else tuple(names)
    if len(all_of_them) > FILTER_NAMES_MAX:
        raise BadArgument("the sources", f"{len(all_of_them)} names are too many", f"name {FILTER_NAMES_MAX} or fewer")
    for name in all_of_them:
        # A group leaves room for a name in it.
        source_name(name + "-" if name.endswith("/") else name)
    return all_of_them
