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

    def test_applied_is_not_said_before_the_new_containers_are_there(self):
        agent = self.agent()
        client = Client(agent)
        for number, image in enumerate((IMAGE, OTHER_IMAGE, IMAGE), 1):
            state = client.call("GET", "/v2/local/target-state")["state"]
            commit = f"{number}0ca12e1ea5e"
            state["local"]["apps"] = {"1": {
                "name": "localapp", "commit": commit, "releaseId": str(number), "volumes": {}, "networks": {},
                "services": {"1": self.local_service(1, "main", image, environment={"NUMBER": str(number)})}}}
            client.call("POST", "/v2/local/target-state", state)
            # The first time that it is said counts.
            status = wait_until(lambda: (lambda s: s if s["appState"] == "applied" else None)(
                client.call("GET", "/v2/state/status")), "applied")
            container = self.engine.service_containers(1)["main"]
            self.assertIn(f"NUMBER={number}", container["Config"]["Env"])
            self.assertEqual([row["containerId"] for row in status["containers"]], [container["Id"]])
            self.assertEqual(status["release"], commit)

    def test_a_live_push_works_on_containers_and_images_behind_the_agents_back(self):
        agent = self.agent()
        client = Client(agent)
        tag, stage_image = "local_image_main:latest", "local_stage_main:latest"
        self.engine.make_image(tag, "main")
        self.engine.make_image(stage_image, "stage")
        try:
            status = self.push(client, "40ca12e1ea5e", self.local_service(1, "main", tag))
            container = status["containers"][0]["containerId"]
            # A container of a build stage, as the client makes it: it has no label.
            stage = self.engine.request("POST", "/containers/create", {
                "Image": stage_image, "Entrypoint": ["/bin/sh", "-c", "while true; do sleep 3600; done"]}).json["Id"]
            self.addCleanup(self.engine.remove, stage)
            self.engine.request("POST", f"/containers/{stage}/start")
            # A changed file: a command in the container, then kill and start from outside.
            made = self.engine.request("POST", f"/containers/{container}/exec", {"Cmd": ["touch", "/changed"]}).json["Id"]
            self.engine.request("POST", f"/exec/{made}/start", {"Detach": True})
            wait_until(lambda: self.engine.get(f"/exec/{made}/json")["ExitCode"] == 0, "the file is changed")
            self.assertEqual(self.engine.request("POST", f"/containers/{container}/kill").status, 204)
            self.assertIn(self.engine.request("POST", f"/containers/{container}/start").status, (204, 304))
            status = client.applied("40ca12e1ea5e")
            self.assertEqual([row["containerId"] for row in status["containers"]], [container])
            # A changed Dockerfile: the container is found by its service, deleted, and pushed anew.
            found = client.call("GET", "/v2/containerId?serviceName=main")
            self.assertEqual(found["containerId"], container)
            self.engine.make_image(tag, "main, changed")
            self.engine.remove(container)
            self.push(client, "40ca12e1ea5e", self.local_service(1, "main", tag))
            wait_until(lambda: (self.engine.service_containers(1).get("main") or {}).get("Image")
                       == self.engine.get(f"/images/{tag}/json")["Id"], "the new image runs")
            # What is not the agent's is as it was.
            self.assertTrue(self.engine.get(f"/containers/{stage}/json")["State"]["Running"])
            self.assertTrue(self.engine.has_image(stage_image))
            self.assertEqual([row["serviceName"] for row in client.applied("40ca12e1ea5e")["containers"]], ["main"])
        finally:
            for row in self.engine.containers():
                self.engine.remove(row["Id"])
            for name in (tag, stage_image):
                self.engine.request("DELETE", f"/images/{name}?force=1")

    def test_a_client_that_polls_and_one_that_reads_logs_come_back_after_a_restart_of_the_agent(self):
        agent = self.agent()
        client = Client(agent)
        self.push(client, "50ca12e1ea5e", self.local_service(1, "main", IMAGE))
        before = self.log_line(agent)
        agent.kill()
        agent.start(wait=False)
        # The client's own patience is enough.
        status = client.applied("50ca12e1ea5e")
        self.assertEqual([row["serviceName"] for row in status["containers"]], ["main"])
        self.assertEqual(self.log_line(agent), before)

    def log_line(self, agent):
        """The first line of `balena device logs`: /ping, then the stream."""
        self.assertEqual(Client(agent).call("GET", "/ping"), "OK")
        with agent.connect() as connection:
            connection.sendall(b"GET /v2/local/logs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a.b.c\r\n\r\n")
            data = b""
            while not data.endswith(b"}\n\r\n"):
                piece = connection.recv(65536)
                self.assertNotEqual(piece, b"", data)
                data += piece
        return data.partition(b"\r\n\r\n")[2].split(b"\r\n")[1]

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
