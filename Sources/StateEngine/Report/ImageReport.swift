import Database

/// What the agent does with an image at the moment.
public nonisolated struct ImageTask: Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    /// Percent, nil while unknown.
    case downloading(progress: Int?)
    case deleting
  }

  /// The row that exists, or that a finished download will write.
  public var image: StoredImage
  public var kind: Kind

  public init(image: StoredImage, kind: Kind) {
    self.image = image
    self.kind = kind
  }
}

/// An image with its status, as reports show it (state-engine 8.2).
public nonisolated struct ImageReport: Sendable, Hashable {
  public enum Status: String, Sendable {
    case downloading = "Downloading"
    case downloaded = "Downloaded"
    case deleting = "Deleting"
  }

  public var image: StoredImage
  public var status: Status
  /// Percent of a running download.
  public var progress: Int?

  public init(image: StoredImage, status: Status, progress: Int? = nil) {
    self.image = image
    self.status = status
    self.progress = progress
  }

  /// Running tasks first; a row whose name has a task is that task.
  public static func list(available rows: [StoredImage], tasks: [ImageTask]) -> [ImageReport] {
    let running = tasks.map { task in
      switch task.kind {
      case .downloading(let progress):
        ImageReport(image: task.image, status: .downloading, progress: progress)
      case .deleting: ImageReport(image: task.image, status: .deleting)
      }
    }
    let names = Set(tasks.map(\.image.name))
    let stored = rows.filter { !names.contains($0.name) }
    return running + stored.map { ImageReport(image: $0, status: .downloaded) }
  }

  /// Mean of the known progresses, in percent; nil when nothing is downloaded.
  public static func overallProgress(_ images: [ImageReport]) -> Double? {
    let known = images.compactMap(\.progress)
    guard !known.isEmpty else { return nil }
    return Double(known.reduce(0, +)) / Double(known.count)
  }
}
