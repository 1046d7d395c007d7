// Writes entries to journald as the engine's log driver does, at a steady pace, under the engine's name:
//   log-writer CONTAINER SECONDS LINES-PER-SECOND
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments) {
  if (count != 4) return 64;
  const char *container = arguments[1];
  long seconds = atol(arguments[2]), rate = atol(arguments[3]);
  prctl(PR_SET_NAME, "dockerd");
  int sender = socket(AF_UNIX, SOCK_DGRAM, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, "/run/systemd/journal/socket", sizeof address.sun_path - 1);
  if (sender < 0 || connect(sender, (struct sockaddr *)&address, sizeof address) != 0) return 1;
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  char text[1024];
  for (long number = 1; number <= seconds * rate; number++) {
    int length = snprintf(
        text, sizeof text,
        "CONTAINER_ID_FULL=%s\nPRIORITY=6\nCONTAINER_NAME=main\nSYSLOG_IDENTIFIER=%.12s\n"
        "MESSAGE=load-%ld a line of a service that has something to say %ld\n",
        container, container, number, number * 7919);
    if (send(sender, text, (size_t)length, 0) != length) return 1;
    if (number % 20 != 0) continue;
    next.tv_nsec += 20 * 1000000000L / rate;
    while (next.tv_nsec >= 1000000000L) {
      next.tv_nsec -= 1000000000L;
      next.tv_sec++;
    }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
  }
  return 0;
}
