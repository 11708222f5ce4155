/* A disk that takes longer to flush: preloaded, it lets each fdatasync last SLOW_FLUSH_US microseconds more. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int file)
{
    int (*flush)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *delay = getenv("SLOW_FLUSH_US");
    int result = flush(file);

    if (delay)
        usleep(strtoul(delay, NULL, 10));
    return result;
}
