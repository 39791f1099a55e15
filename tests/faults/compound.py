"""Compound files (OLE) of any streams: nothing that is installed writes them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import count

_END, _FREE, _FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
_SECTOR = 512


def compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound file; paths are names joined by `/`. Streams of less than 4096 bytes are padded with zeros to that."""
    streams = {path: content.ljust(4096, b"\0") for path, content in streams.items()}
    tree: dict[str, list[str]] = {"": []}
    for path in streams:
        parts = path.split("/")
        for depth in range(len(parts)):
            parent, own = "/".join(parts[:depth]), "/".join(parts[: depth + 1])
            if own not in tree.setdefault(parent, []):
                tree[parent].append(own)
    order = ["", *sorted({child for children in tree.values() for child in children})]
    number = {path: index for index, path in enumerate(order)}
    sectors, chains = [], {}
    place = count()
    for path, content in streams.items():
        blocks = [content[at : at + _SECTOR].ljust(_SECTOR, b"\0") for at in range(0, len(content), _SECTOR)]
        chains[path] = [next(place) for _ in blocks]
        sectors += blocks
    directory = b""
    for path in order:
        siblings = next((children for children in tree.values() if path in children), [])
        after = siblings[siblings.index(path) + 1 :] if siblings else []
        name = ("Root Entry" if not path else path.rsplit("/", 1)[-1]).encode("utf-16-le") + b"\0\0"
        kind = 5 if not path else 2 if path in streams else 1
        child = number[tree[path][0]] if tree.get(path) else _FREE
        start = chains[path][0] if chains.get(path) else _END
        directory += name.ljust(64, b"\0") + struct.pack(
            "<HBBIII", len(name), kind, 1, _FREE, number[after[0]] if after else _FREE, child
        )
        directory += bytes(36) + struct.pack("<IQ", start, len(streams.get(path, b"")))
    directory += b"\0" * (-len(directory) % _SECTOR)
    blocks = [directory[at : at + _SECTOR] for at in range(0, len(directory), _SECTOR)]
    chains["directory"] = [next(place) for _ in blocks]
    sectors += blocks
    tables = -(-(len(sectors) + 1) // 127)
    fat = [_FREE] * (tables * 128)
    for chain in chains.values():
        for here, following in zip(chain, [*chain[1:], _END], strict=True):
            fat[here] = following
    at = [next(place) for _ in range(tables)]
    for here in at:
        fat[here] = _FAT
    sectors += [struct.pack("<128I", *fat[128 * index : 128 * index + 128]) for index in range(tables)]
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    head += struct.pack("<IIIIIIIIII", 0, tables, chains["directory"][0], 0, 4096, _END, 0, _END, 0, at[0])
    head += struct.pack("<108I", *at[1:], *[_FREE] * (109 - len(at)))
    return head + b"".join(sectors)
