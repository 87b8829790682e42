/* Threads that walk through one forward pass together.
 *
 * A pass is a row of phases, each of a number of tasks. All tasks of all phases are counted on by
 * two numbers: how many were taken and how many are done. A thread takes a chunk where its phase
 * has some left, and goes on to the next phase when all of this one's are done. So nobody waits for
 * a thread that holds no work: one that the system has put to sleep runs after the others and finds
 * its phases done. Waiting threads spin briefly and then yield; between passes the workers sleep on
 * a condition, so an idle engine costs nothing. */
#pragma once
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct Pool Pool;

/* A thread's place in a pass. */
typedef struct {
    Pool *pool;
    int worker;
    long base; /* tasks in the phases before this one */
    long held; /* tasks taken and not yet done */
} Walker;

struct Pool {
    int threads, stop;
    unsigned passes;
    pthread_t *ids;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    void (*job)(void *argument, Walker *walker); /* NULL between passes */
    void *argument;
    long start;
    _Alignas(64) atomic_uint posted; /* passes again, for those who spin */
    _Alignas(64) atomic_long taken;
    _Alignas(64) atomic_long done;
    _Alignas(64) atomic_int leaving; /* workers still inside */
};

typedef struct { Pool *pool; int worker; } Member;

static inline void relax(int round) {
    if (round > 2000) {
        sched_yield();
        return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The next chunk of a phase of ``total`` tasks: true, and the tasks [*from, *to). False when the
 * whole phase is done; all walkers must come through the same phases. */
static int take(Walker *w, long total, long chunk, long *from, long *to) {
    Pool *pool = w->pool;
    if (w->held) atomic_fetch_add_explicit(&pool->done, w->held, memory_order_release);
    w->held = 0;
    long end = w->base + total, next = atomic_load_explicit(&pool->taken, memory_order_relaxed);
    while (next < end) {
        long stop = next + chunk < end ? next + chunk : end;
        if (atomic_compare_exchange_weak_explicit(&pool->taken, &next, stop, memory_order_relaxed, memory_order_relaxed)) {
            *from = next - w->base;
            *to = stop - w->base;
            w->held = stop - next;
            return 1;
        }
    }
    for (int round = 0; atomic_load_explicit(&pool->done, memory_order_acquire) < end; round++) relax(round);
    w->base = end;
    return 0;
}

static void *serve(void *argument) {
    Member member = *(Member *)argument;
    Pool *pool = member.pool;
    free(argument);
    for (unsigned seen = 0;;) {
        /* The next pass of a busy engine comes within microseconds. */
        for (int round = 0; round < 1000 && atomic_load_explicit(&pool->posted, memory_order_acquire) == seen; round++)
            relax(round);
        pthread_mutex_lock(&pool->lock);
        while ((pool->passes == seen || !pool->job) && !pool->stop) pthread_cond_wait(&pool->wake, &pool->lock);
        seen = pool->passes;
        Walker walker = {pool, member.worker, pool->start, 0};
        void (*job)(void *, Walker *) = pool->job;
        void *with = pool->argument;
        int stop = pool->stop;
        if (!stop) atomic_fetch_add(&pool->leaving, 1);
        pthread_mutex_unlock(&pool->lock);
        if (stop) return NULL;
        job(with, &walker);
        atomic_fetch_sub_explicit(&pool->leaving, 1, memory_order_release);
    }
}

/* Run ``job`` on the threads of the pool, the calling one included. One call at a time. */
static void run_together(Pool *pool, void (*job)(void *, Walker *), void *argument) {
    pthread_mutex_lock(&pool->lock);
    pool->job = job;
    pool->argument = argument;
    pool->start = atomic_load(&pool->taken);
    pool->passes++;
    atomic_store_explicit(&pool->posted, pool->passes, memory_order_release);
    if (pool->threads > 1) pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    Walker walker = {pool, 0, pool->start, 0};
    job(argument, &walker);
    pthread_mutex_lock(&pool->lock);
    pool->job = NULL; /* who has not come yet need not come any more */
    pthread_mutex_unlock(&pool->lock);
    for (int round = 0; atomic_load_explicit(&pool->leaving, memory_order_acquire); round++) relax(round);
}

void lw_pool_free(Pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->stop = 1;
    pool->passes++;
    atomic_store(&pool->posted, pool->passes);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->ids[i], NULL);
    free(pool->ids);
    free(pool);
}

/* A pool of ``threads`` threads, or of as many as the system gives; NULL without memory. */
Pool *lw_pool_new(int threads) {
    Pool *pool = aligned_alloc(64, (sizeof(Pool) + 63) / 64 * 64);
    if (!pool) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->ids = calloc(threads, sizeof(pthread_t));
    if (!pool->ids) {
        free(pool);
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->threads = threads;
    for (int i = 1; i < threads; i++) {
        Member *member = malloc(sizeof *member);
        if (member) *member = (Member){pool, i};
        if (!member || pthread_create(&pool->ids[i], NULL, serve, member)) {
            free(member);
            pool->threads = i;
            break;
        }
    }
    return pool;
}
