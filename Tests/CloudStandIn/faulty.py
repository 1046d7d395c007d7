"""Answers that go wrong, as a fault says."""

import gzip
import os
import socket
import struct
import time

import packing
from model import compact


class Cut(Exception):
    """The connection is to end now."""


class FaultyAnswers:
    """A part of the handler."""

    def _break(self, how):
        self.row["status"] = self.row.get("status") or how
        if how == "hang":
            self.server.stand_in._stop.wait()
        if how == "reset":
            # Linger of zero makes close send a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        raise Cut

    def _fault_status(self, fault, asked=b""):
        headers = {"Content-Type": "text/plain"} if fault.text else {}
        if fault.retry_after:
            headers["Retry-After"] = fault.retry_after
        if fault.location:
            headers["Location"] = fault.location
        content = fault.text.encode()
        if fault.body == "echo":
            key = self.headers.get("Authorization", "").encode()
            headers, content = {**headers, "Content-Type": "text/plain"}, key + b" " + asked
        self.answer(fault.status, headers, content)

    def _faulty_body(self, status, headers, content, fault):
        if fault.etag == "absent":
            headers.pop("ETag", None)
        elif fault.etag == "strong" and "ETag" in headers:
            headers["ETag"] = headers["ETag"].removeprefix("W/")
        elif fault.etag == "changing":
            headers["ETag"] = f'W/"{os.urandom(6).hex()}"'
        elif fault.etag == "frozen":
            headers["ETag"] = 'W/"frozen"'
        elif fault.etag == "unmodified":
            return self.answer(304)
        kind = fault.body
        uuid = next(iter(self.server.stand_in.cloud.devices), "")
        if kind == "empty":
            content = b""
        elif kind == "invalid-json":
            content = b'{"' + uuid.encode() + b'": {"name": '
        elif kind == "wrong-shape":
            content = compact({uuid: {"name": 5, "config": [], "apps": {"x": {"id": "y"}}}})
        elif kind == "wrong-uuid":
            content = content.replace(uuid.encode(), b"0" * 32)
        elif kind == "html":
            headers, content = {"Content-Type": "text/html"}, b"<html><body>Please log in</body></html>"
        elif kind == "nan":
            content = content.replace(b'"id":', b'"id":NaN,"x":', 1)
        elif kind == "duplicate-keys":
            content = content.replace(b'{"name":', b'{"name":"first","name":', 1)
        elif kind in ("large", "huge"):
            filler = "x" * ((5 if kind == "large" else 100) << 20)
            content = content[:-2] + b',"filler":"' + filler.encode() + b'"}}'
        elif kind == "redirect-loop":
            return self.answer(302, {"Location": self.path})
        elif kind == "corrupt-gzip":
            packed = bytearray(gzip.compress(content))
            packed[len(packed) // 2] ^= 0xFF
            headers["Content-Encoding"], content = "gzip", bytes(packed)
        elif kind == "wrong-encoding":
            headers["Content-Encoding"] = "gzip"
        elif kind == "truncated":
            self.answer(status, headers, content[: len(content) // 2], length=len(content))
            raise Cut
        elif kind == "truncated-chunk":
            self.send_response_only(status)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n" % len(content) + content[: len(content) // 2])
            raise Cut
        if fault.head:
            headers["X-Filler"] = "x" * fault.head
        content += b" " * (fault.size - len(content))
        if fault.encoding:
            headers["Content-Encoding"], content = packing.packed(fault.encoding, content)
        if fault.connection == "reset-in-body":
            self.answer(status, headers, content[: len(content) // 2], length=len(content))
            self._break("reset")
        if fault.body_wait:
            self.answer(status, {**headers, "Content-Encoding": "identity"}, b"", length=len(content))
            self.wfile.flush()
            time.sleep(fault.body_wait)
            return self.wfile.write(content)
        if fault.body_delay:
            self.answer(status, {**headers, "Content-Encoding": "identity"}, b"", length=len(content))
            for at in range(0, len(content), 64):
                time.sleep(fault.body_delay)
                self.wfile.write(content[at:at + 64])
            return
        self.answer(status, headers, content)
