/* Processes that sleep, and wake 1 to 20 times a second for about 10 us of work.

   Each line on stdin is a number: how many there are to be. They end with this process, and it
   ends with its stdin. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int RATES[] = {1, 2, 5, 10, 20};

static long long nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void sleeper(int number, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(0);
    }
    int rate = RATES[number % (int)(sizeof RATES / sizeof *RATES)];
    struct timespec pause = {rate == 1, rate == 1 ? 0 : 1000000000L / rate};
    for (;;) {
        nanosleep(&pause, NULL);
        long long until = nanoseconds() + 10000;
        while (nanoseconds() < until) {
        }
    }
}

int main(void) {
    char line[32];
    int count = 0;
    pid_t self = getpid(), *children = NULL;
    while (fgets(line, sizeof line, stdin)) {
        int wanted = atoi(line);
        children = realloc(children, sizeof *children * (wanted + 1));
        for (; count < wanted; count++) {
            pid_t child = fork();
            if (child < 0) {
                perror("fork");
                return 1;
            }
            if (!child) {
                sleeper(count, self);
            }
            children[count] = child;
        }
    }
    /* Waited for, so that their CPU time is in that of their ancestors. */
    for (int i = 0; i < count; i++) {
        kill(children[i], SIGKILL);
    }
    while (wait(NULL) > 0) {
    }
    return 0;
}
