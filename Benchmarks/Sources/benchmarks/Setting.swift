import Foundation

/// What the benchmarks run with, from the command line of `scripts/run-benchmarks`.
struct Setting {
  /// The stripped release binary.
  var binary = ""
  /// `unix:///…` of a private engine that holds the image.
  var engine = ""
  var image = ""
  /// Scratch space, removed by the caller.
  var directory = URL(filePath: "/tmp")
  /// `percentiles.lua`.
  var script = ""
  /// File that gets the data.
  var results = ""
  /// Markdown file whose part between two comments gets the tables; none when empty.
  var document = ""
  /// Rounds of each comparison; both sides run once in each, in turns.
  var rounds = 5
  /// Length of one run of the load generator.
  var seconds = 4
  /// Length of the footprint's observation.
  var idleSeconds = 60
  var suites: Set<String> = []

  static let allSuites = ["latency", "keys", "footprint", "start", "apply", "update", "journal", "logs"]

  init(arguments: [String]) throws {
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      guard argument.hasPrefix("--") else {
        guard Self.allSuites.contains(argument) else {
          throw Failure("\(argument): no such suite; there are \(Self.allSuites.joined(separator: ", "))")
        }
        suites.insert(argument)
        continue
      }
      guard let value = rest.popFirst() else { throw Failure("\(argument) needs a value") }
      switch argument {
      case "--binary": binary = value
      case "--engine": engine = value
      case "--image": image = value
      case "--directory": directory = URL(filePath: value)
      case "--script": script = value
      case "--results": results = value
      case "--document": document = value
      case "--rounds": rounds = try Self.positive(value, argument)
      case "--seconds": seconds = try Self.positive(value, argument)
      case "--idle-seconds": idleSeconds = try Self.positive(value, argument)
      default: throw Failure("\(argument): no such option")
      }
    }
    if suites.isEmpty { suites = Set(Self.allSuites) }
  }

  private static func positive(_ text: String, _ option: String) throws -> Int {
    guard let number = Int(text), number > 0 else {
      throw Failure("\(option): \(text) is not a positive number")
    }
    return number
  }
}
