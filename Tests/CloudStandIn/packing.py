"""Content encodings, right and wrong."""

import gzip
import zlib

BLOCK = 1 << 16


def brotli(content):
    """RFC 7932, of stored blocks only: every decoder has to take it, and no encoder is needed."""
    packed, bits, count = bytearray(), 0, 0

    def put(value, width):
        nonlocal bits, count
        bits |= value << count
        count += width
        while count >= 8:
            packed.append(bits & 0xFF)
            bits >>= 8
            count -= 8

    put(0, 1)
    for at in range(0, len(content), BLOCK):
        block = content[at:at + BLOCK]
        # Not the last, four nibbles of length, stored; then up to the next byte.
        put(0, 1)
        put(0, 2)
        put(len(block) - 1, 16)
        put(1, 1)
        put(0, -count % 8)
        packed.extend(block)
    put(3, 2)
    put(0, -count % 8)
    return bytes(packed)


def packed(kind, content):
    """Value of `Content-Encoding`, and the body."""
    if kind == "br":
        return "br", brotli(content)
    if kind == "deflate":
        return "deflate", zlib.compress(content)
    if kind == "corrupt-br":
        return "br", b"\xff" * 16 + brotli(content)
    if kind == "twice":
        return "gzip, gzip", gzip.compress(gzip.compress(content))
    return "unheard-of", content
