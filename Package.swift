// swift-tools-version: 6.2
import PackageDescription

let warningsAreErrors = Context.environment["WARNINGS_AS_ERRORS"] != nil

let strictSettings: [SwiftSetting] =
  [
    .swiftLanguageMode(.v6),
    .defaultIsolation(MainActor.self),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
    .enableUpcomingFeature("MemberImportVisibility"),
  ] + (warningsAreErrors ? [.treatAllWarnings(as: .error)] : [])

extension Target {
  /// A Swift target with the settings that every target of this package shares.
  static func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strictSettings)
  }

  static func tests(
    _ name: String, of target: String? = nil, _ dependencies: [Target.Dependency] = [],
    exclude: [String] = []
  ) -> Target {
    .testTarget(
      name: "\(name)Tests",
      dependencies: [.target(name: target ?? name)] + dependencies,
      exclude: exclude,
      swiftSettings: strictSettings)
  }
}

let package = Package(
  name: "balena-supervisor",
  products: [.executable(name: "balena-supervisor", targets: ["balena-supervisor"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
  ],
  targets: [
    // C: headers of the system's libraries, and inline wrappers for what Swift cannot import.
    .target(
      name: "CSystemd", path: "CSystemd",
      linkerSettings: [.linkedLibrary("systemd"), .linkedLibrary("udev")]),
    .target(
      name: "CCurl", linkerSettings: [.linkedLibrary("curl"), .linkedLibrary("crypto")]),
    .target(
      name: "CZlib", linkerSettings: [.linkedLibrary("z")]),
    .target(
      name: "CSQLite", linkerSettings: [.linkedLibrary("sqlite3")]),

    // Bottom to top: a target imports only what stands above it in this list.
    .library("JSON"),
    .library(
      "EventLoop",
      [
        "CSystemd", .product(name: "HeapModule", package: "swift-collections"),
        .product(name: "DequeModule", package: "swift-collections"),
      ]),
    .library(
      "SystemBus", ["CSystemd", "EventLoop", .product(name: "Logging", package: "swift-log")]),
    .library("Logs", ["CSystemd", .product(name: "Logging", package: "swift-log")]),
    .library(
      "HTTP",
      ["EventLoop", "CSystemd", "CZlib", "JSON", .product(name: "DequeModule", package: "swift-collections")]),
    .library(
      "HTTPClient",
      ["EventLoop", "CCurl", "CSystemd", .product(name: "DequeModule", package: "swift-collections")]),
    .library("Database", ["CSQLite", "JSON", .product(name: "Logging", package: "swift-log")]),
    .library(
      "Journal", ["EventLoop", "Logs", "JSON", "CSystemd", .product(name: "Logging", package: "swift-log")]),
    .library("Model", ["JSON"]),
    .library(
      "Engine", ["HTTPClient", "EventLoop", "JSON", "Model", .product(name: "Logging", package: "swift-log")]),
    .library(
      "HostConfiguration",
      [
        "SystemBus", "Database", "EventLoop", "JSON", "Model", "CSystemd",
        .product(name: "Logging", package: "swift-log"),
      ]),
    .library(
      "StateEngine",
      [
        "Engine", "HTTPClient", "HostConfiguration", "Database", "EventLoop", "JSON", "Model",
        "CSystemd", .product(name: "Logging", package: "swift-log"),
      ]),
    .library(
      "Cloud",
      [
        "HTTPClient", "HostConfiguration", "Database", "EventLoop", "JSON", "CZlib",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"),
      ]),
    .library(
      "DeviceAPI",
      [
        "StateEngine", "Engine", "Database", "EventLoop", "HTTP", "HostConfiguration", "JSON", "Model",
        "Journal", "CSystemd", .product(name: "Logging", package: "swift-log"),
      ]),
    .library(
      "Supervisor",
      [
        "Cloud", "DeviceAPI", "StateEngine", "Engine", "HostConfiguration", "SystemBus", "Database", "HTTP",
        "HTTPClient", "EventLoop", "Logs", "Model", "JSON", "Journal", "CSystemd",
        .product(name: "Logging", package: "swift-log"),
      ]),
    .executableTarget(
      name: "balena-supervisor",
      dependencies: [
        "Supervisor", "HostConfiguration",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strictSettings,
      linkerSettings: [.unsafeFlags(["-Xlinker", "--gc-sections"], .when(configuration: .release))]),

    // Tests. `TestSupport` drives the loop's descriptor from the stock main queue.
    .target(
      name: "TestSupport",
      dependencies: ["EventLoop", "CSystemd", .product(name: "Logging", package: "swift-log")],
      path: "Tests/TestSupport",
      swiftSettings: strictSettings),
    .executableTarget(
      name: "loop-probe", dependencies: ["EventLoop", "CSystemd"], path: "Tests/LoopProbe",
      swiftSettings: strictSettings),
    .target(
      name: "FuzzSubjects", dependencies: ["JSON", "Model", "HTTP"], path: "Fuzz/Subjects",
      swiftSettings: strictSettings),
    .tests("Fuzz", of: "FuzzSubjects", ["TestSupport"]),
    .tests("JSON", ["TestSupport"]),
    .tests("EventLoop", ["TestSupport", "CSystemd", "loop-probe"]),
    .tests(
      "SystemBus",
      ["TestSupport", "EventLoop", "CSystemd", .product(name: "Logging", package: "swift-log")],
      exclude: ["bus-service.py"]),
    .tests("HTTP", ["TestSupport", "EventLoop", "CSystemd"]),
    .tests("HTTPClient", ["TestSupport", "EventLoop", "CSystemd"]),
    .tests("Logs", [.product(name: "Logging", package: "swift-log")]),
    .tests("Database", ["TestSupport"]),
    .tests("Model", ["JSON", "TestSupport"], exclude: ["Golden"]),
    .tests("Journal", ["TestSupport", "EventLoop", "CSystemd", "JSON"]),
    .tests("Engine", ["TestSupport", "EventLoop", "HTTPClient", "JSON"]),
    .tests("HostConfiguration", ["JSON", "TestSupport", "EventLoop", "SystemBus"]),
    .tests("StateEngine", ["Model", "JSON", "HTTP", "HTTPClient", "TestSupport"]),
    .tests("Cloud", ["JSON", "EventLoop", "Database", "HostConfiguration", "HTTPClient", "TestSupport"]),
    .tests(
      "DeviceAPI",
      [
        "TestSupport", "JSON", "Model", "Database", "Engine", "EventLoop", "HTTP", "HTTPClient",
        "StateEngine",
        .product(name: "Logging", package: "swift-log"),
      ], exclude: ["Golden"]),
  ]
)

// What `make fuzz` builds is of no use without libFuzzer's instrumentation.
if Context.environment["FUZZING"] != nil {
  package.targets.append(.target(name: "CFuzzer", path: "Fuzz/Driver"))
  package.targets += ["json", "document", "command", "body", "request", "route"].map { name in
    .executableTarget(
      name: "fuzz-\(name)", dependencies: ["FuzzSubjects", "CFuzzer"], path: "Fuzz/Targets/\(name)",
      exclude: name == "document" ? ["dictionary"] : [], swiftSettings: strictSettings)
  }
}

// What `scripts/benchmark-mapping` starts.
if Context.environment["BENCHMARKING"] != nil {
  package.targets.append(
    .executableTarget(
      name: "mapping-benchmark", dependencies: ["CSystemd", "JSON", "Model"], path: "Benchmarks/Mapping",
      swiftSettings: strictSettings))
}
