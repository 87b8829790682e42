/* Attention over a paged cache. A page holds ``block_size`` tokens of every layer and key head:
 *
 *     [blocks][layers][kv heads][block_size / LANES] of: keys [head_dim][LANES],
 *     values [LANES][width], and with 8-bit codes the scales of these keys and values
 *
 * Keys lie transposed, so that the scores of LANES keys are one vector and no sum goes across
 * lanes; width is head_dim rounded up to LANES. A query's scores, maximum, sum and mix run over its keys in order,
 * whatever else is in the step. */
#pragma once
#include "vectors.h"

enum { KV_F32, KV_BF16, KV_INT8 };

typedef struct {
    int32_t kind, layers, kv_heads, group; /* group: query heads that share a key head */
    int32_t head_dim, block_size;
    uint8_t *pages;
} Cache;

typedef struct {
    int32_t sequence, first, count; /* query rows first..first + count of a sequence */
} Span;

INLINE long wide(long x) { return (x + LANES - 1) / LANES * LANES; }
INLINE int kv_bytes(int kind) { return kind == KV_F32 ? 4 : kind == KV_BF16 ? 2 : 1; }

/* Bytes of LANES tokens of one key head in one layer. */
static long cell_bytes(const Cache *c) {
    return LANES * (c->head_dim + wide(c->head_dim)) * kv_bytes(c->kind) + (c->kind == KV_INT8 ? 8 * LANES : 0);
}
long lw_block_bytes(const Cache *c) { return c->layers * c->kv_heads * (c->block_size / LANES) * cell_bytes(c); }

INLINE uint8_t *cell(const Cache *c, int layer, int head, long block, long sub) {
    return c->pages + ((block * c->layers + layer) * c->kv_heads + head) * (c->block_size / LANES) * cell_bytes(c) + sub * cell_bytes(c);
}
INLINE uint8_t *values_of(const Cache *c, uint8_t *cell) { return cell + LANES * c->head_dim * kv_bytes(c->kind); }
INLINE float *scales_of(const Cache *c, uint8_t *cell) { return (float *)(cell + LANES * (c->head_dim + wide(c->head_dim))); }

INLINE uint16_t bf16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* Write ``x`` [head_dim] into every ``step``-th place from ``at``; in 8 bits its scale into *scale. */
static void keep(const Cache *c, const float *x, uint8_t *at, int step, float *scale) {
    int n = c->head_dim;
    if (c->kind == KV_F32) {
        for (int d = 0; d < n; d++) memcpy(at + 4L * d * step, x + d, 4);
    } else if (c->kind == KV_BF16) {
        for (int d = 0; d < n; d++) {
            uint16_t h = bf16_of(x[d]);
            memcpy(at + 2L * d * step, &h, 2);
        }
    } else {
        float most = 0;
        for (int d = 0; d < n; d++) most = fabsf(x[d]) > most ? fabsf(x[d]) : most;
        *scale = most / 127.0f;
        float inverse = most > 0 ? 127.0f / most : 0.0f;
        for (int d = 0; d < n; d++) ((int8_t *)at)[(long)d * step] = (int8_t)lrintf(x[d] * inverse);
    }
}

/* (a, b) -> (a cos - b sin, b cos + a sin), the minus sign lying in the table; times ``scale``. */
static void turn(float *x, const float *cos, const float *sin, int n, float scale) {
    int half = n / 2;
    for (int d = 0; d < half; d++) {
        float a = x[d], b = x[d + half];
        x[d] = (a * cos[d] + b * sin[d]) * scale;
        x[d + half] = (b * cos[d + half] + a * sin[d + half]) * scale;
    }
}

/* Rotate a token's queries and keys in its row of the fused product, and keep key and value. */
static void place(const Cache *c, int layer, float *row, const float *cos, const float *sin, long slot) {
    int n = c->head_dim, heads = c->kv_heads * c->group;
    float scale = 1.0f / sqrtf((float)n);
    for (int h = 0; h < heads; h++) turn(row + h * n, cos, sin, n, scale);
    long block = slot / c->block_size, lane = slot % c->block_size % LANES;
    for (int h = 0; h < c->kv_heads; h++) {
        float *k = row + (heads + h) * n, *v = row + (heads + c->kv_heads + h) * n;
        turn(k, cos, sin, n, 1.0f);
        uint8_t *here = cell(c, layer, h, block, slot % c->block_size / LANES);
        float *scales = scales_of(c, here);
        int size = kv_bytes(c->kind);
        keep(c, k, here + lane * size, LANES, scales + lane);
        keep(c, v, values_of(c, here) + lane * wide(n) * size, 1, scales + LANES + lane);
    }
}

INLINE floats read(const int kind, const uint8_t *at, long place) {
    if (kind == KV_F32) return LOAD(floats, (const float *)at + place);
    if (kind == KV_BF16) return from_bf16(LOAD(halves, (const uint16_t *)at + place));
    return from_bytes(LOAD(bytes, (const int8_t *)at + place));
}

INLINE void scores_of(const int rows, const int kind, const float *const *q, int n, const uint8_t *keys, const uint8_t *next, float *const *out, long at) {
    floats sum[8];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) sum[i] = all(0);
    for (int d = 0; d < n; d++) {
        floats k = read(kind, keys, (long)LANES * d);
        __builtin_prefetch(next + (long)LANES * d * kv_bytes(kind));
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) sum[i] += k * q[i][d];
    }
    if (kind == KV_INT8) {
        floats scale = LOAD(floats, (const float *)(keys + LANES * (n + wide(n))));
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) sum[i] *= scale;
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) STORE(out[i] + at, sum[i]);
}

/* Scores to weights, in place: lanes from ``length`` on become 0. Gives one over their sum. */
static float soften(float *s, long length, long padded) {
    const ints lanes = NUMBERS;
    floats most = all(-INFINITY), sum = all(0);
    for (long t = 0; t < length; t += LANES)
        most = larger(pick(lanes < all_int((int)(length - t)), LOAD(floats, s + t), all(-INFINITY)), most);
    floats top = all(max_of(most));
    for (long t = 0; t < padded; t += LANES) {
        ints here = lanes < all_int((int)(length > t ? length - t : 0));
        floats e = pick(here, exp_of(LOAD(floats, s + t) - top), all(0));
        sum += e;
        STORE(s + t, e);
    }
    return 1.0f / sum_of(sum);
}

/* out[i] = sum over keys of weight[i] * value, LANES * ``vectors`` dimensions from ``d`` on. */
INLINE void mix(const int rows, const int vectors, const Cache *c, const int kind, int layer, int head, const int32_t *table, long length, int d, float *const *weight, const float *inverse, float *const *out) {
    floats sum[4][4];
    const long width = wide(c->head_dim), size = kv_bytes(kind);
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) sum[i][j] = all(0);
    for (long t = 0; t < length; t += LANES) {
        uint8_t *v = values_of(c, cell(c, layer, head, table[t / c->block_size], t % c->block_size / LANES)) + d * size;
        long until = length - t < LANES ? length - t : LANES, after = t + LANES < length ? t + LANES : t;
        const uint8_t *next = values_of(c, cell(c, layer, head, table[after / c->block_size], after % c->block_size / LANES)) + d * size;
        for (long u = 0; u < until; u++, v += width * size, next += width * size) {
            __builtin_prefetch(next);
            if (vectors * LANES * size > 64) __builtin_prefetch(next + 64);
            if (vectors * LANES * size > 128) __builtin_prefetch(next + 128), __builtin_prefetch(next + 192);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) {
                floats x = read(kind, v, LANES * j);
#pragma GCC unroll 4
                for (int i = 0; i < rows; i++) sum[i][j] += x * weight[i][t + u];
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) {
            float lanes[LANES];
            STORE(lanes, sum[i][j] * inverse[i]);
            for (int l = 0; l < LANES && d + LANES * j + l < c->head_dim; l++) out[i][d + LANES * j + l] = lanes[l];
        }
}

#define MIX(ROWS, VECTORS) mix(ROWS, VECTORS, c, kind, layer, head, table, length, d, weight + r, inverse + r, out + r)
#define MIX_ROWS(VECTORS) \
    switch (rows - r) { case 1: MIX(1, VECTORS); break; case 2: MIX(2, VECTORS); break; \
                        case 3: MIX(3, VECTORS); break; default: MIX(4, VECTORS); }
#define SCORES(N) case N: scores_of(N, kind, q + r, c->head_dim, keys, next, weight + r, t); break;

INLINE void attend_as(const int kind, const Cache *c, int layer, int head, const int32_t *table, long length, int rows, const long *own, const float *const *q, float *const *weight, float *const *out) {
    float inverse[rows];
    for (long t = 0; t < length; t += LANES) {
        const uint8_t *keys = cell(c, layer, head, table[t / c->block_size], t % c->block_size / LANES);
        long after = t + LANES < length ? t + LANES : t;
        const uint8_t *next = cell(c, layer, head, table[after / c->block_size], after % c->block_size / LANES);
        for (int r = 0, count; r < rows; r += count)
            switch (count = rows - r >= 8 ? 8 : rows - r >= 4 ? 4 : rows - r) {
                SCORES(1) SCORES(2) SCORES(3) SCORES(4) SCORES(8)
            }
    }
    for (int r = 0; r < rows; r++) inverse[r] = soften(weight[r], own[r], wide(length));
    if (kind == KV_INT8)
        for (long t = 0; t < length; t += LANES) {
            float *scales = scales_of(c, cell(c, layer, head, table[t / c->block_size], t % c->block_size / LANES));
            for (int r = 0; r < rows; r++)
                for (long u = t; u < t + LANES && u < length; u++) weight[r][u] *= scales[LANES + u - t];
        }
    const int step = c->head_dim % (4 * LANES) ? LANES : 4 * LANES;
    for (int d = 0; d < c->head_dim; d += step)
        for (int r = 0; r < rows; r += 4) {
            if (step == 4 * LANES) MIX_ROWS(4)
            else MIX_ROWS(1)
        }
}

/* The query rows of one span and one key head: rotated queries from ``rows_at``, results to ``to``. */
static __attribute__((noinline)) void attend(const Cache *c, int layer, int head, const int32_t *table, long length, int count, const float *rows_at, long stride, float *to, long to_stride, float *spare) {
    int rows = count * c->group;
    const float *q[rows];
    float *weight[rows], *out[rows];
    long own[rows];
    for (int i = 0; i < count; i++)
        for (int g = 0; g < c->group; g++) {
            int r = i * c->group + g, h = head * c->group + g;
            q[r] = rows_at + i * stride + h * c->head_dim;
            out[r] = to + i * to_stride + h * c->head_dim;
            weight[r] = spare + r * wide(length);
            own[r] = length - (count - 1 - i);
        }
    if (c->kind == KV_F32) attend_as(KV_F32, c, layer, head, table, length, rows, own, q, weight, out);
    else if (c->kind == KV_BF16) attend_as(KV_BF16, c, layer, head, table, length, rows, own, q, weight, out);
    else attend_as(KV_INT8, c, layer, head, table, length, rows, own, q, weight, out);
}
