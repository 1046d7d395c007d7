"""What the cloud makes of a device's report: the schema that it checks, and what it stores of which field."""

import time

UPDATE_STATUSES = ("aborted", "applying changes", "done", "downloaded", "downloading", "rejected")
# Of several releases the first of these is the device's.
STRONGEST = ("rejected", "aborted", "downloading", "downloaded", "applying changes", "done")
SERVICE_STATUSES = (
    "Downloading", "Downloaded", "Installing", "Installed", "Starting", "Running", "Idle", "Handing over",
    "Awaiting handover", "Stopping", "Stopped", "exited", "Deleting", "deleted", "Dead", "paused", "restarting",
    "removing", "configuring", "Unknown",
)
METRICS = (
    "memory_usage", "memory_total", "storage_block_device", "storage_usage", "storage_total", "cpu_temp",
    "cpu_usage", "cpu_id",
)
# Seconds between two reports of metrics alone, and between two of a download's progress, that are stored.
METRICS_SPACING, PROGRESS_SPACING = 60, 30
LARGEST = 2**31 - 1
TEXT_LIMITS = {"status": 50, "os_version": 70, "supervisor_version": 20, "api_secret": 64}
LIST_LIMITS = {"ip_address": 2000, "mac_address": 900}
# Whether the field may be null.
TEXTS = {"status": False, "supervisor_version": False, "ip_address": False, "mac_address": False, "os_version": True,
         "os_variant": True, "provisioning_state": True, "api_secret": True, "cpu_id": True,
         "storage_block_device": True, "logs_channel": True}
NUMBERS = {"api_port": False, "provisioning_progress": True,
           **{name: True for name in METRICS if name not in ("cpu_id", "storage_block_device")}}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_valid(state):
    """The schema of the report: no field is required, some may be null, unknown ones are ignored."""
    for name, nullable in TEXTS.items():
        if name in state and not (isinstance(state[name], str) or nullable and state[name] is None):
            return False
    for name, nullable in NUMBERS.items():
        if name in state and not (is_number(state[name]) or nullable and state[name] is None):
            return False
    if "is_undervolted" in state and not isinstance(state["is_undervolted"], bool):
        return False
    apps = state.get("apps", {})
    return isinstance(apps, dict) and all(_is_valid_app(app) for app in apps.values())


def _is_valid_app(app):
    if not isinstance(app, dict) or not isinstance(app.setdefault("releases", {}), dict):
        return False
    if "release_uuid" in app and not isinstance(app["release_uuid"], str):
        return False
    for release in app["releases"].values():
        if not isinstance(release, dict) or not isinstance(release.setdefault("services", {}), dict):
            return False
        if "update_status" in release and release["update_status"] not in UPDATE_STATUSES:
            return False
        for service in release["services"].values():
            if not isinstance(service, dict) or not isinstance(service.get("image"), str):
                return False
            if "status" in service and not isinstance(service["status"], str):
                return False
            progress = service.get("download_progress")
            if progress is not None and not is_number(progress):
                return False
    return True


def store(device, state, address=""):
    """Into the device's row, which a valid report of it changes."""
    now = time.monotonic()
    if state and set(state) <= set(METRICS):
        if device.metrics_at is not None and now - device.metrics_at < METRICS_SPACING:
            return
        device.metrics_at = now
    if address:
        device.address = address
    for name, value in state.items():
        if name not in TEXTS and name not in NUMBERS and name != "is_undervolted":
            continue
        if isinstance(value, str) and name in TEXT_LIMITS:
            value = value[:TEXT_LIMITS[name]]
        elif isinstance(value, str) and name in LIST_LIMITS:
            value = _cut(value, LIST_LIMITS[name])
        elif name == "cpu_id" and isinstance(value, str):
            if not value.isprintable():
                continue
            value = value.lower()
        elif name in METRICS and is_number(value):
            value = min(value, LARGEST)
        device.state[name] = value
    if "apps" in state:
        _store_apps(device, state["apps"], now)


def _cut(text, limit):
    """At a space."""
    return text if len(text) <= limit else text[:limit + 1].rpartition(" ")[0]


def _store_apps(device, apps, now):
    reported, statuses = set(), set()
    for uuid, app in apps.items():
        if uuid == device.fleet.uuid and app.get("release_uuid") in device.fleet.releases:
            device.running = app["release_uuid"]
        for commit, release in app["releases"].items():
            statuses.add(release.get("update_status"))
            for name, service in release["services"].items():
                reported.add((commit, name))
                _store_service(device.image_rows.setdefault((commit, name), {}), service, now)
    device.update_status = next((each for each in STRONGEST if each in statuses), "")
    # Services that a report with apps does not name count as deleted.
    for place, row in device.image_rows.items():
        if place not in reported:
            row["deleted"] = True
    device.state["apps"] = apps


def _store_service(row, service, now):
    row["deleted"] = False
    row["image"] = service["image"]
    status, progress = service.get("status"), service.get("download_progress")
    is_known = status in SERVICE_STATUSES
    has_changed = is_known and status != row.get("status") or (progress is None) != (row.get("download_progress") is None)
    if is_known:
        row["status"] = status
    if has_changed or progress == 100 or now - row.get("progress_at", now - PROGRESS_SPACING) >= PROGRESS_SPACING:
        row["download_progress"], row["progress_at"] = progress, now
