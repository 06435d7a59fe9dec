/* Fails one call of the process to the file system below one folder, the n-th, or all from it on.
 *
 * Loaded with LD_PRELOAD, so that it stands before Python's calls and SQLite's alike. Only files
 * below fault_root() count: modules, locales and pipes are left alone. Descriptors are remembered
 * from their opening to their close, so that reads, writes and syncs are known for ours.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define MOST 65536

static char root[4096];
static size_t root_length;
static atomic_bool ours[MOST];
static atomic_long calls, first;
static atomic_int failure, lasting, hit;

/* What Python calls. */

void fault_root(const char *path) {
    strncpy(root, path, sizeof root - 1);
    root_length = strlen(root);
}

void fault_arm(long number, int error, int for_good) {
    calls = 0;
    hit = 0;
    failure = error;
    lasting = for_good;
    first = number;
}

int fault_disarm(void) {
    first = 0;
    return hit;
}

/* How it is decided. */

static bool fails(void) {
    long number = first;
    if (!number) return false;
    long mine = ++calls;
    if (mine != number && !(lasting && mine > number)) return false;
    hit = 1;
    errno = failure;
    return true;
}

static bool below(int folder, const char *path) {
    if (!root_length || !path) return false;
    if (path[0] == '/') return strncmp(path, root, root_length) == 0;
    return folder >= 0 && folder < MOST && ours[folder];
}

static bool is_ours(int descriptor) {
    return descriptor >= 0 && descriptor < MOST && ours[descriptor];
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opened(int descriptor, bool mine) {
    if (descriptor >= 0 && descriptor < MOST) ours[descriptor] = mine;
    return descriptor;
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        MODE \
        bool mine = below(AT_FDCWD, path); \
        if (mine && fails()) return -1; \
        return opened(real(path, flags, mode), mine); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        MODE \
        bool mine = below(folder, path); \
        if (mine && fails()) return -1; \
        return opened(real(folder, path, flags, mode), mine); \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int descriptor) {
    REAL(close);
    if (is_ours(descriptor)) ours[descriptor] = false;
    return real(descriptor);
}

#define ON_DESCRIPTOR(result, name, parameters, ...) \
    result name parameters { \
        REAL(name); \
        if (is_ours(descriptor) && fails()) return -1; \
        return real(__VA_ARGS__); \
    }
ON_DESCRIPTOR(ssize_t, read, (int descriptor, void *to, size_t size), descriptor, to, size)
ON_DESCRIPTOR(ssize_t, pread, (int descriptor, void *to, size_t size, off_t at),
              descriptor, to, size, at)
ON_DESCRIPTOR(ssize_t, pread64, (int descriptor, void *to, size_t size, off64_t at),
              descriptor, to, size, at)
ON_DESCRIPTOR(ssize_t, write, (int descriptor, const void *from, size_t size),
              descriptor, from, size)
ON_DESCRIPTOR(ssize_t, pwrite, (int descriptor, const void *from, size_t size, off_t at),
              descriptor, from, size, at)
ON_DESCRIPTOR(ssize_t, pwrite64, (int descriptor, const void *from, size_t size, off64_t at),
              descriptor, from, size, at)
ON_DESCRIPTOR(int, fsync, (int descriptor), descriptor)
ON_DESCRIPTOR(int, fdatasync, (int descriptor), descriptor)
ON_DESCRIPTOR(int, ftruncate, (int descriptor, off_t size), descriptor, size)
ON_DESCRIPTOR(int, ftruncate64, (int descriptor, off64_t size), descriptor, size)

#define ON_PATH(name, parameters, folder, path, ...) \
    int name parameters { \
        REAL(name); \
        if (below(folder, path) && fails()) return -1; \
        return real(__VA_ARGS__); \
    }
ON_PATH(rename, (const char *from, const char *to), AT_FDCWD, to, from, to)
ON_PATH(renameat, (int folder, const char *from, int other, const char *to), other, to,
        folder, from, other, to)
ON_PATH(unlink, (const char *path), AT_FDCWD, path, path)
ON_PATH(unlinkat, (int folder, const char *path, int flags), folder, path, folder, path, flags)
ON_PATH(rmdir, (const char *path), AT_FDCWD, path, path)
ON_PATH(mkdir, (const char *path, mode_t mode), AT_FDCWD, path, path, mode)
ON_PATH(mkdirat, (int folder, const char *path, mode_t mode), folder, path, folder, path, mode)
