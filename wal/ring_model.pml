/* The ring's protocol (ring_buffer.cc) as a model for spin: three producers, the writer, and a kill
 * at any step; then the rescue. scripts/model checks all interleavings, and that spin refutes the
 * model with one part taken away:
 *   -DNO_ZEROING        space is released as it is
 *   -DPUBLISH_FIRST     the length turns positive before the body is copied
 *   -DBODY_BEFORE_HEADER  the body is copied before the header stands
 *   -DRESCUE_FROM_RELEASED  the rescue starts where space was released, not where it was consumed
 *
 * Mapping to ring_buffer.cc: claim = TryClaim's compare-and-swap; header = the stores behind it;
 * copy = the caller; publish = Publish; take = Read and the write of the frame (the page cache
 * outlives the process); consume, zero, release = Release; Rescue = RingWalk.
 *
 * A unit stands for the space of one header. A record takes one or two units; the second holds
 * nothing but body, bytes of the caller's choice: here the worst, the likeness of a claimed header
 * of the next LSN. A checksum is a token that only a whole record has. */

#define UNITS 4
#ifndef RECORDS
#define RECORDS 2
#endif
#define LSNS (3 * RECORDS)

bool killed = false;
byte claimed = 0;       /* in units since the ring was made */
byte claimed_lsn = 1;   /* the next one */
byte released = 0;
byte released_lsn = 1;
byte consumed = 0;      /* everything before it is in the file */
byte consumed_lsn = 1;
byte file_lsn = 0;      /* the file holds 1..file_lsn */
byte producers_done = 0;

byte lsn_at[UNITS];
short state_at[UNITS];  /* 0 free, -length claimed, length published */
byte body_at[UNITS];
byte sum_at[UNITS];
bool acknowledged[LSNS + 1];
bool rescued[LSNS + 1];

#define IS_WHOLE(unit, lsn) (body_at[unit] == lsn && sum_at[unit] == lsn)

inline copy_body() {
  body_at[unit] = lsn;
  if
  :: length == 2 ->
    lsn_at[(unit + 1) % UNITS] = lsn + 1;
    state_at[(unit + 1) % UNITS] = -1
  :: else
  fi
}

inline store_header() {
  lsn_at[unit] = lsn;
  state_at[unit] = -length
}

proctype Producer() provided (!killed) {
  byte count = 0;
  byte unit, lsn, length;
  do
  :: count == RECORDS -> break
  :: count < RECORDS ->
    if
    :: length = 1
    :: length = 2
    fi;
    atomic {  /* claim */
      claimed + length - released <= UNITS;
      unit = claimed % UNITS;
      lsn = claimed_lsn;
      claimed = claimed + length;
      claimed_lsn = claimed_lsn + 1
    }
#ifdef BODY_BEFORE_HEADER
    copy_body();
    store_header();
#else
    store_header();
#ifdef PUBLISH_FIRST
    state_at[unit] = length;
#endif
    copy_body();
#endif
    sum_at[unit] = lsn;
    state_at[unit] = length;  /* publish */
    acknowledged[lsn] = true;
    count++
  od;
  producers_done++
}

proctype Writer() provided (!killed) {
  byte at = 0, lsn = 1, unit, length;
  do
  :: at < claimed && state_at[at % UNITS] > 0 ->
    unit = at % UNITS;
    length = state_at[unit];
    assert(lsn_at[unit] == lsn);
    assert(IS_WHOLE(unit, lsn));
    file_lsn = lsn;
    at = at + length;
    lsn++;
    d_step { consumed = at; consumed_lsn = lsn }  /* one word */
    do
    :: length > 0 ->
#ifndef NO_ZEROING
      lsn_at[unit] = 0;
      state_at[unit] = 0;
      d_step { body_at[unit] = 0; sum_at[unit] = 0 }
#endif
      unit = (unit + 1) % UNITS;
      length--
    :: length == 0 -> break
    od;
    skip;  /* a d_step may not be jumped into */
    d_step { released = at; released_lsn = lsn }
  :: producers_done == 3 && at == claimed -> break
  od
}

proctype Killer() {
  killed = true
}

/* Claimed or published with this LSN: its length, negative when claimed; else 0. */
inline look(offset, wanted, result) {
  seen = (start + offset) % UNITS;
  result = 0;
  if
  :: state_at[seen] != 0 && lsn_at[seen] == wanted ->
    result = state_at[seen];
    size = (result > 0 -> result : -result);
    if
    :: size > left - offset -> result = 0
    :: size <= left - offset && result > 0 && !IS_WHOLE(seen, wanted) -> result = 0
    :: else
    fi
  :: else
  fi
}

inline rescue() {
#ifdef RESCUE_FROM_RELEASED
  start = released;
  lsn = released_lsn;
#else
  start = consumed;
  lsn = consumed_lsn;
#endif
  left = claimed - start;
  do
  :: left == 0 -> break
  :: left > 0 ->
    look(0, lsn, found);
    if
    :: found > 0 -> rescued[lsn] = true; start = start + found; left = left - found; lsn++
    :: found < 0 -> start = start - found; left = left + found; lsn++  /* a void record */
    :: found == 0 ->
      /* Behind a slot without a header: the next header tells how many never came to be. */
      offset = 1;
      do
      :: offset >= left -> left = 0; break
      :: offset < left ->
        next = lsn_at[(start + offset) % UNITS];
        if
        :: next > lsn && next - lsn <= offset ->
          look(offset, next, found);
          if
          :: found != 0 -> start = start + offset; left = left - offset; lsn = next; break
          :: else -> offset++
          fi
        :: else -> offset++
        fi
      od
    fi
  od
}

init {
  byte start, left, lsn, offset, next, seen, size, i;
  short found;
  atomic {
    run Producer();
    run Producer();
    run Producer();
    run Writer();
    run Killer()
  }
  killed;
  atomic {
    rescue();
    for (i : 1 .. LSNS) {
      /* Nothing acknowledged is lost, whoever died where. */
      assert(!acknowledged[i] || i <= file_lsn || rescued[i])
    }
  }
}
