/* The ring's protocol (ring_buffer.cc) as a model for spin: three producers, the writer, and a kill
 * at any step; then the rescue. scripts/model checks all interleavings, and that spin refutes the
 * model with one part taken away:
 *   -DNO_ZEROING        space is released as it is
 *   -DPUBLISH_FIRST     the length turns positive before the body is copied
 *   -DBODY_BEFORE_HEADER  the body is copied before the header stands
 *   -DRESCUE_FROM_RELEASED  the rescue starts where space was released, not where it was consumed
 *   -DLARGE_LIKE_OTHERS  a large record is acknowledged once it is published
 *   -DCLOSED_APART      whether the ring is closed is looked at before the claim, not with it
 *
 * Mapping of its steps (ring_buffer.cc where no file is named):
 *   claim            the compare-and-swap in RingBuffer::TryClaim
 *   store_header     the stores of LSN and negative length behind it, there
 *   copy_body        the caller, between Log::Reserve and Log::Publish (log.cc)
 *   publish          RingBuffer::Publish: checksum, then the positive length
 *   take             LogWriter::FillFrame in log_writer.cc: RingBuffer::Claimed once for a frame
 *                    (`at < claimed`), then ReadUpTo for each record (its length is positive)
 *   file_lsn = lsn   LogWriter::PerformUntimed in log_writer.cc: the frame is in the page cache,
 *                    which outlives the process
 *   consumed, zeroing, released
 *                    RingBuffer::Release, called by LogWriter::ReleaseUpTo, in this order
 *   Closer           RingBuffer::CloseForClaims; then Log::Close writes what was claimed (log.cc)
 *   rescue, look     RingWalk::Next and StepOver; RingWalk::Published
 *
 * A unit stands for the space of one header. A record takes one or two units; the second holds
 * nothing but body, bytes of the caller's choice: here the worst, the likeness of a claimed header
 * of the next LSN. A checksum is a token that only a whole record has. A large record has a slot
 * without a body, which dies with the process: it is acknowledged once the file holds it. One of
 * the three producers may have one: that keeps the states to be looked at few. */

#define UNITS 4
#ifndef RECORDS
#define RECORDS 2
#endif
#define LSNS (3 * RECORDS)

bool killed = false;
bool closed = false;    /* a bit of the word that is claimed by */
bool ended = false;     /* sealed: there is no ring any more */
byte claimed = 0;       /* in units since the ring was made */
byte claimed_lsn = 1;   /* the next one */
byte released = 0;
byte released_lsn = 1;
byte consumed = 0;      /* everything before it is in the file */
byte consumed_lsn = 1;
byte file_lsn = 0;      /* the file holds 1..file_lsn */

byte lsn_at[UNITS];
short state_at[UNITS];  /* 0 free, -length claimed, length published */
byte body_at[UNITS];
byte sum_at[UNITS];
bool large_at[UNITS];   /* a bit of the slot's flags */
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

proctype Producer(bool may_be_large) provided (!killed) {
  byte count = 0;
  byte unit, lsn, length;
  bool large;
  do
  :: count == RECORDS -> break
  :: count < RECORDS ->
    if
    :: length = 1; large = false
    :: length = 2; large = false
    :: may_be_large -> length = 1; large = true
    fi;
#ifdef CLOSED_APART
    if
    :: closed -> break
    :: !closed
    fi;
#endif
    atomic {  /* claim */
      if
#ifndef CLOSED_APART
      :: closed -> break
      :: !closed && claimed + length - released <= UNITS ->
#else
      :: claimed + length - released <= UNITS ->
#endif
        unit = claimed % UNITS;
        lsn = claimed_lsn;
        claimed = claimed + length;
        claimed_lsn = claimed_lsn + 1
      fi
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
    large_at[unit] = large;
    sum_at[unit] = lsn;
    state_at[unit] = length;  /* publish */
#ifndef LARGE_LIKE_OTHERS
    !large || file_lsn >= lsn;
#endif
    acknowledged[lsn] = true;
    count++
  od
}

proctype Closer() provided (!killed) {
  closed = true
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
      d_step { body_at[unit] = 0; sum_at[unit] = 0; large_at[unit] = false }
#endif
      unit = (unit + 1) % UNITS;
      length--
    :: length == 0 -> break
    od;
    skip;  /* a d_step may not be jumped into */
    d_step { released = at; released_lsn = lsn }
  :: closed && at == claimed -> ended = true; break
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
    :: found > 0 ->
      rescued[lsn] = !large_at[start % UNITS];
      start = start + found;
      left = left - found;
      lsn++
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
    run Producer(true);
    run Producer(false);
    run Producer(false);
    run Writer();
    run Closer();
    run Killer()
  }
  killed;
  atomic {
    if
    :: !ended -> rescue()
    :: ended
    fi;
    for (i : 1 .. LSNS) {
      /* Nothing acknowledged is lost, whoever died where. */
      assert(!acknowledged[i] || i <= file_lsn || rescued[i])
    }
  }
}
