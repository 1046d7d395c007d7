"""What the tests of the HTTP API share: tables, raw requests, keys, a device in a known state."""

import json
import os
import re
import sqlite3

from harness import COMMAND, IMAGE, ROOT, app, service

GOLDEN = os.path.join(ROOT, "Tests/DeviceAPITests/Golden")
# The uuid and keys are those of no device.
MANAGED = json.dumps({
    "apiEndpoint": "http://127.0.0.1:9", "uuid": "0123456789abcdef0123456789abcdef", "deviceApiKey": "none",
    "deviceId": 1, "registered_at": 1,
})


def load(name):
    with open(os.path.join(GOLDEN, name), encoding="utf-8") as file:
        return json.load(file)


def read_answer(connection):
    """One answer with a length; (status line, header pairs, body)."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise AssertionError(f"closed in the head: {data[:200]!r}")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = [tuple(line.split(": ", 1)) for line in lines[1:]]
    length = int(dict(fields).get("Content-Length", 0))
    return lines[0], fields, body, length


def exchange(agent, method, path, headers=(), body=None):
    """One request on a connection of its own, with all of the answer's bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: device"]
    lines += [f"{name}: {value}" for name, value in headers]
    payload = b""
    if body is not None:
        payload = body.encode()
        lines.append(f"Content-Length: {len(payload)}")
    with agent.connect() as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
        status, fields, answer, length = read_answer(connection)
        if method == "HEAD":
            length = 0
        while len(answer) < length:
            answer += connection.recv(65536)
        connection.settimeout(0.05)
        try:
            answer += connection.recv(65536)
        except TimeoutError:
            pass
    return status, fields, answer.decode()


def check_case(test, agent, case, variables=None):
    """Compares an answer with its row, head included: no field more, none less."""

    def fill(text):
        for name, value in (variables or {}).items():
            text = text.replace("{{" + name + "}}", value)
        return text

    body = case.get("body")
    status, fields, answer = exchange(
        agent, case["method"], fill(case["path"]), [(n, fill(v)) for n, v in case.get("headers", {}).items()],
        None if body is None else fill(body))
    test.assertEqual(int(status.split()[1]), case["status"], (status, answer))
    wanted = {"Date": None, "Connection": "keep-alive", "Keep-Alive": "timeout=5"}
    if case["type"]:
        wanted["Content-Type"] = case["type"]
    if case["status"] != 204:
        wanted["Content-Length"] = str(len(answer.encode()))
    wanted.update(case.get("answerHeaders", {}))
    names = [name for name, _ in fields]
    test.assertEqual(sorted(names), sorted(wanted), fields)
    for name, value in fields:
        if wanted[name] is not None:
            test.assertEqual(value, wanted[name], name)
    if "answer" in case:
        test.assertEqual(answer, fill(case["answer"]))
    if "pattern" in case:
        test.assertRegex(answer, re.compile(r"\A(?:" + fill(case["pattern"]) + r")\Z"))


def database(agent, sql, values=()):
    connection = sqlite3.connect(agent.path("database.sqlite"), timeout=10)
    try:
        with connection:
            return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def global_key(agent):
    rows = database(agent, "SELECT key FROM api_key WHERE app_id = 0 AND service_name IS NULL")
    return rows[0][0] if rows else None


def add_key(agent, app_id, key, name="key"):
    """A key of an app's service; the agent must not run."""
    scopes = json.dumps([{"type": "app", "appId": app_id}])
    database(agent, "INSERT INTO api_key (app_id, service_name, key, scopes) VALUES (?, ?, ?, ?)",
             (app_id, name, key, scopes))


def set_local_mode(agent, value):
    """The agent must not run."""
    database(agent, "INSERT INTO config (key, value) VALUES ('localMode', ?)"
                    " ON CONFLICT (key) DO UPDATE SET value = excluded.value", ("true" if value else "false",))


def put_preload(agent, *app_ids, name="main", **more):
    """apps.json for an agent that has not run: each app has one service, which gets a key of the API."""
    apps = {}
    for app_id in app_ids:
        apps["a" * 31 + str(app_id)] = {"id": app_id, "name": f"app{app_id}", "class": "fleet", "releases": {
            f"c0ffee0{app_id}": {"id": app_id, "volumes": {}, "networks": {}, "services": {name: {
                "id": app_id, "image_id": app_id, "image": IMAGE, "environment": {},
                "labels": {"io.balena.features.supervisor-api": "1"},
                "composition": {"command": COMMAND, "restart": "always", **more}}}}}}
    with open(agent.path("data/apps.json"), "w", encoding="utf-8") as file:
        json.dump({"config": {}, "apps": apps}, file)


def app_key(agent, app_id):
    """The key of an app's service; None when it has none yet."""
    rows = database(agent, "SELECT key FROM api_key WHERE app_id = ? AND service_name IS NOT NULL", (app_id,))
    return rows[0][0] if rows else None


def bearer(key):
    return {"Authorization": f"Bearer {key}"} if key else {}


def two_apps():
    """App 1 has one service, app 2 two."""
    return {
        **app(service("main"), app_id=1),
        **app(service("one", number=21), service("two", number=22), app_id=2, commit="c0ffee02", release_id=2),
    }


def lock(agent, app_id, name, file="updates.lock"):
    """A user's update lock; returns its path."""
    directory = agent.path(f"host/tmp/balena-supervisor/services/{app_id}/{name}")
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, file)
    with open(path, "w", encoding="utf-8"):
        pass
    return path
