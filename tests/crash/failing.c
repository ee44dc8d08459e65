/* Preloaded into a process, it makes the disk under one folder fail, as a file of five 64-bit numbers says at any
 * moment: the error number; what fails with it: 1 what writes, 2 what reads, 3 both, 0 nothing; and, if only reading
 * some bytes of one file fails: the file's inode (else 0), the first of the bytes, and the one behind the last.
 * With the error number -1 it does not fail but hangs, until the file says something else.
 *
 *   FAILING_FOLDER  absolute path of the folder
 *   FAILING_FILE    the file; it must lie elsewhere
 *
 * Memory maps (SQLite's -shm) never fail, nor does asking for a file's size: a kernel answers those from memory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#undef open64
#undef openat64
#undef pread64
#undef pwrite64
#undef ftruncate64

#define FILES 4096
enum what { WRITES = 1, READS = 2 };
static volatile const int64_t *order;
static char watched[FILES];
static const char *folder;
static size_t folder_length;

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void begin(void) {
  const char *file = getenv("FAILING_FILE");
  folder = getenv("FAILING_FOLDER");
  if (!folder || !file) return;
  folder_length = strlen(folder);
  REAL(int, "open64", const char *, int, ...);
  int fd = real(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) _exit(98);
  void *seen = mmap(NULL, 40, PROT_READ, MAP_SHARED, fd, 0);
  if (seen == MAP_FAILED) _exit(98);
  order = seen;
  close(fd);
}

static int fails(enum what what) {
  while (order && order[0] == -1 && order[1] & what) usleep(10000);
  if (!order || !(order[1] & what)) return 0;
  errno = (int)order[0];
  return 1;
}

static int is_ours(const char *path) {
  return folder && path && !strncmp(path, folder, folder_length) &&
         (path[folder_length] == '/' || !path[folder_length]);
}

static int fd_fails(int fd, enum what what) { return fd >= 0 && fd < FILES && watched[fd] && fails(what); }

static int open_fails(const char *path, int flags) {
  if (!is_ours(path)) return 0;
  int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
  /* A kernel that has made a file system read-only refuses to open for writing; one whose disk fails, to make. */
  if (writes && (flags & (O_CREAT | O_TRUNC) || (order && order[0] == EROFS))) {
    if (!(flags & O_TRUNC) && order && order[0] != EROFS && !access(path, F_OK)) return 0;
    return fails(WRITES);
  }
  return 0;
}

static int note_open(int fd, const char *path) {
  if (fd >= 0 && fd < FILES) watched[fd] = is_ours(path);
  return fd;
}

#define OPEN(symbol) \
  int symbol(const char *path, int flags, ...) { \
    REAL(int, #symbol, const char *, int, ...); \
    va_list rest; va_start(rest, flags); int mode = flags & O_CREAT ? va_arg(rest, int) : 0; va_end(rest); \
    return open_fails(path, flags) ? -1 : note_open(real(path, flags, mode), path); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(symbol) \
  int symbol(int at, const char *path, int flags, ...) { \
    REAL(int, #symbol, int, const char *, int, ...); \
    va_list rest; va_start(rest, flags); int mode = flags & O_CREAT ? va_arg(rest, int) : 0; va_end(rest); \
    return open_fails(path, flags) ? -1 : note_open(real(at, path, flags, mode), path); \
  }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
  REAL(int, "close", int);
  if (fd >= 0 && fd < FILES) watched[fd] = 0;
  return real(fd);
}

static int read_fails(int fd, off64_t at, size_t length) {
  struct stat status;
  if (!fd_fails(fd, READS)) return 0;
  if (!order[2]) return 1;
  return !fstat(fd, &status) && (int64_t)status.st_ino == order[2] && at < order[4] && at + (off64_t)length > order[3];
}

ssize_t read(int fd, void *data, size_t length) {
  REAL(ssize_t, "read", int, void *, size_t);
  if (!read_fails(fd, order ? lseek(fd, 0, SEEK_CUR) : 0, length)) return real(fd, data, length);
  errno = (int)order[0];
  return -1;
}

#define PREAD(symbol, offset) \
  ssize_t symbol(int fd, void *data, size_t length, offset at) { \
    REAL(ssize_t, #symbol, int, void *, size_t, offset); \
    if (!read_fails(fd, at, length)) return real(fd, data, length, at); \
    errno = (int)order[0]; \
    return -1; \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define ON_FILE(type, symbol, what, parameters, ...) \
  type symbol parameters { \
    static __typeof__(&symbol) real; \
    if (!real) real = (__typeof__(&symbol))dlsym(RTLD_NEXT, #symbol); \
    return fd_fails(fd, what) ? -1 : real(__VA_ARGS__); \
  }
#define ON_PATH(symbol, parameters, ...) \
  int symbol parameters { \
    static __typeof__(&symbol) real; \
    if (!real) real = (__typeof__(&symbol))dlsym(RTLD_NEXT, #symbol); \
    return is_ours(path) && fails(WRITES) ? -1 : real(__VA_ARGS__); \
  }
ON_FILE(ssize_t, write, WRITES, (int fd, const void *data, size_t length), fd, data, length)
ON_FILE(ssize_t, pwrite, WRITES, (int fd, const void *data, size_t length, off_t at), fd, data, length, at)
ON_FILE(ssize_t, pwrite64, WRITES, (int fd, const void *data, size_t length, off64_t at), fd, data, length, at)
ON_FILE(int, ftruncate, WRITES, (int fd, off_t size), fd, size)
ON_FILE(int, ftruncate64, WRITES, (int fd, off64_t size), fd, size)
ON_FILE(int, fsync, WRITES, (int fd), fd)
ON_FILE(int, fdatasync, WRITES, (int fd), fd)
ON_PATH(unlink, (const char *path), path)
ON_PATH(rmdir, (const char *path), path)
ON_PATH(mkdir, (const char *path, mode_t mode), path, mode)
ON_PATH(rename, (const char *path, const char *to), path, to)
ON_PATH(link, (const char *path, const char *to), path, to)
