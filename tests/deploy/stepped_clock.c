/* Loaded before everything else in a process, this moves its time of day by what a file says.
 *
 * The file named by SMRFED_STEPPED_CLOCK holds one int64 in nanoseconds and is mapped, so that all
 * processes of one "machine" see a step at the same moment. Monotonic clocks stay, as they do when
 * somebody sets a real clock. Waits until a time of day are moved back for the kernel, whose clock
 * did not step; deadlines on a monotonic clock, which are far below 10^9 s, are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static const volatile int64_t *step;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SMRFED_STEPPED_CLOCK");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *step, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) step = mapped;
}

static struct timespec moved(struct timespec at, int64_t by) {
    int64_t total = (int64_t)at.tv_sec * SECOND + at.tv_nsec + by;
    struct timespec out = {total / SECOND, total % SECOND};
    return out;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*really)(clockid_t, struct timespec *);
    if (really == NULL) really = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = really(clock, at);
    if (!failed && step != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *at = moved(*at, *step);
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) *out = now.tv_sec;
    return now.tv_sec;
}

static struct timespec for_the_kernel(const struct timespec *until) {
    int of_day = step != NULL && until->tv_sec >= SECOND;
    return of_day ? moved(*until, -*step) : *until;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*really)(sem_t *, const struct timespec *);
    if (really == NULL) really = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec at = for_the_kernel(until);
    return really(semaphore, &at);
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*really)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (really == NULL) really = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec at = for_the_kernel(until);
    return really(cond, mutex, &at);
}
