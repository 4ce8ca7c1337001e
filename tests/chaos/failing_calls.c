/* Preloaded into a process: writes to regular files and syncs fail now and then, as on a disk that fails.
 *
 * CHAOS_CALLS_FILE names a file that is mapped; its first four bytes are how many of a thousand calls fail
 * (EIO), at once and for as long as they say so. Half of the writes that fail are short instead. Sockets and
 * pipes are left alone, so that whoever controls the process is not cut off from it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile uint32_t *permille;
static _Thread_local unsigned int seed;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CHAOS_CALLS_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof(uint32_t), PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED)
        permille = mapped;
    close(fd);
}

static unsigned int draw(void)
{
    if (!seed)
        seed = (unsigned int)(uintptr_t)&seed ^ (unsigned int)time(NULL) ^ (unsigned int)getpid();
    return (unsigned int)rand_r(&seed);
}

static int fails(int fd)
{
    struct stat status;
    if (!permille || !*permille || fstat(fd, &status) || !S_ISREG(status.st_mode))
        return 0;
    return draw() % 1000 < *permille;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL \
    do { \
        errno = EIO; \
        return -1; \
    } while (0)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    if (!fails(fd))
        return real(fd, data, size);
    if (size > 1 && draw() % 2)
        return real(fd, data, size / 2);
    FAIL;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    REAL(pwrite64);
    if (!fails(fd))
        return real(fd, data, size, offset);
    if (size > 1 && draw() % 2)
        return real(fd, data, size / 2, offset);
    FAIL;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    REAL(pwritev64v2);
    if (!fails(fd))
        return real(fd, parts, count, offset, flags);
    if (parts[0].iov_len && draw() % 2)
        return pwrite64(fd, parts[0].iov_base, parts[0].iov_len, offset);
    FAIL;
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return pwritev64v2(fd, parts, count, offset, flags);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev64v2(fd, parts, count, offset, 0);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return pwritev64v2(fd, parts, count, offset, 0);
}

int fsync(int fd)
{
    REAL(fsync);
    if (fails(fd))
        FAIL;
    return real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    if (fails(fd))
        FAIL;
    return real(fd);
}

int rename(const char *before, const char *after)
{
    REAL(rename);
    if (permille && *permille && draw() % 1000 < *permille)
        FAIL;
    return real(before, after);
}
