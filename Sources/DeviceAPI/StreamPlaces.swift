/// Places for streams that are open at the same time.
///
/// A place is taken when the request is accepted, before anything of the stream runs, so that many requests
/// at once cannot all find the same place free. Whoever lets go of it without a word gives it back, too: a
/// stream may never begin.
nonisolated final class StreamPlaces {
  let limit: Int
  private(set) var taken = 0

  init(limit: Int) { self.limit = limit }

  /// - Returns: nil when all places are taken.
  func take() -> Place? {
    guard taken < limit else { return nil }
    taken += 1
    return Place(self)
  }

  nonisolated final class Place {
    private var places: StreamPlaces?

    fileprivate init(_ places: StreamPlaces) { self.places = places }

    deinit { giveBack() }

    func giveBack() {
      places?.taken -= 1
      places = nil
    }
  }
}
