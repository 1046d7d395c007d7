import HTTP
import JSON

// The shapes of answers (http-api, table at the top).
extension Response {
  /// `{"status":"failed","message":…}`
  static func failure(_ message: String, status: Int) -> Response {
    .json(["status": "failed", "message": .string(message)], status: status)
  }

  /// `{"status":"success", …}`
  static func success(_ members: JSONObject = [:], status: Int = 200) -> Response {
    var body: JSONObject = ["status": "success"]
    for (key, value) in members { body[key] = value }
    return .json(.object(body), status: status)
  }
}
