/* The least that a tick can cost: reads the files named on stdin, kept open, and lists /proc.

   floor TICKS: once a second for TICKS seconds; prints the CPU time of each, in nanoseconds. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static long long nanoseconds(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv) {
    int ticks = argc > 1 ? atoi(argv[1]) : 10;
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
    long long due = nanoseconds(CLOCK_MONOTONIC), sum = 0;
    for (int tick = 0; tick <= ticks; tick++) {
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
        due += 1000000000LL;
        struct timespec until = {due / 1000000000LL, due % 1000000000LL};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    return sum == 0;
}
