// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that the product depends on nothing of this. It drives programs of Debian (wrk,
// nginx, docker) and the release binary; it needs no other package.
let package = Package(
  name: "benchmarks",
  targets: [
    .executableTarget(
      name: "benchmarks",
      swiftSettings: [
        .swiftLanguageMode(.v6),
        .defaultIsolation(MainActor.self),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
        .enableUpcomingFeature("InferIsolatedConformances"),
        .enableUpcomingFeature("MemberImportVisibility"),
      ]),
    .executableTarget(name: "log-writer"),
    .executableTarget(name: "journal-loop", linkerSettings: [.linkedLibrary("systemd")]),
  ]
)
