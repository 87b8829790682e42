/* One forward pass of a Llama-family decoder over the new tokens of many sequences:
 *
 *     x += o_proj(attention(rotate(q), rotate(k), v)),   q, k, v = qkv_proj(norm x)
 *     x += down_proj(silu(gate) * up),                   gate, up = gate_up_proj(norm x)
 *
 * All threads walk through the same phases (pool.h), each loop over tasks being one; x stays in
 * float32. Python owns weights, cache and step; this file owns the scratch memory between them. */
#include "attention.h"
#include "pool.h"
#include "products.h"

typedef struct {
    Matrix parts[3];
    int32_t count, k, forms, width; /* forms: bits 1 << kind; width of an output row */
    const int32_t *perm;            /* [k] the order of columns in coded forms, or NULL */
} Linear;

typedef struct {
    const float *norm, *mlp_norm; /* [hidden] */
    Linear qkv, o, gate_up, down;
} Layer;

/* Seven pairs a layer (q, k, v, o, gate, up, down), then lm_head's. A rank of 0: none. */
typedef struct {
    int32_t rank, n, column, stride; /* stride of a row of a, padded to 16 */
    const float *a;                  /* [rank][stride] */
    const float *b;                  /* [rank][n]: scaled B, transposed */
} Lora;

typedef struct {
    int32_t layer_count, hidden, inner, vocab;
    float eps;
    Cache cache;
    const float *norm;
    const Layer *layers;
    Linear head;
} Model;

typedef struct {
    int64_t tokens, sequences, wanted, table_width;
    float *x;                                 /* [tokens][hidden]: embeddings in, residual stream out */
    const float *cos, *sin;                   /* [tokens][head_dim] */
    const int64_t *slots, *starts, *lengths;
    const int32_t *tables;
    const int64_t *logits_at;
    float *logits;                            /* [wanted][vocab] */
    float *hidden;                            /* [tokens][hidden] or NULL */
    const Lora *const *adapters;              /* one a sequence, or NULL */
} Step;

typedef struct {
    const Model *model;
    const Step *step;
    Inputs in;
    float *fused, *mixed, *spare; /* fused products; attention's results; per-thread scratch */
    int32_t *owner;               /* the sequence of each row */
    Span *spans;
    long span_count, spare_size, mixed_stride;
} Pass;

INLINE long ceil32(long x) { return (x + 31) / 32 * 32; }

static void rms_norm(const float *x, const float *weight, float eps, int n, int padded, float *y) {
    floats square = all(0);
    int i = 0;
    for (; i + LANES <= n; i += LANES) square += LOAD(floats, x + i) * LOAD(floats, x + i);
    float sum = sum_of(square);
    for (int j = i; j < n; j++) sum += x[j] * x[j];
    float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; i + LANES <= n; i += LANES) STORE(y + i, LOAD(floats, x + i) * scale * LOAD(floats, weight + i));
    for (; i < n; i++) y[i] = x[i] * scale * weight[i];
    for (; i < padded; i++) y[i] = 0;
}

static void silu_times(const float *gate, const float *up, int n, int padded, float *y) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        floats g = LOAD(floats, gate + i);
        STORE(y + i, g / (exp_of(-g) + all(1.0f)) * LOAD(floats, up + i));
    }
    for (; i < n; i++) {
        floats g = all(gate[i]);
        y[i] = (g / (exp_of(-g) + all(1.0f)))[0] * up[i];
    }
    for (; i < padded; i++) y[i] = 0;
}

/* y[row] += s B (A x[row]) for rows whose sequence has an adapter; pairs [first, first + count). */
static void add_adapters(Pass *p, Walker *w, int first, int count, int k, float *y, long stride, long rows, const int64_t *at) {
    const Step *s = p->step;
    if (!s->adapters) return;
    float *t = p->spare + w->worker * p->spare_size;
    long from, to;
    while (take(w, rows * count, 1, &from, &to)) {
        long row = from / count;
        const Lora *adapter = s->adapters[p->owner[at ? at[row] : row]];
        if (!adapter || !adapter[first + from % count].rank) continue;
        const Lora *l = adapter + first + from % count;
        const float *x = p->in.f32 + row * k;
        float *out = y + row * stride + l->column;
        for (int r = 0; r < l->rank; r++) {
            floats sum = all(0);
            for (int j = 0; j < l->stride; j += LANES) sum += LOAD(floats, x + j) * LOAD(floats, l->a + (long)r * l->stride + j);
            t[r] = sum_of(sum);
        }
        for (int r = 0; r < l->rank; r++)
            for (int o = 0; o < l->n; o++) out[o] += t[r] * l->b[(long)r * l->n + o];
    }
}

#define ROWS(total, row) for (long row, row##_end; take(w, total, 1, &row, &row##_end);)

static void walk(void *argument, Walker *w) {
    Pass *p = argument;
    const Model *m = p->model;
    const Step *s = p->step;
    const Cache *c = &m->cache;
    const long rows = s->tokens, hidden = m->hidden;
    float *spare = p->spare + w->worker * p->spare_size;
    for (int n = 0; n < m->layer_count; n++) {
        const Layer *layer = m->layers + n;
        const Linear *l = &layer->qkv;
        ROWS(rows, row) {
            rms_norm(s->x + row * hidden, layer->norm, m->eps, hidden, l->k, p->in.f32 + row * l->k);
            encode(&p->in, row, l->k, l->forms, l->perm, spare);
        }
        product(w, l->parts, l->count, &p->in, rows, p->fused, l->width, 0);
        add_adapters(p, w, 7 * n, 3, l->k, p->fused, l->width, rows, NULL);
        ROWS(rows, row) place(c, n, p->fused + row * l->width, s->cos + row * c->head_dim, s->sin + row * c->head_dim, s->slots[row]);
        ROWS(p->span_count * c->kv_heads, task) {
            const Span *span = p->spans + task / c->kv_heads;
            long start = s->starts[span->sequence], end = s->starts[span->sequence + 1];
            long length = s->lengths[span->sequence] - (end - start) + span->first + span->count, row = start + span->first;
            attend(c, n, task % c->kv_heads, s->tables + span->sequence * s->table_width, length, span->count, p->fused + row * l->width,
                   l->width, p->mixed + row * p->mixed_stride, p->mixed_stride, spare);
        }
        l = &layer->o;
        ROWS(rows, row) {
            memcpy(p->in.f32 + row * l->k, p->mixed + row * p->mixed_stride, l->k * sizeof(float));
            encode(&p->in, row, l->k, l->forms, l->perm, spare);
        }
        product(w, l->parts, l->count, &p->in, rows, s->x, hidden, 1);
        add_adapters(p, w, 7 * n + 3, 1, l->k, s->x, hidden, rows, NULL);
        l = &layer->gate_up;
        ROWS(rows, row) {
            rms_norm(s->x + row * hidden, layer->mlp_norm, m->eps, hidden, l->k, p->in.f32 + row * l->k);
            encode(&p->in, row, l->k, l->forms, l->perm, spare);
        }
        product(w, l->parts, l->count, &p->in, rows, p->fused, l->width, 0);
        add_adapters(p, w, 7 * n + 4, 2, l->k, p->fused, l->width, rows, NULL);
        long width = l->width;
        l = &layer->down;
        ROWS(rows, row) {
            const float *gate = p->fused + row * width;
            silu_times(gate, gate + m->inner, m->inner, l->k, p->in.f32 + row * l->k);
            encode(&p->in, row, l->k, l->forms, l->perm, spare);
        }
        product(w, l->parts, l->count, &p->in, rows, s->x, hidden, 1);
        add_adapters(p, w, 7 * n + 6, 1, l->k, s->x, hidden, rows, NULL);
    }
    if (s->hidden) {
        ROWS(rows, row) rms_norm(s->x + row * hidden, m->norm, m->eps, hidden, hidden, s->hidden + row * hidden);
    }
    const Linear *l = &m->head;
    ROWS(s->wanted, row) {
        rms_norm(s->x + s->logits_at[row] * hidden, m->norm, m->eps, hidden, l->k, p->in.f32 + row * l->k);
        encode(&p->in, row, l->k, l->forms, l->perm, spare);
    }
    product(w, l->parts, l->count, &p->in, s->wanted, s->logits, m->vocab, 0);
    add_adapters(p, w, 7 * m->layer_count, 1, l->k, s->logits, m->vocab, s->wanted, s->logits_at);
}

enum { SPARE = 1 << 16 }; /* floats of scores that a span of several queries may take */

/* Queries of one span: as many as keep their scores in the cache of the processor. */
static int span_size(const Cache *c, long length) {
    long most = SPARE / (c->group * wide(length));
    return most < 1 ? 1 : most > 8 ? 8 : (int)most;
}

/* Bytes of scratch memory for a step of ``tokens`` tokens, the longest context being ``longest``. */
static long lay_out(Pass *p, const Model *m, int threads, long tokens, long sequences, long longest, char *base) {
    const Cache *c = &m->cache;
    long heads = (long)c->kv_heads * c->group * c->head_dim, k = ceil32(m->hidden);
    long fused = heads + 2L * c->kv_heads * c->head_dim;
    if (k < ceil32(heads)) k = ceil32(heads);
    if (k < ceil32(m->inner)) k = ceil32(m->inner);
    if (fused < 2L * m->inner) fused = 2L * m->inner;
    p->mixed_stride = ceil32(heads);
    p->in.tall = tokens < TALL ? (int)tokens : TALL;
    p->spare_size = (c->group * wide(longest) > SPARE ? c->group * wide(longest) : SPARE) + k;
    long at = 0;
#define PART(field, count, type) p->field = (type *)(base + at); at += ((long)(count) * sizeof(type) + 63) / 64 * 64
    long whole = tokens + TALL; /* the last tile may be only partly filled */
    PART(in.f32, tokens * k, float);
    PART(in.columns, whole * k, float);
    PART(in.pairs, whole * k, uint16_t);
    PART(in.codes, whole * k, int8_t);
    PART(in.scale, whole * (k / BLOCK), float);
    PART(in.weighted, whole * (k / BLOCK), float);
    PART(in.total, whole * (k / BLOCK), int32_t);
    PART(fused, tokens * fused, float);
    PART(mixed, tokens * p->mixed_stride, float);
    PART(spare, threads * p->spare_size, float);
    PART(owner, tokens, int32_t);
    PART(spans, tokens + sequences, Span);
    return at;
}

long lw_scratch_bytes(const Model *m, int threads, long tokens, long sequences, long longest) {
    Pass pass;
    return lay_out(&pass, m, threads, tokens, sequences, longest, NULL);
}

/* Run a step in ``scratch`` memory of lw_scratch_bytes, which is aligned to 64 bytes. */
void lw_forward(const Model *m, Pool *pool, const Step *s, long longest, char *scratch) {
    Pass pass = {.model = m, .step = s};
    lay_out(&pass, m, pool->threads, s->tokens, s->sequences, longest, scratch);
    /* Rows of mixed are read a little beyond the heads, where o_proj's weights are zero. */
    memset(pass.mixed, 0, s->tokens * pass.mixed_stride * sizeof(float));
    for (long n = 0; n < s->sequences; n++) {
        long count = s->starts[n + 1] - s->starts[n];
        for (long row = s->starts[n]; row < s->starts[n + 1]; row++) pass.owner[row] = (int32_t)n;
        int size = span_size(&m->cache, s->lengths[n]);
        for (long first = 0; first < count; first += size)
            pass.spans[pass.span_count++] = (Span){(int32_t)n, (int32_t)first, (int32_t)(count - first < size ? count - first : size)};
    }
    run_together(pool, walk, &pass);
}

/* Outputs side by side in a panel of codes, half of those in a dense one (products.h). */
int lw_lanes(void) { return LANES; }

/* The first place of the largest of each row's ``n`` values (a NaN is never the largest), and the
 * logarithm of its softmax. */
void lw_greedy(const float *x, long rows, long n, int64_t *places, float *logprobs) {
    const ints lanes = NUMBERS;
    for (long row = 0; row < rows; row++, x += n) {
        floats most = all(-INFINITY);
        ints at = all_int(0);
        long i = 0;
        for (; i + LANES <= n; i += LANES) {
            floats v = LOAD(floats, x + i);
            ints above = v > most;
            most = pick(above, v, most);
            at = (above & (lanes + (int32_t)i)) | (~above & at);
        }
        float best = max_of(most);
        int64_t place = n;
        for (int l = 0; l < LANES; l++)
            if (most[l] == best && at[l] < place) place = at[l];
        for (; i < n; i++)
            if (x[i] > best) best = x[i], place = i;
        places[row] = place;
        floats sums = all(0);
        for (i = 0; i + LANES <= n; i += LANES) sums += exp_of(LOAD(floats, x + i) - all(best));
        double sum = 0;
        for (int l = 0; l < LANES; l++) sum += sums[l];
        for (; i < n; i++) sum += exp((double)x[i] - best);
        logprobs[row] = (float)-log(sum);
    }
}

/* Ask for huge pages before memory is first touched: fewer misses in the tables of addresses. */
#if defined(__linux__)
#include <sys/mman.h>
void lw_advise(char *start, long bytes) {
    long skip = (4096 - (long)start % 4096) % 4096;
    if (bytes > skip) madvise(start + skip, (bytes - skip) / 4096 * 4096, MADV_HUGEPAGE);
}
#else
void lw_advise(char *start, long bytes) { (void)start, (void)bytes; }
#endif
