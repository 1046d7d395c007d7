#define _GNU_SOURCE 1
#include "CSystemd.h"

#include <fnmatch.h>
#include <string.h>
#include <time.h>

volatile int csystemd_journal_depth = 0;
static volatile uint64_t lost_pages = 0;

static void on_bus_error(int number, siginfo_t *info, void *context) {
  (void)context;
  if (csystemd_journal_depth > 0 && info->si_code == BUS_ADRERR) {
    long size = sysconf(_SC_PAGESIZE);
    void *page = (void *)((uintptr_t)info->si_addr & ~((uintptr_t)size - 1));
    int saved = errno;
    void *mapped = mmap(page, (size_t)size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    errno = saved;
    if (mapped == page) {
      lost_pages++;
      return;
    }
  }
  // The access is repeated on return, and kills.
  signal(number, SIG_DFL);
}

int csystemd_journal_guard(void) {
  static int installed = 0;
  if (installed) return 0;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, NULL) < 0) return -errno;
  installed = 1;
  return 0;
}

uint64_t csystemd_journal_lost_pages(void) { return lost_pages; }

#define EACH(byte) (0x0101010101010101ull * (byte))

/// The top bit of each byte of `word` that is below `limit` (at most 0x80), for bytes below 0x80.
#define BELOW(word, limit) (((word) - EACH(limit)) & ~(word) & EACH(0x80))
#define EQUAL(word, byte) BELOW((word) ^ EACH(byte), 1)

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

/// Which bytes end a copy: in JSON text also those with a meaning there, elsewhere all controls but the tab.
enum plain { IN_JSON, IN_LINE };

static inline int ends(uint8_t byte, enum plain kind) {
  if (byte >= 0x7f) return 1;
  return kind == IN_JSON ? byte < 0x20 || byte == '"' || byte == '\\' : byte < 0x20 && byte != '\t';
}

/// Whether one of eight bytes may end a copy. Never 0 when one does.
static inline uint64_t may_end(uint64_t word, enum plain kind) {
  uint64_t special = BELOW(word, 0x20) | EQUAL(word, 0x7f) | (word & EACH(0x80));
  return kind == IN_JSON ? special | EQUAL(word, '"') | EQUAL(word, '\\') : special;
}

static inline uint64_t may_end_16(bytes16 bytes, enum plain kind) {
  bytes16 special = (bytes16)((bytes < 0x20) | (bytes > 0x7e));
  if (kind == IN_JSON) special |= (bytes16)((bytes == '"') | (bytes == '\\'));
  words2 words = (words2)special;
  return words[0] | words[1];
}

/// Blocks first, the last one over the end of the one before; byte by byte from a block that may end the copy.
static inline size_t copy_until(uint8_t *to, const uint8_t *from, size_t count, enum plain kind) {
  size_t done = 0;
  if (count >= 16) {
    while (1) {
      bytes16 bytes;
      memcpy(&bytes, from + done, 16);
      memcpy(to + done, &bytes, 16);
      if (may_end_16(bytes, kind)) break;
      done += 16;
      if (done == count) return count;
      if (count - done < 16) done = count - 16;
    }
  } else if (count >= 8) {
    uint64_t first, last;
    memcpy(&first, from, 8);
    memcpy(&last, from + count - 8, 8);
    memcpy(to, &first, 8);
    memcpy(to + count - 8, &last, 8);
    if (!(may_end(first, kind) | may_end(last, kind))) return count;
  } else if (count >= 4) {
    uint32_t first, last;
    memcpy(&first, from, 4);
    memcpy(&last, from + count - 4, 4);
    memcpy(to, &first, 4);
    memcpy(to + count - 4, &last, 4);
    if (!may_end((uint64_t)last << 32 | first, kind)) return count;
  }
  for (; done < count && !ends(from[done], kind); done++) to[done] = from[done];
  return done;
}

size_t csystemd_copy_plain(uint8_t *to, const uint8_t *from, size_t count) {
  return copy_until(to, from, count, IN_JSON);
}

size_t csystemd_copy_line(uint8_t *to, const uint8_t *from, size_t count) {
  return copy_until(to, from, count, IN_LINE);
}

size_t csystemd_printable_prefix(const uint8_t *from, size_t count) {
  size_t done = 0;
  while (count - done >= 8) {
    uint64_t word;
    memcpy(&word, from + done, 8);
    if (BELOW(word, 0x20) | EQUAL(word, 0x7f) | (word & EACH(0x80))) break;
    done += 8;
  }
  for (; done < count; done++) {
    uint8_t byte = from[done];
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte >= 0x7f) return done;
  }
  return done;
}

long csystemd_parse_time(const char *text, const char *format, struct tm *time) {
  const char *end = strptime(text, format, time);
  return end ? end - text : -1;
}

int csystemd_glob_matches(const char *pattern, const char *text) {
  return fnmatch(pattern, text, FNM_NOESCAPE) == 0;
}

long csystemd_find(const uint8_t *text, size_t count, const uint8_t *needle, size_t needle_count) {
  const uint8_t *found = memmem(text, count, needle, needle_count);
  return found ? found - text : -1;
}

const char *csystemd_zone_name(int index) {
  tzset();
  return tzname[index & 1];
}

static char *saved_zone = NULL;

void csystemd_zone_begin(const char *zone) {
  const char *now = getenv("TZ");
  free(saved_zone);
  saved_zone = now ? strdup(now) : NULL;
  setenv("TZ", zone, 1);
  tzset();
}

void csystemd_zone_end(void) {
  if (saved_zone)
    setenv("TZ", saved_zone, 1);
  else
    unsetenv("TZ");
  free(saved_zone);
  saved_zone = NULL;
  tzset();
}
