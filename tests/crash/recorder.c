/* Preloaded into a process, it writes down every change the process makes to the files of one folder, in order:
 * what was written where, what was made durable when, which names came and went. From that list the harness
 * builds what a disk may hold after the power fails at any moment (disk.py).
 *
 *   RECORDER_FOLDER  absolute path of the folder that is watched
 *   RECORDER_FILE    the list; it must lie elsewhere
 *   RECORDER_FULL    while this file exists, the disk is full: no file of the folder grows
 *   RECORDER_KILL    if set: the process kills itself right after so many changes
 *
 * Not seen: changes by mmap (SQLite's -shm, which is worthless after a power cut), by other processes, through
 * duplicated descriptors, and by calls that neither SQLite nor Python's file objects use.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#undef open64
#undef openat64
#undef pwrite64
#undef ftruncate64

enum kind { WRITE = 1, TRUNCATE, SYNC, CREATE, RENAME, UNLINK, SYNC_FOLDER };
struct head { uint32_t kind, name; uint64_t inode, offset, length; };

#define FILES 4096
static uint64_t watched[FILES]; /* inode of each open file of the folder, 0 for others */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int list = -1;
static long left; /* changes until it kills itself, 0 for never */
static const char *folder, *full;
static size_t folder_length;

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void begin(void) {
  folder = getenv("RECORDER_FOLDER");
  full = getenv("RECORDER_FULL");
  left = getenv("RECORDER_KILL") ? atol(getenv("RECORDER_KILL")) : 0;
  const char *file = getenv("RECORDER_FILE");
  if (!folder || !file) { folder = NULL; return; }
  folder_length = strlen(folder);
  REAL(int, "open64", const char *, int, ...);
  list = real(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_ours(const char *path) {
  return folder && list >= 0 && path && !strncmp(path, folder, folder_length) && path[folder_length] == '/';
}

/* For a process made by fork, which reads no environment anew. */
void recorder_kill_after(long changes) { left = changes; }

static uint64_t inode_of(int fd) { return fd >= 0 && fd < FILES ? watched[fd] : 0; }

/* One writev per entry: a kill leaves whole entries or a last one that is cut off. */
static void note(enum kind kind, uint64_t inode, uint64_t offset, const char *name, const void *data, size_t length) {
  struct head head = {kind, name ? strlen(name) : 0, inode, offset, length};
  struct iovec parts[] = {{&head, sizeof head}, {(void *)name, head.name}, {(void *)data, length}};
  int saved = errno;
  if (writev(list, parts, 3) < 0) _exit(99);
  if (left && !--left) raise(SIGKILL);
  errno = saved;
}

static int full_now(int fd, uint64_t end) {
  struct stat status;
  return full && !access(full, F_OK) && !fstat(fd, &status) && end > (uint64_t)status.st_size;
}

static int note_open(int fd, const char *path, int is_new, int flags) {
  struct stat status;
  if (fd < 0 || fd >= FILES || fstat(fd, &status)) return fd;
  watched[fd] = 0;
  if (!is_ours(path) || S_ISDIR(status.st_mode)) return fd;
  watched[fd] = status.st_ino;
  if (is_new) note(CREATE, status.st_ino, 0, path, NULL, 0);
  else if (flags & O_TRUNC) note(TRUNCATE, status.st_ino, 0, NULL, NULL, 0);
  return fd;
}

#define OPEN(symbol) \
  int symbol(const char *path, int flags, ...) { \
    REAL(int, #symbol, const char *, int, ...); \
    va_list rest; va_start(rest, flags); int mode = flags & O_CREAT ? va_arg(rest, int) : 0; va_end(rest); \
    pthread_mutex_lock(&order); \
    int is_new = is_ours(path) && (flags & O_CREAT) && access(path, F_OK); \
    int fd = note_open(real(path, flags, mode), path, is_new, flags); \
    pthread_mutex_unlock(&order); \
    return fd; \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(symbol) \
  int symbol(int at, const char *path, int flags, ...) { \
    REAL(int, #symbol, int, const char *, int, ...); \
    va_list rest; va_start(rest, flags); int mode = flags & O_CREAT ? va_arg(rest, int) : 0; va_end(rest); \
    pthread_mutex_lock(&order); \
    int is_new = is_ours(path) && (flags & O_CREAT) && access(path, F_OK); \
    int fd = note_open(real(at, path, flags, mode), path, is_new, flags); \
    pthread_mutex_unlock(&order); \
    return fd; \
  }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
  REAL(int, "close", int);
  if (fd >= 0 && fd < FILES) watched[fd] = 0;
  return real(fd);
}

ssize_t write(int fd, const void *data, size_t length) {
  REAL(ssize_t, "write", int, const void *, size_t);
  uint64_t inode = inode_of(fd);
  if (!inode) return real(fd, data, length);
  pthread_mutex_lock(&order);
  struct stat status;
  int append = fcntl(fd, F_GETFL) & O_APPEND;
  off_t at = append && !fstat(fd, &status) ? status.st_size : lseek(fd, 0, SEEK_CUR);
  ssize_t done = -1;
  if (full_now(fd, at + length)) errno = ENOSPC;
  else if ((done = real(fd, data, length)) > 0) note(WRITE, inode, at, NULL, data, done);
  pthread_mutex_unlock(&order);
  return done;
}

#define PWRITE(symbol) \
  ssize_t symbol(int fd, const void *data, size_t length, off_t at) { \
    REAL(ssize_t, #symbol, int, const void *, size_t, off_t); \
    uint64_t inode = inode_of(fd); \
    if (!inode) return real(fd, data, length, at); \
    pthread_mutex_lock(&order); \
    ssize_t done = -1; \
    if (full_now(fd, at + length)) errno = ENOSPC; \
    else if ((done = real(fd, data, length, at)) > 0) note(WRITE, inode, at, NULL, data, done); \
    pthread_mutex_unlock(&order); \
    return done; \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

#define FTRUNCATE(symbol) \
  int symbol(int fd, off_t size) { \
    REAL(int, #symbol, int, off_t); \
    uint64_t inode = inode_of(fd); \
    pthread_mutex_lock(&order); \
    int result = real(fd, size); \
    if (!result && inode) note(TRUNCATE, inode, size, NULL, NULL, 0); \
    pthread_mutex_unlock(&order); \
    return result; \
  }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

static void note_sync(int fd) {
  struct stat status;
  char link[64], path[4096];
  if (inode_of(fd)) { note(SYNC, inode_of(fd), 0, NULL, NULL, 0); return; }
  if (list < 0 || fstat(fd, &status) || !S_ISDIR(status.st_mode)) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length > 0) { path[length] = 0; note(SYNC_FOLDER, 0, 0, path, NULL, 0); }
}

/* What is noted counts as durable; the disk itself need not be waited for. */
int fsync(int fd) {
  pthread_mutex_lock(&order); note_sync(fd); pthread_mutex_unlock(&order);
  return 0;
}
int fdatasync(int fd) { return fsync(fd); }

static int note_rename(int result, const char *from, const char *to) {
  if (!result && is_ours(to)) note(RENAME, 0, 0, from, to, strlen(to));
  return result;
}
int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  pthread_mutex_lock(&order); int result = note_rename(real(from, to), from, to); pthread_mutex_unlock(&order);
  return result;
}
int renameat(int a, const char *from, int b, const char *to) {
  REAL(int, "renameat", int, const char *, int, const char *);
  pthread_mutex_lock(&order); int result = note_rename(real(a, from, b, to), from, to); pthread_mutex_unlock(&order);
  return result;
}
int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  pthread_mutex_lock(&order);
  int result = real(path);
  if (!result && is_ours(path)) note(UNLINK, 0, 0, path, NULL, 0);
  pthread_mutex_unlock(&order);
  return result;
}

#define STATVFS(symbol, type) \
  int symbol(const char *path, struct type *answer) { \
    REAL(int, #symbol, const char *, struct type *); \
    int result = real(path, answer); \
    if (!result && full && !access(full, F_OK)) answer->f_bavail = answer->f_bfree = 0; \
    return result; \
  }
STATVFS(statvfs, statvfs)
STATVFS(statvfs64, statvfs64)
