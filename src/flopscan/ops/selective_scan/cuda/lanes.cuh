// The recurrence along the lanes of a warp, each with SPAN neighbouring positions. Needs: SPAN.

// h = decay * h before + add, over SPAN positions and then over lanes: what enters this lane, and what leaves its group
// of WIDTH lanes, where `enters` enters the group. UP: from its first lane to its last; else from the last to the first.
template <bool UP, int WIDTH = 32> DEVICE float scan_lanes(float decay, float add, float enters, int lane, float& leaves) {
  int place = UP ? lane & (WIDTH - 1) : WIDTH - 1 - (lane & (WIDTH - 1));
#pragma unroll
  for (int by = 1; by < WIDTH; by *= 2) {
    float other = UP ? shuffle_up(add, by) : shuffle_down(add, by);
    float factor = UP ? shuffle_up(decay, by) : shuffle_down(decay, by);
    if (place >= by) {
      add = decay * other + add;
      decay = decay * factor;
    }
  }
  float all = decay * enters + add;
  leaves = shuffle_from(all, UP ? lane | (WIDTH - 1) : lane & -WIDTH);
  float before = UP ? shuffle_up(all, 1) : shuffle_down(all, 1);
  return place == 0 ? enters : before;
}

// Zero from the end of the row on: nothing moves there.
DEVICE void beyond(float (&v)[SPAN], int t, int length) {
  if (t + SPAN > length) {
#pragma unroll
    for (int i = 0; i < SPAN; i++)
      if (t + i >= length) v[i] = 0.f;
  }
}
