#include <zlib.h>

/// inflateInit2(), a macro in zlib.h.
static inline int czlib_inflate_init(z_stream *stream, int windowBits) {
  return inflateInit2(stream, windowBits);
}
