/* The scan of retrieval/dense/scan.py: estimates the inner products of queries with all codes of
 * one bit a dimension (codes.py has the equations) and keeps the best. Eight vectors at a
 * time:
 * word w of vectors 8 i .. 8 i + 7 lies at bits[(i words + w) 8]. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* Multiply, round, add, round: the same bits as numpy. */
#pragma STDC FP_CONTRACT OFF
#pragma GCC optimize("fp-contract=off")

#define LANES 8
#define PLANES 4

/* One number for score and row, so that comparing it is comparing both: a higher score first, of
 * equal scores the lower row. */
static inline uint64_t key_of(float score, uint32_t row) {
    uint32_t bits;
    memcpy(&bits, &score, 4);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | (0xFFFFFFFFu - row);
}

/* Moves the ``k`` greatest of ``n`` keys to the front; returns the least of them. */
static uint64_t select_greatest(uint64_t *keys, long n, long k) {
    long low = 0, high = n - 1;
    while (low < high) {
        uint64_t pivot = keys[low + (high - low) / 2];
        long i = low, j = high;
        while (i <= j) {
            while (keys[i] > pivot) i++;
            while (keys[j] < pivot) j--;
            if (i <= j) {
                uint64_t t = keys[i];
                keys[i++] = keys[j];
                keys[j--] = t;
            }
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else break;
    }
    return keys[k - 1];
}

/* Scores of eight vectors. terms: low, step, sum, constant. */
static inline void estimate(const uint64_t *bits, int words, const uint64_t *planes, const float *terms,
                            const float *scale, const float *shift, float *out) {
#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    __m512i ones = _mm512_setzero_si512(), counts[PLANES];
    for (int p = 0; p < PLANES; p++) counts[p] = _mm512_setzero_si512();
    for (int w = 0; w < words; w++) {
        __m512i b = _mm512_loadu_si512(bits + w * LANES);
        ones = _mm512_add_epi64(ones, _mm512_popcnt_epi64(b));
        for (int p = 0; p < PLANES; p++) {
            __m512i and = _mm512_and_si512(b, _mm512_set1_epi64((long long)planes[p * words + w]));
            counts[p] = _mm512_add_epi64(counts[p], _mm512_popcnt_epi64(and));
        }
    }
    __m512i total = counts[PLANES - 1];
    for (int p = PLANES - 2; p >= 0; p--) total = _mm512_add_epi64(_mm512_add_epi64(total, total), counts[p]);
    __m256 x = _mm256_add_ps(_mm256_mul_ps(_mm512_cvtepi64_ps(ones), _mm256_set1_ps(terms[0])),
                             _mm256_mul_ps(_mm512_cvtepi64_ps(total), _mm256_set1_ps(terms[1])));
    x = _mm256_sub_ps(_mm256_add_ps(x, x), _mm256_set1_ps(terms[2]));
    x = _mm256_add_ps(_mm256_mul_ps(x, _mm256_loadu_ps(scale)), _mm256_loadu_ps(shift));
    _mm256_storeu_ps(out, _mm256_add_ps(x, _mm256_set1_ps(terms[3])));
#else
    for (int lane = 0; lane < LANES; lane++) {
        long ones = 0, total = 0;
        for (int w = 0; w < words; w++) {
            uint64_t b = bits[w * LANES + lane];
            ones += __builtin_popcountll(b);
            for (int p = 0; p < PLANES; p++)
                total += (long)__builtin_popcountll(b & planes[p * words + w]) << p;
        }
        float x = (float)ones * terms[0] + (float)total * terms[1];
        x = x + x - terms[2];
        x = x * scale[lane] + shift[lane];
        out[lane] = x + terms[3];
    }
#endif
}

/* The codes of one segment. */
typedef struct {
    const uint64_t *bits;
    const float *scale, *shift, *centre; /* the centre turned, [dimension] */
    const uint8_t *mask;                 /* a byte a vector, or NULL */
    int64_t rows, start;                 /* start: vectors in the segments before it */
} Part;

/* A query [dimension], turned, as bit planes about the centre of a segment. terms: low, step, sum. */
static void encode(const float *query, const float *centre, int dimension, int words, uint64_t *planes, float *terms) {
    float low = query[0] - centre[0], high = low;
    for (int j = 1; j < dimension; j++) {
        float x = query[j] - centre[j];
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    float step = (high - low) / 15.0f;
    if (step == 0) step = 1;
    long sum = 0;
    memset(planes, 0, sizeof(uint64_t) * PLANES * words);
    for (int j = 0; j < dimension; j++) {
        uint64_t level = (uint64_t)rintf((query[j] - centre[j] - low) / step);
        sum += (long)level;
        for (int p = 0; p < PLANES; p++) planes[p * words + j / 64] |= (level >> p & 1) << j % 64;
    }
    terms[0] = low;
    terms[1] = step;
    terms[2] = low * (float)dimension + step * (float)sum;
}

static long clamped(int64_t place, const Part *part) {
    int64_t own = place - part->start;
    return own <= 0 ? 0 : own >= part->rows ? part->rows : own / LANES * LANES;
}

/* Scans the vectors [from, to) of all segments together, for each of the queries [queries,
 * dimension], turned; constants: [queries, parts]. keys: [queries][2 k + LANES], of which the first
 * counts[q] hold the best, in no order. room: [queries][PLANES][words]. */
void lw_scan(const Part *parts, int count, int64_t from, int64_t to, int dimension, int queries, const float *turned,
             const float *constants, long k, uint64_t *keys, int64_t *counts, uint64_t *room) {
    enum { STRIPE = 512 }; /* vectors that stay in the first cache while every query reads them */
    const long space = 2 * k + LANES;
    const int words = (dimension + 63) / 64;
    float least[queries], terms[queries][4];
    for (int q = 0; q < queries; q++) {
        counts[q] = 0;
        least[q] = -__builtin_inff();
    }
    for (const Part *part = parts; part < parts + count; part++) {
        long begin = clamped(from, part), end = clamped(to, part);
        if (begin == end) continue;
        for (int q = 0; q < queries; q++) {
            encode(turned + (long)q * dimension, part->centre, dimension, words, room + (long)q * PLANES * words, terms[q]);
            terms[q][3] = constants[(long)q * count + (part - parts)];
        }
        for (long stripe = begin; stripe < end; stripe += STRIPE) {
            long stop = stripe + STRIPE < end ? stripe + STRIPE : end;
            for (int q = 0; q < queries; q++) {
                uint64_t *mine = keys + q * space;
                long held = counts[q];
                for (long row = stripe; row < stop; row += LANES) {
                    long lanes = stop - row < LANES ? stop - row : LANES;
                    float scores[LANES], scales[LANES] = {0}, shifts[LANES] = {0};
                    const float *scale = part->scale + row, *shift = part->shift + row;
                    if (lanes < LANES) { /* the last block: its numbers end with the last vector */
                        memcpy(scales, scale, lanes * sizeof(float));
                        memcpy(shifts, shift, lanes * sizeof(float));
                        scale = scales, shift = shifts;
                    }
                    estimate(part->bits + row * words, words, room + (long)q * PLANES * words, terms[q], scale, shift, scores);
                    for (long lane = 0; lane < lanes; lane++)
                        if (scores[lane] >= least[q] && (!part->mask || part->mask[row + lane]))
                            mine[held++] = key_of(scores[lane], (uint32_t)(part->start + row + lane));
                    if (held >= 2 * k) {
                        uint32_t high = (uint32_t)(select_greatest(mine, held, k) >> 32);
                        high = high & 0x80000000u ? high & 0x7FFFFFFFu : ~high;
                        memcpy(&least[q], &high, 4);
                        held = k;
                    }
                }
                counts[q] = held;
            }
        }
    }
    for (int q = 0; q < queries; q++)
        if (counts[q] > k) {
            select_greatest(keys + q * space, counts[q], k);
            counts[q] = k;
        }
}

/* Reads the given rows of a file: 0, or -1 where the file ends too early or cannot be read. */
int lw_gather(int file, long offset, long row_bytes, const int64_t *rows, long n, char *out) {
    for (long i = 0; i < n; i++) {
        long got = 0;
        while (got < row_bytes) {
            ssize_t part = pread(file, out + i * row_bytes + got, row_bytes - got, offset + rows[i] * row_bytes + got);
            if (part <= 0) return -1;
            got += part;
        }
    }
    return 0;
}
