// Backward of the fused cross scan, one state: chunks in reverse; the states of a chunk are made again from the one kept
// before it, then the gradient of the state is scanned the other way. The letters are those of rows_backward.cu.
// Needs: RESIDENT; GRAD_ALIGN, as ALIGN of the gradient of delta; PARTS, whether each block writes its own dB and dC.

// Add, or write, the sum of a product over the channels of the block.
template <bool UP> DEVICE void add_product(const float* products, int matrix, int i, float* into, int by) {
  float sum = 0.f;
#pragma unroll
  for (int c = 0; c < CHANNELS; c++) sum += products[(2 * c + matrix) * CHUNK + swizzled(i)];
  if (PARTS) into[UP ? by : -by] = sum;
  else add_to(into + (UP ? by : -by), sum);
}
// The products of a chunk for dB and dC, summed over the channels of the block, to the gradients; `into` is where the
// first that this thread adds up belongs in dB.
template <bool UP> DEVICE void flush(const Fused& s, const Spot& p, const float* products, int chunk, float* into) {
  const int thread = p.warp / 4 * 32 + p.lane, first = chunk * CHUNK;
  const i64 apart = s.grad_C - s.grad_B;
  if (CHUNK % DIRECTION_THREADS) {
    into -= UP ? thread : -thread;
    for (int e = thread; e < 2 * CHUNK; e += DIRECTION_THREADS)
      if (first + e % CHUNK < p.length)
        add_product<UP>(products, e / CHUNK, e % CHUNK, into + (e < CHUNK ? 0 : apart), e % CHUNK);
    return;
  }
#pragma unroll
  for (int matrix = 0; matrix < 2; matrix++) {
#pragma unroll
    for (int e = 0; e < CHUNK; e += DIRECTION_THREADS)
      if (first + thread + e < p.length) add_product<UP>(products, matrix, thread + e, into + (matrix ? apart : 0), e);
  }
}
// A run of products.
DEVICE void put_products(float* products, int place, const float (&values)[SPAN]) { put_run(products, place, values, true); }

// A run in the order of the direction, as far as there are pixels.
template <bool UP> DEVICE void store_run(TD* row, int t, int length, const float (&values)[SPAN]) {
  float v[SPAN];
#pragma unroll
  for (int i = 0; i < SPAN; i++) v[i] = values[UP ? i : SPAN - 1 - i];
  if (WHOLE ? (u32)t < (u32)length : t >= 0 && t + SPAN <= length) { store(row + t, 0, SPAN, GRAD_ALIGN, v); return; }
  if (WHOLE) return;
  Pack<TD, SPAN> p;
  set(p, v);
  typedef typename Bits<sizeof(TD)>::type word;
#pragma unroll
  for (int i = 0; i < SPAN; i++)
    if ((u32)(t + i) < (u32)length) ((word*)row)[t + i] = (word)(p.words[i * (int)sizeof(TD) / 4] >> (i * 8 * (int)sizeof(TD) & 31));
}

struct Back {
  const TO* grad_at;
  Pack<TO, SPAN> grad;
  const float* before_at;
  float before;   // the state before the chunk
};

struct Sums { float A, D, bias; };   // of one lane

template <bool UP>
DEVICE Sums walk_back(const Fused& s, const Spot& p, Ahead& in, Back& of, const TU* columns, const TO* grad_columns, float* sum, float* products) {
  const int weight = p.direction * s.channels + p.channel;
  const float a = p.own ? s.A[weight] : 0.f, bias = p.own && s.bias ? s.bias[weight] : 0.f;
  const float skip = p.own && s.D ? s.D[weight] : 0.f;
  TD* ddelta_row = (TD*)s.grad_delta + ((i64)(p.batch * 4 + p.direction) * s.channels + p.channel) * p.length;
  const int thread = p.warp / 4 * 32 + p.lane, last = (p.chunks - 1) * CHUNK;
  float* into = s.grad_B + (i64)(p.batch * 4 + p.direction) * p.length + p.block * s.part + (UP ? last + thread : p.length - 1 - thread);
  float carry = 0.f, of_A = 0.f, of_D = 0.f, of_bias = 0.f;
  if (by_column(p)) {
    read_run(in.u, columns, pixel_of(p, in.t), p.own);
    read_run(of.grad, grad_columns, pixel_of(p, in.t), p.own);
  }
#pragma unroll 1
  for (int turn = 0; turn < p.chunks; turn++) {
    const int t = in.t, pixel = UP ? t : p.own - SPAN - t;
    in.t -= CHUNK;
    float step[SPAN], slope[SPAN], e[SPAN], h[SPAN], decay = 1.f, state = 0.f, back = 0.f;
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      float x = get_run<UP>(in.delta, i) + bias;
      slope[i] = 1.f;
      if (SOFTPLUS) {
        const float small = exp_minus_abs(x);
        slope[i] = softplus_slope(x, small);
        x = softplus(x, small);
      }
      step[i] = x;
    }
    load_next<-CHUNK>(in.delta, in.delta_at, s.delta.l, in.t, p.own);
    // where there are no pixels u, B, C and the gradient are zero, and so is all that is added
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
      const int i = UP ? j : SPAN - 1 - j;
      e[i] = exp2_hw(step[i] * (a * LOG2E));
      h[i] = step[i] * get(in.u, i) * get_run<UP>(in.B, i);
      state = e[i] * state + h[i];
      decay *= e[i];
    }
#pragma unroll
    for (int j = SPAN - 1; j >= 0; j--) {
      const int i = UP ? j : SPAN - 1 - j;
      back = e[i] * (get_run<UP>(in.C, i) * get(of.grad, i) + back);
    }
    float left;
    const float start = scan_lanes<UP, LANES>(decay, state, of.before, p.lane, left);
    float r = scan_lanes<!UP, LANES>(decay, back, carry, p.lane, carry);
    of.before_at = opaque(of.before_at - s.channels);
    if (turn + 1 < p.chunks && p.own) of.before = *of.before_at;
    float before = start;
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
      const int i = UP ? j : SPAN - 1 - j;
      before = h[i] = e[i] * before + h[i];
    }
    float du[SPAN], ddelta[SPAN], dB[SPAN], dC[SPAN];
#pragma unroll
    for (int j = SPAN - 1; j >= 0; j--) {
      const int i = UP ? j : SPAN - 1 - j;
      const float x = get(in.u, i), dy = get(of.grad, i), g = get_run<UP>(in.C, i) * dy + r, S = g * get_run<UP>(in.B, i);
      r = e[i] * g;
      const float q = r * (j ? h[j ? (UP ? i - 1 : i + 1) : 0] : start);
      dC[i] = h[i] * dy;
      dB[i] = g * step[i] * x;
      of_A += step[i] * q;
      of_D += dy * x;
      du[i] = step[i] * S + skip * dy;
      ddelta[i] = (x * S + a * q) * slope[i];
      of_bias += ddelta[i];
    }
    load_next<-CHUNK>(in.B, in.B_at, s.B.l, in.t, p.own);
    load_next<-CHUNK>(in.C, in.C_at, s.C.l, in.t, p.own);
    image_next<UP ? -CHUNK : CHUNK>(in.u, p, in.u_at, s.x.l, columns, UP ? in.t : p.own - SPAN - in.t);
    image_next<UP ? -CHUNK : CHUNK>(of.grad, p, of.grad_at, s.grad.l, grad_columns, UP ? in.t : p.own - SPAN - in.t);
    store_run<UP>(ddelta_row, t, p.own, ddelta);
    meet_same(p);   // what was there has been added up
    put_products(products + 2 * p.row * CHUNK, p.lane % LANES * SPAN, dB);
    put_products(products + (2 * p.row + 1) * CHUNK, p.lane % LANES * SPAN, dC);
    if (UP && turn == p.chunks / 2) meet_opposite(p);
    if ((u32)pixel < (u32)p.own) put_run(sum, pixel, du, 2 * turn + UP < p.chunks);
    if (!UP && turn == (p.chunks - 1) / 2) meet_opposite(p);
    meet_same(p);
    flush<UP>(s, p, products, UP ? p.chunks - 1 - turn : turn, into);
    into = opaque(into - CHUNK);
  }
  return Sums{of_A, of_D, of_bias};
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) fused_backward(const Fused s) {
  SHARED_MEMORY(memory);
  const Spot p = spot_of(s);
  float* sums = (float*)memory;
  float* products = sums + 2 * CHANNELS * p.padded;
  TU* columns = (TU*)(products + 4 * 2 * CHANNELS * CHUNK);
  TO* grad_columns = (TO*)(columns + CHANNELS * p.padded);
  Ahead in;
  Back of;
  begin(in, s, p, p.chunks - 1);
  of.grad_at = pixels<TO>(p, s.grad, in.t);
  if (!by_column(p)) load_run<IMAGE>(of.grad, of.grad_at, s.grad.l, pixel_of(p, in.t), p.own);
  of.before_at = s.saved + ((i64)(p.batch * 4 + p.direction) * p.chunks + p.chunks - 1) * s.channels + p.channel;
  of.before = p.own ? *of.before_at : 0.f;
  bring<TU>(s, p, s.x, sums, 0);
  bring<TO>(s, p, s.grad, sums, 1);
  sync_block();
  turn(s, p, sums, 0, columns);
  turn(s, p, sums, 1, grad_columns);
  sync_block();
  float* sum = sums + (2 * p.row + by_column(p)) * p.padded;
  products += p.direction * 2 * CHANNELS * CHUNK;
  columns += p.row * p.padded;
  grad_columns += p.row * p.padded;
  Sums found;
  if (onward(p)) found = walk_back<true>(s, p, in, of, columns, grad_columns, sum, products);
  else found = walk_back<false>(s, p, in, of, columns, grad_columns, sum, products);
  const Spot q = spot_of(s);
#pragma unroll
  for (int by = LANES / 2; by >= 1; by /= 2) {
    found.A += shuffle_xor(found.A, by);
    found.D += shuffle_xor(found.D, by);
    found.bias += shuffle_xor(found.bias, by);
  }
  if (q.own && q.lane % LANES == 0) {
    float* to = s.grad_channel + (i64)(q.batch * 12 + q.direction) * s.channels + q.channel;
    to[0] = found.A; to[4 * s.channels] = found.D; to[8 * s.channels] = found.bias;
  }
  sync_block();
  give(s, q, (float*)memory, (TU*)s.grad_x);
}
