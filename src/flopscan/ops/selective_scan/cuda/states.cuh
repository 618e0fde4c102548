// The form for two states and more: a channel is LANES lanes of a warp with STATES states each, in registers,
// sequential in l. What a tile of TILE positions needs lies in shared memory. Sums over the states of a channel and over
// the channels of a warp are scattered as they are made: each lane ends with its own sum.
// What binds these kernels is the traffic of shared memory, so every access is laid out for few wavefronts. Needs: ROOM,
// SWAP.

#define PADDED (LANES * STATES)              // states, with those that only fill up
#define CHANNELS (32 / LANES)                // of a warp
#define BLOCK_CHANNELS (CHANNELS * WARPS)
#define THREADS (32 * WARPS)
// A warp loads its CHANNELS rows of a tile in PASSES of PASS_ROWS, EACH positions a lane: neighbouring lanes take
// neighbouring positions, so that a load touches few lines.
#define EACH (CHANNELS * TILE / 32 < 8 ? CHANNELS * TILE / 32 : 8)
#define COLUMNS (TILE / EACH)
#define PASS_ROWS (32 / COLUMNS)
#define PASSES (CHANNELS / PASS_ROWS)
// In shared memory, 8 positions are followed by room of 16 bytes, and a row by as much again: then what the lanes write
// after such a load falls into different banks. ROOM is that room in structures of one position.
#define SPREAD 8
#define SLOT(t) ((t) + (t) / SPREAD * ROOM)
#define PITCH (SLOT(TILE) + ROOM)

// With SWAP, the upper half of the channels of a warp holds its states with the halves exchanged: register j is state
// j ^ swap. Then the first step of a sum over channels has nothing to select: all lanes keep their lower half.
#define SWAPS (SWAP && STATES % 4 == 0 && CHANNELS > 2)

// Where this lane stands: its block is a few channels of one group of one sequence, in one segment.
// Bit 0 of the lane counts channels, the next ones are q, the others count channels again. So lanes i and i^1 read the
// same B and C, lanes i and i^2 the same position of a channel; either makes a read of 128 bits take half the wavefronts.
struct Place {
  int lane, warp, q, c;        // q: which lane of its channel; c: which channel of the warp
  int swap;
  int batch, group, block;     // block: which block of the group
  int first, begin, end;       // first: channel of the block; begin, end: positions of the segment
  int segment;
  int channel, limit;          // of the recurrence; where the channels of the group end
  int load_row, load_channel, column;   // of the loads of the first pass; column: the first position in the tile
  bool valid;
};
DEVICE Place place(const Scan& s) {
  Place p;
  int tid = (int)threadIdx.x;
  p.lane = tid & 31; p.warp = tid >> 5;
  p.q = p.lane / 2 % LANES; p.c = p.lane % 2 + p.lane / (2 * LANES) * 2;
  p.swap = SWAPS && (p.c & CHANNELS / 2) ? STATES / 2 : 0;
  int per_group = s.channels / s.groups, blocks = (per_group + BLOCK_CHANNELS - 1) / BLOCK_CHANNELS;
  int index = (int)blockIdx.x;
  p.block = index % blocks; index /= blocks;
  p.group = index % s.groups; p.batch = index / s.groups;
  p.first = p.group * per_group + p.block * BLOCK_CHANNELS;
  p.limit = (p.group + 1) * per_group;
  p.segment = (int)blockIdx.y;
  p.begin = p.segment * s.segment;
  p.end = p.begin + s.segment < s.length ? p.begin + s.segment : s.length;
  p.channel = p.first + p.warp * CHANNELS + p.c;
  p.valid = p.channel < p.limit;
  p.load_row = p.lane / COLUMNS; p.column = p.lane % COLUMNS * EACH;
  p.load_channel = p.first + p.warp * CHANNELS + p.load_row;
  return p;
}
// The masks of the lanes: of numbers of q, and of c.
DEVICE int state_mask(int q) { return 2 * q; }
DEVICE int channel_mask(int c) { return c == 1 ? 1 : c * LANES; }

// Of a pass: whether its channel exists, where its loads stop, its number in a vector of d, and its row of a tile.
DEVICE bool load_valid(const Place& p, int pass) { return p.load_channel + pass * PASS_ROWS < p.limit; }
DEVICE int load_end(const Place& p, int pass) { return load_valid(p, pass) ? p.end : 0; }
DEVICE float of_channel(const float* d, const Place& p, int pass) {
  return d && load_valid(p, pass) ? d[p.load_channel + pass * PASS_ROWS] : 0.f;
}
DEVICE int load_slot(const Place& p, int pass) { return (p.load_row + pass * PASS_ROWS) * PITCH + SLOT(p.column); }

// Where a lane's loads of a matrix begin, of pass 0 and position 0 of a tile; and the loads of a pass of the tile at t0.
// A row that load_valid() refuses is never read: its loads stop before they begin. Where a pass has nothing to load, what
// lies in `v` is undefined.
template <class T> DEVICE const T* loads_at(const Matrix& m, const Place& p) {
  return (const T*)m.at + p.batch * m.b + p.load_channel * m.d + p.column * m.l;
}
template <class T> DEVICE void load_pass(Pack<T, EACH>& v, const T* at, const Matrix& m, const Place& p, int pass, int t0) {
#if WHOLE
  if (t0 + p.column < load_end(p, pass)) load(v, at + t0 + pass * PASS_ROWS * m.d);
#else
  load(v, at + pass * PASS_ROWS * m.d - p.column * m.l, m.l, t0 + p.column, load_end(p, pass), (int)m.align);
#endif
}
template <class T> DEVICE void store_pass(T* row, const Place& p, int pass, int t0, int align, const float (&v)[EACH]) {
#if WHOLE
  if (t0 + p.column < load_end(p, pass)) store_values(row + t0 + p.column, v);
#else
  store(row, t0 + p.column, load_end(p, pass), align, v);
#endif
}

// The loads of one tile after the other. Pointers are carried along: from the operands they would be made anew each time.
template <class T> struct Walk { const T* at[PASSES]; };
template <class T> DEVICE void start(Walk<T>& w, const Matrix& m, const Place& p) {
#pragma unroll
  for (int k = 0; k < PASSES; k++) w.at[k] = loads_at<T>(m, p) + k * PASS_ROWS * m.d + (WHOLE ? p.begin : -p.column * m.l);
}
// Those of the tile at t0 where the walk stands, or, with BACK, has just been.
template <int BACK, class T> DEVICE void load_pass(Pack<T, EACH>& v, const Walk<T>& w, const Matrix& m, const Place& p, int pass, int t0) {
#if WHOLE
  if (t0 + p.column < load_end(p, pass)) load(v, w.at[pass] - BACK * TILE);
#else
  load(v, w.at[pass], m.l, t0 + p.column, load_end(p, pass), (int)m.align);
#endif
}
template <class T> DEVICE void step(Walk<T>& w) {
#pragma unroll
  for (int k = 0; WHOLE && k < PASSES; k++) w.at[k] = opaque(w.at[k] + TILE);
}

template <class T> DEVICE const T* row(const Grouped& m, int b, int g, int n) {
  return (const T*)m.at + b * m.b + g * m.g + n * m.n;
}

// B or C of a tile, transposed: at LINE(t) are the states of position t, zero where states and positions do not exist.
#define LINE(t) ((t) * PADDED + (t) / SPREAD * LINE_ROOM)
#define LINE_ROOM (TILE <= 32 ? 8 : 4)
#define MATRIX LINE(TILE)
#define PIECES ((PADDED * TILE / SPREAD + THREADS - 1) / THREADS)
#define PIECE_STATES (THREADS * SPREAD / TILE)   // from a piece of a thread to its next
template <class T> DEVICE const T* states_at(const Grouped& m, const Place& p, int states) {   // of the first piece
  int n = (int)threadIdx.x / (TILE / SPREAD), t = (int)threadIdx.x % (TILE / SPREAD) * SPREAD;
  return row<T>(m, p.batch, p.group, n < states ? n : 0) + t * m.l;
}
// The pieces of the tile at t0, zero where there is nothing; `walked` is how far from the first tile `at` has come.
template <class T> DEVICE void load_states(Pack<T, SPREAD> (&v)[PIECES], const T* at, const Grouped& m, const Place& p, int t0, int states, int walked = 0) {
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
    int n = (int)threadIdx.x / (TILE / SPREAD) + i * PIECE_STATES, t = (int)threadIdx.x % (TILE / SPREAD) * SPREAD;
#if WHOLE
    clear(v[i]);
    if (n < states && t0 + t < p.end) load(v[i], at + (t0 - walked) + i * PIECE_STATES * m.n);
#else
    load(v[i], at + i * PIECE_STATES * m.n - t * m.l, m.l, t0 + t, n < states ? p.end : 0, (int)m.align);
#endif
  }
}
template <class T> DEVICE void store_states(float* into, const Pack<T, SPREAD> (&p)[PIECES]) {
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
    int piece = i * THREADS + (int)threadIdx.x, n = piece / (TILE / SPREAD), t = piece % (TILE / SPREAD) * SPREAD;
    if (n < PADDED) {
#pragma unroll
      for (int k = 0; k < SPREAD; k++) into[LINE(t) + k * PADDED + n] = get(p[i], k);
    }
  }
}

// COUNT neighbouring numbers from shared memory, in as few reads as their alignment allows.
template <int COUNT> DEVICE void read(float (&v)[COUNT], const float* at) {
  if (COUNT % 4 == 0) {
#pragma unroll
    for (int i = 0; i < COUNT / 4; i++) {
      words4 w = ((const words4*)at)[i];
      v[4 * i] = as_float(w.x); v[4 * i + 1] = as_float(w.y); v[4 * i + 2] = as_float(w.z); v[4 * i + 3] = as_float(w.w);
    }
  } else if (COUNT % 2 == 0) {
#pragma unroll
    for (int i = 0; i < COUNT / 2; i++) {
      words2 w = ((const words2*)at)[i];
      v[2 * i] = as_float(w.x); v[2 * i + 1] = as_float(w.y);
    }
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; i++) v[i] = at[i];
  }
}

// What belongs to this lane's states, from a line of numbers in shared memory.
DEVICE void read_own(float (&v)[STATES], const float* line, const Place& p) {
  if (SWAPS) {
    const int HALF = STATES > 1 ? STATES / 2 : 1;
    float low[HALF], high[HALF];
    read(low, line + p.q * STATES + p.swap);
    read(high, line + p.q * STATES + (HALF - p.swap));
#pragma unroll
    for (int j = 0; j < HALF; j++) { v[j] = low[j]; v[STATES - HALF + j] = high[j]; }
  } else {
    read(v, line + p.q * STATES);
  }
}

// This lane's states from and to a row of `states` numbers in global memory.
DEVICE int state_of(const Place& p, int j) { return p.q * STATES + (j ^ p.swap); }
DEVICE void read_row(float (&v)[STATES], const float* at, const Place& p, int states) {
#pragma unroll
  for (int j = 0; j < STATES; j++) v[j] = p.valid && state_of(p, j) < states ? at[state_of(p, j)] : 0.f;
}
DEVICE void write_row(float* at, const float (&v)[STATES], const Place& p, int states) {
  if (!p.valid) return;
  if (!SWAPS && STATES % 4 == 0 && states == PADDED) {  // rows of whole words4: the buffers are ours
#pragma unroll
    for (int i = 0; i < STATES / 4; i++)
      ((words4*)(at + p.q * STATES))[i] = words4{as_bits(v[4 * i]), as_bits(v[4 * i + 1]), as_bits(v[4 * i + 2]), as_bits(v[4 * i + 3])};
    return;
  }
#pragma unroll
  for (int j = 0; j < STATES; j++)
    if (state_of(p, j) < states) at[state_of(p, j)] = v[j];
}

// The sums over the LANES lanes of a channel of GROUP numbers each: the lane gets that of number q % GROUP.
template <int GROUP> DEVICE float sum_over_states(float (&v)[GROUP], int q) {
#pragma unroll
  for (int half = GROUP / 2; half >= 1; half /= 2) {
    bool upper = q & half;
#pragma unroll
    for (int i = 0; i < half; i++) {
      float keep = upper ? v[i + half] : v[i], send = upper ? v[i] : v[i + half];
      v[i] = keep + shuffle_xor(send, state_mask(half));
    }
  }
#pragma unroll
  for (int mask = GROUP; mask < LANES; mask *= 2) v[0] += shuffle_xor(v[0], state_mask(mask));
  return v[0];
}

// The sums over the channels of a warp of two numbers for each state: the lane is left with max(2 STATES / CHANNELS, 1),
// the first of them number `first`; `owner` says whether this lane is the one to write them. NUMBER is that of the one or
// the other matrix and register j; matrix_of and state_in say what a number is.
#define NUMBER(matrix, j) (SWAPS ? (j) / HALF_STATES * STATES + (matrix) * HALF_STATES + (j) % HALF_STATES : (matrix) * STATES + (j))
#define HALF_STATES (STATES > 1 ? STATES / 2 : 1)
DEVICE int matrix_of(int number) { return SWAPS ? number / HALF_STATES % 2 : number / STATES; }
DEVICE int state_in(int number) {
  return SWAPS ? number / STATES * HALF_STATES + number % HALF_STATES : number % STATES;
}
DEVICE void sum_over_channels(float (&v)[2 * STATES], int c, int& first, bool& owner) {
  first = 0; owner = true;
#pragma unroll
  for (int mask = CHANNELS / 2, count = 2 * STATES; mask >= 1; mask /= 2, count = count > 1 ? count / 2 : 1) {
    bool upper = c & mask, exchanged = SWAPS && count == 2 * STATES;
    if (count > 1) {
      int half = count / 2;
#pragma unroll
      for (int i = 0; i < half; i++) {
        float keep = upper && !exchanged ? v[i + half] : v[i], send = upper && !exchanged ? v[i] : v[i + half];
        v[i] = keep + shuffle_xor(send, channel_mask(mask));
      }
      first += upper ? half : 0;
    } else {
      v[0] += shuffle_xor(v[0], channel_mask(mask));
      owner = owner && !upper;
    }
  }
}

// What enters this segment from the others, in order `from`, `from + step` ... `upto` (not itself): each begins with what
// left the one before, decays it over its own length and adds its own.
DEVICE void fold_edges(float (&h)[STATES], const float (&a)[STATES], const Scan& s, const Place& p, int from, int step, int upto) {
  for (int k = from; k != upto; k += step) {
    i64 at = ((i64)k * s.batch + p.batch) * s.channels + (p.valid ? p.channel : 0);
    float own[STATES], sum = s.edge_sum[at];
    read_row(own, s.edge + at * s.states, p, s.states);
#pragma unroll
    for (int j = 0; j < STATES; j++) h[j] = exp2_hw(sum * a[j]) * h[j] + own[j];
  }
}
