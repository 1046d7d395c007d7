"""Bad input: the answer that the specification names, a connection in a defined state, nothing applied."""

import gzip
import json
import socket

from harness import DeviceTest, app, service

TARGET = "/v2/local/target-state"
JSON = {"Content-Type": "application/json"}


def read_all(connection):
    data = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


class BadRequests(DeviceTest):
    def setUp(self):
        super().setUp()
        self.device = self.agent()

    def tearDown(self):
        # Whatever a test sent, the agent is alive and has applied nothing.
        try:
            self.assertEqual(self.device.get("/ping").text, "OK")
            self.assertEqual(self.device.get(TARGET).json["state"]["local"]["apps"], {})
            self.assertEqual(self.engine.containers(), [])
        finally:
            super().tearDown()

    def assert_failure(self, answer, status, message):
        self.assertEqual(answer.status, status, answer.text)
        body = answer.json
        self.assertEqual(body["status"], "failed")
        self.assertTrue(body["message"].startswith(message), body["message"])

    def test_a_body_that_is_not_json_is_answered_with_503(self):
        answer = self.device.request("POST", TARGET, '{"local": {"apps"', JSON)
        self.assert_failure(answer, 503, "")
        self.assertNotEqual(answer.json["message"], "")

    def test_json_that_is_neither_object_nor_array_is_answered_with_503(self):
        for body in ("null", "1", '"text"', "true"):
            self.assert_failure(self.device.request("POST", TARGET, body, JSON), 503, "")

    def test_a_value_of_the_wrong_type_is_answered_with_400_and_the_path(self):
        target = app(service("one", environment={"A": 1}))
        answer = self.device.post_target(target)
        self.assert_failure(answer, 400, "Invalid target state.\n")
        self.assertIn("environment.A", answer.json["message"])
        self.assertIn("but instead got: 1", answer.json["message"])

    def test_a_malformed_structure_is_answered_with_400(self):
        bodies = [
            {"local": {"apps": {"1": None}}},
            {"local": {"apps": {"x": {"name": "a", "services": {}}}}},
            {"local": {"apps": {"1": {"name": "a", "commit": "c", "releaseId": 1, "services": {"1": None}}}}},
            {"local": {"apps": 5}},
            {"local": {"config": {"A": 1}}},
            {"local": {"name": 5}},
        ]
        for body in bodies:
            with self.subTest(body=body):
                answer = self.device.request("POST", TARGET, body)
                self.assertEqual((answer.status, answer.json["status"]), (400, "failed"), answer.text)

    def test_an_image_reference_that_cannot_be_parsed_is_answered_with_400(self):
        answer = self.device.post_target(app(service("one", image="no such image!")))
        self.assertEqual((answer.status, answer.json["status"]), (400, "failed"), answer.text)

    def test_a_body_over_the_limit_is_answered_with_503(self):
        for body in (b" " * (10 * 1024 * 1024 + 1), gzip.compress(b" " * (10 * 1024 * 1024 + 1))):
            headers = dict(JSON)
            if body[:2] == b"\x1f\x8b":
                headers["Content-Encoding"] = "gzip"
            with self.subTest(headers=headers):
                answer = self.send_and_read("POST", TARGET, body, headers)
                self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer[:200])
                self.assertIn(b'"message":"request entity too large"', answer)

    def send_and_read(self, method, path, body, headers):
        """A client that goes on sending after the answer may see a reset; what it has read counts."""
        lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with self.device.connect() as connection:
            try:
                connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
                connection.sendall(body)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_all(connection)

    def test_a_body_in_an_unknown_encoding_is_answered_with_503(self):
        answer = self.device.request("POST", TARGET, "{}", {**JSON, "Content-Encoding": "br2"})
        self.assert_failure(answer, 503, 'unsupported content encoding "br2"')

    def test_a_body_in_an_unknown_character_set_is_answered_with_503(self):
        answer = self.device.request("POST", TARGET, "{}", {"Content-Type": "application/json; charset=latin1"})
        self.assert_failure(answer, 503, 'unsupported charset "LATIN1"')

    def test_a_chunk_cut_short_applies_nothing_and_ends_the_connection(self):
        body = json.dumps({"local": {"apps": app(service("one"))}}).encode()
        head = f"POST {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        with self.device.connect() as connection:
            connection.sendall(head.encode() + f"{len(body) + 10:x}\r\n".encode() + body)
            connection.shutdown(socket.SHUT_WR)
            answer = read_all(connection)
        self.assertFalse(answer.startswith(b"HTTP/1.1 200"), answer)

    def test_a_chunk_size_that_is_no_number_is_refused_and_ends_the_connection(self):
        head = f"POST {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        with self.device.connect() as connection:
            connection.sendall(head.encode() + b"zz\r\n{}\r\n0\r\n\r\n")
            answer = read_all(connection)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer[:200])
        self.assertEqual(answer.count(b"HTTP/1.1"), 1)

    def test_a_length_and_a_chunked_encoding_together_are_refused(self):
        head = f"POST {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        with self.device.connect() as connection:
            connection.sendall(head.encode() + b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = read_all(connection)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer[:200])
        self.assertEqual(answer.count(b"HTTP/1.1"), 1)

    def test_a_request_after_a_framing_error_is_never_answered(self):
        with self.device.connect() as connection:
            connection.sendall(
                b"GET /ping HTTP/1.1\r\nHost : a\r\n\r\n"
                b"POST /v2/local/target-state HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            answer = read_all(connection)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer[:200])
        self.assertEqual(answer.count(b"HTTP/1.1"), 1)

    def test_a_request_after_a_refused_body_is_answered_on_the_same_connection(self):
        body = b'{"local":'
        with self.device.connect() as connection:
            connection.sendall(
                f"POST {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode() + body
                + b"GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = read_all(connection)
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer[:200])
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 1)
        self.assertTrue(answer.endswith(b"OK"))

    def test_an_endless_header_is_refused(self):
        with self.device.connect() as connection:
            try:
                connection.sendall(b"GET /ping HTTP/1.1\r\nX: " + b"x" * (1024 * 1024))
            except (BrokenPipeError, ConnectionResetError):
                pass
            answer = read_all(connection)
        self.assertTrue(answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")), answer[:200])

    def test_an_unknown_app_is_answered_with_409_and_a_bad_id_with_400(self):
        self.assert_failure(
            self.device.get("/v2/applications/9000/state"), 409, "Application ID does not exist: 9000")
        self.assert_failure(
            self.device.get("/v2/applications/123invalid/state"), 400, "Invalid application ID: 123invalid")

    def test_an_unknown_service_is_answered_with_503(self):
        self.assert_failure(
            self.device.get("/v2/containerId?service=nope"), 503, "Could not find service with that name")

    def test_an_unknown_path_is_answered_with_a_page_that_names_it(self):
        answer = self.device.request("PUT", "/no/such/path?key=secret")
        self.assertEqual(answer.status, 404)
        self.assertEqual(answer.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertIn("<pre>Cannot PUT /no/such/path</pre>", answer.text)

    def test_an_object_in_place_of_json_without_its_content_type_counts_as_an_empty_body(self):
        answer = self.device.request("POST", TARGET, '{"local": 5', {"Content-Type": "text/plain"})
        self.assertEqual((answer.status, answer.json), (200, {"status": "success", "message": "OK"}))
