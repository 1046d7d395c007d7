"""Requests whose end two readers could see in different places: none hides another one."""

import re

from harness import DeviceTest

HIDDEN = b"POST /v1/update HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"0\r\n\r\n"
# Field lines, and what follows the head. The hidden request comes after it, or in it.
REFUSED = {
    "length and chunks": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks and length": (b"Transfer-Encoding: chunked\r\nContent-Length: 5", CHUNKED),
    "two lengths": (b"Content-Length: 0\r\nContent-Length: %d" % len(HIDDEN), b""),
    "a list of lengths": (b"Content-Length: 0, %d" % len(HIDDEN), b""),
    "a length with a sign": (b"Content-Length: +0", b""),
    "a negative length": (b"Content-Length: -1", b""),
    "a hexadecimal length": (b"Content-Length: 0x0", b""),
    "a length with a blank in it": (b"Content-Length: 0 0", b""),
    "an empty length": (b"Content-Length:", b""),
    "a length beyond 64 bits": (b"Content-Length: 18446744073709551616", b""),
    "a blank before the colon": (b"Content-Length : %d" % len(HIDDEN), b""),
    "a blank before chunked's colon": (b"Transfer-Encoding : chunked", CHUNKED),
    "a folded field": (b"X: a\r\n Content-Length: %d" % len(HIDDEN), b""),
    "a folded coding": (b"Transfer-Encoding:\r\n chunked", CHUNKED),
    "an unknown coding": (b"Transfer-Encoding: xchunked", CHUNKED),
    "chunked that is not last": (b"Transfer-Encoding: chunked, identity", CHUNKED),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked", CHUNKED),
    "two codings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CHUNKED),
    "a NUL in a value": (b"X: a\0b", b""),
    "a lone CR in a value": (b"X: a\rContent-Length: 9", b""),
    "a chunk size with a sign": (b"Transfer-Encoding: chunked", b"+0\r\n\r\n"),
    "a chunk size in C's form": (b"Transfer-Encoding: chunked", b"0x0\r\n\r\n"),
    "a chunk size beyond 64 bits": (b"Transfer-Encoding: chunked", b"10000000000000000\r\n\r\n"),
    "a chunk longer than its size": (b"Transfer-Encoding: chunked", b"1\r\nab\r\n0\r\n\r\n"),
    "a chunk without its end": (b"Transfer-Encoding: chunked", b"2\r\nab0\r\n\r\n"),
    "no host": (None, b""),
    "two hosts": (b"Host: b", b""),
}


class Smuggling(DeviceTest):
    def setUp(self):
        super().setUp()
        self.device = self.agent()

    def updates(self):
        page = self.device.get("/v2/metrics").text
        return sum(int(number) for number in re.findall(
            r'^supervisor_http_requests_total\{method="POST",route="/v1/update",[^}]*\} (\d+)$', page, re.M))

    def send(self, data):
        """All that comes back until the agent closes the connection."""
        answer = b""
        with self.device.connect(timeout=20) as connection:
            try:
                connection.sendall(data)
            except OSError:
                pass
            while True:
                try:
                    piece = connection.recv(65536)
                except ConnectionResetError:
                    break
                if not piece:
                    break
                answer += piece
        return answer

    def test_a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(self):
        for name, (fields, body) in REFUSED.items():
            with self.subTest(name):
                head = b"POST /v2/version HTTP/1.1\r\n"
                if fields is not None:
                    head += b"Host: a\r\n" + fields + b"\r\n"
                answer = self.send(head + b"\r\n" + body + HIDDEN)
                self.assertRegex(answer.split(b"\r\n")[0], rb"\AHTTP/1\.1 (400|413|501) ")
                self.assertEqual(len(re.findall(rb"HTTP/1\.[01] \d{3} ", answer)), 1, answer)
                self.assertIn(b"connection: close", answer.lower())
                self.assertEqual(self.updates(), 0)

    def test_a_body_that_looks_like_a_request_is_none(self):
        for fields, body in (
            (b"Content-Length: %d" % len(HIDDEN), HIDDEN),
            (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
            (b"Transfer-Encoding: Chunked", b"%X;name=\"%s\"\r\n%s\r\n0\r\nX: POST /v1/update\r\n\r\n" % (
                len(HIDDEN), b"POST /v1/update HTTP/1.1", HIDDEN)),
        ):
            for method, path in ((b"POST", b"/v2/version"), (b"GET", b"/ping"), (b"GET", b"/nope"),
                                 (b"HEAD", b"/ping"), (b"OPTIONS", b"/ping")):
                with self.subTest(fields=fields, path=path, method=method):
                    answer = self.send(method + b" " + path + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n" + body
                                       + b"GET /v2/device/name HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    self.assertEqual(len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)), 2, answer)
                    self.assertTrue(answer.endswith(b'"deviceName":"local"}'), answer)
                    self.assertEqual(self.updates(), 0)

    def test_answers_of_a_pipeline_come_in_its_order(self):
        paths = [b"/ping", b"/v2/version", b"/nope", b"/v2/device/name", b"/v2/cleanup-volumes", b"/v2/containerId",
                 b"/v1/apps/9", b"/ping"] * 20
        data = b"".join(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths)
        answer = self.send(data + b"GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
        self.assertEqual(statuses, [200, 200, 404, 200, 200, 200, 400, 200] * 20 + [200])
