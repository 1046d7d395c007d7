import HTTP
import JSON
import Logging
import Model
import StateEngine

// The shapes of answers (http-api, table at the top). They differ from route to route because
// scripts in the field match them.
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

  /// `{"Data":"OK","Error":""}`, the form of the oldest actions.
  static func data(status: Int = 200) -> Response {
    .json(["Data": "OK", "Error": ""], status: status)
  }

  /// `{"Data":"","Error":…}`
  static func dataFailure(_ message: String, status: Int) -> Response {
    .json(["Data": "", "Error": .string(message)], status: status)
  }
}

extension DeviceAPI {
  /// What the error middleware answers (http-api 2.6): 423 for update locks, 503 for the rest.
  func failed(_ error: ActionError, _ request: Request) -> Response {
    if error.isLock { return .failure(error.description, status: 423) }
    return failed(error.description, request)
  }

  /// 503, with the reason in the log.
  func failed(_ message: String, _ request: Request) -> Response {
    logger.error("Error on \(request.methodText) \(request.path): \(message)")
    return .failure(message, status: 503)
  }

  /// The answer while nothing is known of the device yet, because the engine could not be asked.
  var unreadable: String? { engine.current.revision == 0 ? engine.engineProblem : nil }
}

extension Request {
  /// The body; `{}` when there was none. One that cannot be read has been refused already.
  var json: JSON {
    do throws(BodyError) { return try parsedBody() } catch { return [:] }
  }

  /// `force` of the body (TRUTHY).
  var isForced: Bool { Coercions.isTruthy(json["force"]) }

  /// The path's `appId` (INT).
  var appId: Int? { parameter("appId").flatMap { Coercions.integer(.string($0)) } }
}
