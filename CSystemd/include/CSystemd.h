/// Headers of the kernel and of libsystemd and libudev, and wrappers for what Swift
/// cannot import: variadic functions, and GNU extensions. `_GNU_SOURCE` is defined in
/// CSystemd.c only: in this header it would change types that other modules see too.
#pragma once

#include <errno.h>
#include <malloc.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libudev.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

/// accept4(2) with SOCK_NONBLOCK and SOCK_CLOEXEC.
int csystemd_accept(int listener);

/// pipe2(2) with O_CLOEXEC.
int csystemd_pipe(int ends[2]);

/// A stream socket with SOCK_NONBLOCK and SOCK_CLOEXEC.
static inline int csystemd_stream_socket(int family) {
  return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/// A socket of rtnetlink(7) that hears of links and addresses, with SOCK_NONBLOCK and SOCK_CLOEXEC; or -1 and errno.
int csystemd_network_monitor(void);

/// A datagram socket for IPv4 with SOCK_NONBLOCK and SOCK_CLOEXEC.
static inline int csystemd_datagram_socket(void) {
  return socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/// Sends a message to the group of multicast DNS over one interface; the return is that of sendmsg(2).
ssize_t csystemd_multicast_query(int descriptor, int interface, const void *data, size_t length);

/// epoll_ctl(2) with an unsigned 64-bit cookie.
static inline int csystemd_epoll_control(int epoll, int operation, int descriptor,
                                         uint32_t events, uint64_t cookie) {
  struct epoll_event event;
  event.events = events;
  event.data.u64 = cookie;
  return epoll_ctl(epoll, operation, descriptor, &event);
}

/// The cookie of one event out of epoll_wait(2); the structure is packed on x86-64.
static inline uint64_t csystemd_epoll_cookie(const struct epoll_event *event) {
  return event->data.u64;
}

/// pidfd_open(2); glibc 2.36 has the function, older ones only the number.
static inline int csystemd_pidfd_open(pid_t process) {
  return (int)syscall(SYS_pidfd_open, process, 0);
}

/// pidfd_send_signal(2).
static inline int csystemd_pidfd_send_signal(int pidfd, int number) {
  return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
}

/// WIFEXITED and WEXITSTATUS in one: the exit status, or -1.
static inline int csystemd_exit_status(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// WIFSIGNALED and WTERMSIG in one: the signal, or 0.
static inline int csystemd_termination_signal(int status) {
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/// environ(7); the name itself is ambiguous in Swift.
char *const *csystemd_environment(void);

/// memfd_create(2) with MFD_CLOEXEC.
int csystemd_memory_file(const char *name);

/// mount(2) with flags of its own and without data.
int csystemd_mount(const char *device, const char *place, const char *type, unsigned long flags);

/// Shows a directory at another place, which mounts below it are shared with (mount(2), MS_BIND and MS_SHARED).
int csystemd_bind_shared(const char *directory, const char *place);

/// Lets a suspended mapping of the device mapper go on (DM_DEV_SUSPEND without its flag); -1 with errno.
int csystemd_resume_mapping(const char *name);

// MARK: Flushing

/// A queue of the kernel's for flushes that it carries out in the background (io_setup(2)).
int csystemd_flush_queue(unsigned limit, unsigned long *queue);

/// Has the kernel do what fsync(2) does, in the background; `counter` (eventfd(2)) is raised when it is done.
/// -1 with EINVAL before Linux 4.18.
int csystemd_flush(unsigned long queue, int descriptor, int counter, uint64_t number);

/// The next flush that is done, without waiting: its number, and 0 or a negative errno(3). 0 when there is none.
int csystemd_flush_done(unsigned long queue, uint64_t *number, int64_t *result);

// MARK: Journal

/// Installs the handler that lets reading go on when a journal file was truncated below its
/// mapping: the lost page becomes zeros, which libsystemd then takes for a damaged object.
/// Outside of `csystemd_journal_enter` and `csystemd_journal_leave` the signal kills as ever.
int csystemd_journal_guard(void);

extern volatile int csystemd_journal_depth;
static inline void csystemd_journal_enter(void) { csystemd_journal_depth++; }
static inline void csystemd_journal_leave(void) { csystemd_journal_depth--; }

/// Pages lost to truncated files since the start of the process.
uint64_t csystemd_journal_lost_pages(void);

/// Copies until the end or a byte that JSON text cannot hold as it is, or that is not ASCII.
/// `to` has room for `count`. Returns how many bytes were copied; those behind them may have been written.
size_t csystemd_copy_plain(uint8_t *to, const uint8_t *from, size_t count);

/// The same until the end or a byte that is not printable ASCII or a tab.
size_t csystemd_copy_line(uint8_t *to, const uint8_t *from, size_t count);

/// Length of the leading run of printable ASCII, tabs and line feeds.
size_t csystemd_printable_prefix(const uint8_t *from, size_t count);

/// strptime(3), which needs a feature macro. Returns the offset of the first character that was
/// not used, or -1.
long csystemd_parse_time(const char *text, const char *format, struct tm *time);

/// fnmatch(3) with FNM_NOESCAPE.
int csystemd_glob_matches(const char *pattern, const char *text);

/// memmem(3): the offset of the first occurrence, or -1.
long csystemd_find(const uint8_t *text, size_t count, const uint8_t *needle, size_t needle_count);

/// The local zone's abbreviation, of standard time (0) or daylight saving time (1).
const char *csystemd_zone_name(int index);

/// Makes another zone of the system's database the local one, until `csystemd_zone_end`.
void csystemd_zone_begin(const char *zone);
void csystemd_zone_end(void);
