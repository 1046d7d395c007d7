/// Memory outside of Swift objects, freed with its owner. A plain class of its own, because the
/// optimiser of the 6.3 toolchain refuses isolated deinits across modules.
nonisolated final class RawMemory<Element> {
  let base: UnsafeMutablePointer<Element>

  init(capacity: Int) { base = .allocate(capacity: max(capacity, 1)) }

  deinit { base.deallocate() }
}
