/* The first process of a pod and of the node: waits until it is ended, and reaps its children. */
#include <signal.h>
#include <unistd.h>

static void stop(int number) {
    (void)number;
    _exit(0);
}

int main(void) {
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    signal(SIGCHLD, SIG_IGN);
    for (;;)
        pause();
}
