/* Preloaded into a process, makes one of its calls that write fail: what LMDB and Arrow do by themselves included.
 *
 * ZEUXIS_SHIM=n:MODE         the n-th call is struck by `kill` (SIGKILL), `EIO`, `ENOSPC`, or `short` (half is written)
 * ZEUXIS_SHIM_FOLDER=PATH    only calls on what lies below this folder count; none do without it
 * ZEUXIS_SHIM_LOG=FILE       each call that counts adds a line, `name path`
 *
 * Calls: write, pwrite, pwritev, writev, fsync, fdatasync, ftruncate, rename, renameat, renameat2, link, linkat.
 * A process counts from 1; its children count anew. `fault_shim_operations()` says how many have been counted.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum verdict { GO_ON, FAIL, HALF };

static atomic_long operations;
static atomic_long counting; /* the process that `operations` belongs to */

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

long fault_shim_operations(void) { return atomic_load(&counting) == (long)getpid() ? atomic_load(&operations) : 0; }

/* Past all wrappers: what the shim itself writes must not count. */
static void note(const char *name, const char *path) {
    const char *log = getenv("ZEUXIS_SHIM_LOG");
    if (!log) return;
    char line[PATH_MAX + 32];
    int length = snprintf(line, sizeof line, "%s %s\n", name, path);
    int file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0) return;
    if (syscall(SYS_write, file, line, (size_t)length) != length) abort();
    syscall(SYS_close, file);
}

static enum verdict struck(const char *name, const char *path) {
    const char *folder = getenv("ZEUXIS_SHIM_FOLDER");
    size_t length = folder ? strlen(folder) : 0;
    if (!length || strncmp(path, folder, length) != 0 || (path[length] != '/' && path[length] != '\0')) return GO_ON;
    if (atomic_exchange(&counting, (long)getpid()) != (long)getpid()) atomic_store(&operations, 0);
    long number = atomic_fetch_add(&operations, 1) + 1;
    note(name, path);
    const char *fault = getenv("ZEUXIS_SHIM");
    char *mode = NULL;
    if (!fault || strtol(fault, &mode, 10) != number || !mode || *mode != ':') return GO_ON;
    mode++;
    if (strcmp(mode, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(mode, "short") == 0) return HALF;
    errno = strcmp(mode, "ENOSPC") == 0 ? ENOSPC : EIO;
    return FAIL;
}

static enum verdict struck_file(const char *name, int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return GO_ON;
    path[length] = '\0';
    int before = errno;
    enum verdict verdict = struck(name, path);
    if (verdict != FAIL) errno = before;
    return verdict;
}

static enum verdict struck_at(const char *name, int folder, const char *path) {
    char whole[PATH_MAX], link[64];
    if (path[0] == '/') return struck(name, path);
    if (folder == AT_FDCWD) {
        if (!getcwd(whole, sizeof whole)) return GO_ON;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, whole, sizeof whole - 1);
        if (length < 0) return GO_ON;
        whole[length] = '\0';
    }
    size_t length = strlen(whole);
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return struck(name, whole);
}

/* Half of the bytes of a vector, in a vector of its own. */
static int halved(const struct iovec *given, int count, struct iovec *half) {
    size_t total = 0, taken = 0;
    for (int i = 0; i < count; i++) total += given[i].iov_len;
    int used = 0;
    for (; used < count && taken < total / 2; used++) {
        half[used] = given[used];
        if (taken + half[used].iov_len > total / 2) half[used].iov_len = total / 2 - taken;
        taken += half[used].iov_len;
    }
    return used;
}

ssize_t write(int file, const void *data, size_t size) {
    enum verdict verdict = struck_file("write", file);
    if (verdict == FAIL) return -1;
    ssize_t (*real)(int, const void *, size_t) = next("write");
    return real(file, data, verdict == HALF ? size / 2 : size);
}

#define PWRITE(NAME, OFFSET)                                                  \
    ssize_t NAME(int file, const void *data, size_t size, OFFSET offset) {    \
        enum verdict verdict = struck_file("pwrite", file);                   \
        if (verdict == FAIL) return -1;                                       \
        ssize_t (*real)(int, const void *, size_t, OFFSET) = next(#NAME);     \
        return real(file, data, verdict == HALF ? size / 2 : size, offset);   \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int file, const struct iovec *vector, int count) {
    struct iovec half[IOV_MAX];
    enum verdict verdict = struck_file("writev", file);
    if (verdict == FAIL) return -1;
    ssize_t (*real)(int, const struct iovec *, int) = next("writev");
    if (verdict == HALF) return real(file, half, halved(vector, count, half));
    return real(file, vector, count);
}

#define PWRITEV(NAME, OFFSET)                                                                \
    ssize_t NAME(int file, const struct iovec *vector, int count, OFFSET offset) {           \
        struct iovec half[IOV_MAX];                                                          \
        enum verdict verdict = struck_file("pwritev", file);                                 \
        if (verdict == FAIL) return -1;                                                      \
        ssize_t (*real)(int, const struct iovec *, int, OFFSET) = next(#NAME);               \
        if (verdict == HALF) return real(file, half, halved(vector, count, half), offset);   \
        return real(file, vector, count, offset);                                            \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define FILE_CALL(NAME)                                 \
    int NAME(int file) {                                \
        if (struck_file(#NAME, file) == FAIL) return -1; \
        int (*real)(int) = next(#NAME);                 \
        return real(file);                              \
    }
FILE_CALL(fsync)
FILE_CALL(fdatasync)

#define TRUNCATE(NAME, OFFSET)                                \
    int NAME(int file, OFFSET size) {                         \
        if (struck_file("ftruncate", file) == FAIL) return -1; \
        int (*real)(int, OFFSET) = next(#NAME);               \
        return real(file, size);                              \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define NAMES_CALL(NAME)                                                \
    int NAME(const char *source, const char *target) {                  \
        if (struck_at(#NAME, AT_FDCWD, target) == FAIL) return -1;       \
        int (*real)(const char *, const char *) = next(#NAME);          \
        return real(source, target);                                    \
    }
NAMES_CALL(rename)
NAMES_CALL(link)

int renameat(int from, const char *source, int to, const char *target) {
    if (struck_at("rename", to, target) == FAIL) return -1;
    int (*real)(int, const char *, int, const char *) = next("renameat");
    return real(from, source, to, target);
}

#define FLAGGED(NAME, SAID, FLAGS)                                                      \
    int NAME(int from, const char *source, int to, const char *target, FLAGS flags) {   \
        if (struck_at(SAID, to, target) == FAIL) return -1;                              \
        int (*real)(int, const char *, int, const char *, FLAGS) = next(#NAME);         \
        return real(from, source, to, target, flags);                                   \
    }
FLAGGED(renameat2, "rename", unsigned int)
FLAGGED(linkat, "link", int)
