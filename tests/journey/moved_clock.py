"""A wall clock that a test moves under a running node: a small library, preloaded, in front of the C library's clocks.

The monotonic clock stays as it is, as it does when somebody sets the clock of a machine. Files keep the kernel's times.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tests.journey.preloaded import built

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *ahead;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DICOMNODE_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (file >= 0) {
        void *place = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
        if (place != MAP_FAILED) ahead = place;
        close(file);
    }
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (!real) begin();
    int result = real(clock, at);
    if (!result && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += *ahead;
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


class MovedClock:
    """The clock of processes that are started with `environment`; skips the test where there is no compiler."""

    def __init__(self, folder: Path) -> None:
        library, self._file = built(folder, "clock", _SOURCE), folder / "ahead"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "DICOMNODE_TEST_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """So many seconds ahead of the machine's clock from now on, or behind it."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack("=q", seconds))
