"""Faults that the stand-in can be told to have; each is chosen by endpoint, number of times, and probability."""

import random
from dataclasses import dataclass, field

ENDPOINTS = (
    "register", "device-key", "odata", "state-get", "state-patch", "tags", "log-stream", "logs-read", "logs-write",
    "token", "delta", "ping", "connectivity", "os-config", "supervisor",
)

BODIES = (
    "empty", "truncated", "truncated-chunk", "invalid-json", "wrong-shape", "wrong-uuid", "html", "corrupt-gzip",
    "wrong-encoding", "large", "huge", "nan", "duplicate-keys", "redirect-loop", "echo",
)
ENCODINGS = ("br", "deflate", "corrupt-br", "twice", "unknown")
TAGS = ("absent", "strong", "changing", "frozen", "unmodified")
CONNECTIONS = ("close", "reset", "reset-in-body", "hang", "lost-acknowledgement")
LOG_SINKS = ("deaf", "slow", "rate", "early-201", "late-401", "close-every", "pause", "503")


@dataclass
class Fault:
    """One fault. Fields that are left out do nothing.

    endpoint      one of ENDPOINTS, or `*`
    delay         seconds before the answer's head
    late          seconds between making the answer and sending it, so that it is out of date
    body_wait     seconds between the answer's head and its body
    body_delay    seconds before each 64 bytes of the answer's body
    status        answered instead of the real status, with an empty body unless `text` says otherwise
    retry_after   value of `Retry-After`
    location      value of `Location`
    body          one of BODIES; `echo`, with `status`, answers what was asked
    size          bytes of the body, filled up with blanks
    head          bytes of a further field of the head
    encoding      one of ENCODINGS, asked for or not; `unknown` is of a name that nobody knows
    etag          one of TAGS
    connection    one of CONNECTIONS; `lost-acknowledgement` does what was asked and then drops the connection
    committed     with `status`: do what was asked, and then answer the status
    log           one of LOG_SINKS; `rate` stores 50 records each half second and drops the oldest beyond them
    period        seconds, for `close-every` and `pause`
    count         how many requests it still hits; None means all
    """

    endpoint: str = "*"
    delay: float = 0
    late: float = 0
    body_wait: float = 0
    body_delay: float = 0
    status: int = 0
    text: str = ""
    retry_after: str = ""
    location: str = ""
    body: str = ""
    size: int = 0
    head: int = 0
    encoding: str = ""
    etag: str = ""
    connection: str = ""
    committed: bool = False
    log: str = ""
    period: float = 5
    count: int | None = None
    probability: float = 1
    hits: int = field(default=0)

    @property
    def is_of_answer(self):
        """Whether a good answer is to be spoilt."""
        return bool(self.body or self.etag or self.body_wait or self.body_delay or self.connection or self.size
                    or self.head or self.encoding)

    def __post_init__(self):
        for value, known, name in (
            (self.endpoint, (*ENDPOINTS, "*"), "endpoint"), (self.body, ("", *BODIES), "body"),
            (self.etag, ("", *TAGS), "etag"), (self.connection, ("", *CONNECTIONS), "connection"),
            (self.log, ("", *LOG_SINKS), "log"), (self.encoding, ("", *ENCODINGS), "encoding"),
        ):
            if value not in known:
                raise ValueError(f"{name} is '{value}', not one of {', '.join(known)}")


class Faults:
    def __init__(self, seed=1):
        self.list = []
        self.random = random.Random(seed)

    def add(self, **fields):
        fault = Fault(**fields)
        self.list.append(fault)
        return fault

    def clear(self):
        self.list = []

    def take(self, endpoint):
        """The fault of this request; the first that fits."""
        for fault in self.list:
            if fault.endpoint not in (endpoint, "*") or fault.count == 0:
                continue
            if self.random.random() >= fault.probability:
                continue
            if fault.count is not None:
                fault.count -= 1
            fault.hits += 1
            return fault
        return None
