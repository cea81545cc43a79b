"""A disk that fills up under a running node and its children when a test says so: a small library, preloaded, refuses to write.

Also what has its blocks already is refused, as by file systems that never write in place: the hardest of full disks.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.journey.preloaded import built

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char *said;  /* a part of the paths that are full, "" where none is; at 512 how often a write was refused */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DICOMNODE_TEST_DISK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *place = mmap(0, 1024, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (place != MAP_FAILED) said = place;
        close(file);
    }
}

static int full(int file) {
    char link[64], path[4096];
    if (!said || !*(volatile char *)said) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, said)) return 0;
    __atomic_fetch_add((int *)(said + 512), 1, __ATOMIC_RELAXED);
    return 1;
}

static int grows(int file, off_t size) {
    struct stat about;
    return !fstat(file, &about) && size > about.st_size && full(file);
}

#define REFUSE(type, name, failed, test, parameters, words) \
    type name parameters { \
        static type (*real) parameters; \
        if (!real) real = (type (*) parameters)dlsym(RTLD_NEXT, #name); \
        if (test) return errno = ENOSPC, failed; \
        return real words; \
    }

REFUSE(ssize_t, write, -1, full(file), (int file, const void *data, size_t size), (file, data, size))
REFUSE(ssize_t, pwrite, -1, full(file), (int file, const void *data, size_t size, off_t at), (file, data, size, at))
REFUSE(ssize_t, pwrite64, -1, full(file), (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
REFUSE(ssize_t, writev, -1, full(file), (int file, const struct iovec *data, int count), (file, data, count))
REFUSE(ssize_t, pwritev, -1, full(file), (int file, const struct iovec *data, int count, off_t at), (file, data, count, at))
REFUSE(ssize_t, pwritev64, -1, full(file), (int file, const struct iovec *data, int count, off64_t at), (file, data, count, at))
REFUSE(ssize_t, pwritev2, -1, full(file), (int file, const struct iovec *data, int count, off_t at, int how), (file, data, count, at, how))
REFUSE(ssize_t, pwritev64v2, -1, full(file), (int file, const struct iovec *data, int count, off64_t at, int how), (file, data, count, at, how))
REFUSE(int, fallocate, -1, full(file), (int file, int how, off_t at, off_t size), (file, how, at, size))
REFUSE(int, fallocate64, -1, full(file), (int file, int how, off64_t at, off64_t size), (file, how, at, size))
REFUSE(int, posix_fallocate, ENOSPC, full(file), (int file, off_t at, off_t size), (file, at, size))
REFUSE(int, posix_fallocate64, ENOSPC, full(file), (int file, off64_t at, off64_t size), (file, at, size))
REFUSE(int, ftruncate, -1, grows(file, size), (int file, off_t size), (file, size))
REFUSE(int, ftruncate64, -1, grows(file, size), (int file, off64_t size), (file, size))
"""


class FullDisk:
    """The disk of processes that are started with `environment`; skips the test where there is no compiler."""

    def __init__(self, folder: Path) -> None:
        library, place = built(folder, "disk", _SOURCE), folder / "full"
        place.write_bytes(bytes(mmap.PAGESIZE))
        with place.open("r+b") as file:
            self._said = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.environment = {"LD_PRELOAD": str(library), "DICOMNODE_TEST_DISK": str(place)}

    @contextmanager
    def full(self, part: str) -> Iterator[None]:
        """Nothing more can be written to files whose paths have this part, which was tried within."""
        before, name = self.refused, part.encode() + b"\0"
        self._said[1 : len(name)] = name[1:]
        self._said[0] = name[0]  # the last one: a path is never compared with half of it
        try:
            yield
        finally:
            self._said[0] = 0
        assert self.refused > before, "nobody tried to write"

    @property
    def refused(self) -> int:
        """How often anybody was refused."""
        return int(struct.unpack_from("=i", self._said, 512)[0])
