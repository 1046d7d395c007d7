import JSON

/// One line of a pull's progress.
public nonisolated struct PullEvent: Hashable, Sendable {
  /// Layer, `Total` for balenaEngine's sum, or the tag; nil on closing lines.
  public let id: String?
  public let status: String
  /// Bytes, of `progressDetail`.
  public let current: Int?
  public let total: Int?

  public init(id: String? = nil, status: String, current: Int? = nil, total: Int? = nil) {
    self.id = id
    self.status = status
    self.current = current
    self.total = total
  }

  init(_ json: JSON) {
    self.init(
      id: json["id"]?.stringValue, status: json["status"]?.stringValue ?? "",
      current: json["progressDetail"]?["current"]?.intValue,
      total: json["progressDetail"]?["total"]?.intValue)
  }
}

/// The progress of a running pull, line by line.
public final class PullStream {
  private let lines: JSONLines
  private let call: String

  init(_ lines: JSONLines, call: String) {
    self.lines = lines
    self.call = call
  }

  /// The next line; nil when the pull is complete.
  ///
  /// - Throws: `reported` with the engine's text when the pull fails.
  public func next() async throws(EngineError) -> PullEvent? {
    guard let line = try await lines.next() else { return nil }
    if let error = line["errorDetail"]?["message"]?.stringValue ?? line["error"]?.stringValue {
      throw EngineError(kind: .reported, call: call, message: error)
    }
    return PullEvent(line)
  }
}

extension PullStream: AsyncSequence {
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let stream: PullStream

    public mutating func next() async throws(EngineError) -> PullEvent? { try await stream.next() }
  }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(stream: self) }
}

/// Turns the lines of a pull into a percentage that never falls (specification, state-engine 6.5).
///
/// balenaEngine sums up by itself, under the id `Total`. Docker Engine speaks of each layer:
/// there the percentage is the mean of the layers' downloads and of their extractions. Layers
/// too small to report real progress are left out, the first time that they show their size.
public nonisolated struct PullProgress: Sendable {
  /// Downloads of less are over before they show progress.
  private static let smallestDownload = 100_000
  /// The same for extraction.
  private static let smallestExtraction = 1_000_000

  /// One phase of one layer.
  private enum Share {
    case pending
    case fraction(Double)
    case leftOut

    var fraction: Double? {
      switch self {
      case .pending: 0
      case .fraction(let fraction): fraction
      case .leftOut: nil
      }
    }

    mutating func advance(_ event: PullEvent, smallest: Int) {
      guard let current = event.current, let total = event.total, total > 0 else { return }
      switch self {
      case .leftOut: return
      case .pending where total < smallest: self = .leftOut
      default: self = .fraction(min(max(Double(current) / Double(total), fraction ?? 0), 1))
      }
    }

    mutating func complete() {
      if case .leftOut = self { return }
      self = .fraction(1)
    }
  }

  private struct Layer {
    /// Bytes of its download that were reported, and that there are.
    var received = 0
    var size = 0
    var download = Share.pending
    var extraction = Share.pending
  }

  public let flavor: VersionInfo.Flavor
  /// 0 to 100.
  public private(set) var percent = 0
  /// Bytes that were received from the registry, as far as the engine says it.
  public private(set) var bytesReceived = 0
  private var layers: [String: Layer] = [:]

  /// Layers of one image that are followed; overlay file systems cannot stack as many.
  private static let layerLimit = 1000

  public init(flavor: VersionInfo.Flavor) { self.flavor = flavor }

  /// - Returns: whether the percentage has changed.
  @discardableResult
  public mutating func consume(_ event: PullEvent) -> Bool {
    let before = percent
    switch flavor {
    case .balena: consumeTotal(event)
    case .docker: consumeLayer(event)
    }
    return percent != before
  }

  private mutating func consumeTotal(_ event: PullEvent) {
    guard event.id == "Total", let current = event.current, let total = event.total, total > 0 else { return }
    bytesReceived = max(bytesReceived, current)
    raise(to: Double(current) * 100 / Double(total))
  }

  private mutating func consumeLayer(_ event: PullEvent) {
    guard let id = event.id else {
      let ends = ["Status: Downloaded newer image", "Status: Image is up to date"]
      if ends.contains(where: event.status.hasPrefix) { raise(to: 100) }
      return
    }
    guard layers[id] != nil || layers.count < Self.layerLimit else { return }
    var layer = layers[id] ?? Layer()
    let receivedBefore = layer.received
    switch event.status {
    case "Pulling fs layer", "Waiting": break
    case "Downloading":
      layer.download.advance(event, smallest: Self.smallestDownload)
      layer.received = max(layer.received, event.current ?? 0)
      layer.size = max(layer.size, event.total ?? 0)
    case "Verifying Checksum", "Download complete":
      layer.download.complete()
      layer.received = max(layer.received, layer.size)
    case "Extracting":
      layer.download.complete()
      layer.extraction.advance(event, smallest: Self.smallestExtraction)
    case "Pull complete", "Already exists":
      layer.download.complete()
      layer.extraction.complete()
    default: return
    }
    layers[id] = layer
    bytesReceived += layer.received - receivedBefore
    let shares = [
      mean(layers.values.compactMap(\.download.fraction)),
      mean(layers.values.compactMap(\.extraction.fraction)),
    ]
    if let mean = mean(shares.compactMap { $0 }) { raise(to: mean * 100) }
  }

  private func mean(_ values: [Double]) -> Double? {
    values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
  }

  private mutating func raise(to value: Double) {
    // A sum of thirds may miss the whole number by its last bit.
    percent = max(percent, Int(min(max(value + 1e-9, 0), 100)))
  }
}
