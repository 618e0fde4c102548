// The cross scan and the cross merge: an image in four orders, and four sequences summed to an image, in one pass each.
//
// A block has a tile of the image of a few channels in shared memory: the whole image where it is small. Rows are read
// and written with j fastest, columns with i fastest, so that neighbouring threads touch neighbouring positions in every
// order. The pitch of a row in shared memory is odd: columns then fall on different banks.
//
// After gpu/kernels.cuh. Macros: TX and TY are the dtypes of the image and of the sequences.

#define THREADS 256

// Mirrored in cuda.py. Strides in elements; the sequences are b 4 d l, in one piece.
struct Cross {
  void *x, *y;
  i64 x_b, x_d, x_h, x_w;
  int batch, channels, height, width;
  int rows, tile_h, tile_w;                                        // channels and pixels of a tile
};

// Where a block is: its batch, its first channel and pixel.
struct Tile { int b, d, i, j; };
DEVICE Tile tile_of(const Cross& s, int block) {
  const int across = (s.width + s.tile_w - 1) / s.tile_w, down = (s.height + s.tile_h - 1) / s.tile_h;
  const int bands = (s.channels + s.rows - 1) / s.rows;
  Tile t;
  t.j = block % across * s.tile_w; block /= across;
  t.i = block % down * s.tile_h; block /= down;
  t.d = block % bands * s.rows; t.b = block / bands;
  return t;
}

// Element e of a tile, counted along rows or along columns: its channel and pixel, its place in shared memory.
struct Element { int d, i, j, at; bool inside; };
DEVICE Element element(const Cross& s, const Tile& t, int e, bool by_column) {
  const int fast = by_column ? s.tile_h : s.tile_w, slow = by_column ? s.tile_w : s.tile_h;
  const int first = e % fast, rest = e / fast, second = rest % slow, r = rest / slow;
  const int i = by_column ? first : second, j = by_column ? second : first;
  Element p;
  p.at = (r * s.tile_h + i) * (s.tile_w | 1) + j;
  p.d = t.d + r; p.i = t.i + i; p.j = t.j + j;
  p.inside = p.d < s.channels && p.i < s.height && p.j < s.width;
  return p;
}
// Where direction k of its channel begins, and the step at which the directions onward come by it.
DEVICE i64 sequence(const Cross& s, const Tile& t, const Element& p, int k) {
  return ((i64)(t.b * 4 + k) * s.channels + p.d) * s.height * s.width;
}
DEVICE int by_row(const Cross& s, const Element& p) { return p.i * s.width + p.j; }
DEVICE int by_column(const Cross& s, const Element& p) { return p.j * s.height + p.i; }
DEVICE i64 pixel(const Cross& s, const Tile& t, const Element& p) {
  return t.b * s.x_b + p.d * s.x_d + p.i * s.x_h + p.j * s.x_w;
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 4) cross_scan(const Cross s) {
  SHARED_MEMORY(memory);
  float* shared = (float*)memory;
  const TX* x = (const TX*)s.x;
  TY* y = (TY*)s.y;
  const Tile tile = tile_of(s, blockIdx.x);
  const int count = s.rows * s.tile_h * s.tile_w, last = s.height * s.width - 1;
  for (int e = threadIdx.x; e < count; e += THREADS) {
    const Element p = element(s, tile, e, false);
    if (!p.inside) continue;
    const float v = value(x[pixel(s, tile, p)]);
    const int t = by_row(s, p);
    shared[p.at] = v;
    write(y + sequence(s, tile, p, 0) + t, v);
    write(y + sequence(s, tile, p, 2) + last - t, v);
  }
  sync_block();
  for (int e = threadIdx.x; e < count; e += THREADS) {
    const Element p = element(s, tile, e, true);
    if (!p.inside) continue;
    const float v = shared[p.at];
    const int t = by_column(s, p);
    write(y + sequence(s, tile, p, 1) + t, v);
    write(y + sequence(s, tile, p, 3) + last - t, v);
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 4) cross_merge(const Cross s) {
  SHARED_MEMORY(memory);
  float* shared = (float*)memory;
  TX* x = (TX*)s.x;
  const TY* y = (const TY*)s.y;
  const Tile tile = tile_of(s, blockIdx.x);
  const int count = s.rows * s.tile_h * s.tile_w, last = s.height * s.width - 1;
  for (int e = threadIdx.x; e < count; e += THREADS) {
    const Element p = element(s, tile, e, true);
    if (!p.inside) continue;
    const int t = by_column(s, p);
    shared[p.at] = value(y[sequence(s, tile, p, 1) + t]) + value(y[sequence(s, tile, p, 3) + last - t]);
  }
  sync_block();
  for (int e = threadIdx.x; e < count; e += THREADS) {
    const Element p = element(s, tile, e, false);
    if (!p.inside) continue;
    const int t = by_row(s, p);
    const float rows = value(y[sequence(s, tile, p, 0) + t]) + value(y[sequence(s, tile, p, 2) + last - t]);
    write(x + pixel(s, tile, p), rows + shared[p.at]);
  }
}
