"""docs/api.md: written from docs/openapi.json and the answers of a running agent, and checked against both."""

import json
import os
import re
import subprocess

from harness import ROOT

PAGE = os.path.join(ROOT, "docs/api.md")
DOCUMENT = os.path.join(ROOT, "docs/openapi.json")
LONGEST_ANSWER = 1500

JSON = "-H 'Content-Type: application/json'"
# Path and options of the calls that are more than a plain GET.
CALLS = {
    "POST /v1/update": ("/v1/update", f"-X POST {JSON} -d '{{\"force\":true}}'"),
    "POST /v1/regenerate-api-key": ("/v1/regenerate-api-key", "-X POST -H \"Authorization: Bearer $KEY\""),
    "POST /v1/reboot": ("/v1/reboot", "-X POST"),
    "POST /v1/shutdown": ("/v1/shutdown", f"-X POST {JSON} -d '{{\"force\":true}}'"),
    "POST /v1/blink": ("/v1/blink", "-X POST"),
    "PATCH /v2/device/tags": ("/v2/device/tags", f"-X PATCH {JSON} -d '{{\"location\":\"warehouse 3\"}}'"),
    "PATCH /v1/device/host-config": (
        "/v1/device/host-config", f"-X PATCH {JSON} -d '{{\"network\":{{\"hostname\":\"newname\"}}}}'"),
    "POST /v1/purge": ("/v1/purge", f"-X POST {JSON} -d '{{\"appId\":1}}'"),
    "POST /v1/restart": ("/v1/restart", f"-X POST {JSON} -d '{{\"appId\":1}}'"),
    "POST /v2/applications/{appId}/purge": ("/v2/applications/1/purge", f"-X POST {JSON} -d '{{\"force\":true}}'"),
    "POST /v2/applications/{appId}/restart": ("/v2/applications/1/restart", "-X POST"),
    "GET /v1/apps/{appId}": ("/v1/apps/1", ""),
    "POST /v1/apps/{appId}/stop": ("/v1/apps/1/stop", "-X POST"),
    "POST /v1/apps/{appId}/start": ("/v1/apps/1/start", "-X POST"),
    **{f"POST /v2/applications/{{appId}}/{name}-service": (
        f"/v2/applications/2/{name}-service", f"-X POST {JSON} -d '{{\"serviceName\":\"one\"}}'")
       for name in ("restart", "stop", "start")},
    "GET /v2/applications/{appId}/state": ("/v2/applications/2/state", ""),
    "GET /v2/containerId": ("/v2/containerId?serviceName=one", ""),
    "POST /v2/local/target-state": (
        "/v2/local/target-state",
        f"-X POST {JSON} -d '{{\"local\":{{\"name\":\"my-device\",\"config\":{{}},\"apps\":{{}}}}}}'"),
    "GET /v2/local/logs": ("/v2/local/logs", "-N --max-time 2"),
    "POST /v2/journal-logs": (
        "/v2/journal-logs", f"-X POST {JSON} -d '{{\"count\":2,\"format\":\"short-iso\"}}' --max-time 10"),
    "GET /v2/events": ("/v2/events", "-N --max-time 2"),
}
# They end what the others need.
LAST = ["POST /v2/local/target-state", "POST /v1/reboot", "POST /v1/shutdown"]
SCOPES = {
    "open": "No key is asked for.",
    "any": "Any valid key.",
    "app": "The key must cover the app.",
    "hidden": "To a key that does not cover the app, the app does not exist.",
    "filter": "The answer is about the apps that the key covers.",
    "own": "About the caller's own key.",
}


def document():
    with open(DOCUMENT, encoding="utf-8") as file:
        return json.load(file)


def operations():
    """(route, group, operation) in the order of the document."""
    found = []
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            found.append((f"{method.upper()} {path}", operation["tags"][0], operation))
    return found


def curl_line(route):
    path, options = CALLS.get(route, (route.split(" ")[1], ""))
    return " ".join(filter(None, ["curl", options, f'"$BALENA_SUPERVISOR_ADDRESS{path}"']))


def call(line, agent, key):
    """(status, content type, body) of a curl line."""
    shown = "\n%{http_code} %{content_type}"
    done = subprocess.run(
        ["bash", "-c", f"{line} --silent --write-out '{shown}'"], capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, check=False,
        env={"PATH": os.environ["PATH"], "BALENA_SUPERVISOR_ADDRESS": f"http://127.0.0.1:{agent.port}", "KEY": key})
    # 28: the time that the line allows a stream is over.
    if done.returncode not in (0, 28):
        raise AssertionError(f"{line}: curl ended with {done.returncode}")
    body, _, facts = done.stdout.rpartition("\n")
    status, _, kind = facts.partition(" ")
    return int(status), kind, body


def shown_answer(status, kind, body):
    # The directory of a test, the addresses and the port of the machine that ran it say nothing.
    body = re.sub(r"/\S*/agents/[^/]*/host(?=/)", "", body)
    body = re.sub(r'("ip_address":)"[^"]*"', r'\1"192.168.0.114"', body)
    body = re.sub(r'("mac_address":)"[^"]*"', r'\1"DE:AD:BE:EF:00:01"', body)
    body = re.sub(r'("api_port":)\d+', r"\g<1>48484", body)
    if len(body) > LONGEST_ANSWER:
        body = body[:LONGEST_ANSWER] + "\n…"
    lines = [f"{status} {kind}".strip()]
    return "\n".join(lines + ([body.rstrip("\n")] if body else []))


INTRODUCTION = """# HTTP API

Written by `scripts/generate-api-docs` from `docs/openapi.json` and a run of the agent; a test makes each of these
calls again. The answers are those of a device with two apps, shortened after {longest} characters.

The agent listens on port 48484. In a container with the label `io.balena.features.supervisor-api` the address is in
`BALENA_SUPERVISOR_ADDRESS` and the key in `BALENA_SUPERVISOR_API_KEY`:

```sh
curl "$BALENA_SUPERVISOR_ADDRESS/v2/version" -H "Authorization: Bearer $BALENA_SUPERVISOR_API_KEY"
curl "$BALENA_SUPERVISOR_ADDRESS/v2/version?apikey=$BALENA_SUPERVISOR_API_KEY"
```

- A key in the query rules: the header is not looked at, even when the key of the query is wrong. Without a valid key
  every route but the open ones, and every unknown path, is answered with `401` and the text `Unauthorized`.
- In local mode, and on a device without a cloud, no key is asked for. The examples below are from such a device.
- A body that cannot be read is answered with `503` and `{{"status":"failed","message":…}}`. Bodies are JSON or
  forms, at most 10 MiB, also with `Content-Encoding: gzip` or `deflate`. A body of another content type counts as none.
- An update lock in the way is answered with `423`; `force` in the body overrides it.
- Each request is one record of the log with method, path, status, bytes, microseconds and what the key covers: of level
  `debug` for a read that succeeded, `info` for the rest, none for the open routes. Never the query, never the key.
- [`openapi.json`](openapi.json) describes every answer; the agent serves it at `/v2/openapi.json`.
"""


def resolved(schema):
    if "$ref" in schema:
        return document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def details(operation):
    """What a call may say, and what it may be answered."""
    lines = []
    for parameter in operation.get("parameters", []):
        if parameter["in"] != "path":
            lines.append(f"- {parameter['in']} `{parameter['name']}`"
                         + (f": {parameter['description']}" if parameter.get("description") else ""))
    for content in list(operation.get("requestBody", {}).get("content", {}).values())[:1]:
        for name, field in resolved(content["schema"]).get("properties", {}).items():
            field = resolved(field)
            lines.append(f"- body `{name}`" + (f": {field['description']}" if field.get("description") else ""))
    for status, response in sorted(operation["responses"].items()):
        lines.append(f"- {status}: {response.get('description', '')}".rstrip(": "))
    return ["\n".join(lines) + "\n"]


def page(answers):
    groups = {}
    for route, group, operation in operations():
        groups.setdefault(group, []).append((route, operation))
    text = [INTRODUCTION.format(longest=LONGEST_ANSWER)]
    for group, routes in groups.items():
        text.append(f"## {group}\n")
        if group == "Extensions":
            text.append("Beyond the reference. Nothing here stands in the way of a route above.\n")
        for route, operation in routes:
            text.append(f"### {route}\n")
            about = operation.get("description") or operation.get("summary") or ""
            if operation.get("description") and operation.get("summary"):
                about = f"{operation['summary']}\n\n{operation['description']}"
            if about:
                text.append(about.rstrip() + "\n")
            text.append(SCOPES[operation["x-scope"]] + "\n")
            text += details(operation)
            text.append(f"```\n$ {curl_line(route)}\n{shown_answer(*answers[route])}\n```\n")
    return "\n".join(text)


def examples():
    """{route: (curl line, status, content type)} of the page."""
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    found = {}
    for match in re.finditer(r"^### (.+)$[\s\S]*?^```\n\$ (curl .+)\n(\d{3}) ?(.*)$", text, re.MULTILINE):
        found[match[1]] = (match[2], int(match[3]), match[4])
    return found
