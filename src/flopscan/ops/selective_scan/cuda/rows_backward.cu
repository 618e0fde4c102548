// Backward, one state: chunks in reverse; the states of a chunk are made again from the one kept before it, then the
// gradient of the state is scanned the other way. The letters are those of backward.cu. Needs: SPAN, ROWS, HAS_Z, RESIDENT.

struct Loads {
  Pack<TU, SPAN> u;
  Pack<TD, SPAN> delta;
  Pack<TO, SPAN> grad;
#if HAS_Z
  Pack<TZ, SPAN> z;
#endif
  float before;   // the state before the chunk
};
DEVICE void load_row(Loads& in, const Scan& s, const Place& p, int k, int chunk, int chunks) {
  bool valid = p.channel + k < p.limit;
  int d = valid ? p.channel + k : 0, length = valid ? s.length : 0, t = chunk * CHUNK + p.lane * SPAN;
  load(in.u, row<TU>(s.u, p.batch, d), s.u.l, t, length, (int)s.u.align);
  load(in.delta, row<TD>(s.delta, p.batch, d), s.delta.l, t, length, (int)s.delta.align);
  load(in.grad, row<TO>(s.grad, p.batch, d), s.grad.l, t, length, (int)s.grad.align);
#if HAS_Z
  load(in.z, row<TZ>(s.z, p.batch, d), s.z.l, t, length, (int)s.z.align);
#endif
  in.before = valid ? s.saved[((i64)p.batch * chunks + chunk) * s.channels + d] : 0.f;
}

// The products of a chunk for dB and dC, summed over the warps, to the gradients.
DEVICE void flush(const Scan& s, const Place& p, const float (&products)[2][WARPS][CHUNK], int t0) {
  i64 to = ((i64)p.batch * s.groups + p.group) * s.length + t0;
#pragma unroll
  for (int matrix = 0; matrix < 2; matrix++) {
    float* into = (matrix ? s.grad_C : s.grad_B) + to + p.block * s.part;
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < CHUNK; i += THREADS) {
      float sum = 0.f;
#pragma unroll
      for (int w = 0; w < WARPS; w++) sum += products[matrix][w][i];
      if (t0 + i < s.length) {
        if (s.part) into[i] = sum;
        else add_to(into + i, sum);
      }
    }
  }
}

struct Sums { float A, D, bias; };   // of one lane and channel

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) rows_backward(const Scan s) {
  __shared__ Channel channels[WARPS][ROWS];
  __shared__ Sums sums[ROWS][THREADS];
  __shared__ __align__(16) float products[2][2][WARPS][CHUNK];   // turn, matrix
  Place p = place(s);
  Channel* mine = channels[p.warp];
  fill_channels(mine, s, p, s.grad_last);
#pragma unroll 1
  for (int k = 0; k < ROWS; k++) sums[k][threadIdx.x] = Sums{0.f, 0.f, 0.f};

  int chunks = (s.length + CHUNK - 1) / CHUNK;
  Pack<TB, SPAN> B;
  Pack<TC, SPAN> C;
  float dB[SPAN], dC[SPAN];
  Loads next;
  load_row(next, s, p, 0, chunks - 1, chunks);
#pragma unroll 1
  for (int turn = 0, chunk = chunks - 1, k = 0; turn < chunks * ROWS; turn++) {
    int t = chunk * CHUNK + p.lane * SPAN, d = p.channel + k, length = d < p.limit ? s.length : 0;
    if (k == 0) {
      load(B, row<TB>(s.B, p.batch, p.group), s.B.l, t, s.length, (int)s.B.align);
      load(C, row<TC>(s.C, p.batch, p.group), s.C.l, t, s.length, (int)s.C.align);
#pragma unroll
      for (int i = 0; i < SPAN; i++) dB[i] = dC[i] = 0.f;
    }
    Loads in = next;
    Channel at = read_channel(mine + k);
    int next_k = k + 1 < ROWS ? k + 1 : 0, next_chunk = chunk - (next_k == 0);
    if (next_chunk >= 0) load_row(next, s, p, next_k, next_chunk, chunks);

    float step[SPAN], slope[SPAN], e[SPAN], dy[SPAN], h[SPAN], decay = 1.f, state = 0.f, back = 0.f, left;
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      float x = get(in.delta, i) + at.bias;
      slope[i] = 1.f;
      if (s.softplus) {
        float small = exp_minus_abs(x);
        slope[i] = softplus_slope(x, small);
        x = softplus(x, small);
      }
      step[i] = x;
    }
    beyond(step, t, length);
    beyond(slope, t, length);
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      e[i] = exp2_hw(step[i] * (at.a * LOG2E));
      h[i] = step[i] * get(in.u, i) * get(B, i);
      state = e[i] * state + h[i];
      decay *= e[i];
      dy[i] = get(in.grad, i);
#if HAS_Z
      dy[i] *= get(in.z, i) * sigmoid(get(in.z, i));
#endif
    }
#pragma unroll
    for (int i = SPAN - 1; i >= 0; i--) back = e[i] * (get(C, i) * dy[i] + back);
    const float start = scan_lanes<true>(decay, state, in.before, p.lane, left);
    float r = scan_lanes<false>(decay, back, at.carry, p.lane, left);
    if (p.lane == 0) mine[k].carry = left;
#pragma unroll
    for (int i = 0; i < SPAN; i++) h[i] = e[i] * (i ? h[i ? i - 1 : 0] : start) + h[i];
    float du[SPAN], ddelta[SPAN];
#if HAS_Z
    float dz[SPAN];
#endif
    Sums sum = sums[k][threadIdx.x];
#pragma unroll
    for (int i = SPAN - 1; i >= 0; i--) {
      float x = get(in.u, i), g = get(C, i) * dy[i] + r, S = g * get(B, i);
      r = e[i] * g;
      float q = r * (i ? h[i ? i - 1 : 0] : start);
      dC[i] += h[i] * dy[i];
      dB[i] += g * step[i] * x;
      sum.A += step[i] * q;
      sum.D += dy[i] * x;
      du[i] = step[i] * S + at.skip * dy[i];
      ddelta[i] = (x * S + at.a * q) * slope[i];
      sum.bias += ddelta[i];
#if HAS_Z
      float gate = get(in.z, i), part = sigmoid(gate), y = h[i] * get(C, i) + at.skip * x;
      dz[i] = get(in.grad, i) * y * part * (1.f + gate * (1.f - part));
#endif
    }
    sums[k][threadIdx.x] = sum;
    i64 to = ((i64)p.batch * s.channels + d) * s.length;
    store((TU*)s.grad_u + to, t, length, s.out_align, du);
    store((TD*)s.grad_delta + to, t, length, s.out_align, ddelta);
#if HAS_Z
    store((TZ*)s.grad_z + to, t, length, s.out_align, dz);
#endif
    sync_warp();
    if (next_k == 0) {
#pragma unroll
      for (int i = 0; i < SPAN; i++) {
        products[chunk & 1][0][p.warp][p.lane * SPAN + i] = dB[i];
        products[chunk & 1][1][p.warp][p.lane * SPAN + i] = dC[i];
      }
      sync_block();   // the other half was read before this
      flush(s, p, products[chunk & 1], chunk * CHUNK);
    }
    k = next_k; chunk = next_chunk;
  }
#pragma unroll 1
  for (int k = 0; k < ROWS; k++) {
    Sums sum = sums[k][threadIdx.x];
#pragma unroll
    for (int by = 16; by >= 1; by /= 2) {
      sum.A += shuffle_xor(sum.A, by);
      sum.D += shuffle_xor(sum.D, by);
      sum.bias += shuffle_xor(sum.bias, by);
    }
    if (p.lane == 0 && p.channel + k < p.limit) {
      i64 row = (i64)p.batch * s.channels + p.channel + k;
      float* to = s.grad_channel + row + (i64)p.batch * 2 * s.channels;
      to[0] = sum.A; to[s.channels] = sum.D; to[2 * s.channels] = sum.bias;
      if (s.grad_initial) s.grad_initial[row] = mine[k].carry;
    }
  }
}
