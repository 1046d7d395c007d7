import Glibc

/// Where everything on the device is (host 1.2 and 1.5), decided once at start.
///
/// An option wins over its environment variable, and that over the default. A variable that is empty,
/// `null` or `undefined` counts as unset.
public nonisolated struct HostPaths: Sendable, Hashable {
  /// Values of the command line.
  public struct Options: Sendable, Hashable {
    public var hostRoot: String?
    public var boot: String?
    public var state: String?
    public var data: String?
    public var config: String?
    public var database: String?

    public init(
      hostRoot: String? = nil, boot: String? = nil, state: String? = nil, data: String? = nil,
      config: String? = nil, database: String? = nil
    ) {
      self.hostRoot = hostRoot
      self.boot = boot
      self.state = state
      self.data = data
      self.config = config
      self.database = database
    }

    /// Whether an option or a variable says where a partition is; nil asks for the database.
    public func isChosen(_ partition: HostPartition?, _ environment: [String: String]) -> Bool {
      let (option, variable) =
        switch partition {
        case .boot: (boot, "BOOT_MOUNTPOINT")
        case .state: (state, "STATE_MOUNTPOINT")
        case .data: (data, "DATA_MOUNTPOINT")
        case nil: (database, "DATABASE_PATH")
        }
      return option != nil || HostPaths.value(of: variable, in: environment) != nil
    }
  }

  /// The host's root file system as seen from here; `/` when the agent runs on the host itself.
  public let hostRoot: String
  public let boot: String
  public let state: String
  public let data: String
  public let config: String
  public let database: String
  public let osRelease: String
  /// Directory that holds the `active` marker.
  public let vpnStatus: String
  public let systemBusAddress: String
  /// sysfs directory of the network interfaces.
  public let networkInterfaces: String
  /// Brightness file of the LED; nil for none.
  public let led: String?

  /// - Parameter hasDirectory: whether a directory exists; decides the default of the host root.
  public init(
    _ options: Options = Options(), environment: [String: String] = [:],
    hasDirectory: (String) -> Bool = HostPaths.isDirectory
  ) {
    func choose(_ option: String?, _ variable: String, _ fallback: @autoclosure () -> String) -> String {
      let chosen = option ?? Self.value(of: variable, in: environment) ?? fallback()
      return chosen.count > 1 && chosen.hasSuffix("/") ? String(chosen.dropLast()) : chosen
    }
    let root = choose(options.hostRoot, "ROOT_MOUNTPOINT", hasDirectory("/mnt/root") ? "/mnt/root" : "/")
    hostRoot = root
    // In a container the host's mounts are seen below its root, where nobody has put them in their places.
    func mounted(_ name: String) -> String {
      let below = Self.join(root, "mnt/\(name)")
      return hasDirectory("/mnt/\(name)") || !hasDirectory(below) ? "/mnt/\(name)" : below
    }
    boot = choose(options.boot, "BOOT_MOUNTPOINT", mounted("boot"))
    state = choose(options.state, "STATE_MOUNTPOINT", mounted("state"))
    data = choose(options.data, "DATA_MOUNTPOINT", mounted("data"))
    config = choose(options.config, "CONFIG_MOUNT_POINT", "\(boot)/config.json")
    // Where the launcher of the host binds `/data` from.
    let stored = "\(data)/resin-data/balena-supervisor"
    let isBound = hasDirectory("/data") || !hasDirectory(stored)
    database = choose(
      options.database, "DATABASE_PATH", isBound ? "/data/database.sqlite" : "\(stored)/database.sqlite")
    osRelease = choose(nil, "HOST_OS_VERSION_PATH", Self.join(root, "etc/os-release"))
    vpnStatus = choose(nil, "VPN_STATUS_PATH", Self.join(root, "run/openvpn/vpn_status"))
    systemBusAddress = choose(
      nil, "DBUS_SYSTEM_BUS_ADDRESS", "unix:path=\(Self.join(root, "run/dbus/system_bus_socket"))")
    networkInterfaces = choose(nil, "MAC_ADDRESS_PATH", "/sys/class/net")
    led = Self.value(of: "LED_FILE", in: environment)
  }

  /// An environment variable, nil when it counts as unset (host 1.2).
  public static func value(of variable: String, in environment: [String: String]) -> String? {
    guard let value = environment[variable], !value.isEmpty, value != "null", value != "undefined" else {
      return nil
    }
    return value
  }

  public static func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  private static func join(_ root: String, _ path: String) -> String {
    root == "/" ? "/" + path : "\(root)/\(path)"
  }

  /// A path of the host, given without its leading slash.
  public func onHost(_ path: String) -> String { Self.join(hostRoot, path) }
}

nonisolated extension HostPaths {
  public var deviceType: String { "\(boot)/device-type.json" }
  public var configText: String { "\(boot)/config.txt" }
  public var extlinux: String { "\(boot)/extlinux/extlinux.conf" }
  public var extraUEnv: String { "\(boot)/extra_uEnv.txt" }
  public var configFS: String { "\(boot)/configfs.json" }
  public var splash: String { "\(boot)/splash" }
  public var redsocks: String { "\(boot)/system-proxy/redsocks.conf" }
  public var noProxy: String { "\(boot)/system-proxy/no_proxy" }
  public var hostname: String { onHost("etc/hostname") }

  /// Directory of what the agent shares with the host and with services.
  public var runtime: String { onHost("tmp/balena-supervisor") }
  public var rebootMarker: String { "\(runtime)/reboot-after-apply" }
  public var targetStateConfig: String { "\(runtime)/target-state-config" }
  public var stateReportCache: String { "\(runtime)/state-report-cache" }

  /// Services of a host that came from resinOS may have locks in the former directory: both names are then of one
  /// directory (host 1.4). Before anything is made in it.
  public func linkFormerRuntime() {
    var status = stat()
    guard Self.isDirectory(onHost("tmp/resin-supervisor")), lstat(runtime, &status) != 0 else { return }
    symlink("./resin-supervisor", runtime)
  }

  /// Directory of a service's update locks.
  public func updateLocks(app: Int, service: String) -> String { "\(runtime)/services/\(app)/\(service)" }

  /// Markers of a host update in progress.
  public var hostUpdateMarkers: [String] {
    ["\(state)/rollback-health-breadcrumb", "\(state)/rollback-altboot-breadcrumb"]
  }

  public var preload: String { "\(data)/apps.json" }
  public var migrationBackup: String { "\(data)/backup.tgz" }
  public func legacyData(app: Int) -> String { "\(data)/resin-data/\(app)" }

  public var odmData: String { onHost("dev/mmcblk0boot0") }
  public var odmDataReadOnlySwitch: String { onHost("sys/block/mmcblk0boot0/force_ro") }
  public var acpiTables: String { onHost("boot/acpi-tables") }
  public var acpiConfigFS: String { onHost("sys/kernel/config/acpi/table") }

  /// The last config.json that could be read, next to the database.
  public var configCopy: String { besideDatabase("config.json.last-good") }

  /// There while units have not taken over the proxy configuration yet.
  public var proxyRestartMarker: String { besideDatabase("proxy-restart-due") }

  private func besideDatabase(_ name: String) -> String {
    guard let slash = database.lastIndex(of: "/") else { return name }
    return "\(database[..<slash])/\(name)"
  }
}
