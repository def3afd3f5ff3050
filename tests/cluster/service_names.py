"""A DNS server for names of Services: `service_names.py ADDRESS NAME=ADDRESS ...`.

It answers for `NAME.svc.cluster.local` in the place of the cluster's DNS.
"""

import socket
import struct
import sys

HEADER = struct.Struct("!6H")
QUESTION = struct.Struct("!2H")
ADDRESS_TYPE = 1
IS_ANSWER, NO_SUCH_NAME = 0x8580, 3


def answer(query: bytes, addresses: dict[str, str]) -> bytes:
    """The response to a query for one name; only addresses of version 4 exist."""
    number = HEADER.unpack_from(query)[0]
    labels, at = [], HEADER.size
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    end = at + 1 + QUESTION.size
    kind, _ = QUESTION.unpack_from(query, at + 1)
    address = addresses.get(".".join(labels).lower())
    found = b""
    if address and kind == ADDRESS_TYPE:
        name = struct.pack("!H", 0xC000 | HEADER.size)
        found = name + struct.pack("!2HIH", kind, 1, 5, 4) + socket.inet_aton(address)
    flags = IS_ANSWER | (0 if address else NO_SUCH_NAME)
    header = HEADER.pack(number, flags, 1, 1 if found else 0, 0, 0)
    return header + query[HEADER.size : end] + found


def main() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((sys.argv[1], 53))
    pairs = (pair.partition("=") for pair in sys.argv[2:])
    addresses = {f"{name}.svc.cluster.local": address for name, _, address in pairs}
    while True:
        query, client = server.recvfrom(4096)
        server.sendto(answer(query, addresses), client)


if __name__ == "__main__":
    main()
