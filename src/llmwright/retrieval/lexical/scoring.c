// What BM25 does for each query over the segments of an index. `scoring.py` says the same in
// numpy, and both give the same bits: float32, one operation after the other, no contraction.

#include <stdint.h>
#include <string.h>

typedef struct {
    const int64_t *terms;   // [n_terms], sorted
    const int64_t *starts;  // [n_terms + 1], where a term's postings begin
    const uint16_t *rows;   // [postings], of each term first those that hold it once
    const int64_t *many;    // [n_terms + 1], where a term's counts begin
    const void *counts;     // of those that hold it more than once, of `width` bytes each
    const float *norms;     // [n_rows]
    const float *once;      // [n_rows], 1 / (1 + norm)
    const uint8_t *live;    // [n_rows], or null where all are
    int64_t n_terms, n_rows, width;
} segment;

static int64_t place_of(const segment *s, int64_t term) {
    int64_t low = 0, high = s->n_terms;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (s->terms[middle] < term) low = middle + 1;
        else high = middle;
    }
    return low < s->n_terms && s->terms[low] == term ? low : -1;
}

// places [segments, n]: where each term stands in each segment, or -1; df [n]: live passages that
// hold it.
void lw_find(const segment *segments, int64_t n_segments, const int64_t *terms, int64_t n,
             int64_t *places, int64_t *df) {
    memset(df, 0, n * sizeof *df);
    for (int64_t i = 0; i < n_segments; i++, places += n) {
        const segment *s = segments + i;
        for (int64_t t = 0; t < n; t++) {
            int64_t place = places[t] = place_of(s, terms[t]);
            if (place < 0) continue;
            int64_t begin = s->starts[place], end = s->starts[place + 1];
            if (!s->live) df[t] += end - begin;
            else for (int64_t p = begin; p < end; p++) df[t] += s->live[s->rows[p]];
        }
    }
}

#define ADD(type)                                                            \
    do {                                                                     \
        const type *counts = (const type *)s->counts + s->many[place];       \
        for (int64_t p = 0; p < end - more; p++) {                           \
            uint16_t row = s->rows[more + p];                                \
            float count = (float)counts[p];                                  \
            scores[row] += weight * (count / (count + s->norms[row]));       \
        }                                                                    \
    } while (0)

// scores [rows of all segments] = scale * scores + what the terms give; places [segments, n].
void lw_add(const segment *segments, int64_t n_segments, const int64_t *places,
            const float *weights, int64_t n, float scale, float *scores) {
    for (int64_t i = 0; i < n_segments; i++, places += n) {
        const segment *s = segments + i;
        if (scale == 0) memset(scores, 0, s->n_rows * sizeof *scores);
        else for (int64_t r = 0; r < s->n_rows; r++) scores[r] *= scale;
        for (int64_t t = 0; t < n; t++) {
            int64_t place = places[t];
            if (place < 0) continue;
            float weight = weights[t];
            int64_t begin = s->starts[place], end = s->starts[place + 1];
            int64_t more = end - (s->many[place + 1] - s->many[place]);
            for (int64_t p = begin; p < more; p++)  // most hold it once: no division
                scores[s->rows[p]] += weight * s->once[s->rows[p]];
            if (s->width == 1) ADD(uint8_t);
            else if (s->width == 2) ADD(uint16_t);
            else ADD(uint32_t);
        }
        scores += s->n_rows;
    }
}

typedef struct { float score; int64_t row; } entry;

static int worse(entry a, entry b) {
    return a.score < b.score || (a.score == b.score && a.row > b.row);
}

static void sift(entry *heap, int64_t size, int64_t at, entry e) {  // the worst on top
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && worse(heap[child + 1], heap[child])) child++;
        if (!worse(heap[child], e)) break;
        heap[at] = heap[child];
    }
    heap[at] = e;
}

// The `top` best allowed rows of each segment, of those above 0, best first and equal ones by row,
// one segment behind the other; how many. A segment leaves out what is below the worst of a
// segment before it that was full. `allowed` [rows of all segments] may be null. `heap` has room
// for `top`, `rows` and `found` for `top` a segment.
int64_t lw_best(const segment *segments, int64_t n_segments, const float *scores,
                const uint8_t *allowed, int64_t top, entry *heap, int64_t *rows, float *found) {
    float bar = 0;  // what is below cannot be among the best of all
    int64_t written = 0, base = 0;
    for (int64_t i = 0; i < n_segments; i++) {
        const segment *s = segments + i;
        const float *own = scores + base;
        int64_t size = 0;
        for (int64_t begin = 0; begin < s->n_rows; begin += 64) {
            int64_t end = begin + 64 < s->n_rows ? begin + 64 : s->n_rows;
            int any = 0;
            if (end - begin == 64) for (int r = 0; r < 64; r++) any |= own[begin + r] >= bar;
            else any = 1;
            if (!any) continue;
            for (int64_t r = begin; r < end; r++) {
                float score = own[r];
                if (score < bar || score <= 0 || (s->live && !s->live[r])) continue;
                if (allowed && !allowed[base + r]) continue;
                entry e = {score, base + r};
                if (size < top) {  // up from the bottom
                    int64_t at = size++;
                    for (; at && worse(e, heap[(at - 1) / 2]); at = (at - 1) / 2)
                        heap[at] = heap[(at - 1) / 2];
                    heap[at] = e;
                } else if (worse(heap[0], e)) {
                    sift(heap, size, 0, e);
                }
                if (size == top && heap[0].score > bar) bar = heap[0].score;
            }
        }
        written += size;
        for (int64_t at = written; size; ) {  // the worst goes to the end
            at--;
            rows[at] = heap[0].row, found[at] = heap[0].score;
            size--;
            sift(heap, size, 0, heap[size]);
        }
        base += s->n_rows;
    }
    return written;
}

// order [n]: the numbers of entries by term, then row, stable. `starts` has room for the larger
// of n_terms and n_rows, and one more; `other` for n.
void lw_order(const int32_t *terms, const uint16_t *rows, int64_t n, int64_t n_terms,
              int64_t n_rows, int64_t *starts, uint32_t *other, uint32_t *order) {
    memset(starts, 0, (n_rows + 1) * sizeof *starts);
    for (int64_t i = 0; i < n; i++) starts[rows[i] + 1]++;
    for (int64_t r = 0; r < n_rows; r++) starts[r + 1] += starts[r];
    for (int64_t i = 0; i < n; i++) other[starts[rows[i]]++] = (uint32_t)i;
    memset(starts, 0, (n_terms + 1) * sizeof *starts);
    for (int64_t i = 0; i < n; i++) starts[terms[i] + 1]++;
    for (int64_t t = 0; t < n_terms; t++) starts[t + 1] += starts[t];
    for (int64_t i = 0; i < n; i++) order[starts[terms[other[i]]]++] = other[i];
}
