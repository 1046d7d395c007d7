"""Random compositions of every supported key, with the odd spellings that releases have.

What the engine would refuse at creation is left out: such a service has no container to compare.
"""

NETWORKS = {
    "back": {},
    "fixed": {"ipam": {"config": [{"subnet": "172.29.0.0/24", "gateway": "172.29.0.1"}]}},
    "six": {"enable_ipv6": True, "ipam": {"config": [{"subnet": "fd00:29::/64"}]}, "labels": {"io.resin.x": "1"}},
    "inner": {"internal": True, "driver_opts": {"com.docker.network.bridge.enable_icc": "false"}},
}
VOLUMES = {
    "data": {},
    "memory": {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, "labels": {"a": "b"}},
}

# With values that mean something, and with odd ones; all of them can be created.
KEYS = {
    "cap_add": [["NET_ADMIN"], ["SYS_TIME", "NET_RAW"], [], None],
    "cap_drop": [["MKNOD"], ["ALL"]],
    "cgroup_parent": ["/a", ""],
    "command": ["run me", ["x", "y z"], "a && b | c", "sh -c 'echo $HOME # no'", "", [], " ", "'", "x # y"],
    "entrypoint": ["/init a", ["/e"], "", [], "sh -c \"$X\""],
    "cpus": [1, "0.5", "x", True],
    "cpu_shares": [512, "10", "", "1.5", 0, "200.00"],
    "cpu_quota": [50000, "200000.00"],
    "cpuset": ["0", "", "0-0"],
    "devices": [["/dev/null"], ["/dev/null:/dev/b:r", "/dev/zero"], ["/dev/zero", "/dev/null:/dev/c"], []],
    "domainname": ["a", "example.org", ""],
    "environment": [{"A": "1"}, {"A": 2, "B": None, "T": True}, ["A=3", "N"], {"E": "a=b", "F": ""}],
    "group_add": [["29"], ["20", 5]],
    "healthcheck": [
        {"test": "x"}, {"test": ["CMD", "y"], "interval": "30s", "retries": 3},
        {"test": "x", "start_period": 5000}, {"interval": "0s", "retries": 0}, {"disable": True, "timeout": "1s"},
        {"test": []}, {}, {"timeout": "3s"}, {"test": ["NONE"]}, {"test": "x", "startPeriod": "1m30s"},
    ],
    "init": [True, False, None],
    "ipc": ["host", "private", "shareable", ""],
    "labels": [{"x": "1"}, {"x": 2}, ["x=3"], {"io.resin.y": "1", "io.balena.y": "2"}, {}],
    "mem_limit": ["64m", 134217728, "1.5g", "0", "128MB", "67108864b"],
    "mem_reservation": ["32m", "16M"],
    "shm_size": ["1m", "2mb", "x", 65536],
    "oom_kill_disable": [True, False],
    "oom_score_adj": [500, "100", 0],
    "pid": ["host", ""],
    "pids_limit": [100, 0],
    "privileged": [True, False],
    "read_only": [True, False],
    "restart": ["no", "on-failure", "unless-stopped", "on-failure:5", " Always ", False],
    "security_opt": [
        ["no-new-privileges"], ["no-new-privileges:true", "seccomp=unconfined"], ["label=disable"], []],
    "stop_grace_period": ["1m30s", "20s", 30, 0, "500ms", "1.5m"],
    "stop_signal": ["SIGINT", 9, "15"],
    "tmpfs": ["/run", ["/run", "/scratch"], []],
    "tty": [True, False, "yes"],
    "ulimits": [{"nofile": 1024}, {"nofile": {"soft": 1, "hard": 2}, "core": -1}, {}],
    "user": ["root", "0:0", "1000", ""],
    "userns_mode": ["host", ""],
    "volumes": [
        ["data:/d"], ["/anonymous"], ["data : /e : ro", "memory:/f", "/anonymous2"], ["/a1", "/a1", "data:/d2", "data:/d2"],
        [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": 65536}}],
        [{"type": "volume", "source": "data", "target": "/v", "readOnly": False, "volume": {"nocopy": False}}],
        [{"type": "volume", "source": "memory", "target": "/w", "read_only": True, "volume": {"nocopy": True}}],
        [{"type": "volume", "target": "/u"}, "data:/dd"], ["/etc:/etc", "/own"],
        [{"type": "tmpfs", "target": "/z", "tmpfs": {"size": 0}}], [],
    ],
    "working_dir": ["/a", "/b//c/../d/", "/", "/.."],
    "storage_opt": [{"size": "1G"}],
    "logging": [{"driver": "none"}],
    "x-anything": [{"a": 1}],
}
# Not in the network of another container.
NETWORK_KEYS = {
    "dns": ["1.1.1.1", ["8.8.8.8", "1.1.1.1"], []],
    "dns_search": ["lan", ["a", "b"]],
    "dns_opt": [["ndots:1"], ["timeout:3", "ndots:2"]],
    "extra_hosts": [["a=1.1.1.1"], ["a:2.2.2.2", "b:::1"], {"c": "3.3.3.3"}],
    "hostname": ["a", "b.example", ""],
    "ports": [
        ["80"], ["8081:80"], ["80", "80/udp"], [90, "8000-8010:9000-9010"], [], ["80-82", "83-85"],
        ["127.0.0.1:5000-5001:6000-6001/udp", "5000-5001:6000-6001"], [{"target": 1, "published": 2}],
        ["8090:80", "8091:80"],
    ],
    "expose": [["1"]],
}
# Only on a network of its own.
BRIDGE_KEYS = {
    "mac_address": ["02:42:ac:11:00:02", ""],
    "sysctls": [{"net.core.somaxconn": 1024}, ["net.ipv4.ip_forward=1"], {}],
    "networks": [
        ["back"], ["inner", "back"], {}, {"back": None, "six": {"aliases": ["z", "y"]}},
        {"fixed": {"ipv4_address": "172.29.0.%d", "aliases": ["www"]}}, {"back": {}, "fixed": {"priority": 5}},
        {"six": {"ipv6_address": "fd00:29::%d"}},
    ],
}
FEATURES = [
    "dbus", "kernel-modules", "firmware", "balena-api", "supervisor-api", "sysfs", "procfs", "gpu",
    "host-os.board-rev", "extra-firmware", "journal-logs",
]
# What a container of the test image runs with: no other program, no limit that ends it.
STARTABLE = {
    "cap_add", "cpu_shares", "domainname", "environment", "group_add", "labels", "mem_reservation", "shm_size",
    "oom_score_adj", "restart", "stop_grace_period", "stop_signal", "tmpfs", "tty", "volumes", "dns", "dns_search",
    "dns_opt", "extra_hosts", "hostname", "networks", "ports", "logging", "ipc", "pid", "storage_opt", "read_only",
}


def composition(random, index, started):
    """A composition; `index` keeps addresses apart. `started` ones can run, and the first of them always does."""
    mode = random.choice([None, None, None, None, "host", "none", "bridge", "back", "service:s0"])
    if started:
        mode = random.choice([None, None, "host", "back"])
    groups = [KEYS]
    if mode != "service:s0":
        groups.append(NETWORK_KEYS)
    if mode in (None, "back"):
        groups.append(BRIDGE_KEYS)
    density = random.randint(1, 6)
    chosen = {}
    for group in groups:
        for key, values in group.items():
            if random.randrange(8) >= density or (started and key not in STARTABLE):
                continue
            chosen[random.choice([key, key, key.replace("_", "-")])] = random.choice(values)
    if mode:
        chosen["network_mode"] = mode
    if mode == "host" and "userns_mode" in chosen:
        del chosen["userns_mode"]
    if {"cpus", "cpu_quota"} <= {key.replace("-", "_") for key in chosen}:
        # The engine takes one of the two.
        chosen = {key: value for key, value in chosen.items() if key.replace("-", "_") != "cpu_quota"}
    if started:
        chosen.pop("ports", None)
        chosen.pop("mac_address", None)
    networks = chosen.get("networks")
    if isinstance(networks, dict):
        chosen["networks"] = {
            name: {key: value % (10 + index) if key.endswith("address") else value for key, value in entry.items()}
            if entry else entry for name, entry in networks.items()}
    return chosen


def labels(random):
    """Service labels: features under their new and their old name."""
    return {
        f"io.{random.choice(['balena', 'resin'])}.features.{feature}": "1"
        for feature in FEATURES if random.randrange(8) == 0
    }
