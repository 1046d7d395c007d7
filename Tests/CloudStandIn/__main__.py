"""Starts the stand-in by hand: `make cloud`. A page on the control port shows the device and has its buttons."""

import argparse
import http.server
import json
import os
import sys
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from server import StandIn  # noqa: E402


def main():
    parser = argparse.ArgumentParser(prog="make cloud", description="A cloud for one desk.")
    parser.add_argument("--directory", default=".run/cloud", help="certificates and files go here")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8443, help="https port of the API")
    parser.add_argument("--plain-port", type=int, default=8080, help="http port; redirects to https")
    parser.add_argument("--plain", action="store_true", help="serve the API on the http port, too")
    parser.add_argument("--page", type=int, default=8000, help="port of the page")
    parser.add_argument("--image", default="", help="image of the first release's service `main`")
    parser.add_argument("--command", default="", help="its command, for an image that has none")
    parser.add_argument("--device", default="127.0.0.1:48484", help="where the device's API listens")
    parser.add_argument("--poll", type=int, default=60000, help="floor of the poll interval in ms")
    options = parser.parse_args()
    stand_in = StandIn(
        options.directory, host=options.address, port=options.port, plain_port=options.plain_port,
        plain=options.plain, poll_floor=options.poll)
    host, _, port = options.device.rpartition(":")
    stand_in.device_address = (host, int(port))
    fleet = stand_in.cloud.add_fleet("desk", provisioning_key="provisioning-key-of-the-desk")
    if options.image:
        composition = {"composition": {"command": options.command}} if options.command else {}
        stand_in.cloud.add_release(fleet, {"main": {"image": options.image, **composition}})
    config = {
        "apiEndpoint": stand_in.url, "apiKey": "provisioning-key-of-the-desk", "applicationId": fleet.id,
        "deviceType": "generic-amd64", "balenaRootCA": stand_in.root_base64,
        "appUpdatePollInterval": options.poll,
    }
    path = os.path.join(options.directory, "config.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
    print(f"API   {stand_in.url}\nPage  http://{options.address}:{options.page}\n"
          f"Give the device {path}, or start it with --config {path}", flush=True)
    server = http.server.ThreadingHTTPServer((options.address, options.page), page_handler(stand_in, fleet))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        stand_in.stop()


def page_handler(stand_in, fleet):
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.html")

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, content, content_type="application/json", status=200):
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            if self.path == "/":
                with open(page, "rb") as file:
                    return self.answer(file.read(), "text/html; charset=utf-8")
            if self.path == "/state":
                return self.answer(snapshot())
            if self.path == "/requests":
                return self.answer(dump())
            self.answer({"error": "Not Found"}, status=404)

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                self.answer(act(urllib.parse.urlsplit(self.path).path, json.loads(body or b"{}")))
            except (KeyError, TypeError, ValueError, StopIteration) as error:
                self.answer({"error": f"{type(error).__name__}: {error}"}, status=400)

    def snapshot():
        devices = []
        for device in list(stand_in.cloud.devices.values()):
            shown = {k: v for k, v in device.state.items() if k != "api_secret"}
            devices.append({
                "uuid": device.uuid, "id": device.id, "name": device.name, "state": shown,
                "config": device.config, "tags": {k: v[1] for k, v in device.tags.items()},
                "heartbeats": len(device.heartbeats), "frozen": device.frozen, "deleted": device.deleted,
                "pin": device.pin, "logs": device.logs[-200:],
                "records": len(device.log_arrivals),
            })
        requests = [
            {k: row.get(k) for k in ("at", "endpoint", "method", "path", "status")}
            for row in list(stand_in.requests)[-50:] if row["endpoint"] not in ("connection",)
        ]
        faults = [vars(fault) for fault in stand_in.faults.list]
        releases = [{"commit": r.commit, "services": r.services} for r in fleet.releases.values()]
        return {"devices": devices, "requests": requests, "faults": faults, "releases": releases,
                "tracked": fleet.tracked}

    def dump():
        """All that was asked, with times of the monotonic clock; without bodies, which have keys in them."""
        names = ("at", "done", "endpoint", "method", "path", "status", "scheme", "resumed", "sent", "received", "error")
        return [{name: row[name] for name in names if row.get(name) is not None} for row in list(stand_in.requests)]

    def act(path, body):
        cloud = stand_in.cloud
        if path == "/fault":
            return vars(stand_in.faults.add(**body))
        if path == "/faults/clear":
            stand_in.faults.clear()
            return {}
        if path == "/release":
            release = cloud.add_release(fleet, body["services"])
            cloud.notify()
            return {"commit": release.commit}
        if path == "/connections":
            stand_in.accept_delay = body.get("delay", stand_in.accept_delay)
            stand_in.socket_limit = body.get("limit", stand_in.socket_limit)
            stand_in.use_certificate(*stand_in.certificate, has_tickets=body.get("sessions", True))
            return {}
        if path == "/close-idle":
            return {"closed": stand_in.close_idle()}
        device = cloud.devices[body["uuid"]]
        if path == "/config":
            device.config[body["name"]] = body["value"]
            cloud.notify([device])
        elif path == "/set":
            for name in ("frozen", "deleted", "pin", "name"):
                if name in body:
                    setattr(device, name, body[name])
            cloud.notify([device])
        elif path == "/update":
            cloud.notify([device])
        elif path == "/rotate":
            cloud.rotate_key(device, body["key"])
        elif path == "/call":
            status, _, content = stand_in.forward(device, body.get("method", "POST"), body["path"], body.get("data"))
            return {"status": status, "body": content.decode()}
        else:
            raise KeyError(path)
        return {}

    return Handler


if __name__ == "__main__":
    main()
