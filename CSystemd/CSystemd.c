#define _GNU_SOURCE 1
#include "CSystemd.h"

int csystemd_accept(int listener) {
  return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int csystemd_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int csystemd_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

char *const *csystemd_environment(void) { return environ; }
