/* The least that a tick can cost: reads the files named on stdin, kept open, and lists /proc.

   floor TICKS PHASE: TICKS times, PHASE nanoseconds after each full second of CLOCK_BOOTTIME; prints
   the CPU time of each, in nanoseconds. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const long long SECOND = 1000000000LL;

static long long nanoseconds(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    int ticks = atoi(argv[1]);
    long long phase = atoll(argv[2]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int *files = malloc(sizeof(int) * limit.rlim_cur);
    int count = 0;
    char path[4096], buffer[65536];
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = 0;
        int file = open(path, O_RDONLY);
        if (file < 0) {
            perror(path);
            return 1;
        }
        files[count++] = file;
    }
    DIR *proc = opendir("/proc");
    long long sum = 0;
    long long due = (nanoseconds(CLOCK_BOOTTIME) / SECOND + 1) * SECOND + phase;
    for (int tick = 0; tick <= ticks; tick++, due += SECOND) {
        struct timespec until = {due / SECOND, due % SECOND};
        clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL);
        long long began = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
        for (int i = 0; i < count; i++) {
            sum += pread(files[i], buffer, sizeof buffer, 0);
        }
        rewinddir(proc);
        while (readdir(proc)) {
            sum++;
        }
        long long cost = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - began;
        if (tick) { /* the first one warms up */
            printf("%lld\n", cost);
        }
    }
    return sum == 0;
}
