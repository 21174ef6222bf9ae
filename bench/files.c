// What a durable upload has to do to a disk, and nothing else: threads that each create a file without a name, write
// it, fsync it, give it its name in one of 4096 folders and fsync that folder, again and again.
//
//   files FOLDER THREADS SIZE SECONDS
//
// Prints how many files, in how many seconds, with how many seconds of CPU.

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *root;
static size_t size;
static double until;
static atomic_long kept;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void synced(const char *folder) {
    int holder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (holder < 0 || fsync(holder)) fail(folder);
    close(holder);
}

static void keep(const char *bytes, unsigned *dice) {
    static atomic_long names;
    char folder[4096], name[4200], source[64];
    snprintf(folder, sizeof folder, "%s/%03x", root, rand_r(dice) & 0xfff);
    snprintf(name, sizeof name, "%s/%d-%ld", folder, (int)getpid(), atomic_fetch_add(&names, 1));
    int file = open(root, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0640);
    if (file < 0) fail(root);
    if (write(file, bytes, size) != (ssize_t)size || fsync(file)) fail(name);
    if (!mkdir(folder, 0750)) synced(root);
    snprintf(source, sizeof source, "/proc/self/fd/%d", file);
    if (linkat(AT_FDCWD, source, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) fail(name);
    close(file);
    synced(folder);
    atomic_fetch_add(&kept, 1);
}

static void *client(void *place) {
    unsigned dice = (unsigned)(size_t)place + 1;
    char *bytes = malloc(size);
    memset(bytes, 'c', size);
    while (now() < until) keep(bytes, &dice);
    free(bytes);
    return NULL;
}

int main(int count, char **given) {
    if (count != 5) return 2;
    root = given[1];
    int threads = atoi(given[2]);
    size = (size_t)atol(given[3]);
    pthread_t *all = calloc((size_t)threads, sizeof *all);
    double began = now();
    until = began + atof(given[4]);
    for (int place = 0; place < threads; place++) pthread_create(&all[place], NULL, client, (void *)(size_t)place);
    for (int place = 0; place < threads; place++) pthread_join(all[place], NULL);
    double took = now() - began;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("%ld %.6f %.6f\n", (long)kept, took, cpu);
    return 0;
}
