#define _GNU_SOURCE 1
#include "CSystemd.h"

#include <linux/aio_abi.h>
#include <linux/dm-ioctl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/mount.h>

int csystemd_accept(int listener) {
  return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int csystemd_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int csystemd_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

char *const *csystemd_environment(void) { return environ; }

int csystemd_mount(const char *device, const char *place, const char *type, unsigned long flags) {
  return mount(device, place, type, flags, NULL);
}

int csystemd_bind_shared(const char *directory, const char *place) {
  if (mount(directory, place, NULL, MS_BIND, NULL) != 0) return -1;
  return mount(NULL, place, NULL, MS_SHARED, NULL);
}

int csystemd_network_monitor(void) {
  int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (descriptor < 0) return -1;
  struct sockaddr_nl address = {
      .nl_family = AF_NETLINK,
      .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
  };
  if (bind(descriptor, (struct sockaddr *)&address, sizeof address) < 0) {
    int error = errno;
    close(descriptor);
    errno = error;
    return -1;
  }
  return descriptor;
}

ssize_t csystemd_multicast_query(int descriptor, int interface, const void *data, size_t length) {
  struct sockaddr_in group = {.sin_family = AF_INET, .sin_port = htons(5353)};
  group.sin_addr.s_addr = htonl(0xE00000FB); // 224.0.0.251
  union {
    char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
    struct cmsghdr align;
  } control = {.bytes = {0}};
  struct iovec part = {.iov_base = (void *)data, .iov_len = length};
  struct msghdr message = {
      .msg_name = &group,
      .msg_namelen = sizeof group,
      .msg_iov = &part,
      .msg_iovlen = 1,
      .msg_control = control.bytes,
      .msg_controllen = sizeof control.bytes,
  };
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = IPPROTO_IP;
  header->cmsg_type = IP_PKTINFO;
  header->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
  ((struct in_pktinfo *)CMSG_DATA(header))->ipi_ifindex = interface;
  return sendmsg(descriptor, &message, MSG_NOSIGNAL);
}

int csystemd_resume_mapping(const char *name) {
  struct dm_ioctl request = {
      // What every version of the interface since 2003 takes.
      .version = {4, 0, 0},
      .data_size = sizeof request,
      .data_start = sizeof request,
  };
  if (strlen(name) >= sizeof request.name) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(request.name, name);
  int descriptor = open("/dev/" DM_DIR "/" DM_CONTROL_NODE, O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return -1;
  int result = ioctl(descriptor, DM_DEV_SUSPEND, &request);
  int error = errno;
  close(descriptor);
  errno = error;
  return result < 0 ? -1 : 0;
}

int csystemd_flush_queue(unsigned limit, unsigned long *queue) {
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, limit, &context) < 0) return -1;
  *queue = context;
  return 0;
}

int csystemd_flush(unsigned long queue, int descriptor, int counter, uint64_t number) {
  struct iocb request = {
      .aio_data = number,
      .aio_lio_opcode = IOCB_CMD_FSYNC,
      .aio_fildes = (uint32_t)descriptor,
      .aio_flags = IOCB_FLAG_RESFD,
      .aio_resfd = (uint32_t)counter,
  };
  struct iocb *requests[] = {&request};
  return syscall(SYS_io_submit, (aio_context_t)queue, 1L, requests) == 1 ? 0 : -1;
}

int csystemd_flush_done(unsigned long queue, uint64_t *number, int64_t *result) {
  struct io_event event;
  struct timespec now = {0, 0};
  long count = syscall(SYS_io_getevents, (aio_context_t)queue, 0L, 1L, &event, &now);
  if (count != 1) return 0;
  *number = event.data;
  *result = event.res;
  return 1;
}
