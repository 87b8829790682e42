/* As many floats at a time as a register of the processor holds, LANES, in the compiler's vector
 * extensions: one source for AVX-512 (16), AVX2 (8), SSE and NEON (4). Intrinsics stand only where
 * no operator says the same well: dot products of bytes and of bfloat16, and conversions. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
#define LANES 16
#define NUMBERS {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#elif defined(__AVX2__)
#define LANES 8
#define NUMBERS {0, 1, 2, 3, 4, 5, 6, 7}
#else
#define LANES 4
#define NUMBERS {0, 1, 2, 3}
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES)));

#define LOAD(type, pointer) \
    ({ type loaded_; memcpy(&loaded_, (pointer), sizeof loaded_); loaded_; })
#define STORE(pointer, value) \
    do { __typeof__(value) stored_ = (value); memcpy((pointer), &stored_, sizeof stored_); } while (0)

INLINE floats all(float x) { return x - (floats){0}; }
INLINE ints all_int(int32_t x) { return x - (ints){0}; }
INLINE floats pick(ints mask, floats a, floats b) { return (floats)((mask & (ints)a) | (~mask & (ints)b)); }
INLINE floats larger(floats a, floats b) { return pick(a > b, a, b); }
INLINE floats magnitude(floats a) { return (floats)((ints)a & all_int(0x7fffffff)); }

/* Sums and maxima over lanes, always in the same tree. */
INLINE float sum_of(floats v) {
    float a[LANES];
    STORE(a, v);
    for (int step = LANES / 2; step; step /= 2)
        for (int i = 0; i < step; i++) a[i] += a[i + step];
    return a[0];
}
INLINE float max_of(floats v) {
    float a[LANES];
    STORE(a, v);
    for (int step = LANES / 2; step; step /= 2)
        for (int i = 0; i < step; i++) a[i] = a[i] > a[i + step] ? a[i] : a[i + step];
    return a[0];
}

/* bfloat16 is the upper half of a float; rounded to nearest, ties to even. */
INLINE floats from_bf16(halves h) {
#if defined(__AVX512F__)
    return (floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#else
    return (floats)(__builtin_convertvector(h, words) << 16);
#endif
}
INLINE floats from_bytes(bytes b) {
#if defined(__AVX512F__)
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)b));
#else
    return __builtin_convertvector(b, floats);
#endif
}
INLINE halves to_bf16(floats v) {
    words bits = (words)v;
    bits += 0x7fff + ((bits >> 16) & 1);
    return __builtin_convertvector(bits >> 16, halves);
}

/* IEEE half precision, subnormal numbers too. */
INLINE floats from_f16(halves h) {
#if defined(__AVX512F__)
    return (floats)_mm512_cvtph_ps((__m256i)h);
#else
    words w = __builtin_convertvector(h, words);
    floats size = (floats)((w & 0x7fff) << 13) * 0x1p112f;
    return (floats)((words)size | ((w & 0x8000) << 16));
#endif
}

/* e^x by 2^n * p(r) with |r| <= ln 2 / 2 (polynomial of degree 6, about 2 units in the last place);
 * below -87 it stays at e^-87, so masked lanes must be picked away. */
INLINE floats exp_of(floats x) {
    x = larger(x, all(-87.0f));
    x = pick(x < all(88.0f), x, all(88.0f));
    floats shifted = x * 1.44269504f + all(12582912.0f); /* 1.5 * 2^23 rounds to whole numbers */
    floats n = shifted - all(12582912.0f);
    floats r = x - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    floats p = all(1.0f / 720) * r + all(1.0f / 120);
    p = p * r + all(1.0f / 24);
    p = p * r + all(1.0f / 6);
    p = p * r + all(0.5f);
    p = p * r + all(1.0f);
    p = p * r + all(1.0f);
    return (floats)((ints)p + ((ints)shifted << 23));
}

/* sum += four unsigned bytes of each lane of w times the four signed bytes at x; small says that
 * the unsigned ones are below 16 */
INLINE ints dot_bytes(ints sum, ints w, const void *at, const int small) {
    int32_t x;
    memcpy(&x, at, 4);
#if defined(__AVX512VNNI__)
    (void)small;
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, _mm512_set1_epi32(x));
#elif defined(__AVX2__) && LANES == 8
    /* Pairs are summed in 16 bits, which two products of 255 * 127 overflow: larger bytes go by halves. */
    const __m256i one = _mm256_set1_epi16(1), four = _mm256_set1_epi32(x);
    if (small) return sum + (ints)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)w, four), one);
    ints low = w & 0x0f0f0f0f, high = (ints)((words)w >> 4) & 0x0f0f0f0f;
    sum += (ints)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)low, four), one);
    return sum + ((ints)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)high, four), one) << 4);
#else
    (void)small;
    for (int j = 0; j < 4; j++) sum += (ints)(((words)w >> (8 * j)) & 255) * (int32_t)(int8_t)(x >> (8 * j));
    return sum;
#endif
}

/* sum += two bfloat16 of each lane of w times the two at x */
INLINE floats dot_bf16(floats sum, ints w, const void *at) {
    int32_t x;
    memcpy(&x, at, 4);
#if defined(__AVX512BF16__)
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)w, (__m512bh)_mm512_set1_epi32(x));
#else
    int32_t low = x << 16, high = x & (int32_t)0xffff0000;
    float first, second;
    memcpy(&first, &low, 4);
    memcpy(&second, &high, 4);
    sum += (floats)(w << 16) * first;
    return sum + (floats)(w & (int32_t)0xffff0000) * second;
#endif
}
