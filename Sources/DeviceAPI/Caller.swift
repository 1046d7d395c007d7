import Database
import HTTP

/// Who sent a request, and which apps it may see (http-api 2.7, 2.8).
public final class Caller {
  private enum Access {
    /// In local mode and on an unmanaged device no key is asked for.
    case everything
    case key(APIKey)
    case nothing
  }

  private let access: Access

  init(key: APIKey) { access = .key(key) }

  private init(_ access: Access) { self.access = access }

  static let everyone = Caller(.everything)
  /// What a request would be that no authorisation has seen.
  fileprivate static let nobody = Caller(.nothing)

  var isUnrestricted: Bool {
    switch access {
    case .everything: true
    case .key(let key): key.scopes.contains(.global)
    case .nothing: false
    }
  }

  func covers(_ appId: Int) -> Bool {
    switch access {
    case .everything: true
    case .key(let key): key.covers(app: appId)
    case .nothing: false
    }
  }
}

extension Request {
  /// Set by the authorisation of the pipeline, before any route that needs a key.
  var caller: Caller { context as? Caller ?? Caller.nobody }

  /// The key that the request carries: the query's `apikey` before the header. A query that
  /// has one rules, even when its value is wrong.
  var presentedKey: String? {
    let values = query("apikey")
    if values.count == 1, let value = values.first, !value.isEmpty { return value }
    guard let header = header("Authorization"), let blank = header.firstIndex(of: " ") else { return nil }
    let scheme = header[..<blank].lowercased()
    let key = header[header.index(after: blank)...]
    guard scheme == "apikey" || scheme == "bearer", !key.isEmpty, key.utf8.allSatisfy(Self.isKeyByte) else {
      return nil
    }
    return String(key)
  }

  private static func isKeyByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
