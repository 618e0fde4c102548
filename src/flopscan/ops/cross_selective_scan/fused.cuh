// What both directions of time of the fused cross scan share: who works on what, the image in shared memory, loads.
//
// A block has CHANNELS channels of one batch element, whole. A warp walks in one of the four directions, and LANES of its
// lanes, SPAN positions each, are one channel: a chunk. WARPS warps go in the same direction. Whether a direction goes
// onward or back, a chunk is the same pixels, and lanes hold them in the order of the image: one that goes back scans from
// the last lane to the first, and reverses what it loads.
//
// In shared memory the image lies twice, by row and by column, so that what a lane has is 16 bytes in either; so does the
// sum of the outputs, in float32. Two directions add to each of the two sums: as they come from its two ends, the first
// that comes to a pixel writes it and the other adds, and they wait for each other once, in the middle. The two sums are
// added when all is done: (row onward + row back) + (column onward + column back).
//
// Needs: SPAN, LANES, WARPS, SOFTPLUS.

#define CHUNK (LANES * SPAN)
#define GROUPS (32 / LANES)
#define CHANNELS (GROUPS * WARPS)
#define DIRECTION_THREADS (32 * WARPS)
#define THREADS (4 * DIRECTION_THREADS)
#define DOWN 4   // rows and columns of the pixels that a warp has at once where it copies by row and by column:
#define ACROSS 8 // neighbours of either kind fall on different banks

// Mirrored in fused.py. The images x and grad are b d h w, delta is b k d l, B and C are b k n l: Grouped, in this order.
struct Fused {
  Grouped x, grad, delta, B, C;
  const float *A, *D, *bias;                                       // 4 d, contiguous
  void *out, *grad_x, *grad_delta;                                 // b d l | b d l | b 4 d l, contiguous
  float *saved;                                                    // b 4 chunks d
  float *grad_B, *grad_C;                                          // [blocks] b 4 l
  float *grad_channel;                                             // b 4d 3: what is added to A, D and bias
  i64 part;                                                        // between the parts of grad_B and of grad_C; 0: add to one
  int batch, channels, height, width;
  int out_align;                                                   // of grad_delta
};

struct Spot {
  int lane, warp, batch, block, first;   // first: the first channel of this block
  int direction, row, channel;           // row: the channel within the block
  int length, own, padded, chunks;       // own: the length, 0 where there is no such channel; padded: whole runs of 8
};
DEVICE Spot spot_of(const Fused& s) {
  Spot p;
  p.lane = (int)threadIdx.x & 31; p.warp = (int)threadIdx.x >> 5;
  int blocks = (s.channels + CHANNELS - 1) / CHANNELS;
  p.block = (int)blockIdx.x % blocks; p.batch = (int)blockIdx.x / blocks;
  p.first = p.block * CHANNELS;
  p.direction = p.warp / WARPS;
  p.row = p.warp % WARPS * GROUPS + p.lane / LANES;
  p.channel = p.first + p.row;
  p.length = s.height * s.width;
  p.own = p.channel < s.channels ? p.length : 0;
  p.padded = (p.length + 7) & ~7;
  p.chunks = (p.length + CHUNK - 1) / CHUNK;
  return p;
}
// Of b 4 d: where this channel of this direction is.
DEVICE i64 channel_of(const Fused& s, const Spot& p) { return (i64)(p.batch * 4 + p.direction) * s.channels + p.channel; }
DEVICE bool by_column(const Spot& p) { return p.direction & 1; }
DEVICE bool onward(const Spot& p) { return p.direction < 2; }
// The chunk of the next turn, and the first pixel of a lane there, counted by row or by column.
DEVICE int first_of(const Spot& p, int chunk) { return chunk * CHUNK + p.lane % LANES * SPAN; }

// Lanes 8 words apart would share their banks, four by four: half of them swap their halves.
DEVICE int swizzled(int t) { return t ^ (t >> 3 & 4); }

// Wait for the warps of the other direction that adds to the same sum, or for those of the same direction.
DEVICE void meet_opposite(const Spot& p) { sync_some(1 + (p.direction & 1), 2 * DIRECTION_THREADS); }
DEVICE void meet_same(const Spot& p) {
  if (WARPS == 1) sync_warp();
  else sync_some(3 + p.direction, DIRECTION_THREADS);
}

// The run [t, t + SPAN) of pixels as a direction has it in its order, and zero where there are none; in that order.
template <bool UP, class T> DEVICE void load_run(Pack<T, SPAN>& p, const T* row, i64 step, int t, int length, int align) {
  if (UP) { load(p, row, step, t, length, align); return; }
  t = length - SPAN - t;
  if (t >= 0) { load(p, row, step, t, length, align); return; }
  const int BYTES = SPAN * sizeof(T), HALF = 8 / sizeof(T);
  clear(p);
  if (BYTES % 8 == 0 && align >= 8) {   // then the end is a whole number of these
#pragma unroll
    for (int i = 0; i < Pack<T, SPAN>::WORDS / 2; i++)
      if (t + i * HALF >= 0) {
        words2 v = load_once((const words2*)(row + t) + i);
        p.words[2 * i] = v.x; p.words[2 * i + 1] = v.y;
      }
    return;
  }
  typedef typename Bits<sizeof(T)>::type word;
#pragma unroll
  for (int i = 0; i < SPAN; i++)
    if (t + i >= 0) p.words[i * (int)sizeof(T) / 4] |= (u32)load_once((const word*)(row + (t + i) * step)) << (i * 8 * (int)sizeof(T) & 31);
}
template <bool UP, class T> DEVICE float get_run(const Pack<T, SPAN>& p, int i) { return get(p, UP ? i : SPAN - 1 - i); }

// A run of an image in shared memory, and of a sum.
template <class T> DEVICE void read_run(Pack<T, SPAN>& p, const T* image, int t, int length) {
  const int WORDS = Pack<T, SPAN>::WORDS;
  clear(p);
  if (t >= length) return;
  if (WORDS % 4 == 0) {
#pragma unroll
    for (int i = 0; i < WORDS / 4; i++) {
      words4 v = ((const words4*)(image + t))[i];
      p.words[4 * i] = v.x; p.words[4 * i + 1] = v.y; p.words[4 * i + 2] = v.z; p.words[4 * i + 3] = v.w;
    }
  } else if (WORDS % 2 == 0) {
#pragma unroll
    for (int i = 0; i < WORDS / 2; i++) {
      words2 v = ((const words2*)(image + t))[i];
      p.words[2 * i] = v.x; p.words[2 * i + 1] = v.y;
    }
  } else {
    p.words[0] = *(const u32*)(image + t);
  }
}
DEVICE void put_run(float* sum, int t, const float (&values)[SPAN], bool first) {
  if (SPAN % 4 == 0) {
#pragma unroll
    for (int i = 0; i < SPAN; i += 4) {
      words4* at = (words4*)(sum + swizzled(t + i));
      words4 v = words4{0, 0, 0, 0};
      if (!first) v = *at;
      *at = words4{as_bits(as_float(v.x) + values[i]), as_bits(as_float(v.y) + values[i + 1]),
                   as_bits(as_float(v.z) + values[i + 2]), as_bits(as_float(v.w) + values[i + 3])};
    }
  } else {
    words2* at = (words2*)(sum + swizzled(t));
    words2 v = words2{0, 0};
    if (!first) v = *at;
    *at = words2{as_bits(as_float(v.x) + values[0]), as_bits(as_float(v.y) + values[1])};
  }
}

// The pixels of a channel that a warp has at once, row by row of them, for `pixel` as each lane has its own.
template <class F> DEVICE void each_pixel(const Fused& s, const Spot& p, F pixel) {
  const int bands = (s.height + DOWN - 1) / DOWN;
  const int here = s.channels - p.first < CHANNELS ? s.channels - p.first : CHANNELS;
#pragma unroll 1
  for (int job = p.warp; job < here * bands; job += THREADS / 32) {
    const int c = job / bands, i = job % bands * DOWN + p.lane / ACROSS;
    if (i < s.height) pixel(c, i, p.lane % ACROSS);
  }
}

// Bring an image of this block into `images`: CHANNELS of them, by row and by column, with zeros to a whole run of 8.
template <class T> DEVICE void bring(const Fused& s, const Spot& p, const Grouped& image, T* images) {
  typedef typename Bits<sizeof(T)>::type word;
  const word* from = (const word*)image.at + p.batch * image.b + p.first * image.g;
  each_pixel(s, p, [&](int c, int i, int j) {
    const word* at = from + c * image.g + i * image.n + j * image.l;
    word* row = (word*)images + 2 * c * p.padded + i * s.width;
    word* column = (word*)images + (2 * c + 1) * p.padded + i;
#pragma unroll 4
    for (; j < s.width; j += ACROSS) {
      word v = load_once(at);
      row[j] = v;
      column[j * s.height] = v;
      at += ACROSS * image.l;
    }
  });
  const int rest = p.padded - p.length;
  for (int e = (int)threadIdx.x; e < 2 * CHANNELS * rest; e += THREADS)
    ((word*)images)[e / rest * p.padded + p.length + e % rest] = 0;
}

DEVICE void put(float* at, float x) { *at = x; }
DEVICE void put(half_t* at, float x) { at->bits = (u16)pack_half(x, 0.f); }
DEVICE void put(bfloat_t* at, float x) { at->bits = (u16)pack_bfloat(x, 0.f); }

// Add the two sums of every channel of this block, and write them as an image b d l.
template <class T> DEVICE void give(const Fused& s, const Spot& p, const float* sums, T* out) {
  out += ((i64)p.batch * s.channels + p.first) * p.length;
  each_pixel(s, p, [&](int c, int i, int j) {
    const float *rows = sums + 2 * c * p.padded, *columns = rows + p.padded;
    T* to = out + (i64)c * p.length + i * s.width;
#pragma unroll 4
    for (; j < s.width; j += ACROSS) put(to + j, rows[swizzled(i * s.width + j)] + columns[swizzled(j * s.height + i)]);
  });
}
