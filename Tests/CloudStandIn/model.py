"""What the cloud knows, and its rules: fleets, releases, devices, keys, variables, tags, reports, logs.

Nothing here speaks HTTP. A refusal is raised as `Refused`, with the status and body of the real API.
"""

import copy
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field

import reports

POLL_FLOOR = 600000
LOG_LIMIT = 1000
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_:]*")


class Refused(Exception):
    def __init__(self, status, body=""):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


@dataclass
class Release:
    id: int
    commit: str
    services: dict
    networks: dict = field(default_factory=dict)
    volumes: dict = field(default_factory=dict)
    status: str = "success"


@dataclass
class Fleet:
    id: int
    uuid: str
    name: str
    releases: dict = field(default_factory=dict)
    tracked: str = ""
    config: dict = field(default_factory=dict)


@dataclass
class Device:
    id: int
    uuid: str
    fleet: Fleet
    name: str
    type: str
    keys: set = field(default_factory=set)
    config: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    pin: str = ""
    state: dict = field(default_factory=dict)
    heartbeats: list = field(default_factory=list)
    registration: dict = field(default_factory=dict)
    image_rows: dict = field(default_factory=dict)
    logs: list = field(default_factory=list)
    log_arrivals: list = field(default_factory=list)
    frozen: bool = False
    deleted: bool = False
    address: str = ""
    running: str = ""
    update_status: str = ""
    metrics_at: float | None = None
    logged: int = 0
    batches: list = field(default_factory=list)


class Cloud:
    """All tables. Methods that the HTTP side calls take the caller's key and are serialised by `lock`."""

    def __init__(self, poll_floor=POLL_FLOOR, refusal_memory=0):
        """`refusal_memory`: seconds for which a key that was refused a target stays so; the real API's are 600."""
        self.lock = threading.RLock()
        self.poll_floor = poll_floor
        self.refusal_memory = refusal_memory
        self.refused = {}
        self.supervisor_releases = []
        self.fleets = {}
        self.devices = {}
        self.provisioning_keys = {}
        self.user_keys = set()
        self.next_id = 100
        self.on_update = lambda device: None
        self.retired_keys = set()

    def new_id(self):
        self.next_id += 1
        return self.next_id

    # --- control plane

    def add_fleet(self, name="fleet", uuid=None, provisioning_key=None):
        with self.lock:
            fleet = Fleet(self.new_id(), uuid or hashlib.md5(name.encode()).hexdigest(), name)
            self.fleets[fleet.id] = fleet
            if provisioning_key:
                self.provisioning_keys[provisioning_key] = fleet
            return fleet

    def add_release(self, fleet, services, networks=None, volumes=None, track=True, commit=None, status="success"):
        """`services`: name -> {image, environment, labels, composition, …}; ids are made here."""
        with self.lock:
            number = self.new_id()
            commit = commit or hashlib.sha1(f"{fleet.uuid}{number}".encode()).hexdigest()
            full = {}
            for name, service in services.items():
                full[name] = {
                    "id": int(hashlib.sha1(name.encode()).hexdigest()[:6], 16), "image_id": self.new_id(),
                    "environment": {}, "labels": {}, **service,
                }
            release = Release(number, commit, full, networks or {}, volumes or {}, status)
            fleet.releases[commit] = release
            if track:
                fleet.tracked = commit
            return release

    def add_device(self, fleet, uuid, key, name="device", device_type="generic-amd64"):
        with self.lock:
            device = Device(self.new_id(), uuid, fleet, name, device_type, keys={key})
            self.devices[uuid] = device
            return device

    def notify(self, devices=None):
        for device in devices or list(self.devices.values()):
            self.on_update(device)

    # --- keys

    def rotate_key(self, device, key):
        """From now on the device is known by this key alone."""
        with self.lock:
            device.keys = {key}

    def device_of_key(self, key):
        for device in self.devices.values():
            if key in device.keys:
                return device
        return None

    def authenticated(self, key, uuid):
        """The device, when the key may act as it; 401 otherwise."""
        device = self.devices.get(uuid)
        if not key or device is None or key not in device.keys:
            raise Refused(401)
        return device

    def reader(self, key, uuid):
        """The device of a request for its target; a refusal is remembered."""
        now = time.monotonic()
        if now - self.refused.get((key, uuid), float("-inf")) < self.refusal_memory:
            raise Refused(401)
        try:
            return self.authenticated(key, uuid)
        except Refused:
            self.refused[key, uuid] = now
            raise

    # --- provisioning

    def register(self, key, body):
        if not key:
            raise Refused(401, {"error": "API key required"})
        fields = ("application", "uuid", "device_type")
        if not isinstance(body, dict) or any(
            body.get(name) is not None and not isinstance(body[name], str)
            for name in ("uuid", "device_type", "api_key", "supervisor_version", "os_version", "os_variant",
                         "mac_address")
        ):
            raise Refused(400)
        if any(body.get(name) is None for name in fields) or not isinstance(body["application"], int):
            raise Refused(400)
        with self.lock:
            if body["uuid"] in self.devices and not self.devices[body["uuid"]].deleted:
                raise Refused(409, '"uuid" must be unique.')
            if body.get("api_key") and self.device_of_key(body["api_key"]):
                raise Refused(409, '"key" must be unique.')
            fleet = self.provisioning_keys.get(key)
            if fleet is None:
                raise Refused(401)
            if fleet.id != body["application"]:
                raise Refused(403, "Forbidden")
            api_key = body.get("api_key") or hashlib.md5(body["uuid"].encode()).hexdigest()
            device = self.add_device(fleet, body["uuid"], api_key, f"device-{len(self.devices)}", body["device_type"])
            device.registration = dict(body)
            if device.registration.get("os_variant") not in (None, "dev", "prod"):
                del device.registration["os_variant"]
            return {"id": device.id, "uuid": device.uuid, "api_key": api_key}

    def add_device_key(self, caller, device_id, body):
        with self.lock:
            device = next((d for d in self.devices.values() if d.id == device_id), None)
            if device is None or caller not in self.user_keys:
                raise Refused(401)
            key = body.get("apiKey") if isinstance(body, dict) else None
            if not key:
                raise Refused(400)
            if self.device_of_key(key):
                raise Refused(409, '"key" must be unique.')
            device.keys.add(key)
            return key

    # --- OData

    def readable(self, caller, device):
        return caller in device.keys or caller in self.user_keys

    def rows(self, caller, resource):
        """Rows of a resource that the caller may see."""
        devices = [d for d in self.devices.values() if self.readable(caller, d) and not d.deleted]
        if resource == "device":
            return [{"id": d.id, "uuid": d.uuid, "device_name": d.name} for d in devices]
        if resource == "device_tag":
            return [
                {"id": row[0], "device": d.id, "tag_key": key, "value": row[1]}
                for d in devices for key, row in d.tags.items()
            ]
        fleets = {d.fleet.id: d.fleet for d in devices}.values()
        if resource == "release":
            return [
                {"id": r.id, "belongs_to__application": f.id, "commit": r.commit, "status": r.status}
                for f in fleets for r in f.releases.values()
            ]
        if resource == "application":
            return [{"id": f.id, "uuid": f.uuid, "app_name": f.name} for f in fleets]
        if resource == "supervisor_release":
            return self.supervisor_releases
        raise Refused(404, "Not Found")

    def patch_device(self, caller, device_id, body):
        with self.lock:
            device = next((d for d in self.devices.values() if d.id == device_id), None)
            if device is None or not self.readable(caller, device):
                raise Refused(401)
            if "device_name" in body:
                device.name = body["device_name"]
            if "is_pinned_on__release" in body:
                wanted = body["is_pinned_on__release"]
                commit = next((r.commit for r in device.fleet.releases.values() if r.id == wanted), None)
                if wanted is not None and commit is None:
                    raise Refused(400, "no such release")
                device.pin = commit or ""
        self.notify([device])

    def add_variable(self, caller, body):
        with self.lock:
            device = next((d for d in self.devices.values() if d.id == body.get("device")), None)
            if device is None or not self.readable(caller, device):
                raise Refused(401)
            name, value = body.get("name"), body.get("value")
            if not isinstance(name, str) or not isinstance(value, str) or not VARIABLE_NAME.fullmatch(name):
                raise Refused(400, "invalid variable")
            if not name.startswith(("RESIN_", "BALENA_")) or "\n" in value:
                raise Refused(400, "invalid variable")
            if name in device.config:
                raise Refused(409, "variable exists")
            device.config[name] = value
            return {"id": self.new_id(), "device": {"__id": device.id}, "name": name, "value": value}

    # --- target

    def target(self, device):
        """The document of `GET /device/v3/<uuid>/state`."""
        fleet = device.fleet
        config = {k: v for k, v in {**fleet.config, **device.config}.items()
                  if "_UI" not in k and k != "RESIN_HOST_LOG_TO_DISPLAY"}
        interval = config.get("RESIN_SUPERVISOR_POLL_INTERVAL", "0")
        interval = int(interval) if interval.isdigit() else 0
        config["RESIN_SUPERVISOR_POLL_INTERVAL"] = str(max(interval, self.poll_floor))
        app = {"id": fleet.id, "name": fleet.name, "class": "fleet", "is_host": False}
        release = fleet.releases.get(device.pin or fleet.tracked)
        if release:
            document = {"id": release.id}
            if release.services:
                document["services"] = {
                    name: {**copy.deepcopy(service), "image": service["image"].lower()}
                    for name, service in release.services.items()
                }
            for part in ("networks", "volumes"):
                if getattr(release, part):
                    document[part] = getattr(release, part)
            app["releases"] = {release.commit: document}
        return {device.uuid: {"name": device.name, "config": config, "apps": {fleet.uuid: app}}}

    def heartbeat(self, device):
        device.heartbeats.append(time.monotonic())

    # --- report

    def report(self, key, body, address=""):
        if not isinstance(body, dict) or not body:
            raise Refused(401)
        uuids = [uuid for uuid, value in body.items() if isinstance(value, dict)]
        with self.lock:
            known = [u for u in uuids if u in self.devices and not self.devices[u].frozen
                     and not self.devices[u].deleted]
            if not uuids or len(known) != len(uuids):
                raise Refused(401)
            if not key:
                raise Refused(401, {"error": "API key required"})
            for uuid in uuids:
                if not reports.is_valid(body[uuid]):
                    raise Refused(400)
            for uuid in uuids:
                self._check_images(self.authenticated(key, uuid), body[uuid])
            for uuid in uuids:
                reports.store(self.devices[uuid], body[uuid], address)

    def _check_images(self, device, state):
        for app_uuid, app in state.get("apps", {}).items():
            fleet = next((f for f in self.fleets.values() if f.uuid == app_uuid), None)
            for commit, release in app["releases"].items():
                known = fleet.releases.get(commit) if fleet else None
                if known is None or known.status != "success" or fleet is not device.fleet:
                    raise Refused(401)
                images = {s["image"].lower() for s in known.services.values()}
                for service in release["services"].values():
                    if service["image"] not in images:
                        raise Refused(401)

    def set_tags(self, key, body):
        if not isinstance(body, dict) or len(body) != 1:
            raise Refused(400)
        (uuid, tags), = body.items()
        with self.lock:
            device = self.authenticated(key, uuid)
            if not isinstance(tags, dict) or not tags:
                raise Refused(400)
            for name, value in tags.items():
                if not isinstance(value, str) or name.startswith(("io.resin.", "io.balena.")) or re.search(r"\s", name):
                    raise Refused(400)
            for name, value in tags.items():
                device.tags[name] = (device.tags.get(name, (self.new_id(),))[0], value)

    # --- logs

    def add_record(self, device, record):
        """False for a record that the real API skips."""
        if not isinstance(record, dict) or "uuid" in record:
            return False
        if not isinstance(record.get("message"), str) or not reports.is_number(record.get("timestamp")):
            return False
        if "serviceId" in record and not reports.is_number(record["serviceId"]):
            return False
        entry = {
            "createdAt": int(time.time() * 1000), "timestamp": record["timestamp"],
            "isSystem": record.get("isSystem") is True, "isStdErr": record.get("isStdErr") is True,
            "message": record["message"],
        }
        if "serviceId" in record:
            entry["serviceId"] = record["serviceId"]
        with self.lock:
            device.logs.append(entry)
            device.logged += 1
            del device.logs[:-LOG_LIMIT]
        return True


def etag(body):
    """Weak, over the uncompressed JSON: `W/"<hex length>-<27 characters>"`."""
    import base64

    digest = base64.b64encode(hashlib.sha1(body).digest()).decode()[:27]
    return f'W/"{len(body):x}-{digest}"'


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()
