/* BERT on the processor, one call a few texts on one thread: bert.py has the equations.
 *
 * Linear layers in bfloat16 or in 8 bits (products.h), attention in bfloat16, all sums, residuals,
 * normalisations and the softmax in float32. Texts lie one after another without padding. Every
 * result of a text is computed by operations that depend on that text alone, so its vector has the
 * same bits whatever is embedded with it. Needs AVX-512 with BF16 and VNNI (Zen 4, Sapphire Rapids
 * and later); elsewhere lw_bert_supported is 0. */
#include <math.h>
#include <stdint.h>

typedef struct {
    int32_t n, k;          /* outputs, inputs */
    const void *codes;     /* packed (products.h) */
    const float *bias;     /* [n padded to 16], as all below */
    const float *scale;    /* of each output, in 8 bits */
    const float *sums;     /* scale * sum of the codes of an output, in 8 bits */
} Linear;

typedef struct {
    Linear qkv, out, up, down;
    const float *norm_attention[2], *norm_output[2]; /* weight, bias */
} Layer;

typedef struct {
    int32_t hidden, heads, intermediate, layers, int8;
    float epsilon;
    const float *words, *positions, *type; /* [vocabulary, hidden], [longest, hidden], [hidden] */
    const float *norm[2];
    const Layer *layer;
} Bert;

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__AVX512DQ__)
#include "products.h"

int lw_bert_supported(void) { return 1; }

enum { CHUNK = 96 }; /* rows between two linear layers, so that what is between stays in cache */

INLINE __mmask16 lanes(long left) { return left >= 16 ? 0xFFFF : (__mmask16)((1u << left) - 1); }

/* e^x: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2], to about 1e-7 of the value. */
INLINE __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
    __m512 p = _mm512_set1_ps(1.0f / 720);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* x (1 + erf(x / sqrt 2)) / 2 with erf to 1.5e-7: Abramowitz and Stegun (1964), 7.1.26. */
INLINE __m512 gelu(__m512 x) {
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.707106781f));
    __m512 t = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), _mm512_set1_ps(1.0f)));
    __m512 p = _mm512_set1_ps(1.061405429f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
    __m512 tail = _mm512_mul_ps(_mm512_mul_ps(p, t), exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z))));
    __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f)); /* positive: x - x tail / 2, negative: x tail / 2 */
    __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_mul_ps(_mm512_fnmadd_ps(half, tail, x), negative, half, tail);
}

static void to_bf16(const float *x, long n, uint16_t *out) {
    for (long i = 0; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        _mm256_mask_storeu_epi16(out + i, m, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, x + i)));
    }
}

/* Codes of 8 bits from the least to the greatest value of the row: x ~ low + step code. */
static void to_bytes(const float *x, long n, uint8_t *out, float *low, float *step) {
    __m512 least = _mm512_set1_ps(INFINITY), most = _mm512_set1_ps(-INFINITY);
    for (long i = 0; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        least = _mm512_mask_min_ps(least, m, least, v);
        most = _mm512_mask_max_ps(most, m, most, v);
    }
    *low = _mm512_reduce_min_ps(least);
    *step = (_mm512_reduce_max_ps(most) - *low) / 255.0f;
    __m512 from = _mm512_set1_ps(*low), by = _mm512_set1_ps(*step > 0 ? 1.0f / *step : 0.0f);
    for (long i = 0; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), from), by));
        _mm_mask_storeu_epi8(out + i, m, _mm512_cvtusepi32_epi8(_mm512_max_epi32(q, _mm512_setzero_si512())));
    }
}

/* x = LayerNorm(x + y) in place; y may be NULL. */
static void normalise(float *x, const float *y, long n, const float *const norm[2], float epsilon) {
    __m512 total = _mm512_setzero_ps();
    for (long i = 0; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        if (y) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, y + i));
        _mm512_mask_storeu_ps(x + i, m, v);
        total = _mm512_add_ps(total, v);
    }
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / n), squares = _mm512_setzero_ps();
    for (long i = 0; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        __m512 d = _mm512_maskz_sub_ps(m, _mm512_maskz_loadu_ps(m, x + i), mean);
        squares = _mm512_fmadd_ps(d, d, squares);
    }
    __m512 by = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / n + epsilon));
    for (long i = 0; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), mean), by);
        __m512 v = _mm512_fmadd_ps(d, _mm512_maskz_loadu_ps(m, norm[0] + i), _mm512_maskz_loadu_ps(m, norm[1] + i));
        _mm512_mask_storeu_ps(x + i, m, v);
    }
}

/* y [rows, stride n padded to 16] = x [rows, k] W^T + bias. codes is room for the rows of x. */
static void linear(const Linear *w, int int8, const float *x, long stride, long rows, float *y, char *codes) {
    long wide = padded(w->n, 16), room = padded(w->k, 16);
    float low[CHUNK], step[CHUNK];
    memset(codes, 0, rows * room * (int8 ? 1 : 2));
    for (long r = 0; r < rows; r++) {
        if (int8) to_bytes(x + r * stride, w->k, (uint8_t *)codes + r * room, low + r, step + r);
        else to_bf16(x + r * stride, w->k, (uint16_t *)codes + r * room);
    }
    if (int8) product_int8((uint8_t *)codes, room, rows, w->codes, w->n, w->k, (int32_t *)y, wide);
    else product_bf16((uint16_t *)codes, room, rows, w->codes, w->n, w->k, y, wide);
    for (long r = 0; r < rows; r++) {
        float *row = y + r * wide;
        for (long i = 0; i < wide; i += 16) {
            __m512 v = _mm512_loadu_ps(row + i), bias = _mm512_loadu_ps(w->bias + i);
            if (int8) {
                v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(v)), _mm512_loadu_ps(w->scale + i));
                v = _mm512_mul_ps(v, _mm512_set1_ps(step[r]));
                v = _mm512_fmadd_ps(_mm512_loadu_ps(w->sums + i), _mm512_set1_ps(low[r]), v);
            }
            _mm512_storeu_ps(row + i, _mm512_add_ps(v, bias));
        }
    }
}

/* One head of one text. q, k, v: [length, stride] in bfloat16; out: [length, out_stride]. */
static void attend(const uint16_t *q, const uint16_t *k, const uint16_t *v, long stride, long length, long size,
                   float *out, long out_stride, char *room) {
    long keys = padded(length, 16), pairs = size / 2, wide = padded(size, 16);
    uint32_t *packed_k = (uint32_t *)room;                               /* panels of [pairs][64] */
    uint16_t *packed_v = (uint16_t *)(packed_k + pairs * keys);           /* panels of [keys / 2][64][2] */
    float *scores = (float *)(packed_v + wide * keys);                   /* [TALL, keys] */
    uint16_t *weights = (uint16_t *)(scores + TALL * keys);              /* [TALL, keys] */
    float *mixed = (float *)(weights + TALL * keys);                     /* [TALL, wide] */
    memset(room, 0, (char *)scores - room);
    for (long j = 0; j < length; j++) {
        long panel = j / PANEL * PANEL, across = keys - panel < PANEL ? keys - panel : PANEL;
        for (long p = 0; p < pairs; p++) memcpy(packed_k + panel * pairs + p * across + j - panel, k + j * stride + 2 * p, 4);
    }
    for (long panel = 0; panel < size; panel += PANEL) {
        long across = wide - panel < PANEL ? wide - panel : PANEL, own = size - panel < across ? size - panel : across;
        for (long j = 0; j < length; j++) {
            uint16_t *to = packed_v + panel * keys + j / 2 * across * 2 + j % 2;
            for (long d = 0; d < own; d++) to[2 * d] = v[j * stride + panel + d];
        }
    }
    const float by = 1.0f / sqrtf((float)size);
    for (long row = 0; row < length; row += TALL) {
        long tall = length - row < TALL ? length - row : TALL;
        float share[TALL];
        product_bf16(q + row * stride, stride, tall, (uint16_t *)packed_k, length, size, scores, keys);
        for (long r = 0; r < tall; r++) {
            const float *mine = scores + r * keys;
            __m512 most = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
            for (long j = 0; j < length; j += 16)
                most = _mm512_mask_max_ps(most, lanes(length - j), most, _mm512_loadu_ps(mine + j));
            most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
            for (long j = 0; j < keys; j += 16) {
                __m512 e = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(mine + j), most), _mm512_set1_ps(by));
                e = _mm512_maskz_mov_ps(lanes(length - j), exponential(e));
                total = _mm512_add_ps(total, e);
                _mm256_storeu_si256((__m256i *)(weights + r * keys + j), (__m256i)_mm512_cvtneps_pbh(e));
            }
            share[r] = 1.0f / _mm512_reduce_add_ps(total);
        }
        product_bf16(weights, keys, tall, packed_v, size, keys, mixed, wide);
        for (long r = 0; r < tall; r++)
            for (long d = 0; d < size; d++) out[(row + r) * out_stride + d] = mixed[r * wide + d] * share[r];
    }
}

/* Bytes of scratch for texts of ``rows`` tokens together, the longest of ``longest``. */
long lw_bert_scratch(const Bert *bert, long rows, long longest) {
    long hidden = padded(bert->hidden, 16), three = padded(3 * bert->hidden, 16), wide = padded(bert->intermediate, 16);
    long keys = padded(longest, 16), size = padded(bert->hidden / bert->heads, 16);
    long between = CHUNK * (three + wide + hidden) * 4 + CHUNK * (wide > hidden ? wide : hidden) * 2;
    return rows * (hidden * 8 + three * 2) + between + keys * size * 4 + TALL * (keys * 6 + size * 4) + 1024;
}

enum { MEAN, FIRST, ALL };

/* The vectors of texts, ids one after another, text t at [starts[t], starts[t + 1]). out: [texts,
 * hidden], the mean of the token vectors or the first of them; or [rows, hidden], all of them. */
void lw_bert(const Bert *bert, const int32_t *ids, const int64_t *starts, long texts, int which, float *out, char *scratch) {
    const long hidden = bert->hidden, stride = padded(hidden, 16), rows = starts[texts];
    const long three = padded(3 * hidden, 16), wide = padded(bert->intermediate, 16), size = hidden / bert->heads;
    float *x = (float *)padded((long)scratch, 64);          /* [rows, stride] */
    float *mixed = x + rows * stride;                       /* [rows, stride] */
    uint16_t *qkv = (uint16_t *)(mixed + rows * stride);    /* [rows, three] */
    float *a = (float *)(qkv + rows * three);               /* [CHUNK, three] or [CHUNK, wide] */
    float *b = a + CHUNK * (three > wide ? three : wide);   /* [CHUNK, stride] */
    char *codes = (char *)(b + CHUNK * stride);             /* [CHUNK, widest] of 2 bytes */
    char *room = codes + CHUNK * (wide > stride ? wide : stride) * 2;
    for (long t = 0; t < texts; t++)
        for (long r = starts[t]; r < starts[t + 1]; r++) {
            const float *word = bert->words + ids[r] * hidden, *place = bert->positions + (r - starts[t]) * hidden;
            for (long i = 0; i < hidden; i++) x[r * stride + i] = word[i] + place[i] + bert->type[i];
            normalise(x + r * stride, 0, hidden, bert->norm, bert->epsilon);
        }
    for (int l = 0; l < bert->layers; l++) {
        const Layer *layer = bert->layer + l;
        for (long row = 0; row < rows; row += CHUNK) {
            long n = rows - row < CHUNK ? rows - row : CHUNK;
            linear(&layer->qkv, bert->int8, x + row * stride, stride, n, a, codes);
            to_bf16(a, n * three, qkv + row * three);
        }
        for (long t = 0; t < texts; t++) {
            uint16_t *mine = qkv + starts[t] * three;
            for (int h = 0; h < bert->heads; h++)
                attend(mine + h * size, mine + hidden + h * size, mine + 2 * hidden + h * size, three,
                       starts[t + 1] - starts[t], size, mixed + starts[t] * stride + h * size, stride, room);
        }
        for (long row = 0; row < rows; row += CHUNK) {
            long n = rows - row < CHUNK ? rows - row : CHUNK;
            linear(&layer->out, bert->int8, mixed + row * stride, stride, n, b, codes);
            for (long r = 0; r < n; r++)
                normalise(x + (row + r) * stride, b + r * stride, hidden, layer->norm_attention, bert->epsilon);
            linear(&layer->up, bert->int8, x + row * stride, stride, n, a, codes);
            for (long i = 0; i < n * wide; i += 16) _mm512_storeu_ps(a + i, gelu(_mm512_loadu_ps(a + i)));
            linear(&layer->down, bert->int8, a, wide, n, b, codes);
            for (long r = 0; r < n; r++)
                normalise(x + (row + r) * stride, b + r * stride, hidden, layer->norm_output, bert->epsilon);
        }
    }
    if (which == ALL)
        for (long r = 0; r < rows; r++) memcpy(out + r * hidden, x + r * stride, hidden * sizeof(float));
    for (long t = 0; which != ALL && t < texts; t++) {
        long length = which == FIRST ? 1 : starts[t + 1] - starts[t];
        for (long i = 0; i < hidden; i++) out[t * hidden + i] = 0;
        for (long r = 0; r < length; r++)
            for (long i = 0; i < hidden; i++) out[t * hidden + i] += x[(starts[t] + r) * stride + i];
        for (long i = 0; i < hidden; i++) out[t * hidden + i] /= length;
    }
}
#else
int lw_bert_supported(void) { return 0; }
long lw_bert_scratch(const Bert *bert, long rows, long longest) { return 0; }
void lw_bert(const Bert *bert, const int32_t *ids, const int64_t *starts, long texts, int which, float *out, char *scratch) {}
#endif
