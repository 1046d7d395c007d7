"""The other end of a log stream, and what people read of it."""

import json
import select
import time
import urllib.parse
import zlib

from faulty import Cut
from model import Refused, compact

REFUSAL_DELAY = 55
BUFFER, FLUSH = 50, 0.5
SLOW_RATE = 100
HEARTBEAT = 58
# Records of a batch, and batches in so many seconds.
BATCH, BATCHES, BATCH_TIME = 10, 15, 10
OLDEST = 30 * 86400


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
            chunk = self._chunk(timeout=0.2 if mode == "close-every" else None)
            if chunk is None:
                continue
            self.row["received"] = self.row.get("received", 0) + len(chunk)
            if mode == "slow":
                stand_in._stop.wait(len(chunk) / SLOW_RATE)
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

    # --- the API of people, and of devices of old

    def read_logs(self, uuid, query):
        """`GET /device/v2/<uuid>/logs`."""
        cloud = self.server.stand_in.cloud
        device = cloud.devices.get(uuid)
        if device is None:
            raise Refused(404)
        if self.key not in cloud.user_keys:
            raise Refused(401)
        options = dict(urllib.parse.parse_qsl(query))
        with cloud.lock:
            rows, seen = list(device.logs), device.logged
        if "start" in options:
            start = _moment(options["start"])
            if start < (time.time() - OLDEST) * 1000:
                raise Refused(400, "start is too long ago")
            rows = [row for row in rows if row["timestamp"] >= start]
        count = options.get("count", "all")
        if count != "all":
            if not count.isdigit():
                raise Refused(400, "count is no number")
            rows = rows[-int(count):] if int(count) else []
        if options.get("stream") == "1":
            return self._stream_logs(device, rows, seen)
        return self.answer(200, {"Content-Type": "application/json"}, compact(rows))

    def _stream_logs(self, device, rows, seen):
        cloud = self.server.stand_in.cloud
        self.close_connection = True
        self.row["status"] = 200
        self.send_response_only(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        last = time.monotonic()
        while True:
            if rows or time.monotonic() - last >= HEARTBEAT:
                self.wfile.write(b"".join(compact(row) + b"\n" for row in rows) or b"\n")
                self.wfile.flush()
                last = time.monotonic()
            if self.server.stand_in._stop.wait(0.1):
                raise Cut
            with cloud.lock:
                new = device.logged - seen
                rows, seen = device.logs[-new:] if new else [], device.logged

    def write_logs(self, uuid, records):
        """`POST /device/v2/<uuid>/logs`: batches, which were before the stream."""
        cloud = self.server.stand_in.cloud
        device = cloud.authenticated(self.key, uuid)
        now = time.monotonic()
        device.batches = [at for at in device.batches if now - at < BATCH_TIME]
        if len(device.batches) >= BATCHES:
            return 429, {"Retry-After": str(BATCH_TIME)}, b""
        if not isinstance(records, list) or len(records) > BATCH:
            raise Refused(400)
        device.batches.append(now)
        for record in records:
            cloud.add_record(device, record)
        return 201, {}, b""


def _moment(text):
    """Milliseconds since 1970 of a number of them, or of a date."""
    import datetime

    if text.isdigit():
        return int(text)
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000
    except ValueError:
        raise Refused(400, "start is no date") from None
