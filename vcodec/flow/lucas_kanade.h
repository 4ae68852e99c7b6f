/* Fractions of a pixel: steps of Lucas and Kanade, and the median at the end. */

/* A line of pixels' motion, bilinear between the cells' centres; `share` is that of the row `below`. */
INLINE void interpolate(const float *above, const float *below, float share, int64_t first, int64_t columns,
                        float *line) {
    float cell[TILE + 2];
    for (int i = 0; i < TILE + 2; i++) {
        int64_t at = clamp(first + i - 1, columns);
        cell[i] = above[at] + share * (below[at] - above[at]);
    }
    for (int i = 0; i < TILE; i++)
        for (int k = 0; k < CELL; k++) {
            float to = (2 * k + 1 - CELL) / (2.0f * CELL); /* from the cell's centre, in cells */
            float change = to < 0 ? cell[i + 1] - cell[i] : cell[i + 2] - cell[i + 1];
            line[CELL * i + k] = cell[i + 1] + to * change;
        }
}

/* The past picture, moved. */
ROW void warp(const search *s, int64_t sample, int64_t row) {
    const picture *past = &s->pyramid[1][0];
    const field *f = &s->flow;
    const float *from = pixels(past, sample, 0), share = (row % CELL + 0.5f) / CELL - 0.5f;
    const int64_t here = sample * f->rows * f->stride, cell = row / CELL;
    const int64_t upper = here + clamp(share < 0 ? cell - 1 : cell, f->rows) * f->stride;
    const int64_t lower = here + clamp(share < 0 ? cell : cell + 1, f->rows) * f->stride;
    const int stride = (int)past->stride;
    for (int64_t first = 0; first < f->columns; first += TILE) {
        float x[CELL * TILE], y[CELL * TILE], *to = pixels(&s->warped, sample, row) + CELL * first;
        interpolate(f->x + upper, f->x + lower, share < 0 ? 1 + share : share, first, f->columns, x);
        interpolate(f->y + upper, f->y + lower, share < 0 ? 1 + share : share, first, f->columns, y);
        for (int i = 0; i < CELL * TILE; i++) { /* past the right border into the slack, at worst */
            float column = smaller(larger(x[i] + (CELL * first + i), 0), past->width - 1);
            float line = smaller(larger(y[i] + row, 0), past->height - 1);
            int left = (int)column, top = (int)line, at = top * stride + left;
            float a = column - left, b = line - top;
            float above = from[at] + a * (from[at + 1] - from[at]);
            float below = from[at + stride] + a * (from[at + stride + 1] - from[at + stride]);
            to[i] = above + b * (below - above);
        }
    }
    extend(&s->warped, sample, row);
}

/* Lucas and Kanade's products of gradients and error, summed over the cells of a row. */
ROW void multiply(const search *s, int64_t sample, int64_t row) {
    const field *f = &s->flow;
    for (int64_t first = 0; first < f->columns; first += TILE) {
        float sums[5][CELL * TILE] = {{0}};
        for (int k = 0; k < CELL; k++) {
            const float *line = pixels(&s->warped, sample, CELL * row + k) + CELL * first;
            const float *above = line - s->warped.stride, *below = line + s->warped.stride;
            const float *current = pixels(&s->pyramid[0][0], sample, CELL * row + k) + CELL * first;
            for (int i = 0; i < CELL * TILE; i++) {
                float x = 0.5f * (line[i + 1] - line[i - 1]), y = 0.5f * (below[i] - above[i]);
                float error = current[i] - line[i];
                sums[0][i] += x * x, sums[1][i] += x * y, sums[2][i] += y * y;
                sums[3][i] += x * error, sums[4][i] += y * error;
            }
        }
        for (int k = 0; k < 5; k++) {
            float *to = s->products + ((sample * 5 + k) * f->rows + row) * f->stride + first, *from = sums[k];
            for (int i = 0; i < TILE; i++)
                to[i] = from[CELL * i] + from[CELL * i + 1] + from[CELL * i + 2] + from[CELL * i + 3];
        }
    }
}

INLINE float at_most_1(float a) { return larger(smaller(a, 1), -1); }

/* The mean of the four neighbours' differences, each at most a pixel. */
INLINE void difference_to_neighbours(const field *f, const float *line, int64_t row, int64_t first, float *mean) {
    const float *above = row ? line - f->stride : line, *below = row < f->rows - 1 ? line + f->stride : line;
    for (int i = 0; i < TILE; i++) {
        const int64_t column = clamp(first + i, f->columns), left = clamp(column - 1, f->columns);
        const int64_t right = clamp(column + 1, f->columns);
        const float here = line[column];
        mean[i] = 0.25f * (at_most_1(above[column] - here) + at_most_1(below[column] - here) +
                           at_most_1(line[left] - here) + at_most_1(line[right] - here));
    }
}

/* Their step, from the means over 3x3 cells, towards the neighbours where these leave it open. */
ROW void shift(const search *s, int64_t sample, int64_t row) {
    const field *f = &s->before;
    const float price = s->shift * s->price[sample];
    const int64_t top = row ? row - 1 : 0, bottom = row < f->rows - 1 ? row + 1 : row;
    for (int64_t first = 0; first < f->columns; first += TILE) {
        float means[5][TILE];
        for (int k = 0; k < 5; k++) {
            float columns[TILE + 2] = {0};
            for (int64_t r = top; r <= bottom; r++) {
                const float *from = s->products + ((sample * 5 + k) * f->rows + r) * f->stride + first - 1;
                for (int i = !first; i < TILE + 2 && first + i <= f->columns; i++) columns[i] += from[i];
            }
            for (int i = 0; i < TILE; i++) {
                int across = 3 - (first + i == 0) - (first + i == f->columns - 1);
                float pixels = (float)(CELL * CELL * across * (bottom - top + 1));
                means[k][i] = (columns[i] + columns[i + 1] + columns[i + 2]) / pixels;
            }
        }
        const int64_t here = (sample * f->rows + row) * f->stride;
        float to_x[TILE], to_y[TILE];
        difference_to_neighbours(f, f->x + here, row, first, to_x);
        difference_to_neighbours(f, f->y + here, row, first, to_y);
        for (int i = 0; i < TILE; i++) {
            float xx = means[0][i] + price, xy = means[1][i], yy = means[2][i] + price;
            float x = means[3][i] + price * to_x[i], y = means[4][i] + price * to_y[i], scale = 1 / (xx * yy - xy * xy);
            s->flow.x[here + first + i] = f->x[here + first + i] + at_most_1((yy * x - xy * y) * scale);
            s->flow.y[here + first + i] = f->y[here + first + i] + at_most_1((xx * y - xy * x) * scale);
        }
    }
}

INLINE void sort(float *a, float *b) {
    for (int i = 0; i < TILE; i++) {
        float low = smaller(a[i], b[i]), high = larger(a[i], b[i]);
        a[i] = low, b[i] = high;
    }
}

/* Medians over 3x3 cells, by the network of Smith (1996). */
ROW void median(const search *s, int64_t sample, int64_t row) {
    static const int PAIRS[19][2] = {{1, 2}, {4, 5}, {7, 8}, {0, 1}, {3, 4}, {6, 7}, {1, 2}, {4, 5}, {7, 8}, {0, 3},
                                      {5, 8}, {4, 7}, {3, 6}, {1, 4}, {2, 5}, {4, 7}, {4, 2}, {6, 4}, {4, 2}};
    const field *f = &s->flow;
    const int64_t rows = s->height / CELL, columns = s->width / CELL;
    for (int part = 0; part < 2; part++)
        for (int64_t first = 0; first < columns; first += TILE) {
            float around[9][TILE], *to = s->result + ((sample * 2 + part) * rows + row) * columns + first;
            for (int k = 0; k < 9; k++) {
                int64_t line = sample * f->rows + clamp(row + k / 3 - 1, f->rows);
                const float *from = (part ? f->y : f->x) + line * f->stride;
                for (int i = 0; i < TILE; i++) around[k][i] = from[clamp(first + i + k % 3 - 1, f->columns)];
            }
            for (int k = 0; k < 19; k++) sort(around[PAIRS[k][0]], around[PAIRS[k][1]]);
            memcpy(to, around[4], (columns - first < TILE ? columns - first : TILE) * sizeof *to);
        }
}
