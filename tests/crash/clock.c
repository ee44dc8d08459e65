/* Preloaded into a process, it bends the wall clock that the process reads, and says whether the kernel vouches for
 * it (adjtimex), as a file of two 64-bit numbers says at any moment: nanoseconds to add, and 0 or 1.
 *
 *   BENT_CLOCK  the file
 *
 * Clocks that do not follow the wall (monotonic, boot time) stay as they are, and so do the times of files.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *bend;

__attribute__((constructor)) static void begin(void) {
  const char *file = getenv("BENT_CLOCK");
  int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *seen = mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
  if (seen != MAP_FAILED) bend = seen;
  close(fd);
}

int clock_gettime(clockid_t id, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(id, now);
  if (!result && id == CLOCK_REALTIME && bend) {
    int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + bend[0];
    now->tv_sec = ns / 1000000000;
    now->tv_nsec = ns % 1000000000;
  }
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec precise;
  int result = clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return result;
}

time_t time(time_t *answer) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (answer) *answer = precise.tv_sec;
  return precise.tv_sec;
}

int adjtimex(struct timex *state) {
  static int (*real)(struct timex *);
  if (!real) real = (int (*)(struct timex *))dlsym(RTLD_NEXT, "adjtimex");
  if (!bend) return real(state);
  state->maxerror = bend[1] ? 0 : 16000000;
  return bend[1] ? TIME_OK : TIME_ERROR;
}
