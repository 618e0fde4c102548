// Forward of the fused cross scan, one state. Needs: RESIDENT.

// What is loaded of the three operands that differ by direction, ahead of its use.
struct Ahead {
  const TD* delta_at;
  const TB* B_at;
  const TC* C_at;
  Pack<TD, SPAN> delta;
  Pack<TB, SPAN> B;
  Pack<TC, SPAN> C;
  int t;   // the first position of this lane's run, counted in the order of the direction
};
DEVICE void begin(Ahead& in, const Fused& s, const Spot& p) {
  const int pixel = p.lane % LANES * SPAN;
  in.t = onward(p) ? pixel : p.length - SPAN - ((p.chunks - 1) * CHUNK + pixel);
  in.delta_at = (const TD*)s.delta.at + p.batch * s.delta.b + p.direction * s.delta.g + p.channel * s.delta.n + in.t * s.delta.l;
  in.B_at = (const TB*)s.B.at + p.batch * s.B.b + p.direction * s.B.g + in.t * s.B.l;
  in.C_at = (const TC*)s.C.at + p.batch * s.C.b + p.direction * s.C.g + in.t * s.C.l;
  load_run(in.delta, in.delta_at, s.delta.l, in.t, p.own);
  load_run(in.B, in.B_at, s.B.l, in.t, p.own);
  load_run(in.C, in.C_at, s.C.l, in.t, p.own);
}
template <class T> DEVICE void load_next(Pack<T, SPAN>& p, const T*& at, i64 step, int t, int length) {
  at = opaque(at + CHUNK * step);
  load_run(p, at, step, t, length);
}

template <bool UP> DEVICE void walk(const Fused& s, const Spot& p, Ahead& in, const TU* image, float* sum) {
  const int weight = p.direction * s.channels + p.channel;
  const float a = p.own ? s.A[weight] * LOG2E : 0.f, bias = p.own && s.bias ? s.bias[weight] : 0.f;
  const float skip = p.own && s.D ? s.D[weight] : 0.f;
  float* saved = s.saved + (i64)(p.batch * 4 + p.direction) * p.chunks * s.channels + p.channel;
  const bool keeps = s.saved && p.own && p.lane % LANES == 0;
  float carry = 0.f;
#pragma unroll 1
  for (int turn = 0; turn < p.chunks; turn++) {
    const int pixel = UP ? in.t : p.length - SPAN - in.t;
    Pack<TU, SPAN> u;
    read_run(u, image, pixel, p.own);
    in.t += CHUNK;
    float e[SPAN], x[SPAN], decay = 1.f, h = 0.f;
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      e[i] = get_run<UP>(in.delta, i) + bias;
      if (SOFTPLUS) e[i] = softplus(e[i], exp_minus_abs(e[i]));
    }
    load_next(in.delta, in.delta_at, s.delta.l, in.t, p.own);
    // where there are no pixels u and B are zero, and nothing is put into the state
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
      const int i = UP ? j : SPAN - 1 - j;
      x[i] = e[i] * get(u, i) * get_run<UP>(in.B, i);
      e[i] = exp2_hw(e[i] * a);
      h = e[i] * h + x[i];
      decay *= e[i];
    }
    load_next(in.B, in.B_at, s.B.l, in.t, p.own);
    if (keeps) *saved = carry;
    saved = opaque(saved + s.channels);
    h = scan_lanes<UP, LANES>(decay, h, carry, p.lane, carry);
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
      const int i = UP ? j : SPAN - 1 - j;
      h = e[i] * h + x[i];
      x[i] = h * get_run<UP>(in.C, i) + skip * get(u, i);
    }
    load_next(in.C, in.C_at, s.C.l, in.t, p.own);
    if (!UP && turn == p.chunks / 2) meet_opposite(p);
    if (pixel < p.own) put_run(sum, pixel, x, 2 * turn + !UP < p.chunks);
    if (UP && turn == (p.chunks - 1) / 2) meet_opposite(p);
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) fused_forward(const Fused s) {
  SHARED_MEMORY(memory);
  const Spot p = spot_of(s);
  float* sums = (float*)memory;
  TU* images = (TU*)(sums + 2 * CHANNELS * p.padded);
  const int mine = (2 * p.row + by_column(p)) * p.padded;
  Ahead in;
  begin(in, s, p);
  bring<IMAGE>(s, p, s.x, images);
  sync_block();
  turn_over(s, p, images);
  sync_block();
  if (onward(p)) walk<true>(s, p, in, images + mine, sums + mine);
  else walk<false>(s, p, in, images + mine, sums + mine);
  sync_block();
  give(s, p, sums, (TO*)s.out);
}
