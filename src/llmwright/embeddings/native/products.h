/* Rows times a packed matrix, in bfloat16 or in 8 bits, with sums in float32 or int32.
 *
 * A matrix of n outputs and k inputs is packed into panels of 64 outputs, the last of fewer, each
 * read from front to back: bfloat16 as [k / 2][outputs][2], bytes as [k / 4][outputs][4]. A tile of
 * six rows by 64 outputs stays in registers while it walks down the inputs. Each output is summed
 * over the inputs in their order in one lane: a row's result does not depend on its neighbours. */
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
enum { VECTOR = 16, PANEL = 64, TALL = 6 };

static inline long padded(long n, long to) { return (n + to - 1) / to * to; }

/* x: rows of pairs, stride in values; w: one panel of 16 nv outputs; out: stride in floats. */
INLINE void tile_bf16(const uint16_t *x, long stride, int rows, const uint16_t *w, long pairs, int nv, float *out,
                      long out_stride) {
    __m512 sums[TALL][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) sums[r][v] = _mm512_setzero_ps();
    for (long p = 0; p < pairs; p++, w += 2 * VECTOR * nv) {
        __m512i codes[4];
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) codes[v] = _mm512_loadu_si512(w + 2 * VECTOR * v);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, x + r * stride + 2 * p, 4);
            __m512i both = _mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], (__m512bh)codes[v], (__m512bh)both);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) _mm512_storeu_ps(out + r * out_stride + VECTOR * v, sums[r][v]);
}

/* The same in bytes: x unsigned, w signed, sums of whole numbers. */
INLINE void tile_int8(const uint8_t *x, long stride, int rows, const int8_t *w, long fours, int nv, int32_t *out,
                      long out_stride) {
    __m512i sums[TALL][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) sums[r][v] = _mm512_setzero_si512();
    for (long p = 0; p < fours; p++, w += 4 * VECTOR * nv) {
        __m512i codes[4];
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) codes[v] = _mm512_loadu_si512(w + 4 * VECTOR * v);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * stride + 4 * p, 4);
            __m512i all = _mm512_set1_epi32(four);
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], all, codes[v]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) _mm512_storeu_si512(out + r * out_stride + VECTOR * v, sums[r][v]);
}

/* All tiles of a product: x [rows, stride], out [rows, out_stride] with room for n padded to 16. */
#define PRODUCT(name, tile, input, code, result)                                                                   \
    static void name(const input *x, long stride, long rows, const code *w, long n, long k, result *out,           \
                     long out_stride) {                                                                            \
        const int group = 4 / sizeof(input); /* inputs that one lane adds at once */                               \
        const long steps = padded(k, group) / group;                                                               \
        for (long panel = 0; panel < n; panel += PANEL) {                                                          \
            int nv = n - panel < PANEL ? (int)(padded(n - panel, VECTOR) / VECTOR) : PANEL / VECTOR;                \
            const code *mine = w + panel * steps * group;                                                          \
            for (long row = 0; row < rows; row += TALL) {                                                          \
                int tall = rows - row < TALL ? (int)(rows - row) : TALL;                                           \
                const input *from = x + row * stride;                                                              \
                result *to = out + row * out_stride + panel;                                                       \
                switch (tall * 8 + nv) {                                                                           \
                    CASES(tile, 1) CASES(tile, 2) CASES(tile, 3) CASES(tile, 4) CASES(tile, 5) CASES(tile, 6)      \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
    }
#define CASE(tile, tall, nv) case (tall) * 8 + (nv): tile(from, stride, tall, mine, steps, nv, to, out_stride); break;
#define CASES(tile, tall) CASE(tile, tall, 1) CASE(tile, tall, 2) CASE(tile, tall, 3) CASE(tile, tall, 4)

PRODUCT(product_bf16, tile_bf16, uint16_t, uint16_t, float)
PRODUCT(product_int8, tile_int8, uint8_t, int8_t, int32_t)
