public import HTTP

/// One route: what the endpoint index says of it (http-api 1), and what answers.
///
/// A group of routes is an extension of `DeviceAPI` with one property of type `[APIRoute]` in a file
/// of its own. To put a group on the wire, name the property in `DeviceAPI.routes`; to keep it there,
/// describe each route in `docs/openapi.json` and give it a row in
/// `Tests/DeviceAPITests/Golden/routes.json`, because tests compare all three.
///
/// A handler runs on the loop and answers at once; one made with `awaiting` may take its time. The
/// key has been checked before: `request.caller` says what it covers. The body has been read and
/// parsed: `request.json` is `{}` when there was none. Failures are answered with the shapes of
/// `Answers.swift`, so that one place spells them.
public struct APIRoute {
  /// Who may call, and how much of the answer depends on the key.
  public nonisolated enum Scope: String, Sendable {
    /// Without a key.
    case open
    /// Any valid key.
    case any
    /// The key must cover the app; otherwise 401.
    case app
    /// An app that the key does not cover looks like one that does not exist.
    case hidden
    /// The answer is about the apps that the key covers.
    case filter
    /// About the caller's own key.
    case own
  }

  public let method: Method
  public let path: String
  public let scope: Scope
  /// False for routes that a broken body must not fail.
  let readsBody: Bool
  let handler: Route.Handler

  /// - Parameter handler: answers at once, or asks for time (`Request.deferAnswer`).
  public init(
    _ method: Method, _ path: String, _ scope: Scope, readsBody: Bool = true,
    handler: @escaping Route.Handler
  ) {
    self.method = method
    self.path = path
    self.scope = scope
    self.readsBody = readsBody
    self.handler = handler
  }

  /// A route whose answer is waited for. What it began goes on when the client goes away.
  public static func awaiting(
    _ method: Method, _ path: String, _ scope: Scope, readsBody: Bool = true,
    _ answer: @escaping (Request) async -> Response
  ) -> APIRoute {
    APIRoute(method, path, scope, readsBody: readsBody) { request in
      let responder = request.deferAnswer()
      Task { responder.respond(await answer(request)) }
      return nil
    }
  }

  var route: Route { Route(method, path, handler) }
}
