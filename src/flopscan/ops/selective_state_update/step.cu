// One decoding step of a selective scan, in one pass over the states, in place.
//
// A row is the states of a channel. LANES lanes have one, VEC neighbouring states each (16 bytes) at a time, CHUNKS
// times; where that is not all of them, in more rounds. y is summed by shuffles and written by the first lane.
//
// Macros besides: TS, TX, TT, TA, TB, TC, TD, TK, TZ: the dtypes of state, x and y, dt, A, B, C, D, dt_bias and z.
// WHOLE: all that runs along n is aligned and n a multiple of VEC. TIED: A is the same for all states of a row.

// Mirrored in cuda.py. Strides in elements, 0 where an operand lacks the axis; B and C have groups for heads.
struct Operand { const void* at; i64 b, h, p, n; };
struct Step {
  Operand state, x, dt, A, B, C, D, bias, z;
  const void* slots;                                               // b: where the states of a sequence are; or null
  i64 slot_step;
  void* y;                                                         // b h p, in one piece
  int wide;                                                        // slots have 64 bits
  int batch, heads, channels, states, groups, cache, softplus;
  int across;                                                      // sequences that the grid has at a time
};

// max(x, 0) + log1p(exp(-|x|))
DEVICE float softplus(float x) {
  const float e = exp2_hw((x < 0.f ? x : -x) * LOG2E);
  return log1p_unit_float(e) + (x > 0.f ? x : 0.f);
}
template <class T> DEVICE const T* at(const Operand& o, i64 b, int h, int p) {
  return (const T*)o.at + b * o.b + h * o.h + p * o.p;
}
DEVICE i64 slot_of(const Step& s, int b) {
  if (!s.slots) return b;
  const i64 slot = s.wide ? ((const i64*)s.slots)[b * s.slot_step] : ((const int*)s.slots)[b * s.slot_step];
  if (slot < 0 || slot >= s.cache) stop();
  return slot;
}
// VEC of an operand's states from n on; zero beyond the last
template <class T> DEVICE void along(float (&v)[VEC], const T* row, i64 step, int n, int states) {
  if (WHOLE) {
    Pack<T, VEC> p;
    load(p, row + n);
#pragma unroll
    for (int i = 0; i < VEC; i++) v[i] = get(p, i);
  } else {
#pragma unroll
    for (int i = 0; i < VEC; i++) v[i] = n + i < states ? read(row + (n + i) * step) : 0.f;
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 1) state_update(const Step s) {
  const int lane = threadIdx.x % LANES, row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
  const bool inside = row < s.heads * s.channels;
  const int h = inside ? row / s.channels : 0, p = inside ? row - h * s.channels : 0, g = h / (s.heads / s.groups);
  const TA* A = at<TA>(s.A, 0, h, p);
  const float bias = s.bias.at ? read(at<TK>(s.bias, 0, h, p)) : 0.f;
  const float skip = s.D.at ? read(at<TD>(s.D, 0, h, p)) : 0.f;

  for (int b = blockIdx.y; b < s.batch; b += s.across) {
    TS* state = (TS*)at<TS>(s.state, inside ? slot_of(s, b) : 0, h, p);
    const float x = read(at<TX>(s.x, b, h, p)), z = s.z.at ? read(at<TZ>(s.z, b, h, p)) : 0.f;
    float dt = read(at<TT>(s.dt, b, h, p)) + bias, sum = 0.f;
    for (int start = lane * VEC; start - lane * VEC < s.states; start += LANES * VEC * CHUNKS) {
      Pack<TS, VEC> held[CHUNKS];
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) {
        const int n = start + c * LANES * VEC;
        if (!inside || n >= s.states) continue;
        if (WHOLE) {
          load_own(held[c], state + n);
        } else {
          float v[VEC];
#pragma unroll
          for (int i = 0; i < VEC; i++) v[i] = n + i < s.states ? value(state[(n + i) * s.state.n]) : 0.f;
          set(held[c], v);
        }
      }
      if (start == lane * VEC && s.softplus) dt = softplus(dt);
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) {
        const int n = start + c * LANES * VEC;
        if (!inside || n >= s.states) continue;
        float a[VEC], B[VEC], C[VEC], moved[VEC];
        if (TIED) {
          a[0] = read(A);
        } else {
          along(a, A, s.A.n, n, s.states);
        }
#pragma unroll
        for (int i = 0; i < (TIED ? 1 : VEC); i++) a[i] *= LOG2E;
        along(B, at<TB>(s.B, b, g, 0), s.B.n, n, s.states);
        along(C, at<TC>(s.C, b, g, 0), s.C.n, n, s.states);
        const float drive = dt * x, tied = exp2_hw(dt * a[0]);
#pragma unroll
        for (int i = 0; i < VEC; i++) {
          const float decay = TIED ? tied : exp2_hw(dt * a[i]);
          moved[i] = get(held[c], i) * decay + drive * B[i];
          if (WHOLE || n + i < s.states) sum += moved[i] * C[i];
        }
        if (WHOLE) {
          Pack<TS, VEC> made;
          set(made, moved);
          store(state + n, made);
        } else {
#pragma unroll
          for (int i = 0; i < VEC; i++)
            if (n + i < s.states) write(state + (n + i) * s.state.n, moved[i]);
        }
      }
    }
#pragma unroll
    for (int mask = LANES / 2; mask; mask /= 2) sum += shuffle_xor(sum, mask);
    if (!inside || lane) continue;
    float y = sum;
    if (s.D.at) y += skip * x;
    if (s.z.at) y *= z * sigmoid(z);
    write((TX*)s.y + (i64)b * s.heads * s.channels + row, y);
  }
}
