"""From when until when a certificate holds, read from its DER. Pure."""

import calendar
import re
import time

SEQUENCE, INTEGER, VERSION, UTC_TIME = 0x30, 0x02, 0xA0, 0x17
BEFORE_VALIDITY = 2
"""Parts between the serial number and the validity: signature algorithm and issuer, RFC 5280."""
TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})Z")


def validity(der: bytes) -> tuple[float, float]:
    """First and last moment, seconds since the epoch. Raises ValueError."""
    try:
        return _validity(der)
    except (IndexError, OverflowError):
        raise ValueError("the certificate is cut off") from None


def _validity(der: bytes) -> tuple[float, float]:
    certificate, _ = _enter(der, SEQUENCE)
    part, _ = _enter(certificate, SEQUENCE)
    if part[0] == VERSION:
        _, part = _enter(part, VERSION)
    _, part = _enter(part, INTEGER)
    for _ in range(BEFORE_VALIDITY):
        _, part = _enter(part, SEQUENCE)
    times, _ = _enter(part, SEQUENCE)
    first, rest = _enter(times, times[0])
    last, _ = _enter(rest, rest[0])
    return _moment(first, times[0]), _moment(last, rest[0])


def _enter(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The inside of the element that data begins with, and what follows it."""
    if data[0] != tag:
        raise ValueError("this is not a certificate")
    start, length = 2, data[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    return data[start : start + length], data[start + length :]


def _moment(text: bytes, tag: int) -> float:
    spelled = text.decode("latin-1")
    if tag == UTC_TIME:  # two digits for the year: from 1950 until 2049
        spelled = ("19" if spelled >= "5" else "20") + spelled
    match = TIME.fullmatch(spelled)
    if match is None:
        raise ValueError("the certificate has a time that is none")
    return float(calendar.timegm(time.struct_time((*map(int, match.groups()), 0, 0, 0))))
