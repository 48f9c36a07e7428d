/*
 * The handover of one guest between two hosts, for Spin: every interleaving of both agents, their crashes and
 * restarts, broken connections, lost messages and dying copies is searched. tests/model/ runs it.
 *
 * What is claimed
 *   safety     At no instant do two copies run, and no copy runs that another has outrun: once a twin ran, the
 *              source's copy is old; once the source ran on, the twin is. (assertions in let_run)
 *   recovery   Once no fault is left to come and nothing more can happen, both agents are idle and exactly one
 *              copy runs, unless the fault was the death of the copy that owned the guest. (Monitor)
 *   progress   Nobody waits for ever: a blocked agent that is not idle is an invalid end state. Every step but
 *              the question to a host that is down brings its session forward or uses up a fault, so nothing
 *              circles either.
 *
 * What is modelled
 *   - Host is one agent, in both parts: a guest goes back and forth, SESSIONS times. An agent works on one claim
 *     at a time, because control/agent/guest_registry.h gives a guest of one name to one claim.
 *   - Each step that leaves a trace outside the agent's memory (a record, a message, an order to QEMU) is a step
 *     of its own, and an agent may die (`unless`) before any of them. Then its memory and connections are lost; its
 *     records (tmpfs) and the guests' processes stay, but for a twin that was not kept: its warden kills it.
 *   - The control stream keeps order and may break at any time: what was in transit then is read or lost. A message
 *     of it may come a second time (DUPLICATES), which gRPC promises not to let happen. Questions about the outcome travel
 *     beside the stream and may be asked any number of times, as they change nothing; an answer belongs to its question and
 *     may be acted on much later.
 *   - Time: any wait may run out, any step before the commit may fail, a question may be asked at any moment.
 *   - One copy of the guest may be killed (KILLS), also a paused one, and a twin may refuse to run, also when a later
 *     agent tells it to.
 *   - A host may reboot (REBOOTS): its agent, its copy and all its records are gone, and its store of records is another
 *     one than the one that the source has noted. An operator then decides about the source's copy.
 *
 * What is not: a QEMU that does not answer its agent for ever, records that cannot be written, memory and its proof (a mismatch is just a failure).
 *
 * Kept in step with control/model/handover.cc: every T_SRC and T_DST below is a row of its tables and every row
 * is here; tests/model compares them. Names are those of handover.h. Each M_ switch breaks one rule; tests/model
 * sees to it that Spin finds every one of them.
 */

#ifndef SESSIONS
#define SESSIONS 3 /* moves begun, at most 3 */
#endif
#ifndef CRASHES
#define CRASHES 2 /* of agents */
#endif
#ifndef KILLS
#define KILLS 0 /* of copies */
#endif
#ifndef BREAKS
#define BREAKS 1 /* of connections, beyond those that crashes bring */
#endif

#ifndef REBOOTS
#define REBOOTS 0 /* of hosts */
#endif
#ifndef DUPLICATES
#define DUPLICATES 0 /* messages of the streams that come twice */
#endif

mtype = {
  /* states: source, then what only the destination has */
  kPreparing, kTracking, kStreaming, kPausing, kFinalPass, kProving, kSavingState, kLoadingState, kCommitted,
  kUnknown, kForgotten, kReleasing, kReleased, kCancelled,
  kReceiving, kProven, kLoading, kReady, kOwned, kRunning, kDiscarded,
  /* messages of the stream */
  prepare, prepared, prove, proven, load_state, state_loaded, commit, running,
  /* answers about an outcome */
  owned, never_owned, forgotten
};

/* A copy's process. */
#define GONE 0
#define WAITING 1 /* a twin */
#define PAUSED 2  /* pre-switchover: QEMU goes on by itself if its agent dies */
#define SAVED 3   /* postmigrate */
#define RUNS 4

/* The driver's record of a copy, guest.json (drivers/guest/qemu/record.h). */
#define NO_RECORD 0
#define REC_RUNNING 1
#define REC_INCOMING 2
#define REC_KEPT 3
#define REC_HANDED_OVER 4

/* A session's outcome record at the destination (control/agent/records.h). */
#define OUT_NONE 0
#define OUT_OWNED 1
#define OUT_RUNNING 2

#define AT(h, s) ((h) * (SESSIONS + 1) + (s))
#define EACH (2 * (SESSIONS + 1))

/* outlive an agent */
byte process[2];
byte record[2];
byte handover[2];         /* session of the record "handed over", 0: none */
byte outcome_record[EACH];
byte store[2];            /* which store of records this is: another one after a reboot */
byte store_noted[SESSIONS + 1]; /* the destination's, as Prepared said it: in the record "handed over" */

/* die with an agent */
bool up[2];               /* answers questions */
bool crashed[2];
mtype source_state[2];
mtype destination_state[2];
bool undecided[EACH];     /* the answer is not final yet */

/* the streams */
bool open_stream[SESSIONS + 1];
chan to_destination[SESSIONS + 1] = [2 + DUPLICATES] of { mtype };
chan to_source[SESSIONS + 1] = [2 + DUPLICATES] of { mtype };

/* What comes next is something else than was waited for: the session fails. */
#define OUT_OF_TURN(channel, wanted) (DUPLICATES > 0 && nempty(channel) && !channel?[wanted])

/* for the checks alone */
byte sessions = 0;
bit source_of[SESSIONS + 1];
bit owner = 0;            /* whose copy counts: the source's until "owned" is recorded */
bool outrun[2];
bool killed[2];
bool excused = false;     /* the owner's copy was killed, or is the source's again that was killed before */

/* Rows of the tables. The event is named for the comparison and the reader. */
#define T_SRC(from, event, to) atomic { assert(source_state[h] == from); source_state[h] = to }
#define T_DST(from, event, to) atomic { assert(destination_state[h] == from); destination_state[h] = to }

#define OWNED_HERE(h) \
  (outcome_record[AT(h, 1)] == OUT_OWNED || (SESSIONS > 1 && outcome_record[AT(h, SESSIONS > 1 -> 2 : 1)] == OUT_OWNED) || \
   (SESSIONS > 2 && outcome_record[AT(h, SESSIONS)] == OUT_OWNED))

inline send(channel, session, message) {
  d_step {
    if
    :: open_stream[session] -> channel!message
    :: !open_stream[session] -> skip
    fi
  }
}

inline let_run(h) {
  d_step {
    if
    :: process[h] != GONE ->
      assert(process[1 - h] != RUNS);
      assert(!outrun[h]);
      process[h] = RUNS;
      outrun[1 - h] = process[1 - h] != GONE
    :: else
    fi
  }
}

/* guest::Guest::cancel_handover: the decision first, then the deed. */
inline cancel_handover(h) {
  record[h] = REC_RUNNING;
  let_run(h)
}

/* guest::Guest::destroy: the process, then its files. */
inline destroy(h) {
  process[h] = GONE;
  record[h] = NO_RECORD
}

/* GetOutcome at host `to`. An answer "undecided" changes nothing, so the question waits for another. */
#ifdef M_NEVER_WITHOUT_REFUSAL
#define ANSWERS(to, s) (up[to] && (!undecided[AT(to, s)] || outcome_record[AT(to, s)] == OUT_NONE))
#else
#define ANSWERS(to, s) (up[to] && !undecided[AT(to, s)])
#endif
inline take_answer(to, s) {
  if
  :: outcome_record[AT(to, s)] != OUT_NONE -> answer = owned
#ifndef M_FORGOTTEN_IS_NEVER
  :: outcome_record[AT(to, s)] == OUT_NONE && store[to] != store_noted[s] -> answer = forgotten
#endif
  :: else -> answer = never_owned
  fi
}

/* ---- source: control/agent/migration_source*.cc, and Settler in settler.cc from kUnknown on ---- */

inline begin_move() {
  sessions++;
  s = sessions;
  source_of[s] = h;
  open_stream[s] = true;
  source_state[h] = kPreparing;
  to_destination[s]!prepare
}

/* The guest goes on here. */
inline take_back() {
  cancel_handover(h);
  handover[h] = 0;
  open_stream[s] = false;
  atomic {
    if
    :: process[h] == GONE -> record[h] = NO_RECORD /* an exited guest is removed when its claim ends */
    :: else
    fi;
    source_state[h] = 0
  }
}

inline release() {
  open_stream[s] = false;
#ifdef M_RELEASE_FORGETS_FIRST
  handover[h] = 0;
  destroy(h);
#else
  destroy(h);
  handover[h] = 0;
#endif
  T_SRC(kReleasing, kReleased, kReleased);
  source_state[h] = 0
}

/* ---- destination: control/agent/migration_destination.cc ---- */

/* Whatever was owned here has run, or may have and is gone. */
inline conclude() {
#ifndef M_OLD_OWNERSHIP_STANDS
  for (k : 1 .. SESSIONS) {
    if
    :: outcome_record[AT(h, k)] == OUT_OWNED -> outcome_record[AT(h, k)] = OUT_RUNNING
    :: else
    fi
  }
#endif
  k = 0
}

inline make_twin() {
  atomic {
    destination_state[h] = kPreparing;
    store_noted[s] = store[h];
    undecided[AT(h, s)] = true;
    record[h] = REC_INCOMING; /* "starting" is treated alike */
    process[h] = WAITING;
    outrun[h] = false;
    killed[h] = false
  }
  /* Earlier visits are over: the name was free. */
  d_step { conclude() }
}

inline end_arrival() {
  atomic { undecided[AT(h, s)] = false; open_stream[s] = false; destination_state[h] = 0 }
}

inline keep() { record[h] = REC_KEPT }

inline own() {
  atomic {
    outcome_record[AT(h, s)] = OUT_OWNED;
    owner = h;
#ifdef M_OWNED_BEFORE_IT_RUNS
    undecided[AT(h, s)] = false
#endif
  }
}

/* The session whose twin an earlier agent left. */
inline owned_session() {
  d_step {
    for (k : 1 .. SESSIONS) {
      if
      :: outcome_record[AT(h, k)] == OUT_OWNED ->
        s = k;
#ifndef M_SILENT_TWIN_IS_OWNED
        undecided[AT(h, k)] = true
#endif
      :: else
      fi
    }
    k = 0
  }
}

inline disown() {
  atomic { outcome_record[AT(h, s)] = OUT_NONE; owner = 1 - h; excused = excused || killed[1 - h] }
}

/* ---- an agent ---- */

/* What a new agent does with what the last one left, before it answers anybody (Survivors). */
inline restore() {
  if
  :: record[h] == NO_RECORD -> process[h] = GONE
  :: record[h] != NO_RECORD && process[h] == GONE -> record[h] = NO_RECORD
  :: record[h] == REC_INCOMING && process[h] != GONE -> destroy(h)
  :: record[h] == REC_RUNNING && process[h] != GONE ->
    if
    :: process[h] != RUNS -> cancel_handover(h)
    :: else
    fi
  :: record[h] == REC_KEPT && process[h] != GONE ->
    if
    :: process[h] == RUNS -> record[h] = REC_RUNNING; d_step { conclude() }
    :: process[h] != RUNS && OWNED_HERE(h) -> skip /* owned_twin, below */
    :: else -> destroy(h)
    fi
  :: record[h] == REC_HANDED_OVER && process[h] != GONE ->
    if
    :: process[h] == RUNS -> record[h] = REC_RUNNING
    :: process[h] != RUNS && handover[h] == 0 -> cancel_handover(h)
    :: else
    fi
  fi
}

proctype Host(bit h) {
  byte s;
  byte k;
  mtype answer;
boot:
  {
    restore();
    atomic {
      up[h] = true;
      if
      :: handover[h] != 0 && record[h] != NO_RECORD -> s = handover[h]; source_state[h] = kUnknown; goto unknown
      :: handover[h] != 0 && record[h] == NO_RECORD -> handover[h] = 0
      :: record[h] == REC_KEPT -> owned_session(); destination_state[h] = kOwned; goto owned_twin
      :: else -> d_step { conclude() } /* a twin that has exited */
      fi
    }

end_idle:
    do
    :: atomic { sessions < SESSIONS && process[h] == RUNS -> begin_move() }; goto source
    :: atomic {
         record[h] == NO_RECORD && sessions > 0 && source_of[sessions] != h && open_stream[sessions] ->
         to_destination[sessions]?prepare; s = sessions
       };
       goto destination
    :: atomic { /* a guest that exits while nothing happens to it */
         process[h] == GONE && record[h] != NO_RECORD -> record[h] = NO_RECORD
       }
    od;

    /* -- source -- */
source:
    if
    :: atomic { to_source[s]?prepared -> T_SRC(kPreparing, kPrepared, kTracking) }
    :: T_SRC(kPreparing, kFailure, kCancelled); goto cancelled
    fi;
    if
    :: T_SRC(kTracking, kTracked, kStreaming)
    :: T_SRC(kTracking, kFailure, kCancelled); goto cancelled
    fi;
    if
    :: T_SRC(kStreaming, kStop, kPausing)
    :: T_SRC(kStreaming, kFailure, kCancelled); goto cancelled
    fi;
    if
    :: atomic { process[h] == RUNS -> process[h] = PAUSED }
    :: T_SRC(kPausing, kFailure, kCancelled); goto cancelled
    fi;
    if
    :: T_SRC(kPausing, kPaused, kFinalPass)
    :: T_SRC(kPausing, kFailure, kCancelled); goto cancelled
    fi;
    if
    :: atomic { T_SRC(kFinalPass, kSettled, kProving); send(to_destination[s], s, prove) }
    :: T_SRC(kFinalPass, kFailure, kCancelled); goto cancelled
    fi;
    if
    :: atomic { to_source[s]?proven -> T_SRC(kProving, kProofMatched, kSavingState) }
    :: T_SRC(kProving, kFailure, kCancelled); goto cancelled
    fi;
    record[h] = REC_HANDED_OVER;
    if
    :: atomic { process[h] == PAUSED -> process[h] = SAVED; T_SRC(kSavingState, kStateSaved, kLoadingState) }
    :: T_SRC(kSavingState, kFailure, kCancelled); goto cancelled
    fi;
    send(to_destination[s], s, load_state);
    if
    :: to_source[s]?state_loaded
    :: T_SRC(kLoadingState, kFailure, kCancelled); goto cancelled
    fi;
#ifdef M_COMMIT_BEFORE_RECORD
    send(to_destination[s], s, commit);
    handover[h] = s;
    T_SRC(kLoadingState, kStateLoaded, kCommitted);
#else
    handover[h] = s;
    T_SRC(kLoadingState, kStateLoaded, kCommitted);
    send(to_destination[s], s, commit);
#endif
    if
    :: atomic { to_source[s]?running -> T_SRC(kCommitted, kRunning, kReleasing) }; goto releasing
    :: skip /* the stream broke, time is up, or a failure was reported */
    fi;
    if
    :: atomic { ANSWERS(1 - h, s) -> take_answer(1 - h, s) };
      if
      :: answer == owned -> T_SRC(kCommitted, kRunning, kReleasing); goto releasing
      :: answer == never_owned -> T_SRC(kCommitted, kNeverOwned, kCancelled); goto cancelled
      :: answer == forgotten -> T_SRC(kCommitted, kForgotten, kForgotten); goto forgot
      fi
#ifdef M_UNREACHABLE_IS_NEVER
    :: T_SRC(kCommitted, kNeverOwned, kCancelled); goto cancelled
#endif
    :: atomic { T_SRC(kCommitted, kUnreachable, kUnknown); open_stream[s] = false }
    fi;

unknown:
    if
    :: atomic { ANSWERS(1 - h, s) -> take_answer(1 - h, s) };
      if
      :: answer == owned -> T_SRC(kUnknown, kRunning, kReleasing); goto releasing
      :: answer == never_owned -> T_SRC(kUnknown, kNeverOwned, kCancelled); goto cancelled
      :: answer == forgotten -> T_SRC(kUnknown, kForgotten, kForgotten); goto forgot
      fi
    :: atomic { !up[1 - h] -> T_SRC(kUnknown, kUnreachable, kUnknown) }; goto unknown
    fi;

forgot:
    /* The operator knows what ran last, or that it does not matter. */
    if
    :: atomic { outrun[h] = false; owner = h; T_SRC(kForgotten, kResumeOrdered, kCancelled) }; goto cancelled
    :: atomic { excused = true; T_SRC(kForgotten, kEndOrdered, kReleasing) }; goto releasing
    fi;
cancelled:
    answer = 0;
    take_back();
    goto end_idle;
releasing:
    answer = 0;
    release();
    goto end_idle;

    /* -- destination -- */
destination:
    make_twin();
    if
    :: atomic { T_DST(kPreparing, kTwinReady, kReceiving); send(to_source[s], s, prepared) }
    :: T_DST(kPreparing, kFailure, kDiscarded); goto discarded
    fi;
    if
    :: atomic { to_destination[s]?prove -> T_DST(kReceiving, kProofMatched, kProven); send(to_source[s], s, proven) }
    :: atomic { to_destination[s]?prove -> T_DST(kReceiving, kProofMismatched, kDiscarded) }; goto discarded
    :: atomic {
         !open_stream[s] || process[h] == GONE || OUT_OF_TURN(to_destination[s], prove) ->
         T_DST(kReceiving, kFailure, kDiscarded)
       };
       goto discarded
    fi;
    if
    :: atomic { to_destination[s]?load_state -> T_DST(kProven, kStateArrived, kLoading) }
    :: atomic {
         !open_stream[s] || process[h] == GONE || OUT_OF_TURN(to_destination[s], load_state) ->
         T_DST(kProven, kFailure, kDiscarded)
       };
       goto discarded
    fi;
#ifndef M_KEPT_AFTER_COMMIT
    keep();
#endif
    if
    :: atomic { T_DST(kLoading, kStateLoaded, kReady); send(to_source[s], s, state_loaded) }
    :: T_DST(kLoading, kFailure, kDiscarded); goto discarded
    fi;
    if
    :: to_destination[s]?commit
    :: atomic {
         !open_stream[s] || OUT_OF_TURN(to_destination[s], commit) -> T_DST(kReady, kFailure, kDiscarded)
       };
       goto discarded
    fi;
#ifdef M_RUNS_BEFORE_OWNED
    let_run(h);
#endif
#ifndef M_DEAD_TWIN_IS_OWNED
    /* A twin that dies between the look and the record is taken for one that dies after it. */
    if
    :: atomic { process[h] != GONE -> own() }
    :: atomic { process[h] == GONE -> T_DST(kReady, kFailure, kDiscarded) }; goto discarded
    fi;
#else
    own();
#endif
    T_DST(kReady, kCommit, kOwned);
#ifdef M_KEPT_AFTER_COMMIT
    keep();
#endif
    if
#ifndef M_DEAD_TWIN_IS_OWNED
    :: process[h] == GONE -> goto never_ran /* it was never told to run */
    :: process[h] != GONE
#else
    :: true
#endif
    fi;

    /* It is told to run, again and again while it does not answer: by this agent or by later ones (OwnedTwins). */
owned_twin:
    if
    :: atomic { process[h] != GONE -> let_run(h) }
#ifndef M_REFUSAL_IS_LEFT_ALONE
    :: process[h] == WAITING -> goto never_ran /* it refuses */
#else
    :: process[h] == WAITING -> end_arrival(); goto end_idle
#endif
    :: process[h] == GONE -> /* it may have run */
      record[h] = NO_RECORD;
      d_step { conclude() }
      end_arrival();
      goto end_idle
    fi;
    T_DST(kOwned, kResumed, kRunning);
    undecided[AT(h, s)] = false;
    record[h] = REC_RUNNING;
    send(to_source[s], s, running);
    outcome_record[AT(h, s)] = OUT_RUNNING;
    end_arrival();
    goto end_idle;

never_ran:
    T_DST(kOwned, kNeverRan, kDiscarded);
#ifdef M_TWIN_ENDED_BEFORE_DISOWNED
    destroy(h);
    disown();
    end_arrival();
    goto end_idle;
#else
    disown();
#endif
discarded:
    destroy(h);
    end_arrival();
    goto end_idle
  } unless {
    atomic {
      crashed[h] -> crashed[h] = false;
      s = 0; k = 0; answer = 0;
      goto boot
    }
  }
}

/* Faults. Each may happen at any time, and any number of them not at all. */
inline crash(h) {
  d_step {
    crashes++;
    up[h] = false;
    crashed[h] = true;
    source_state[h] = 0;
    destination_state[h] = 0;
    for (k : 1 .. SESSIONS) {
      undecided[AT(h, k)] = false;
      open_stream[k] = false
    }
    k = 0
  }
}

inline kill(h) {
  d_step { kills++; excused = excused || owner == h; killed[h] = true; process[h] = GONE }
}

inline reboot(h) {
  d_step {
    reboots++;
    crashes--; /* which crash() counts */
    excused = excused || owner == h;
    killed[h] = true;
    process[h] = GONE;
    record[h] = NO_RECORD;
    handover[h] = 0;
    store[h]++;
    for (k : 1 .. SESSIONS) {
      outcome_record[AT(h, k)] = OUT_NONE
    }
    k = 0
  }
}

/* QEMU alone: a migration whose socket closes fails, and the guest goes on. */
#define LEFT_ALONE(h) (!up[h] && process[h] == PAUSED)
/* The warden of a twin that was not kept. */
#define ORPHANED(h) (!up[h] && record[h] == REC_INCOMING && process[h] != GONE)

/* The oldest message that was not read comes once more, last. */
inline duplicate(channel) {
  duplicates++;
  channel?<again>;
  channel!again;
  again = 0
}

proctype World() {
  byte duplicates = 0;
  mtype again;
  byte crashes = 0;
  byte kills = 0;
  byte breaks = 0;
  byte reboots = 0;
  byte k = 0;
  do
  :: reboots < REBOOTS && !crashed[0] -> atomic { crash(0); reboot(0) }
  :: reboots < REBOOTS && !crashed[1] -> atomic { crash(1); reboot(1) }
  :: crashes < CRASHES && !crashed[0] -> crash(0)
  :: crashes < CRASHES && !crashed[1] -> crash(1)
  :: kills < KILLS && process[0] != GONE -> kill(0)
  :: kills < KILLS && process[1] != GONE -> kill(1)
  :: breaks < BREAKS && sessions > 0 && open_stream[sessions] -> atomic { breaks++; open_stream[sessions] = false }
  :: breaks < BREAKS && sessions > 1 && open_stream[sessions - 1] -> atomic { breaks++; open_stream[sessions - 1] = false }
#if DUPLICATES > 0
  :: atomic {
       duplicates < DUPLICATES && sessions > 0 && nempty(to_destination[sessions]) && nfull(to_destination[sessions]) ->
       duplicate(to_destination[sessions])
     }
  :: atomic {
       duplicates < DUPLICATES && sessions > 0 && nempty(to_source[sessions]) && nfull(to_source[sessions]) ->
       duplicate(to_source[sessions])
     }
#endif
  :: break
  od
}

proctype Alone(bit h) {
end_alone:
  do
  :: atomic { LEFT_ALONE(h) -> let_run(h) }
  :: atomic { ORPHANED(h) -> process[h] = GONE }
  od
}

proctype Monitor() {
  timeout ->
  assert(up[0] && up[1]);
  assert(source_state[0] == 0 && source_state[1] == 0 && destination_state[0] == 0 && destination_state[1] == 0);
  assert(excused || process[0] == RUNS || process[1] == RUNS)
}

init {
  atomic {
    process[0] = RUNS;
    record[0] = REC_RUNNING;
    run Host(0);
    run Host(1);
    run Alone(0);
    run Alone(1);
    run World();
    run Monitor()
  }
}
