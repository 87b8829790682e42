/* y = x W^T + bias, W packed into panels that are read from front to back.
 *
 * Each output's sum runs over the inputs in their order, in one lane, whatever the number of rows
 * and threads: a row's result does not depend on its neighbours. Four forms of W [n, k]:
 *
 *     F32    panels of W = 2 LANES outputs [k][W]         x in float32
 *     BF16   the same [k / 2][W][2]                       x rounded to bfloat16, sums in float32
 *     INT8   panels of LANES outputs [k / 4][LANES][4]    x in 8 bits, a scale a row and 32 columns;
 *     INT4   the same [k / 8][LANES][4], low half         integer sums over 32 columns
 *            k..k+3, high half k+4..k+7
 *
 * and in the last two  y += s_x (s_w sum(code q) + m_w sum(q))  a block of 32, with m_w = -s_w zero;
 * where the zero point is one whole number for the matrix it goes into the integer sum instead. */
#pragma once
#include "pool.h"
#include "vectors.h"

enum { F32, BF16, INT8, INT4 };
enum { BLOCK = 32, WIDE = 2 * LANES };

typedef struct {
    int32_t kind, n, k;      /* k a multiple of 32, padded with zeros */
    int32_t group;           /* blocks of 32 columns that share a scale */
    int32_t half_scales;     /* scales and offsets in half precision */
    int32_t zero;            /* of the whole matrix, where offsets is NULL */
    int32_t column;          /* where in the output row its results go */
    const void *codes;
    const void *scales;      /* [panels][groups][LANES] */
    const void *offsets;     /* like scales, or NULL */
    const float *bias;       /* [n] or NULL */
} Matrix;

/* Rows of inputs, each ``k`` long and padded with zeros. f32 holds them one after another; the
 * forms that the matrices read hold ``tall`` rows side by side, so that a tile walks one stream:
 * columns [rows / tall][k][tall], pairs [..][k / 2][tall][2], codes [..][k / 4][tall][4], and what
 * belongs to a block of 32 codes [..][k / 32][tall]. */
typedef struct {
    float *f32, *columns;
    uint16_t *pairs;
    int8_t *codes;
    float *scale, *weighted; /* of a block; weighted = scale * total */
    int32_t *total;          /* sum of the codes of a block */
    int tall;
} Inputs;

/* Rows whose sums stay in registers: two vectors each, of 32 registers or of 16. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { TALL = 8 };
#else
enum { TALL = 4 };
#endif

/* A row of f32 into the forms asked for; perm puts the columns of all but float32 in another order. */
static void encode(const Inputs *in, long row, int k, int forms, const int32_t *perm, float *spare) {
    const float *x = in->f32 + row * k;
    const int tall = in->tall;
    const long start = row / tall * tall * k, lane = row % tall;
    if (forms & 1 << F32)
        for (long i = 0; i < k; i++) in->columns[start + i * tall + lane] = x[i];
    if (perm && forms & ~(1 << F32)) {
        for (int i = 0; i < k; i++) spare[i] = x[perm[i]];
        x = spare;
    }
    if (forms & 1 << BF16)
        for (long i = 0; i < k; i += LANES) {
            uint32_t lanes[LANES / 2];
            STORE(lanes, to_bf16(LOAD(floats, x + i)));
            for (int j = 0; j < LANES / 2; j++) memcpy(in->pairs + start + ((i / 2 + j) * tall + lane) * 2, lanes + j, 4);
        }
    if (!(forms & (1 << INT8 | 1 << INT4))) return;
    for (long b = 0; b < k / BLOCK; b++) {
        floats largest = all(0);
        for (int i = 0; i < BLOCK; i += LANES) largest = larger(magnitude(LOAD(floats, x + b * BLOCK + i)), largest);
        float most = max_of(largest), inverse = most > 0 ? 127.0f / most : 0.0f, scale = most / 127.0f;
        int32_t lanes[LANES], fours[BLOCK / 4], total = 0;
        ints sums = all_int(0);
        for (int i = 0; i < BLOCK; i += LANES) {
            /* 1.5 * 2^23 rounds to whole numbers, which then stand in the low bits. */
            ints q = (ints)(LOAD(floats, x + b * BLOCK + i) * inverse + all(12582912.0f)) - 0x4b400000;
            STORE(fours + i / 4, __builtin_convertvector(q, bytes));
            sums += q;
        }
        for (int j = 0; j < BLOCK / 4; j++) memcpy(in->codes + start + ((b * 8 + j) * tall + lane) * 4, fours + j, 4);
        STORE(lanes, sums);
        for (int i = 0; i < LANES; i++) total += lanes[i];
        long place = start / BLOCK + b * tall + lane;
        in->scale[place] = scale;
        in->total[place] = total;
        in->weighted[place] = scale * (float)total;
    }
}

INLINE void emit(floats v, float *y, const float *bias, int count, int add) {
    if (count >= LANES) {
        if (bias) v += LOAD(floats, bias);
        if (add) v += LOAD(floats, y);
        STORE(y, v);
        return;
    }
    float lanes[LANES];
    STORE(lanes, v);
    for (int i = 0; i < count; i++) {
        float value = bias ? lanes[i] + bias[i] : lanes[i];
        y[i] = add ? y[i] + value : value;
    }
}

INLINE void tile_f32(const int rows, const float *x, int tall, long k, const float *w, floats (*sum)[2]) {
    for (long j = 0; j < k; j++, w += WIDE, x += tall) {
        floats a = LOAD(floats, w), b = LOAD(floats, w + LANES);
        __builtin_prefetch(w + 512);
        __builtin_prefetch(w + 512 + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            sum[i][0] += a * x[i];
            sum[i][1] += b * x[i];
        }
    }
}

INLINE void tile_bf16(const int rows, const uint16_t *x, int tall, long k, const uint16_t *w, floats (*sum)[2]) {
    for (long j = 0; j < k; j += 2, w += 2 * WIDE, x += 2 * tall) {
        ints a = LOAD(ints, w), b = LOAD(ints, w + WIDE);
        __builtin_prefetch(w + 1024);
        __builtin_prefetch(w + 1024 + WIDE);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            sum[i][0] = dot_bf16(sum[i][0], a, x + 2 * i);
            sum[i][1] = dot_bf16(sum[i][1], b, x + 2 * i);
        }
    }
}

INLINE floats scales_at(const void *scales, long place, int half) {
    return half ? from_f16(LOAD(halves, (const uint16_t *)scales + place)) : LOAD(floats, (const float *)scales + place);
}

INLINE void tile_ints(const int rows, const int bits, const Inputs *in, long row, int lane, const Matrix *m, long panel, floats *sum) {
    const long blocks = m->k / BLOCK, groups = (blocks + m->group - 1) / m->group, tall = in->tall;
    const uint8_t *w = (const uint8_t *)m->codes + panel * m->k * LANES * bits / 8;
    const int8_t *x = in->codes + row * m->k + 4 * lane;
    const float *scale = in->scale + row * blocks + lane, *weighted = in->weighted + row * blocks + lane;
    const int32_t *total = in->total + row * blocks + lane;
    const int step = bits == 4 ? 8 : 4;
    floats s = all(0), offset = all(0);
    long left = 0, place = panel * groups * LANES;
    for (long b = 0; b < blocks; b++, scale += tall, weighted += tall, total += tall) {
        if (!left) {
            s = scales_at(m->scales, place, m->half_scales);
            if (m->offsets) offset = scales_at(m->offsets, place, m->half_scales);
            place += LANES;
            left = m->group;
        }
        left--;
        ints whole[TALL];
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) whole[i] = all_int(m->offsets ? 0 : -m->zero * total[i]);
#pragma GCC unroll 8
        for (int j = 0; j < BLOCK; j += step, w += 4 * LANES, x += step * tall) {
            ints a = LOAD(ints, w), high = all_int(0);
            __builtin_prefetch(w + 2048);
            if (bits == 4) {
                high = (ints)((words)a >> 4) & 0x0f0f0f0f;
                a &= 0x0f0f0f0f;
            }
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) {
                whole[i] = dot_bytes(whole[i], a, x + 4 * i, bits == 4);
                if (bits == 4) whole[i] = dot_bytes(whole[i], high, x + 4 * tall + 4 * i, 1);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            sum[i] += __builtin_convertvector(whole[i], floats) * (s * scale[i]);
            if (m->offsets) sum[i] += offset * weighted[i];
        }
    }
}

/* One panel times ``rows`` rows, from the ``lane``-th of those that lie side by side from ``row`` on;
 * their number is known when compiling, so that the sums stay in registers. */
INLINE void tile(const int rows, const int kind, const Inputs *in, long row, int lane, const Matrix *m, long panel, float *y, long stride, int add) {
    const int width = kind == F32 || kind == BF16 ? WIDE : LANES;
    floats sum[TALL][2], one[TALL];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = one[i] = all(0);
    if (kind == F32) tile_f32(rows, in->columns + row * m->k + lane, in->tall, m->k, (const float *)m->codes + panel * m->k * WIDE, sum);
    if (kind == BF16) tile_bf16(rows, in->pairs + row * m->k + 2 * lane, in->tall, m->k, (const uint16_t *)m->codes + panel * m->k * WIDE, sum);
    if (kind == INT8) tile_ints(rows, 8, in, row, lane, m, panel, one);
    if (kind == INT4) tile_ints(rows, 4, in, row, lane, m, panel, one);
    int left = m->n - (int)panel * width;
    const float *bias = m->bias ? m->bias + panel * width : NULL;
    y += (row + lane) * stride + m->column + panel * width;
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++, y += stride) {
        emit(width == WIDE ? sum[i][0] : one[i], y, bias, left, add);
        if (width == WIDE && left > LANES) emit(sum[i][1], y + LANES, bias ? bias + LANES : NULL, left - LANES, add);
    }
}

INLINE void panel_of(const int kind, const Inputs *in, long rows, const Matrix *m, long panel, float *y, long stride, int add) {
    for (long row = 0; row < rows; row += in->tall)
        for (int lane = 0, left = rows - row < in->tall ? (int)(rows - row) : in->tall; left;) {
            /* Few sizes are enough: 7 rows are 4 and 3. */
            int count = left >= 8 ? 8 : left >= 4 ? 4 : left >= 3 ? 3 : left;
            switch (count) {
                case 1: tile(1, kind, in, row, lane, m, panel, y, stride, add); break;
                case 2: tile(2, kind, in, row, lane, m, panel, y, stride, add); break;
                case 3: tile(3, kind, in, row, lane, m, panel, y, stride, add); break;
                case 4: tile(4, kind, in, row, lane, m, panel, y, stride, add); break;
                default: tile(TALL, kind, in, row, lane, m, panel, y, stride, add);
            }
            lane += count;
            left -= count;
        }
}

#define PANELS(NAME, KIND) \
    static __attribute__((noinline)) void NAME(const Inputs *in, long rows, const Matrix *m, long panel, float *y, long stride, int add) { \
        panel_of(KIND, in, rows, m, panel, y, stride, add); \
    }
PANELS(panel_f32, F32)
PANELS(panel_bf16, BF16)
PANELS(panel_int8, INT8)
PANELS(panel_int4, INT4)

/* The share of one thread in y [rows, stride] (+)= x W^T + bias; y's row 0 belongs to x's row 0. */
static void product(Walker *w, const Matrix *parts, int count, const Inputs *in, long rows, float *y, long stride, int add) {
    static void (*const of_kind[])(const Inputs *, long, const Matrix *, long, float *, long, int) = {
        panel_f32, panel_bf16, panel_int8, panel_int4};
    long ends[3], total = 0, from, to;
    for (int p = 0; p < count; p++) {
        int width = parts[p].kind == F32 || parts[p].kind == BF16 ? WIDE : LANES;
        ends[p] = total += (parts[p].n + width - 1) / width;
    }
    long chunk = total / (w->pool->threads * 8) + 1;
    while (take(w, total, chunk, &from, &to))
        for (long task = from; task < to; task++) {
            int p = 0;
            while (task >= ends[p]) p++;
            of_kind[parts[p].kind](in, rows, parts + p, task - (p ? ends[p - 1] : 0), y, stride, add);
        }
}
