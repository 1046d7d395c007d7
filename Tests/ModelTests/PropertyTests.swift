import JSON
import TestSupport
import Testing

@testable import Model

/// A key of a composition with values that mean different things, and with odd ones.
nonisolated struct KeyValues: Sendable, CustomTestStringConvertible {
  var key: String
  /// How the difference is called; nil when the key is not compared.
  var field: String?
  var distinct: [JSON]
  var odd: [JSON] = []

  var testDescription: String { key }

  init(_ key: String, _ field: String?, _ distinct: [JSON], odd: [JSON] = []) {
    (self.key, self.field, self.distinct, self.odd) = (key, field, distinct, odd)
  }

  static let all: [KeyValues] = [
    KeyValues("cap_add", "capAdd", [["NET_ADMIN"], ["SYS_TIME", "NET_RAW"]], odd: [["A", "A"], "x", [1]]),
    KeyValues("cap_drop", "capDrop", [["MKNOD"], ["ALL"]]),
    KeyValues("cgroup_parent", "cgroupParent", ["/a", "/b"], odd: ["", 1]),
    KeyValues("command", "command", ["run me", ["x", "y z"], "a && b"], odd: ["", [], " ", 5, "'"]),
    KeyValues("entrypoint", "entrypoint", ["/init a", ["/e"]], odd: ["", []]),
    KeyValues("cpus", nil, [1, "0.5"], odd: ["x", true, "1e999"]),
    KeyValues("cpu_shares", "cpuShares", [512, "10"], odd: ["", "1.5", 0]),
    KeyValues("cpu_quota", "cpuQuota", [50000, "200.00"]),
    KeyValues("cpuset", "cpuset", ["0", "0-3"], odd: [0]),
    KeyValues("devices", "devices", [["/dev/a"], ["/dev/a:/dev/b:r", "/dev/c"]], odd: [["/dev/a::"], "x"]),
    KeyValues("dns", "dns", ["1.1.1.1", ["8.8.8.8", "1.1.1.1"]], odd: [[]]),
    KeyValues("dns_search", "dnsSearch", ["lan", ["a", "b"]]),
    KeyValues("dns_opt", "dnsOpt", [["ndots:1"], ["x", "y"]]),
    KeyValues("domainname", "domainname", ["a", "b"], odd: [""]),
    KeyValues(
      "environment", "environment", [["A": "1"], ["A": 2], ["A=3"]], odd: [["B": nil, "C=D": "e"], ["N"]]),
    KeyValues("extra_hosts", "extraHosts", [["a=1.1.1.1"], ["a:2.2.2.2"], ["b": "::1"]]),
    KeyValues("group_add", "groupAdd", [["audio"], [20]]),
    KeyValues(
      "healthcheck", "healthcheck",
      [["test": "x"], ["test": ["CMD", "y"], "interval": "30s"], ["test": "x", "start_period": 5000]],
      odd: [
        ["interval": "0s", "retries": 0], ["disable": true, "timeout": "1s"], ["test": []], [:], "x",
        ["timeout": "3s"], ["retries": "4"],
      ]),
    KeyValues("hostname", "hostname", ["a", "b"], odd: ["", 5]),
    KeyValues("image", "image", ["web", "other:1"]),
    KeyValues("init", "init", [true, false], odd: ["false", 0]),
    KeyValues("ipc", "ipc", ["host", "private"], odd: [""]),
    KeyValues(
      "labels", "labels", [["x": "1"], ["x": 2], ["x=3"]], odd: [["io.resin.y": "1", "io.balena.y": "2"]]),
    KeyValues("mac_address", "macAddress", ["02:42:ac:11:00:02", "02:42:ac:11:00:03"], odd: [""]),
    KeyValues("mem_limit", "memLimit", ["64m", 8_388_608], odd: ["1.5g", "0", -1]),
    KeyValues("mem_reservation", "memReservation", ["32m", "1G"]),
    KeyValues("shm_size", "shmSize", ["1m", "2mb"], odd: ["0", "x"]),
    KeyValues(
      "network_mode", "networkMode", ["host", "none", "bridge", "lan", "service:vpn"],
      odd: ["container:x", ""]),
    KeyValues(
      "networks", "network", [["a"], ["b", "a"]],
      odd: [
        [:], ["c": nil],
        ["d": ["aliases": ["z"], "ipv4_address": "10.0.0.2", "link_local_ips": ["169.254.0.1"]]],
        ["e": ["ipv6_address": "2001::1", "priority": 5], "f": [:]],
      ]),
    KeyValues("oom_kill_disable", "oomKillDisable", [true, false], odd: ["false"]),
    KeyValues("oom_score_adj", "oomScoreAdj", [-500, "100"]),
    KeyValues("pid", "pid", ["host", "container:x"], odd: [""]),
    KeyValues("pids_limit", "pidsLimit", [100, 200], odd: [-1, 0]),
    KeyValues(
      "ports", "ports", [["80"], ["81:80"], ["80", "80/udp"]], odd: [[90, "8000-8010:9000-9010"], [], [nil]]),
    KeyValues("privileged", "privileged", [true, false]),
    KeyValues("read_only", "readOnly", [true, false], odd: ["no"]),
    KeyValues(
      "restart", "restart", ["no", "on-failure", "unless-stopped"], odd: ["on-failure:5", "", false]),
    KeyValues("running", nil, [true, false]),
    KeyValues("security_opt", "securityOpt", [["no-new-privileges"], ["label:disable"]], odd: [["label=x"]]),
    KeyValues("stop_grace_period", "stopGracePeriod", ["1m30s", "20s"], odd: [30, 0, "500ms"]),
    KeyValues("stop_signal", "stopSignal", ["SIGINT", 9], odd: [""]),
    KeyValues("sysctls", "sysctls", [["a": 1], ["a=2"]], odd: [["b"]]),
    KeyValues("tmpfs", "tmpfs", ["/run", ["/run", "/tmp:size=1m"]], odd: [["/a", "/a"]]),
    KeyValues("tty", "tty", [true, false], odd: [""]),
    KeyValues(
      "ulimits", "ulimits", [["nofile": 1], ["nofile": ["soft": 1, "hard": "2"]]],
      odd: [["x": "y"], ["core": -1]]),
    KeyValues("user", "user", ["a", "0:0"], odd: ["", 1000]),
    KeyValues("userns_mode", "usernsMode", ["host", "x"]),
    KeyValues(
      "volumes", "volumes",
      [["d:/d"], ["/anonymous"], [["type": "tmpfs", "target": "/t", "tmpfs": ["size": 5]]]],
      odd: [
        ["/a", "/a", "d:/d", "d:/d"], ["/etc:/etc", "/cache"],
        [["type": "volume", "source": "v", "target": "/v", "readOnly": false, "volume": ["nocopy": false]]],
        [["type": "tmpfs", "target": "/z", "tmpfs": ["size": 0], "bind": ["propagation": ""]]], [5],
      ]),
    KeyValues("working_dir", "workingDir", ["/a", "/b//c/../d/"], odd: ["", "/", "/.."]),
    KeyValues("depends_on", nil, [["db"], ["x": [:]]]),
    KeyValues("storage_opt", nil, [["size": "1G"]]),
  ]
}

@Suite struct `Create, read back, compare` {
  private static let images: [ImageInfo] = [
    Fixture.image,
    ImageInfo(id: "sha256:bbbb"),
    ImageInfo(
      id: "sha256:cccc", cmd: ["c"], entrypoint: ["/entry"],
      env: ["PATH=/bin", "NOVALUE", "BALENA=image", "E=a=b"],
      labels: ["io.resin.image": "1", "io.balena.image": "2", "io.resin.features.dbus": "1"],
      workingDir: "/w/./x/",
      user: "app", volumes: ["/data", "/cache"], stopSignal: "SIGQUIT",
      healthcheck: Healthcheck(test: ["CMD", "true"], interval: 5_000_000_000, retries: 7)),
    ImageInfo(
      id: "sha256:dddd", labels: ["io.balena.features.supervisor-api": "1"],
      healthcheck: Healthcheck(test: [], timeout: 1_000_000_000)),
  ]

  private static let features = [
    "journal-logs", "dbus", "kernel-modules", "firmware", "balena-socket", "balena-api", "supervisor-api",
    "sysfs",
    "procfs", "gpu", "host-os.board-rev", "extra-firmware",
  ]

  @Test func `a container made from a target equals it, whatever the composition`() throws {
    var generator = SeededGenerator(seed: 20_10)
    for round in 0..<3000 {
      let description = Self.randomDescription(using: &generator)
      let image = try #require(Self.images.randomElement(using: &generator))
      let service = try Fixture.service(description, image: image).service
      var echo = EngineEcho(image: image)
      echo.showsNull = Bool.random(using: &generator)
      let request = try service.createRequest(containerIds: ["vpn": "ffff"], deviceName: "blue-sky")
      let current = try Service(inspecting: echo.inspect(request, of: service))
      let differences = current.differences(to: service, containerIds: ["vpn": "ffff"])
      try #require(differences.isEmpty, "round \(round): \(description)")
      try #require(current.containerName == service.containerName && current.commit == service.commit)
    }
  }

  @Test(arguments: KeyValues.all)
  func `a change of a key is a difference of that field`(values: KeyValues) throws {
    for from in values.distinct {
      for to in values.distinct where to != from {
        let old = try Fixture.service(["composition": .object([values.key: from])]).service
        let new = try Fixture.service(["composition": .object([values.key: to])]).service
        let request = try old.createRequest(containerIds: ["vpn": "ffff"], deviceName: "x")
        let current = try Service(inspecting: EngineEcho(image: Fixture.image).inspect(request, of: old))
        let fields = current.differences(to: new, containerIds: ["vpn": "ffff"]).map(\.field)
        if let field = values.field {
          #expect(!fields.isEmpty, "\(from) to \(to)")
          let related = field == "networkMode" ? ["network", "hostname"] : [field]
          #expect(fields.allSatisfy { name in related.contains { name.hasPrefix($0) } }, "\(fields)")
        } else {
          #expect(fields == [])
        }
      }
    }
  }

  @Test func `every supported key takes part`() {
    #expect(
      Composition.supportedKeys.subtracting(KeyValues.all.map { Composition.camelCase($0.key) }) == [])
  }

  private static func randomDescription(using generator: inout SeededGenerator) -> JSON {
    var composition = JSONObject()
    let density = Int.random(in: 1...6, using: &generator)
    for values in KeyValues.all where Int.random(in: 0..<8, using: &generator) < density {
      composition[values.key] = (values.distinct + values.odd).randomElement(using: &generator)
    }
    var labels = JSONObject()
    for feature in features where Int.random(in: 0..<8, using: &generator) == 0 {
      labels["io.\(Bool.random(using: &generator) ? "balena" : "resin").features.\(feature)"] = "1"
    }
    return ["composition": .object(composition), "labels": .object(labels), "environment": ["S": "1"]]
  }
}
