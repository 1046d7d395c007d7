/// SQLite's header, and inline wrappers for what Swift cannot import: variadic
/// functions and constants that are casts.
#pragma once

#include <sqlite3.h>
#include <stdlib.h>

/// A small lookaside (64 slots of 128 bytes) in place of the default 48 kB per connection.
static inline int csqlite_small_lookaside(sqlite3 *database) {
  return sqlite3_db_config(database, SQLITE_DBCONFIG_LOOKASIDE, NULL, 128, 64);
}

/// sqlite3_bind_text with a private copy of the text.
static inline int csqlite_bind_text(sqlite3_stmt *statement, int position, const char *text,
                                    int length) {
  return sqlite3_bind_text(statement, position, text, length, SQLITE_TRANSIENT);
}
