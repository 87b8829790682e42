/* Threads that walk through one forward pass together: each phase is a counter from which they
 * take chunks of work, and a barrier after it. Within a pass a waiting thread spins briefly and
 * then yields; between passes the workers sleep on a condition, so an idle engine costs nothing. */
#pragma once
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct Pool {
    int threads, stop;
    unsigned ticket; /* counts passes, under the lock */
    pthread_t *ids;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    void (*job)(void *argument, struct Pool *pool, int worker);
    void *argument;
    atomic_uint posted; /* the ticket again, for those who spin */
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint phase;
    _Alignas(64) atomic_long next;
} Pool;

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

/* Everyone has finished the phase; the counter starts again. */
static void barrier(Pool *pool) {
    unsigned phase = atomic_load_explicit(&pool->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == pool->threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->phase, phase + 1, memory_order_release);
        return;
    }
    for (int round = 0; atomic_load_explicit(&pool->phase, memory_order_acquire) == phase; round++) relax(round);
}

/* The next chunk of ``total`` tasks: true, and the tasks [*from, *to). */
static int take(Pool *pool, long total, long chunk, long *from, long *to) {
    *from = atomic_fetch_add_explicit(&pool->next, chunk, memory_order_relaxed);
    *to = *from + chunk < total ? *from + chunk : total;
    return *from < total;
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
        while (pool->ticket == seen && !pool->stop) pthread_cond_wait(&pool->wake, &pool->lock);
        seen = pool->ticket;
        int stop = pool->stop;
        pthread_mutex_unlock(&pool->lock);
        if (stop) return NULL;
        pool->job(pool->argument, pool, member.worker);
        barrier(pool);
    }
}

/* Run ``job`` on every thread of the pool, the calling one included. One call at a time. */
static void run_together(Pool *pool, void (*job)(void *, Pool *, int), void *argument) {
    pthread_mutex_lock(&pool->lock);
    pool->job = job;
    pool->argument = argument;
    pool->ticket++;
    atomic_store_explicit(&pool->posted, pool->ticket, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    job(argument, pool, 0);
    barrier(pool);
}

void lw_pool_free(Pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->stop = 1;
    pool->ticket++;
    atomic_store(&pool->posted, pool->ticket);
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
