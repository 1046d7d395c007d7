"""The other end of a log stream."""

import json
import select
import time
import zlib

from faulty import Cut
from model import compact

REFUSAL_DELAY = 55
BUFFER, FLUSH = 50, 0.5


class LogSink:
    """A part of the handler."""

    def log_stream(self, uuid, fault):
        """Reads the endless request; answers only at its end or on an error."""
        stand_in = self.server.stand_in
        device = stand_in.cloud.devices.get(uuid)
        self.close_connection = True
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.connection in ("close", "reset", "hang"):
            self._break(fault.connection)
        if fault and fault.status:
            return self._fault_status(fault)
        if self.headers.get("Content-Type") != "application/x-ndjson":
            return self.answer(415)
        if device is None or device.frozen or device.deleted:
            stand_in._stop.wait(REFUSAL_DELAY)
            return self.answer(401)
        if self.key not in device.keys:
            return self.answer(401)
        mode = fault.log if fault else ""
        if mode == "early-201":
            return self.answer(201)
        if mode == "503":
            return self.answer(503)
        if mode == "late-401":
            stand_in._stop.wait(REFUSAL_DELAY)
            return self.answer(401)
        if mode == "deaf":
            stand_in._stop.wait()
            raise Cut
        if mode == "pause":
            stand_in._stop.wait(fault.period)
        inflate = zlib.decompressobj(31) if self.headers.get("Content-Encoding") == "gzip" else None
        opened, pending = time.monotonic(), b""
        while True:
            if mode == "close-every" and time.monotonic() - opened > fault.period:
                raise Cut
            if mode == "slow":
                time.sleep(1)
            chunk = self._chunk(timeout=0.2 if mode == "close-every" else None)
            if chunk is None:
                continue
            self.row["received"] = self.row.get("received", 0) + len(chunk)
            if not chunk:
                if pending:
                    return self.answer(400, content=b"incomplete record")
                return self.answer(201)
            try:
                text = inflate.decompress(chunk) if inflate else chunk
            except zlib.error as error:
                return self.answer(400, content=str(error).encode())
            lines = (pending + text).split(b"\n")
            pending = lines.pop()
            if mode == "rate":
                lines = self._limited(lines)
                time.sleep(FLUSH)
            now = time.monotonic()
            for line in lines:
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except ValueError as error:
                    return self.answer(400, content=str(error).encode())
                if stand_in.cloud.add_record(device, record):
                    device.log_arrivals.append((now, record))

    @staticmethod
    def _limited(lines):
        """What the buffer of the real API keeps, with its record of the others."""
        if len(lines) <= BUFFER:
            return lines
        warning = {"message": f"Warning: Suppressed {len(lines) - BUFFER + 1} message(s) due to rate limiting",
                   "timestamp": int(time.time() * 1000), "isSystem": True, "isStdErr": True}
        return [compact(warning), *lines[1 - BUFFER:]]

    def _chunk(self, timeout=None):
        """The next chunk of a chunked body; empty at its end, None when there was nothing in time."""
        if timeout is not None:
            pending = getattr(self.connection, "pending", lambda: 0)()
            if not pending and not select.select([self.connection], [], [], timeout)[0]:
                return None
        size = self.rfile.readline()
        if not size:
            raise Cut
        length = int(size.split(b";")[0], 16)
        data = self.rfile.read(length)
        self.rfile.readline()
        return data
