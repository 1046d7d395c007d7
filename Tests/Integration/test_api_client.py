"""A client's view: the requests of a developer's command line, in its order and with its tolerance."""

import http.client
import json
import time

from harness import COMMAND, IMAGE, OTHER_IMAGE, DeviceTest, wait_until

# A session token of the cloud, which the client sends whatever the device wants.
TOKEN = {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJpZCI6MX0.c2lnbmF0dXJl"}
ATTEMPTS = 6
CALL_SECONDS = 59


class Client:
    """Calls as the command line makes them: six attempts, errors by `message` or by text."""

    def __init__(self, agent):
        self.agent = agent

    def call(self, method, path, body=None):
        for attempt in range(ATTEMPTS):
            try:
                answer = self.agent.request(method, path, body, dict(TOKEN), timeout=CALL_SECONDS)
            except (OSError, http.client.HTTPException):
                answer = None
            if answer is not None and answer.status == 200:
                kind = answer.headers.get("Content-Type", "")
                return answer.json if kind.startswith("application/json") else answer.text
            if answer is not None and answer.status == 400:
                break
            time.sleep(0.2 * 2 ** attempt)
        if answer is None:
            raise AssertionError(f"{method} {path}: no answer")
        try:
            body = answer.json
        except ValueError:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.text}") from None
        if not isinstance(body, dict) or not isinstance(body.get("message"), str):
            raise AssertionError(f"{method} {path}: an error that the client cannot read: {answer.text}")
        raise AssertionError(f"{method} {path}: {answer.status} {body['message']}")

    def applied(self, commit):
        def is_applied():
            status = self.call("GET", "/v2/state/status")
            assert status["status"] == "success"
            assert status["appState"] in ("applied", "applying")
            running = [row for row in status["containers"] if row["status"] == "Running"]
            return status if status["appState"] == "applied" and status.get("release") == commit and running else None

        return wait_until(is_applied, f"{commit} is applied")


class CommandLine(DeviceTest):
    def local_service(self, number, name, image, **more):
        return {
            "environment": {}, "labels": {}, "imageId": number, "serviceName": name, "serviceId": number,
            "image": image, "running": True, "contract": {}, "command": COMMAND, "tty": False, **more,
        }

    def push(self, client, commit, *services):
        """The agent's part of a push, as one sequence."""
        self.assertEqual(client.call("GET", "/ping"), "OK")
        version = tuple(int(part) for part in client.call("GET", "/v2/version")["version"].split("+")[0]
                        .split("-")[0].split("."))
        self.assertGreaterEqual(version, (9, 7, 0))
        info = client.call("GET", "/v2/local/device-info")["info"]
        self.assertEqual(sorted(info), ["arch", "deviceType"])
        answer = client.call("GET", "/v2/local/target-state")
        self.assertEqual(answer["status"], "success")
        state = answer["state"]
        self.assertIsInstance(state["local"]["config"], dict)
        self.assertTrue(all(isinstance(value, str) for value in state["local"]["config"].values()))
        state["local"]["apps"] = {"1": {
            "name": "localapp", "commit": commit, "releaseId": "1",
            "services": {str(index): row for index, row in enumerate(services, 1)},
            "volumes": {}, "networks": {},
        }}
        self.assertEqual(client.call("POST", "/v2/local/target-state", state),
                         {"status": "success", "message": "OK"})
        return client.applied(commit)

    def test_a_push_and_the_calls_that_follow_it(self):
        agent = self.agent()
        client = Client(agent)
        first = self.push(client, "10ca12e1ea5e", self.local_service(1, "main", IMAGE))
        row = first["containers"][0]
        self.assertEqual(client.call("GET", "/v2/containerId?serviceName=main"),
                         {"status": "success", "containerId": row["containerId"]})
        # `ssh` finds containers by their names.
        name = self.engine.service_containers(1)["main"]["Name"]
        self.assertRegex(name, r"(^|/)main_\d+_\d+")
        # The same again changes nothing.
        again = self.push(client, "10ca12e1ea5e", self.local_service(1, "main", IMAGE))
        self.assertEqual(again["containers"][0]["containerId"], row["containerId"])
        # The same, with the container gone behind the agent's back, brings it back.
        self.engine.remove(row["containerId"])
        self.push(client, "10ca12e1ea5e", self.local_service(1, "main", IMAGE))
        wait_until(lambda: self.engine.service_containers(1).get("main"), "the container is back")
        # Another release with another service.
        last = self.push(client, "20ca12e1ea5e", self.local_service(1, "main", OTHER_IMAGE),
                         self.local_service(2, "second", IMAGE))
        wait_until(lambda: sorted(self.engine.service_containers(1)) == ["main", "second"], "both run")
        self.assertEqual(last["release"], "20ca12e1ea5e")
        containers = client.call("GET", "/v2/containerId")["services"]
        self.assertEqual(sorted(containers), ["main", "second"])

    def test_the_same_tag_on_a_new_image_makes_the_container_anew(self):
        tag = "local_image_main:latest"
        agent = self.agent()
        client = Client(agent)
        self.engine.make_image(tag, "first")
        try:
            first = self.push(client, "30ca12e1ea5e", self.local_service(1, "main", tag))
            self.engine.make_image(tag, "second")
            self.push(client, "30ca12e1ea5e", self.local_service(1, "main", tag))
            image = self.engine.get(f"/images/{tag}/json")["Id"]
            wait_until(lambda: (self.engine.service_containers(1).get("main") or {}).get("Image") == image,
                       "the new image runs")
            self.assertNotEqual(client.applied("30ca12e1ea5e")["containers"][0]["containerId"],
                                first["containers"][0]["containerId"])
        finally:
            for container in self.engine.containers():
                self.engine.remove(container["Id"])
            self.engine.request("DELETE", f"/images/{tag}?force=1")

    def test_the_log_stream_opens_at_once_with_a_line_of_its_own(self):
        agent = self.agent()
        with agent.connect() as connection:
            connection.sendall(b"GET /v2/local/logs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a.b.c\r\n\r\n")
            data = b""
            while b"isSystem" not in data or not data.endswith(b"}\n\r\n"):
                piece = connection.recv(65536)
                self.assertNotEqual(piece, b"", data)
                data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertNotIn(b"content-type", head.lower())
        line = body.split(b"\r\n")[1]
        self.assertEqual(json.loads(line), {"message": "Streaming logs", "isSystem": True})

    def test_an_error_can_be_read_by_the_client(self):
        client = Client(self.agent())
        with self.assertRaisesRegex(AssertionError, "400 Invalid target state"):
            client.call("POST", "/v2/local/target-state", {"local": {"apps": {"1": {"name": 5}}}})
        with self.assertRaisesRegex(AssertionError, "503 Could not find service with that name"):
            client.call("GET", "/v2/containerId?serviceName=nope")
