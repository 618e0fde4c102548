// Forward of the fused cross scan, one state. Needs: RESIDENT.

template <bool UP> DEVICE void walk(const Fused& s, const Spot& p, Ahead& in, const TU* columns, float* sum) {
  const int weight = p.direction * s.channels + p.channel;
  const float a = p.own ? s.A[weight] * LOG2E : 0.f, bias = p.own && s.bias ? s.bias[weight] : 0.f;
  const float skip = p.own && s.D ? s.D[weight] : 0.f;
  float* saved = s.saved + (i64)(p.batch * 4 + p.direction) * p.chunks * s.channels + p.channel;
  const bool keeps = s.saved && p.own && p.lane % LANES == 0;
  float carry = 0.f;
  if (by_column(p)) read_run(in.u, columns, pixel_of(p, in.t), p.own);
#pragma unroll 1
  for (int turn = 0; turn < p.chunks; turn++) {
    const int pixel = UP ? in.t : p.own - SPAN - in.t;
    in.t += CHUNK;
    float e[SPAN], x[SPAN], decay = 1.f, h = 0.f;
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      e[i] = get_run<UP>(in.delta, i) + bias;
      if (SOFTPLUS) e[i] = softplus(e[i], exp_minus_abs(e[i]));
    }
    load_next<CHUNK>(in.delta, in.delta_at, s.delta.l, in.t, p.own);
    // where there are no pixels u and B are zero, and nothing is put into the state
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
      const int i = UP ? j : SPAN - 1 - j;
      x[i] = e[i] * get(in.u, i) * get_run<UP>(in.B, i);
      e[i] = exp2_hw(e[i] * a);
      h = e[i] * h + x[i];
      decay *= e[i];
    }
    load_next<CHUNK>(in.B, in.B_at, s.B.l, in.t, p.own);
    if (keeps) *saved = carry;
    saved = opaque(saved + s.channels);
    h = scan_lanes<UP, LANES>(decay, h, carry, p.lane, carry);
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
      const int i = UP ? j : SPAN - 1 - j;
      h = e[i] * h + x[i];
      x[i] = h * get_run<UP>(in.C, i) + skip * get(in.u, i);
    }
    load_next<CHUNK>(in.C, in.C_at, s.C.l, in.t, p.own);
    image_next<UP ? CHUNK : -CHUNK>(in.u, p, in.u_at, s.x.l, columns, UP ? in.t : p.own - SPAN - in.t);
    if (!UP && turn == p.chunks / 2) meet_opposite(p);
    if ((u32)pixel < (u32)p.own) put_run(sum, pixel, x, 2 * turn + !UP < p.chunks);
    if (UP && turn == (p.chunks - 1) / 2) meet_opposite(p);
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) fused_forward(const Fused s) {
  SHARED_MEMORY(memory);
  const Spot p = spot_of(s);
  float* sums = (float*)memory;
  TU* columns = (TU*)(sums + 2 * CHANNELS * p.padded);
  Ahead in;
  begin(in, s, p, 0);
  bring<TU>(s, p, s.x, sums, 0);
  sync_block();
  turn(s, p, sums, 0, columns);
  sync_block();
  float* sum = sums + (2 * p.row + by_column(p)) * p.padded;
  columns += p.row * p.padded;
  if (onward(p)) walk<true>(s, p, in, columns, sum);
  else walk<false>(s, p, in, columns, sum);
  sync_block();
  give(s, spot_of(s), sums, (TO*)s.out);
}
