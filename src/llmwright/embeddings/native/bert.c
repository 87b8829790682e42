/* BERT on the processor, one call a few texts: bert.py has the equations.
 *
 * Linear layers in bfloat16 or in 8 bits (products.h), attention in bfloat16, all sums, residuals,
 * normalisations and the softmax in float32. Texts lie one after another without padding. Every
 * result of a text is computed by operations that depend on that text alone, so its vector has the
 * same bits whatever is embedded with it, on one thread or on a pool's. Needs AVX-512 with BF16 and VNNI (Zen 4, Sapphire Rapids
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
#include "pool.h"
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

/* Rows of inputs as a linear layer reads them. */
typedef struct {
    char *codes;
    float low[CHUNK], step[CHUNK];
} Inputs;

static void encode(Inputs *in, int int8, const float *x, long stride, long rows, long k) {
    long room = padded(k, 16);
    memset(in->codes, 0, rows * room * (int8 ? 1 : 2));
    for (long r = 0; r < rows; r++) {
        if (int8) to_bytes(x + r * stride, k, (uint8_t *)in->codes + r * room, in->low + r, in->step + r);
        else to_bf16(x + r * stride, k, (uint16_t *)in->codes + r * room);
    }
}

/* Panels [from, to) of y [rows, stride n padded to 16] = x W^T + bias. */
static void linear(const Linear *w, int int8, const Inputs *in, long rows, long from, long to, float *y) {
    const long wide = padded(w->n, 16), room = padded(w->k, 16), begin = from * PANEL;
    const long n = (to * PANEL < w->n ? to * PANEL : w->n) - begin, end = begin + padded(n, 16);
    if (int8) {
        const int8_t *codes = (const int8_t *)w->codes + begin * padded(w->k, 4);
        product_int8((uint8_t *)in->codes, room, rows, codes, n, w->k, (int32_t *)y + begin, wide);
    } else {
        const uint16_t *codes = (const uint16_t *)w->codes + begin * padded(w->k, 2);
        product_bf16((uint16_t *)in->codes, room, rows, codes, n, w->k, y + begin, wide);
    }
    for (long r = 0; r < rows; r++) {
        float *row = y + r * wide;
        for (long i = begin; i < end; i += 16) {
            __m512 v = _mm512_loadu_ps(row + i), bias = _mm512_loadu_ps(w->bias + i);
            if (int8) {
                v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(v)), _mm512_loadu_ps(w->scale + i));
                v = _mm512_mul_ps(v, _mm512_set1_ps(in->step[r]));
                v = _mm512_fmadd_ps(_mm512_loadu_ps(w->sums + i), _mm512_set1_ps(in->low[r]), v);
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

/* Bytes that each thread needs for itself, and that all have together. */
static long own_bytes(const Bert *bert, long longest) {
    long hidden = padded(bert->hidden, 16), wide = padded(bert->intermediate, 16), keys = padded(longest, 16);
    long size = padded(bert->hidden / bert->heads, 16);
    return padded(CHUNK * (wide > hidden ? wide : hidden) * 2 + keys * size * 4 + TALL * (keys * 6 + size * 4), 64);
}
static long shared_bytes(const Bert *bert, long rows) {
    long hidden = padded(bert->hidden, 16), three = padded(3 * bert->hidden, 16), wide = padded(bert->intermediate, 16);
    long chunk = rows < CHUNK ? rows : CHUNK;
    return padded(rows * (hidden * 8 + three * 2) + chunk * ((three > wide ? three : wide) + hidden) * 4, 64);
}

/* Bytes of scratch for texts of ``rows`` tokens together, the longest of ``longest``. */
long lw_bert_scratch(const Bert *bert, long rows, long longest, int threads) {
    return shared_bytes(bert, rows) + threads * own_bytes(bert, longest) + 64;
}

enum { MEAN, FIRST, ALL };

typedef struct {
    const Bert *bert;
    const int32_t *ids;
    const int64_t *starts;
    long texts;
    int which;
    float *out;
    char *scratch;
} Job;

/* The tasks [*from, *to) of a phase that this thread does next: all at once where it is alone. */
typedef struct { Walker *walker; int done; } Walk;
static int next(Walk *walk, long total, long *from, long *to) {
    if (walk->walker) return take(walk->walker, total, 1, from, to);
    *from = 0;
    *to = total;
    return walk->done = !walk->done;
}
#define PHASE(total) for (long from, to; next(&walk, (total), &from, &to);)
#define PANELS(n) (((n) + PANEL - 1) / PANEL)

/* Threads of a pool walk through the same phases, of a pass of at most CHUNK rows. Each encodes
 * the inputs of a layer for itself; one that comes so late that they are overwritten meanwhile
 * finds no task left that it could do with them. */
static void pass(void *argument, Walker *walker) {
    const Job *job = argument;
    const Bert *bert = job->bert;
    const int64_t *starts = job->starts;
    const int int8 = bert->int8;
    const long texts = job->texts, rows = starts[texts], hidden = bert->hidden, stride = padded(hidden, 16);
    const long three = padded(3 * hidden, 16), wide = padded(bert->intermediate, 16), size = hidden / bert->heads;
    const long chunk = rows < CHUNK ? rows : CHUNK;
    float *x = (float *)padded((long)job->scratch, 64);         /* [rows, stride] */
    float *mixed = x + rows * stride;                           /* [rows, stride] */
    uint16_t *qkv = (uint16_t *)(mixed + rows * stride);        /* [rows, three] */
    float *a = (float *)(qkv + rows * three);                   /* [chunk, three] or [chunk, wide] */
    float *b = a + chunk * (three > wide ? three : wide);       /* [chunk, stride] */
    long longest = 0;
    for (long t = 0; t < texts; t++) longest = starts[t + 1] - starts[t] > longest ? starts[t + 1] - starts[t] : longest;
    char *own = (char *)x + shared_bytes(bert, rows) + (walker ? walker->worker : 0) * own_bytes(bert, longest);
    Inputs in = {.codes = own};
    char *room = own + CHUNK * (wide > stride ? wide : stride) * 2;
    Walk walk = {walker, 0};
    PHASE(texts) for (long t = from; t < to; t++)
        for (long r = starts[t]; r < starts[t + 1]; r++) {
            const float *word = bert->words + job->ids[r] * hidden, *place = bert->positions + (r - starts[t]) * hidden;
            for (long i = 0; i < hidden; i++) x[r * stride + i] = word[i] + place[i] + bert->type[i];
            normalise(x + r * stride, 0, hidden, bert->norm, bert->epsilon);
        }
    for (const Layer *layer = bert->layer; layer < bert->layer + bert->layers; layer++) {
        for (long row = 0; row < rows; row += CHUNK) {
            const long n = rows - row < CHUNK ? rows - row : CHUNK;
            encode(&in, int8, x + row * stride, stride, n, hidden);
            PHASE(PANELS(3 * hidden)) {
                linear(&layer->qkv, int8, &in, n, from, to, a);
                const long begin = from * PANEL, end = to * PANEL < three ? to * PANEL : three;
                for (long r = 0; r < n; r++) to_bf16(a + r * three + begin, end - begin, qkv + (row + r) * three + begin);
            }
        }
        PHASE(texts * bert->heads) for (long i = from; i < to; i++) {
            const long begin = starts[i / bert->heads], head = i % bert->heads * size;
            const uint16_t *mine = qkv + begin * three + head;
            attend(mine, mine + hidden, mine + 2 * hidden, three, starts[i / bert->heads + 1] - begin, size,
                   mixed + begin * stride + head, stride, room);
        }
        for (long row = 0; row < rows; row += CHUNK) {
            const long n = rows - row < CHUNK ? rows - row : CHUNK;
            encode(&in, int8, mixed + row * stride, stride, n, hidden);
            PHASE(PANELS(hidden)) linear(&layer->out, int8, &in, n, from, to, b);
            PHASE(n) for (long r = from; r < to; r++)
                normalise(x + (row + r) * stride, b + r * stride, hidden, layer->norm_attention, bert->epsilon);
            encode(&in, int8, x + row * stride, stride, n, hidden);
            PHASE(PANELS(bert->intermediate)) {
                linear(&layer->up, int8, &in, n, from, to, a);
                const long begin = from * PANEL, end = to * PANEL < wide ? to * PANEL : wide;
                for (long r = 0; r < n; r++)
                    for (float *v = a + r * wide + begin; v < a + r * wide + end; v += 16)
                        _mm512_storeu_ps(v, gelu(_mm512_loadu_ps(v)));
            }
            encode(&in, int8, a, wide, n, bert->intermediate);
            PHASE(PANELS(hidden)) linear(&layer->down, int8, &in, n, from, to, b);
            PHASE(n) for (long r = from; r < to; r++)
                normalise(x + (row + r) * stride, b + r * stride, hidden, layer->norm_output, bert->epsilon);
        }
    }
    PHASE(texts) for (long t = from; t < to; t++) {
        const float *mine = x + starts[t] * stride;
        const long length = job->which == FIRST ? 1 : starts[t + 1] - starts[t];
        float *out = job->out + (job->which == ALL ? starts[t] : t) * hidden;
        if (job->which == ALL) {
            for (long r = 0; r < length; r++) memcpy(out + r * hidden, mine + r * stride, hidden * sizeof(float));
            continue;
        }
        for (long i = 0; i < hidden; i++) out[i] = 0;
        for (long r = 0; r < length; r++)
            for (long i = 0; i < hidden; i++) out[i] += mine[r * stride + i];
        for (long i = 0; i < hidden; i++) out[i] /= length;
    }
}

/* The vectors of texts, ids one after another, text t at [starts[t], starts[t + 1]). out: [texts,
 * hidden], the mean of the token vectors or the first of them; or [rows, hidden], all of them.
 * pool: whose threads share the work of at most lw_bert_shared() rows, or NULL. */
void lw_bert(const Bert *bert, Pool *pool, const int32_t *ids, const int64_t *starts, long texts, int which, float *out,
             char *scratch) {
    Job job = {bert, ids, starts, texts, which, out, scratch};
    if (pool && starts[texts] <= CHUNK) run_together(pool, pass, &job);
    else pass(&job, NULL);
}
int lw_bert_shared(void) { return CHUNK; }
#else
typedef void Pool;
int lw_bert_supported(void) { return 0; }
int lw_bert_shared(void) { return 0; }
long lw_bert_scratch(const Bert *bert, long rows, long longest, int threads) { return 0; }
void lw_bert(const Bert *bert, Pool *pool, const int32_t *ids, const int64_t *starts, long texts, int which, float *out,
             char *scratch) {}
Pool *lw_pool_new(int threads) { return 0; }
void lw_pool_free(Pool *pool) {}
#endif
