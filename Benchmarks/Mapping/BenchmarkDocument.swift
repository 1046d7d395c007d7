import JSON
import Model

/// A release that uses thirty keys in every service.
enum BenchmarkDocument {
  static let context = MappingContext(
    deviceUuid: "d", deviceType: "raspberrypi4-64", deviceArch: "aarch64", osVersion: "balenaOS 6.1.2",
    hostName: "device")

  static let images: ImageFacts = {
    var facts = ImageFacts()
    for number in 0..<100 {
      let id = "sha256:\(number)"
      facts.ids["registry.example/app/service-\(number):latest"] = id
      facts.infos[id] = ImageInfo(
        id: id, cmd: ["node", "app.js"], entrypoint: ["/usr/bin/entry.sh"],
        env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_VERSION=20.1.0"],
        labels: ["io.balena.architecture": "aarch64", "io.balena.qemu.version": "7.0.0"],
        workingDir: "/usr/src/app", volumes: ["/cache"])
    }
    return facts
  }()

  static func make(services count: Int) -> [UInt8] {
    var services = JSONObject()
    for number in 0..<count {
      services["service-\(number)"] = [
        "id": .int(1000 + number), "image_id": .int(2000 + number),
        "image": .string("registry.example/app/service-\(number)"),
        "environment": ["LOG_LEVEL": "info", "API_URL": "https://api.example.com/v1", "TZ": "Europe/Berlin"],
        "labels": ["io.balena.features.dbus": "1", "com.example.owner": "team"],
        "composition": composition(number),
      ]
    }
    let release: JSON = [
      "id": 99, "services": .object(services), "volumes": ["data": [:], "logs": [:]],
      "networks": ["front": [:], "back": ["internal": true]],
    ]
    let app: JSON = ["id": 1, "name": "fleet", "class": "fleet", "releases": ["c0ffee01": release]]
    let document: JSON = ["d": ["name": "device", "config": [:], "apps": ["a1b2c3d4": app]]]
    return document.bytes()
  }

  private static func composition(_ number: Int) -> JSON {
    [
      "command": .string("node server.js --port \(3000 + number) --name \"service \(number)\""),
      "entrypoint": ["/usr/bin/tini", "--"],
      "environment": [
        "NODE_ENV": "production", "WORKERS": 4, "DEBUG": false, "REGION": "eu-1", "EMPTY": nil,
      ],
      "labels": ["com.example.tier": "backend", "com.example.index": .int(number)],
      "ports": [
        .string("\(8000 + number):80"), .string("127.0.0.1:\(9000 + number):9000/udp"),
        .string("\(20000 + number * 10)-\(20009 + number * 10):5000-5009"),
      ],
      "volumes": [
        "data:/data", "logs:/var/log/app:rw", "/scratch",
        ["type": "tmpfs", "target": "/fast", "tmpfs": ["size": 1_048_576]],
      ],
      "networks": ["front": ["aliases": [.string("s\(number)"), "web"]], "back": nil],
      "depends_on": number > 0 ? [.string("service-\(number - 1)")] : [],
      "cap_add": ["NET_ADMIN", "SYS_TIME"], "cap_drop": ["MKNOD"],
      "devices": ["/dev/i2c-1", "/dev/ttyS0:/dev/ttyUSB0:rw"], "dns": ["1.1.1.1", "8.8.8.8"],
      "extra_hosts": ["db:10.0.0.1", "cache=10.0.0.2"], "group_add": ["dialout"],
      "healthcheck": [
        "test": "curl -f localhost || exit 1", "interval": "30s", "timeout": "5s", "retries": 3,
      ],
      "hostname": .string("host-\(number)"), "init": true, "mem_limit": "512m", "mem_reservation": "256MB",
      "pids_limit": 100, "read_only": true, "restart": "unless-stopped",
      "security_opt": ["no-new-privileges:true"], "stop_grace_period": "1m30s", "stop_signal": "SIGINT",
      "sysctls": ["net.core.somaxconn": 1024], "tmpfs": ["/run", "/tmp"],
      "ulimits": ["nofile": ["soft": 1024, "hard": 2048], "nproc": 65535], "user": "1000:1000",
      "working_dir": "/srv/app/",
    ]
  }
}
