/// Why a body cannot be read. The descriptions are the messages of the specification
/// (http-api 2.4).
public nonisolated enum BodyError: Error, Hashable, CustomStringConvertible {
  case tooLarge
  case unsupportedCharset(String)
  case unsupportedEncoding(String)
  case tooManyParameters
  case tooDeep
  /// The compressed data is broken.
  case corrupt(String)
  /// With the JSON parser's words.
  case notJSON(String)

  /// What clients see.
  public var message: String { description }

  public var description: String {
    switch self {
    case .tooLarge: "request entity too large"
    case .unsupportedCharset(let name): "unsupported charset \"\(name.uppercased())\""
    case .unsupportedEncoding(let name): "unsupported content encoding \"\(name)\""
    case .tooManyParameters: "too many parameters"
    case .tooDeep: "The input exceeded the depth"
    case .corrupt(let reason): reason
    case .notJSON(let reason): reason
    }
  }
}
