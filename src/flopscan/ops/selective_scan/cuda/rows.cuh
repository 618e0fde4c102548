// The form for one state: a warp holds 32 * SPAN neighbouring positions of a row, SPAN a lane, and walks along the row;
// the recurrence over the lanes is a scan by shuffles. A warp serves ROWS channels of a group, so that B and C are
// loaded and converted once for all of them.

#define CHUNK (32 * SPAN)
#define THREADS (32 * WARPS)
#define BLOCK_CHANNELS (ROWS * WARPS)

struct Place { int lane, warp, batch, group, block, channel, limit; };   // channel: the first of this warp
DEVICE Place place(const Scan& s) {
  Place p;
  p.lane = (int)threadIdx.x & 31; p.warp = (int)threadIdx.x >> 5;
  int per_group = s.channels / s.groups, blocks = (per_group + BLOCK_CHANNELS - 1) / BLOCK_CHANNELS;
  int index = (int)blockIdx.x;
  p.block = index % blocks; index /= blocks;
  p.group = index % s.groups; p.batch = index / s.groups;
  p.channel = p.group * per_group + p.block * BLOCK_CHANNELS + p.warp * ROWS;
  p.limit = (p.group + 1) * per_group;
  return p;
}
// What a warp keeps of each of its channels in shared memory; carry: what the recurrence takes from chunk to chunk.
struct __align__(16) Channel { float a, bias, skip, carry; };
DEVICE Channel read_channel(const Channel* at) {
  words4 w = *(const words4*)at;
  return Channel{as_float(w.x), as_float(w.y), as_float(w.z), as_float(w.w)};
}
DEVICE void fill_channels(Channel* channels, const Scan& s, const Place& p, const float* carry) {
  if (p.lane < ROWS) {
    int d = p.channel + p.lane;
    bool valid = d < p.limit;
    channels[p.lane] = Channel{valid ? s.A[d] : 0.f, valid && s.bias ? s.bias[d] : 0.f, valid && s.D ? s.D[d] : 0.f,
                               valid && carry ? carry[(i64)p.batch * s.channels + d] : 0.f};
  }
  sync_warp();
}

template <class T> DEVICE const T* row(const Matrix& m, int b, int d) { return (const T*)m.at + b * m.b + d * m.d; }
template <class T> DEVICE const T* row(const Grouped& m, int b, int g) { return (const T*)m.at + b * m.b + g * m.g; }
