// Backward, two states and more: tiles in reverse. From the state that the forward kept before a chunk of s.chunk
// positions, the states before its tiles, then before every SUB positions of a tile are made again, last those of SUB
// positions, which stay in registers with their decays while the gradient of the state runs over them.
// Needs: LANES, STATES, TILE, SUB, HAS_Z, SOFTPLUS, WHOLE, RESIDENT.
//
//   g[l] = C[l] dy[l] + r[l],  r[l-1] = a[l] g[l]       the gradient of the state, and what it hands to the position before
//   du = delta S + D dy,  ddelta = (u S + T) slope,  S = sum over n of g B,  T = sum over n of A r[l-1] h[l-1]
//   dA = sum of delta r[l-1] h[l-1],  dB = sum over channels of g delta u,  dC = sum over channels of h dy

#define GROUP (LANES < SUB ? LANES : SUB)
#define PRODUCTS (2 * PADDED + 4)             // numbers of one position in `products`: of B, of C, and room against conflicts
#define SUBS (TILE / SUB)

struct __align__(16) Slot { float delta, u, grad, slope; };   // of one position; then du, ddelta, y lie there

DEVICE Slot read_slot(const Slot* at) {
  words4 w = *(const words4*)at;
  return Slot{as_float(w.x), as_float(w.y), as_float(w.z), as_float(w.w)};
}

struct Shared {
  Slot* slots;        // of this warp: CHANNELS rows
  float *B, *C;       // of a tile
  float* bounds;      // SUBS x THREADS x STATES: states before every SUB positions
  float* products;    // 2 x WARPS x SUB x PRODUCTS
};
DEVICE Shared shared(words4* memory, int warp) {
  Shared m;
  m.slots = (Slot*)memory + warp * CHANNELS * PITCH;
  m.B = (float*)((Slot*)memory + BLOCK_CHANNELS * PITCH);
  m.C = m.B + MATRIX;
  m.bounds = m.C + MATRIX;
  m.products = m.bounds + SUBS * THREADS * STATES;
  return m;
}

// The positions of a tile in this warp's slots: with the gradient of y, or, to make states again, without.
template <bool GRADIENT> DEVICE void stage(const Scan& s, const Place& p, const Shared& m, int t0, const float (&bias)[PASSES]) {
#pragma unroll
  for (int k = 0; k < PASSES; k++) {
    int t = t0 + p.column, end = load_end(p, k);
    Pack<TU, EACH> u;
    Pack<TD, EACH> delta;
    Pack<TO, EACH> grad;
    clear(u); clear(delta); clear(grad);
    load_pass(u, loads_at<TU>(s.u, p), s.u, p, k, t0);
    load_pass(delta, loads_at<TD>(s.delta, p), s.delta, p, k, t0);
    if (GRADIENT) load_pass(grad, loads_at<TO>(s.grad, p), s.grad, p, k, t0);
#if HAS_Z
    Pack<TZ, EACH> z;
    if (GRADIENT) load_pass(z, loads_at<TZ>(s.z, p), s.z, p, k, t0);
#endif
    Slot* into = m.slots + load_slot(p, k);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      float d = get(delta, i) + bias[k], slope = 1.f, dy = 0.f;
      if (SOFTPLUS) {
        float e = exp_minus_abs(d);
        if (GRADIENT) slope = softplus_slope(d, e);
        d = softplus(d, e);
      }
      if (GRADIENT) {
        dy = get(grad, i);
#if HAS_Z
        float gate = get(z, i);
        dy *= gate * sigmoid(gate);
#endif
      }
      *(words4*)(into + i) = words4{as_bits(d), as_bits(get(u, i)), as_bits(dy), as_bits(slope)};
    }
    if (t + EACH > end) {   // beyond the end nothing moves
#pragma unroll
      for (int i = 0; i < EACH; i++)
        if (t + i >= end) *(words4*)(into + i) = words4{0, 0, 0, 0};
    }
  }
}

template <class T> DEVICE void stage_states(float* into, const Grouped& g, const Scan& s, const Place& p, int t0) {
  Pack<T, SPREAD> pieces[PIECES];
  load_states(pieces, states_at<T>(g, p, s.states), g, p, t0, s.states);
  store_states(into, pieces);
}

// SUB positions of the recurrence alone.
DEVICE void advance(float (&h)[STATES], const float (&a)[STATES], const Slot* slots, const float* B, const Place& p) {
#pragma unroll
  for (int i = 0; i < SUB; i++) {
    Slot slot = read_slot(slots + i);
    float b[STATES], input = slot.delta * slot.u;
    read_own(b, B + i * PADDED, p);
#pragma unroll
    for (int j = 0; j < STATES; j++) h[j] = exp2_hw(slot.delta * a[j]) * h[j] + input * b[j];
  }
}

struct Sums { float A[STATES], D, bias; };   // of this lane

// SUB positions in reverse: r is what the position before gets. Products for dB and dC go to `products`.
DEVICE void retreat(float (&r)[STATES], Sums& sums, const float (&start)[STATES], const float (&a)[STATES],
                    Slot* slots, const float* B, const float* C, float* products, const Place& p, float skip) {
  float e[SUB][STATES], h[SUB][STATES];
#pragma unroll
  for (int i = 0; i < SUB; i++) {
    Slot slot = read_slot(slots + i);
    float b[STATES], input = slot.delta * slot.u;
    read_own(b, B + i * PADDED, p);
#pragma unroll
    for (int j = 0; j < STATES; j++) {
      e[i][j] = exp2_hw(slot.delta * a[j]);
      h[i][j] = e[i][j] * (i ? h[i ? i - 1 : 0][j] : start[j]) + input * b[j];
    }
  }
#pragma unroll
  for (int k = SUB / GROUP - 1; k >= 0; k--) {
    float S[GROUP], T[GROUP];
#if HAS_Z
    float y[GROUP];
#endif
#pragma unroll
    for (int o = GROUP - 1; o >= 0; o--) {
      const int i = k * GROUP + o;
      Slot slot = read_slot(slots + i);
      float b[STATES], c[STATES], v[2 * STATES], input = slot.delta * slot.u;
      read_own(b, B + i * PADDED, p);
      read_own(c, C + i * PADDED, p);
      S[o] = T[o] = 0.f;
#if HAS_Z
      y[o] = 0.f;
#endif
#pragma unroll
      for (int j = 0; j < STATES; j++) {
        float g = c[j] * slot.grad + r[j];
        v[NUMBER(0, j)] = g * input;
        v[NUMBER(1, j)] = h[i][j] * slot.grad;
        S[o] = g * b[j] + S[o];
        r[j] = e[i][j] * g;
        float x = r[j] * (i ? h[i ? i - 1 : 0][j] : start[j]);
        sums.A[j] = slot.delta * x + sums.A[j];
        T[o] = a[j] * x + T[o];
#if HAS_Z
        y[o] = h[i][j] * c[j] + y[o];
#endif
      }
      int first; bool owner;
      sum_over_channels(v, p.c, first, owner);
      const int LEFT = 2 * STATES / CHANNELS > 1 ? 2 * STATES / CHANNELS : 1;
      if (owner) {
#pragma unroll
        for (int j = 0; j < LEFT; j++) {
          int n = first + j;
          products[i * PRODUCTS + matrix_of(n) * PADDED + p.q * STATES + state_in(n)] = v[j];
        }
      }
    }
    float S_sum = sum_over_states(S, p.q), T_sum = sum_over_states(T, p.q) * (1.f / LOG2E);
#if HAS_Z
    float y_sum = sum_over_states(y, p.q);
#endif
    sync_warp();
    if (p.q < GROUP) {
      Slot* at = slots + k * GROUP + p.q;
      Slot slot = read_slot(at);
      float du = slot.delta * S_sum + skip * slot.grad, ddelta = (slot.u * S_sum + T_sum) * slot.slope;
      sums.D += slot.grad * slot.u;
      sums.bias += ddelta;
#if HAS_Z
      *(words4*)at = words4{as_bits(du), as_bits(ddelta), as_bits(y_sum + skip * slot.u), 0};
#else
      *(words2*)at = words2{as_bits(du), as_bits(ddelta)};
#endif
    }
  }
}

// The products of SUB positions, summed over the warps, to the gradients of B and C. A thread takes the same position of
// SUB and the same numbers each time.
#define SHARE ((2 * PADDED * SUB + THREADS - 1) / THREADS)
#define REMEMBERED (SHARE <= 4)
DEVICE float* sink(const Scan& s, const Place& p, int k) {
  int v = (int)threadIdx.x / SUB + k * (THREADS / SUB), n = v % PADDED;
  if (n >= s.states || v >= 2 * PADDED) return nullptr;
  return (v < PADDED ? s.grad_B : s.grad_C) + (((i64)p.batch * s.groups + p.group) * s.states + n) * s.length + p.block * s.part;
}
DEVICE void flush(const Scan& s, const Place& p, float* const (&sinks)[REMEMBERED ? SHARE : 1], const float* products, int t) {
  int i = (int)threadIdx.x % SUB;
  const float* from = products + i * PRODUCTS + (int)threadIdx.x / SUB;
  if (t + i >= p.end) return;
#pragma unroll
  for (int k = 0; k < SHARE; k++) {
    float* to = REMEMBERED ? sinks[REMEMBERED ? k : 0] : sink(s, p, k);
    if (!to) continue;
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += from[w * SUB * PRODUCTS + k * (THREADS / SUB)];
    if (s.part) to[t + i] = sum;
    else add_to(to + t + i, sum);
  }
}

// What the epilogue of a tile writes, from its slots.
DEVICE void write_tile(const Scan& s, const Place& p, const Shared& m, int t0) {
#pragma unroll
  for (int k = 0; k < PASSES; k++) {
    i64 at = ((i64)p.batch * s.channels + p.load_channel + k * PASS_ROWS) * s.length;
    const Slot* from = m.slots + load_slot(p, k);
    float du[EACH], ddelta[EACH], y[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      Slot slot = read_slot(from + i);
      du[i] = slot.delta; ddelta[i] = slot.u; y[i] = slot.grad;
    }
    store_pass((TU*)s.grad_u + at, p, k, t0, s.out_align, du);
    store_pass((TD*)s.grad_delta + at, p, k, t0, s.out_align, ddelta);
#if HAS_Z
    Pack<TO, EACH> grad;
    Pack<TZ, EACH> z;
    load_pass(grad, loads_at<TO>(s.grad, p), s.grad, p, k, t0);
    load_pass(z, loads_at<TZ>(s.z, p), s.z, p, k, t0);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      float gate = get(z, i), part = sigmoid(gate);
      y[i] *= get(grad, i) * part * (1.f + gate * (1.f - part));
    }
    store_pass((TZ*)s.grad_z + at, p, k, t0, s.out_align, y);
#endif
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) scan_backward(const Scan s) {
  SHARED_MEMORY(memory);
  Place p = place(s);
  Shared m = shared(memory, p.warp);
  Slot* slots = m.slots + p.c * PITCH;
  int channel = p.valid ? p.channel : 0;

  float a[STATES], r[STATES], h[STATES];
  Sums sums;
  read_row(a, s.A + (i64)channel * s.states, p, s.states);
#pragma unroll
  for (int j = 0; j < STATES; j++) { a[j] *= LOG2E; r[j] = sums.A[j] = 0.f; }
  sums.D = sums.bias = 0.f;
  i64 state_row = ((i64)p.batch * s.channels + channel) * s.states;
  if (s.grad_last) read_row(r, s.grad_last + state_row, p, s.states);
  fold_edges(r, a, s, p, s.segments - 1, -1, p.segment);
  float bias[PASSES], skip = s.D && p.valid ? s.D[channel] : 0.f;
#pragma unroll
  for (int k = 0; k < PASSES; k++) bias[k] = of_channel(s.bias, p, k);

  float* sinks[REMEMBERED ? SHARE : 1];
#pragma unroll
  for (int k = 0; REMEMBERED && k < SHARE; k++) sinks[k] = sink(s, p, k);

  int chunks = (s.length + s.chunk - 1) / s.chunk, turn = 0;
  // The states before the tiles of a chunk lie in `mid`, else where the gradient of u of the tile will be.
  TU* grad_u = (TU*)s.grad_u + ((i64)p.batch * s.channels + channel) * s.length;
  float* mid = s.mid + (((i64)p.segment * s.batch + p.batch) * s.channels + channel) * (s.chunk / TILE) * s.states;
  auto before = [&](int t) { return s.mid ? mid + (t & (s.chunk - 1)) / TILE * s.states : (float*)(grad_u + t); };
  for (int end = p.end; end > p.begin;) {
    int start = (end - 1) & ~(s.chunk - 1), first = start < p.begin ? p.begin : start;
    float* kept = s.saved + (((i64)p.batch * chunks + start / s.chunk) * s.channels + channel) * s.states;
    if (end - start > TILE) {
      read_row(h, kept, p, s.states);
      for (int t = start; t + TILE < end; t += TILE) {
        stage<false>(s, p, m, t, bias);
        stage_states<TB>(m.B, s.B, s, p, t);
        sync_block();
        for (int i = 0; i < SUBS; i++) advance(h, a, slots + SLOT(i * SUB), m.B + LINE(i * SUB), p);
        if (t + TILE >= first) write_row(before(t + TILE), h, p, s.states);
        sync_block();
      }
    }
    for (int t0 = start + (end - 1 - start) / TILE * TILE; t0 >= first; t0 -= TILE) {
      read_row(h, t0 > start ? before(t0) : kept, p, s.states);
      stage<true>(s, p, m, t0, bias);
      stage_states<TB>(m.B, s.B, s, p, t0);
      stage_states<TC>(m.C, s.C, s, p, t0);
      sync_block();

      float* bound = m.bounds + (int)threadIdx.x * (STATES % 4 ? STATES : 4);
      auto bound_part = [&](int i, int j) { return bound + i * THREADS * STATES + j / 4 * 4 * THREADS; };
#pragma unroll 1
      for (int i = 0; i < SUBS; i++) {
#pragma unroll
        for (int j = 0; j < STATES; j++) bound_part(i, j)[j % 4] = h[j];
        if (i + 1 < SUBS) advance(h, a, slots + SLOT(i * SUB), m.B + LINE(i * SUB), p);
      }
#pragma unroll 1
      for (int i = SUBS - 1; i >= 0; i--) {
#pragma unroll
        for (int j = 0; j < STATES; j++) h[j] = bound_part(i, j)[j % 4];
        float* products = m.products + turn * WARPS * SUB * PRODUCTS;
        retreat(r, sums, h, a, slots + SLOT(i * SUB), m.B + LINE(i * SUB), m.C + LINE(i * SUB), products + p.warp * SUB * PRODUCTS, p, skip);
        sync_block();   // the other half of `products` was read before this
        flush(s, p, sinks, products, t0 + i * SUB);
        turn ^= 1;
      }
      write_tile(s, p, m, t0);
      sync_warp();
    }
    end = first;
  }

  if (s.grad_initial && p.segment == 0) write_row(s.grad_initial + state_row, r, p, s.states);
  float* row = s.grad_channel + ((i64)p.batch * s.segments + p.segment) * s.channels * (s.states + 2);
  float *at = row + (i64)channel * s.states, *rest = row + (i64)s.channels * s.states + channel;
#pragma unroll
  for (int mask = 1; mask < LANES; mask *= 2) {
    sums.D += shuffle_xor(sums.D, state_mask(mask));
    sums.bias += shuffle_xor(sums.bias, state_mask(mask));
  }
#pragma unroll
  for (int j = 0; j < STATES; j++)
    if (p.valid && state_of(p, j) < s.states) at[state_of(p, j)] = sums.A[j];
  if (p.valid && p.q == 0) { rest[0] = sums.D; rest[s.channels] = sums.bias; }
}
