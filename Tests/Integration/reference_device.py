"""A device as the Node supervisor leaves it: its database, and what it made on the engine.

Every payload here is written out by hand from the specification's mapping; none comes from the agent under test.
"""

import hashlib
import json
import sqlite3
import urllib.parse

APP = 1234567
UUID = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
SECOND_APP = 42
SECOND_UUID = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
REJECTED_APP = 43
REJECTED_UUID = "fefefefefefefefefefefefefefefefe"
AGENT_APP = 900
AGENT_UUID = "52e35121417640b1b28a680504e4039b"
DEVICE_UUID = "0123456789abcdef0123456789abcdef"
COMMIT, RELEASE = "c0ffee01", 99
ENDPOINT = "http://127.0.0.1:9"
DEVICE_KEY = "3b9f60c2d8a74e15b07f2c9d61e8a354"
GLOBAL_KEY = "7f3c0d5be1924a868d1b6c40f9e2a735"
OS_NAME = "balenaOS 6.1.2"
LOOP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"]

SCHEMA = """
CREATE TABLE `knex_migrations` (`id` integer not null primary key autoincrement, `name` varchar(255),
  `batch` integer, `migration_time` datetime);
CREATE TABLE `knex_migrations_lock` (`index` integer not null primary key autoincrement, `is_locked` integer);
CREATE TABLE `config` (`key` varchar(255), `value` varchar(255), primary key (`key`));
CREATE TABLE `deviceConfig` (`targetValues` json);
CREATE TABLE `app` (`id` integer not null primary key autoincrement, `name` varchar(255), `releaseId` integer,
  `commit` varchar(255), `appId` integer, `services` json, `networks` json, `volumes` json, `source` varchar(255),
  `uuid` varchar(255), `class` varchar(255) default 'fleet', `isHost` boolean default '0',
  `rejected` boolean default '0');
CREATE UNIQUE INDEX `app_uuid_unique` on `app` (`uuid`);
CREATE TABLE `image` (`id` integer not null primary key autoincrement, `name` varchar(255), `appId` integer,
  `serviceId` integer, `serviceName` varchar(255), `imageId` integer, `releaseId` integer,
  `dockerImageId` varchar(255), `appUuid` varchar(255), `commit` varchar(255));
CREATE TABLE `apiSecret` (`id` integer not null primary key autoincrement, `appId` integer not null,
  `serviceName` varchar(255), `key` varchar(255) not null, `scopes` text);
CREATE UNIQUE INDEX `apisecret_appid_servicename_unique` on `apiSecret` (`appId`, `serviceName`);
CREATE TABLE `currentCommit` (`id` integer not null primary key autoincrement, `appId` integer not null,
  `commit` varchar(255) not null);
CREATE UNIQUE INDEX `currentcommit_appid_unique` on `currentCommit` (`appId`);
CREATE TABLE `engineSnapshot` (`snapshot` json, `timestamp` varchar(255));
CREATE TABLE `logsChannelSecret` (`backend` varchar(255), `secret` varchar(255));
INSERT INTO knex_migrations (name, batch, migration_time) VALUES ('M00000.js', 1, 1600000000000);
INSERT INTO knex_migrations_lock (is_locked) VALUES (0);
"""


class Service:
    """A service of the stored target, and the differences of its payload from the one of an empty composition."""

    def __init__(self, name, number, composition, *, labels=None, environment=None, image="plain", features=None,
                 top=None, host=None, network="default", connect=None, binds=(), injected=(), app=(APP, UUID, "acme"),
                 running=True, label_form="balena", command=LOOP, own_labels=None, without=()):
        self.name, self.number, self.composition = name, number, composition
        self.labels, self.environment, self.image = labels or {}, environment or {}, image
        self.top, self.host, self.network, self.connect = top or {}, host or {}, network, connect or {}
        self.binds, self.injected, self.app, self.running = list(binds), list(injected), app, running
        self.label_form, self.command, self.own_labels, self.without = label_form, command, own_labels, without

    @property
    def container_name(self):
        return f"{self.name}_{self.number + 800}_{RELEASE}_{COMMIT}"

    def stored(self, image_name):
        """An element of `app.services`."""
        app_id, uuid, _ = self.app
        return {
            "image": image_name, "environment": self.environment, "labels": self.labels,
            "composition": self.composition, "running": self.running, "appId": app_id, "appUuid": uuid,
            "releaseId": RELEASE, "commit": COMMIT, "imageId": self.number + 800, "serviceId": self.number,
            "serviceName": self.name}

    def payload(self, image):
        app_id, uuid, app_name = self.app
        environment = {}
        for prefix in ("BALENA", "RESIN"):
            environment |= {
                f"{prefix}_APP_ID": str(app_id), f"{prefix}_APP_UUID": uuid, f"{prefix}_APP_NAME": app_name,
                f"{prefix}_SERVICE_NAME": self.name, f"{prefix}_DEVICE_UUID": DEVICE_UUID,
                f"{prefix}_DEVICE_TYPE": "genericx86-64-ext", f"{prefix}_DEVICE_ARCH": "amd64",
                f"{prefix}_HOST_OS_VERSION": OS_NAME, f"{prefix}_APP_LOCK_PATH": "/tmp/balena/updates.lock",
                prefix: "1"}
        environment |= {
            "RESIN_SERVICE_KILL_ME_PATH": "/tmp/balena/handover-complete",
            "BALENA_SERVICE_HANDOVER_COMPLETE_PATH": "/tmp/balena/handover-complete", "USER": "root"}
        for name, value in image["Env"]:
            environment.setdefault(name, value)
        environment |= {str(k): str(v) for k, v in self.composition.get("environment", {}).items()}
        environment |= self.environment
        environment |= dict(self.injected)
        names = ["RESIN_DEVICE_NAME_AT_INIT=blue-sky", "BALENA_DEVICE_NAME_AT_INIT=blue-sky"]
        directory = f"/tmp/balena-supervisor/services/{app_id}/{self.name}"
        labels = {
            "supervised": "true", "app-id": str(app_id), "service-id": str(self.number), "service-name": self.name,
            "app-uuid": uuid}
        labels = {f"io.{self.label_form}.{name}": value for name, value in labels.items()}
        labels |= self.own_labels if self.own_labels is not None else {**self.composition.get("labels", {}), **self.labels}
        for name, value in image["Labels"].items():
            labels.setdefault(name, value)
        mode = self.network if self.network in ("host", "none", "bridge") or ":" in self.network else f"{uuid}_{self.network}"
        endpoints = {mode: {"IPAMConfig": {}, "Aliases": [self.name]}} if mode.startswith(uuid) else {}
        body = {
            "Tty": True, "Cmd": self.command, "Entrypoint": [], "Volumes": {path: {} for path in image["Volumes"]},
            "ExposedPorts": {}, "Env": names + [f"{name}={value}" for name, value in environment.items()],
            "Image": image["Id"], "Labels": labels, "NetworkingConfig": {"EndpointsConfig": endpoints},
            "StopSignal": "SIGTERM", "StopTimeout": 10, "Domainname": "", "Hostname": "", "MacAddress": "",
            "User": image["User"], "WorkingDir": image["WorkingDir"], "Healthcheck": image["Healthcheck"],
            "HostConfig": {
                "CapAdd": [], "CapDrop": [],
                "Binds": self.binds + [f"{directory}:/tmp/resin", f"{directory}:/tmp/balena"], "Mounts": [],
                "CgroupParent": "", "Devices": [], "DeviceRequests": [], "Dns": [], "DnsOptions": [],
                "DnsSearch": [], "PortBindings": {}, "ExtraHosts": [], "GroupAdd": [], "NetworkMode": mode,
                "PidMode": "", "PidsLimit": 0, "SecurityOpt": [], "Sysctls": {}, "Ulimits": [],
                "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}, "CpuShares": 0, "CpuQuota": 0,
                "CpusetCpus": "", "Memory": 0, "MemoryReservation": 0, "OomKillDisable": False, "OomScoreAdj": 0,
                "Privileged": False, "ReadonlyRootfs": False, "ShmSize": 67108864, "Tmpfs": {}, "UsernsMode": "",
                "NanoCpus": 0, "IpcMode": "shareable"}}
        body |= self.top
        body["HostConfig"] |= self.host
        return body


def both(**values):
    """Variables that features set under both prefixes."""
    return [(f"{prefix}_{name}", value) for name, value in values.items() for prefix in ("RESIN", "BALENA")]


def api_key(name):
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def supervisor_variables(name, port, host="10.114.104.1"):
    return both(SUPERVISOR_API_KEY=api_key(name), SUPERVISOR_PORT=str(port), SUPERVISOR_HOST=host,
                SUPERVISOR_ADDRESS=f"http://{host}:{port}")


def services(port, socket_path):
    """The release: everything that a composition can say and this machine's engine can start."""
    second = (SECOND_APP, SECOND_UUID, "second app")
    return [
        Service("plain", 1, {"command": LOOP}, image="plain"),
        # Everything from the image: command, user, working directory, health, volumes, labels, variables.
        Service("defaults", 2, {}, image="rich", command=["/bin/sh", "-c", "sleep 100000"]),
        Service(
            "web", 3, {
                "command": LOOP, "ports": ["8080:80", "127.0.0.1:5000-5001:6000-6001/udp", "9090"],
                "networks": {"front": {"ipv4_address": "172.30.7.10", "aliases": ["www"]}, "back": None},
                "cap_add": ["NET_ADMIN", "NET_RAW"], "cap_drop": ["MKNOD"],
                "devices": ["/dev/null:/dev/nothing:rw", "/dev/zero"], "tmpfs": ["/run", "/scratch"],
                "healthcheck": {"test": "true || exit 1", "interval": "30s", "timeout": "5s", "retries": 3},
                "ulimits": {"nofile": {"soft": 1024, "hard": 2048}, "nproc": 65535},
                "sysctls": ["net.core.somaxconn=1024"], "extra_hosts": ["a=10.0.0.1"], "dns": "1.1.1.1",
                "dns_search": ["lan", "example.org"], "dns_opt": ["ndots:1"], "hostname": "edge",
                "domainname": "example.org", "group_add": ["29"], "logging": {"driver": "none"},
                "labels": {"traefik.enable": "true", "io.resin.features.dbus": "0"}, "expose": ["81"],
                "environment": {"X": "compose", "Y": "compose"}, "depends_on": ["db"]},
            labels={"io.balena.features.supervisor-api": "1"}, environment={"X": "cloud", "BALENA_APP_NAME": "mine"},
            injected=supervisor_variables("web", port),
            own_labels={"traefik.enable": "true", "io.balena.features.dbus": "0",
                        "io.balena.features.supervisor-api": "1"},
            network="front", connect={
                f"{UUID}_back": {"IPAMConfig": {}, "Aliases": ["web"]},
                "supervisor0": {"IPAMConfig": {}, "Aliases": []}},
            top={
                "ExposedPorts": {"80/tcp": {}, "6000/udp": {}, "6001/udp": {}, "9090/tcp": {}},
                "Hostname": "edge", "Domainname": "example.org",
                "Healthcheck": {"Test": ["CMD-SHELL", "true || exit 1"], "Interval": 30000000000,
                                "Timeout": 5000000000, "Retries": 3},
                "NetworkingConfig": {"EndpointsConfig": {f"{UUID}_front": {
                    "IPAMConfig": {"IPv4Address": "172.30.7.10"}, "Aliases": ["www", "web"]}}}},
            host={
                "PortBindings": {
                    "80/tcp": [{"HostIp": "", "HostPort": "8080"}], "9090/tcp": [{"HostIp": "", "HostPort": "9090"}],
                    "6000/udp": [{"HostIp": "127.0.0.1", "HostPort": "5000"}],
                    "6001/udp": [{"HostIp": "127.0.0.1", "HostPort": "5001"}]},
                "CapAdd": ["NET_ADMIN", "NET_RAW"], "CapDrop": ["MKNOD"],
                "Devices": [
                    {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rw"},
                    {"PathOnHost": "/dev/zero", "PathInContainer": "/dev/zero", "CgroupPermissions": "rwm"}],
                "Tmpfs": {"/run": "", "/scratch": ""}, "Sysctls": {"net.core.somaxconn": "1024"},
                "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048},
                            {"Name": "nproc", "Soft": 65535, "Hard": 65535}],
                "ExtraHosts": ["a:10.0.0.1"], "Dns": ["1.1.1.1"], "DnsSearch": ["lan", "example.org"],
                "DnsOptions": ["ndots:1"], "GroupAdd": ["29"]}),
        # The text between single quotes keeps the backslash that the reference puts before a dollar sign.
        Service(
            "db", 4, {
                "command": "sh -c 'echo $HOME ${X:-y}; exec sleep 100000' \"two $words\" *.txt",
                "volumes": [
                    "data:/data", "conf : /etc/conf : ro", "/scratch", "/etc:/host-etc",
                    {"type": "volume", "source": "logs", "target": "/logs", "readOnly": True},
                    {"type": "tmpfs", "target": "/fast", "tmpfs": {"size": 1048576}}],
                "networks": ["back"], "restart": "unless-stopped", "stop_grace_period": "1m30s",
                "stop_signal": "SIGINT", "working_dir": "/srv/", "user": "0:0", "tty": False, "init": True,
                "mem_limit": "64m", "mem_reservation": "32MB", "shm_size": "1m", "cpu_shares": "512",
                "pids_limit": 100, "oom_score_adj": 500, "read_only": True, "cpus": 1},
            image="rich", command=["sh", "-c", "echo \\$HOME \\${X:-y}; exec sleep 100000", "two $words", "*.txt"],
            binds=[f"{APP}_data:/data", f"{APP}_conf:/etc/conf:ro"], network="back",
            top={"Volumes": {"/cache": {}, "/scratch": {}}, "StopSignal": "SIGINT", "StopTimeout": 90,
                 "WorkingDir": "/srv", "User": "0:0", "Tty": False},
            host={
                "Mounts": [
                    {"Type": "volume", "Target": "/logs", "Source": f"{APP}_logs", "ReadOnly": True},
                    {"Type": "tmpfs", "Target": "/fast", "TmpfsOptions": {"SizeBytes": 1048576}}],
                "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}, "Init": True,
                "Memory": 67108864, "MemoryReservation": 33554432, "ShmSize": 1048576, "CpuShares": 512,
                "PidsLimit": 100, "OomScoreAdj": 500, "ReadonlyRootfs": True, "NanoCpus": 1000000000}),
        Service("vpn", 5, {"command": LOOP}),
        Service("sidecar", 6, {"command": LOOP, "network_mode": "service: vpn"}, network="container:vpn"),
        Service(
            "hostnet", 7, {"command": LOOP, "network_mode": "host", "pid": "host", "ipc": "host",
                           "security_opt": ["no-new-privileges:true", "label=disable"]},
            labels={"io.balena.features.supervisor-api": "true"}, network="host",
            injected=supervisor_variables("hostnet", port, "127.0.0.1"),
            top={"Hostname": "edge-device"},
            host={"PidMode": "host", "IpcMode": "host",
                  "SecurityOpt": ["no-new-privileges:true"]}),
        # Made by a release of the reference from before the name changed.
        Service("legacy", 8, {"command": LOOP}, labels={"io.resin.features.sysfs": "1", "own": "x"},
                label_form="resin", binds=["/sys:/sys"]),
        Service(
            "features", 9, {"command": LOOP}, running=False, labels={
                "io.balena.features.journal-logs": "1", "io.balena.features.dbus": "1",
                "io.balena.features.kernel-modules": "1", "io.balena.features.firmware": "1",
                "io.balena.features.balena-socket": "1", "io.balena.features.balena-api": "1",
                "io.balena.features.sysfs": "on", "io.balena.features.procfs": "TRUE",
                "io.balena.features.gpu": "1", "io.balena.features.extra-firmware": "1",
                "io.balena.features.host-os.board-rev": "1", "io.balena.update.strategy": "hand-over"},
            binds=["/var/log/journal:/var/log/journal:ro", "/run/log/journal:/run/log/journal:ro",
                   "/etc/machine-id:/etc/machine-id:ro", "/run/dbus:/host/run/dbus", "/lib/modules:/lib/modules",
                   "/lib/firmware:/lib/firmware", "/sys:/sys", "/proc:/proc"],
            injected=[("DOCKER_HOST", "unix:///host/run/balena-engine.sock")] + both(
                API_KEY=DEVICE_KEY, API_URL=ENDPOINT, HOST_OS_BOARD_REV="rev7", HOST_OS_BUILD="rev7"),
            host={
                "Mounts": [
                    {"Type": "bind", "Source": socket_path, "Target": "/host/run/balena-engine.sock"},
                    {"Type": "bind", "Source": socket_path, "Target": socket_path},
                    {"Type": "bind", "Source": socket_path, "Target": "/var/run/balena.sock"},
                    {"Type": "volume", "Source": "extra-firmware", "Target": "/extra-firmware"}],
                "DeviceRequests": [{"Driver": "", "Count": 1, "DeviceIDs": [], "Capabilities": [["gpu"]],
                                    "Options": {}}]}),
        # Privileges that a test machine may not have to give.
        Service("privileged", 12, {"command": LOOP, "privileged": True, "cap_add": ["SYS_ADMIN"], "cpuset": "0"},
                running=False, host={"Privileged": True, "CapAdd": ["SYS_ADMIN"], "CpusetCpus": "0"}),
        Service("delta", 13, {"command": LOOP}, image="delta"),
        # Of a release that the device cannot run; what it ran before goes on.
        Service("rejected", 14, {"command": LOOP, "network_mode": "host"}, network="host",
                app=(REJECTED_APP, REJECTED_UUID, "rejected app"), top={"Hostname": "edge-device"}),
        Service("offline", 10, {"command": LOOP, "network_mode": "none"}, network="none"),
        Service("second", 11, {"command": LOOP, "network_mode": "host"}, network="host", app=second,
                top={"Hostname": "edge-device"}),
    ]


NETWORKS = {
    "front": {"ipam": {"config": [{"subnet": "172.30.7.0/24", "gateway": "172.30.7.1"}]}},
    "back": {"internal": True, "labels": {"io.resin.x": "1", "foo": "bar"},
             "driver_opts": {"com.docker.network.bridge.name": "br-back"}},
}
VOLUMES = {
    "data": {}, "logs": {},
    "conf": {"driver_opts": {"type": "tmpfs", "device": "tmpfs"}, "labels": {"a": "b", "io.resin.v": "1"}},
}


def network(name, app_id, *, config=None, **more):
    return {
        "Name": name, "Driver": "bridge", "CheckDuplicate": True, "Options": {},
        "IPAM": {"Driver": "default", "Config": config or [], "Options": {}}, "EnableIPv6": False, "Internal": False,
        "ConfigOnly": False, **more,
        "Labels": {"io.balena.supervised": "true", "io.balena.app-id": str(app_id), **more.get("Labels", {})}}


def create_networks(engine):
    bodies = [
        network(f"{UUID}_default", APP),
        network(f"{UUID}_front", APP, config=[{"Subnet": "172.30.7.0/24", "Gateway": "172.30.7.1"}],
                Labels={"io.balena.private.ipam.config": "true"}),
        network(f"{UUID}_back", APP, Internal=True, Options={"com.docker.network.bridge.name": "br-back"},
                Labels={"io.balena.x": "1", "foo": "bar"}),
        # All services of the second app use the host's network.
        network(f"{SECOND_UUID}_default", SECOND_APP, ConfigOnly=True),
        network(f"{REJECTED_UUID}_default", REJECTED_APP, ConfigOnly=True),
        # An app without services to run has its network all the same.
        network(f"{AGENT_UUID}_default", AGENT_APP, ConfigOnly=True),
        {"Name": "supervisor0", "CheckDuplicate": True, "Options": {"com.docker.network.bridge.name": "supervisor0"},
         "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.114.104.0/25", "Gateway": "10.114.104.1"}]}},
    ]
    for body in bodies:
        post(engine, "/networks/create", body)


def create_volumes(engine):
    labels = {"io.balena.supervised": "true", "io.balena.app-uuid": UUID}
    for body in (
            {"Name": f"{APP}_data", "Driver": "local", "DriverOpts": {}, "Labels": labels},
            # From before volumes had the app's uuid.
            {"Name": f"{APP}_logs", "Driver": "local", "DriverOpts": {}, "Labels": {"io.resin.supervised": "true"}},
            {"Name": f"{APP}_conf", "Driver": "local", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"},
             "Labels": {"a": "b", "io.balena.v": "1", **labels}},
            {"Name": "extra-firmware"},
            {"Name": "of-nobody"}):
        post(engine, "/volumes/create", body)


def create_containers(engine, release, images):
    """Creates, connects and starts as the reference does; returns ids by service name."""
    ids = {}
    for service in release:
        body = service.payload(images[service.image])
        mode = body["HostConfig"]["NetworkMode"]
        if mode.startswith("container:"):
            body["HostConfig"]["NetworkMode"] = "container:" + ids[mode.partition(":")[2]]
        name = urllib.parse.quote(service.container_name)
        ids[service.name] = post(engine, f"/containers/create?name={name}", body)["Id"]
        for other, endpoint in service.connect.items():
            post(engine, f"/networks/{other}/connect", {"Container": ids[service.name], "EndpointConfig": endpoint})
        if service.running:
            post(engine, f"/containers/{ids[service.name]}/start")
    return ids


def post(engine, path, body=None):
    answer = engine.request("POST", path, body)
    assert answer.status in (200, 201, 204), f"{path}: {answer.status} {answer.text}\n{json.dumps(body)}"
    return json.loads(answer.body) if answer.body.strip() else {}


def create_database(path, release, images, source=ENDPOINT, local_mode=False):
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(SCHEMA)
    database.executemany("INSERT INTO config VALUES (?, ?)", [
        ("name", "blue-sky"), ("targetStateSet", "true"), ("localMode", str(local_mode).lower()),
        ("initialConfigSaved", "true"), ("initialConfigReported", ENDPOINT), ("legacyAppsPresent", "false"),
        ("containersNormalised", "true"), ("lockOverride", "false"), ("connectivityCheckEnabled", "true"),
        ("firewallMode", "off")])
    target = {"SUPERVISOR_POLL_INTERVAL": "900000", "SUPERVISOR_LOCAL_MODE": str(local_mode).lower()}
    database.execute("INSERT INTO deviceConfig VALUES (?)", [json.dumps(target)])
    apps = {}
    rejected = next(service for service in release if service.name == "rejected")
    for service in release:
        apps.setdefault(service.app, []).append(service)
    rows = [
        (name, RELEASE, COMMIT, app_id, json.dumps([s.stored(images[s.image]["Name"]) for s in members]),
         json.dumps(NETWORKS if app_id == APP else {}), json.dumps(VOLUMES if app_id == APP else {}), source, uuid,
         "fleet", 0)
        for (app_id, uuid, name), members in apps.items() if app_id != REJECTED_APP]
    rows.append((
        "rejected app", RELEASE + 1, "c0ffee02", REJECTED_APP, json.dumps([{
            **rejected.stored("registry2.example/v2/next@sha256:" + "c" * 64), "commit": "c0ffee02",
            "releaseId": RELEASE + 1, "imageId": 999,
            "contract": {"type": "sw.container", "requires": [{"type": "arch.sw", "slug": "z80"}]}}]),
        "{}", "{}", source, REJECTED_UUID, "fleet", 1))
    # The reference's own app, which the agent does not run but reports.
    rows.append((
        "agent", 7, "beef", AGENT_APP, json.dumps([{
            "image": "registry2.example/v2/agent@sha256:" + "b" * 64, "environment": {}, "labels": {},
            "composition": {}, "running": True, "appId": AGENT_APP, "appUuid": AGENT_UUID, "releaseId": 7, "commit": "beef",
            "imageId": 3, "serviceId": 3, "serviceName": "main"}]), "{}", "{}", source, AGENT_UUID, "app", 0))
    database.executemany(
        "INSERT INTO app (name, releaseId, `commit`, appId, services, networks, volumes, source, uuid, class, "
        "rejected) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.executemany(
        "INSERT INTO image (name, appId, serviceId, serviceName, imageId, releaseId, dockerImageId, appUuid, `commit`) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(images[s.image]["Name"], s.app[0], s.number, s.name, s.number + 800, RELEASE, images[s.image]["Id"],
          s.app[1], COMMIT) for s in release])
    scope = json.dumps([{"type": "app", "appId": APP}])
    database.executemany("INSERT INTO apiSecret (appId, serviceName, key, scopes) VALUES (?, ?, ?, ?)", [
        (0, None, GLOBAL_KEY, '[{"type":"global"}]'),
        (APP, "web", api_key("web"), scope), (APP, "hostnet", api_key("hostnet"), scope)])
    database.executemany(
        "INSERT INTO currentCommit (appId, `commit`) VALUES (?, ?)", [(app_id, COMMIT) for app_id, _, _ in apps]
        + [(AGENT_APP, "beef")])
    database.commit()
    database.close()
