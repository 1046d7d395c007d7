import ArgumentParser
import HostConfiguration
import Supervisor

/// `balena-supervisor`: the agent, and a probe of it.
@main
struct BalenaSupervisor: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "balena-supervisor",
    abstract: "Keeps the services of a release running on this device.",
    discussion: """
      An implementation of the balena Supervisor: it runs the containers of the target state on the \
      device's engine and serves the Supervisor HTTP API to them. Without an apiEndpoint in config.json \
      it is unmanaged and takes its target state from POST /v2/local/target-state.

      Every option of `run` has an environment variable, named in its help; the option wins.
      """,
    version: AgentVersion.text,
    subcommands: [Run.self, Healthcheck.self],
    defaultSubcommand: Run.self)
}

/// The agent.
struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run the agent (the default command).",
    discussion: """
      Ends with status 143 on SIGTERM and 130 on SIGINT. Containers keep running; started again, the \
      agent takes up where it was.
      """)

  @Option(
    help: ArgumentHelp(
      "Prefix of the host's paths (ROOT_MOUNTPOINT; default /mnt/root if it exists, else /).",
      valueName: "path"))
  var hostRoot: String?

  @Option(help: ArgumentHelp("The boot partition (BOOT_MOUNTPOINT; default /mnt/boot).", valueName: "path"))
  var boot: String?

  @Option(
    help: ArgumentHelp("The state partition (STATE_MOUNTPOINT; default /mnt/state).", valueName: "path"))
  var state: String?

  @Option(help: ArgumentHelp("The data partition (DATA_MOUNTPOINT; default /mnt/data).", valueName: "path"))
  var data: String?

  @Option(
    help: ArgumentHelp(
      "The device's config.json (CONFIG_MOUNT_POINT; default config.json on the boot partition).",
      valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      "The agent's database (DATABASE_PATH; default /data/database.sqlite).", valueName: "file"))
  var database: String?

  @Option(
    help: ArgumentHelp(
      """
      Address of the engine, unix:///path or tcp://host:port (DOCKER_HOST, or DOCKER_SOCKET for a path; \
      default: the first of balenaEngine's and Docker's sockets that exists).
      """, valueName: "address"))
  var engine: String?

  @Option(
    help: ArgumentHelp(
      """
      Where the API listens, address:port or unix:///path (LISTEN_ADDRESS; default: all addresses, the \
      listenPort of config.json, 48484).
      """, valueName: "address"))
  var listen: String?

  @Option(
    help: ArgumentHelp(
      """
      D-Bus system bus (DBUS_SYSTEM_BUS_ADDRESS; default: the host's /run/dbus/system_bus_socket).
      """, valueName: "address"))
  var dbusAddress: String?

  @Option(
    help: ArgumentHelp(
      "Directory with the host's journal files (JOURNAL_DIRECTORY; default: the host's).", valueName: "path"))
  var journalDirectory: String?

  @Option(
    help: ArgumentHelp(
      "Least level to log: trace, debug, info, notice, warning or error (LOG_LEVEL; default info).",
      valueName: "level"))
  var logLevel: String?

  func run() {
    var options = AgentOptions()
    options.paths.hostRoot = hostRoot
    options.paths.boot = boot
    options.paths.state = state
    options.paths.data = data
    options.paths.config = config
    options.paths.database = database
    options.engine = engine
    options.listen = listen
    options.dbusAddress = dbusAddress
    options.journalDirectory = journalDirectory
    options.logLevel = logLevel
    Agent.main(options)
  }
}

/// Asks a running agent for its health.
struct Healthcheck: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Exit with status 0 when GET /v1/healthy of the agent on this machine answers 200.")

  @Option(
    help: ArgumentHelp(
      "Where the agent listens, address:port or unix:///path (default 127.0.0.1 and LISTEN_PORT, 48484).",
      valueName: "address"))
  var listen: String?

  func run() {
    HealthProbe.main(listen: listen)
  }
}
